"""Imports the packages of processors anew in a running process, also those that were installed since it started."""

from __future__ import annotations

import importlib
import site
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def imported_anew(packages: Collection[str]) -> Iterator[None]:
    """Forget the modules of these packages, so that the block imports them anew; bring them back if it raises.

    Objects of the forgotten modules live on where they are in use.
    """
    earlier = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in packages}
    _forget(packages)
    importlib.invalidate_caches()
    try:
        yield
    except BaseException:
        _forget(packages)
        sys.modules.update(earlier)
        raise


def follow_path_files() -> None:
    """Put folders on the path that editable installs have named since this process started (site, "path files")."""
    for folder in map(Path, (*site.getsitepackages(), site.getusersitepackages())):
        for file in sorted(folder.glob("*.pth")) if folder.is_dir() else ():
            state = (str(file), file.stat().st_mtime_ns)
            if state not in _followed:
                _followed.add(state)
                site.addpackage(str(folder), file.name, {*sys.path})


def _forget(packages: Collection[str]) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]


def _present() -> set[tuple[str, int]]:
    """The path files that Python itself has followed at its start, with the times of their last change."""
    folders = map(Path, (*site.getsitepackages(), site.getusersitepackages()))
    return {(str(file), file.stat().st_mtime_ns) for folder in folders for file in folder.glob("*.pth")}


_followed = _present()
