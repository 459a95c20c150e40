"""Removal of scratch folders that processors may have filled with anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


def make_empty(folder: Path) -> None:
    """Create an empty private folder in place of whatever is there."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        remove_tree(folder)
        folder.mkdir(mode=0o700)


def remove_tree(path: Path) -> None:
    """Remove a folder tree, also folders without write permission (unpacked archives have them); log a failure."""
    # A processor usually leaves nothing.
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        _remove_filled_tree(path)


def remove_trees(paths: Iterable[Path]) -> None:
    """Remove these folder trees, if they exist."""
    for path in paths:
        remove_tree(path)


def _remove_filled_tree(path: Path) -> None:
    with suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    # Python 3.11 walks a tree by recursion and gives up at a depth of a thousand; rm does not.
    subprocess.run(["/bin/rm", "-rf", "--", str(path)], check=False, capture_output=True)
    if not os.path.lexists(path):
        return
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        path.chmod(0o700)
        for parent, folders, _ in os.walk(path):
            for folder in (Path(parent, name) for name in folders):
                # The target of a link is not part of the scratch folder.
                if not folder.is_symlink():
                    folder.chmod(0o700)
        shutil.rmtree(path)
    except (OSError, RecursionError) as error:
        log.error("scratch_not_removed", path=str(path), error=str(error), hint="remove it manually")
