"""Destination paths for the results of many jobs: in a folder that keeps names and tree, or beside each source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any

from vidqueue.cli.client import Client, Job
from vidqueue.cli.inputs import has_content, protecting
from vidqueue.cli.target import Identity, Target, identity_of, make_folder
from vidqueue.cli.terminal import Screen
from vidqueue.cli.transfer import Source, download

# The output that gets the plain name of the source, without the output's name appended.
USUAL = "video"
HOW_TO_GO_ON = "Use --skip-existing to submit only the sources without a result, or --force to replace the results."


@dataclass(frozen=True, slots=True)
class Places:
    """Chooses the paths of results.

    Attributes:
        folder: the folder for all results; None puts each beside its source.
        suffix: added to the name of the source, before its extension.
        force: whether an existing file may be replaced. An input is never replaced.
        skip: whether sources are left out whose result exists.
        inputs: files that must not be overwritten, whatever name leads to them.
        only: names of the outputs to save; all of them if empty.
        there: results that an earlier command has written already.
    """

    folder: Path | None
    suffix: str = ""
    force: bool = False
    skip: bool = False
    inputs: frozenset[Identity] = frozenset()
    only: Collection[str] = ()
    there: set[Path] = field(default_factory=set)
    _alike: set[PurePosixPath] = field(default_factory=set)
    _taken: dict[Path, str] = field(default_factory=dict)

    def check(self, names: Collection[PurePosixPath], expected: str) -> list[Path | None]:
        """Refuse targets that cannot be written, before anything is uploaded; make the folder.

        Returns:
            The result of each source that is there already and lets it be skipped.

        Args:
            names: names of the sources, or their paths where results go beside them.
            expected: the extension that results will probably have, with its dot; empty for that of the source.

        Raises:
            CommandError: with the first file that exists, or the folder that cannot be written.
        """
        self.tell_apart(names)
        found = [self._existing(name, expected) if self.skip else None for name in names]
        for name, there in zip(names, found, strict=True):
            if there is None:
                path = self._expected(name, expected or name.suffix)
                make_folder(path.parent)
                Target(str(path), force=self.force, inputs=self.inputs, if_exists=HOW_TO_GO_ON).check()
        return found

    def _expected(self, name: PurePosixPath, ending: str) -> Path:
        target = self._stem(name)
        return target.with_name(f"{target.name}{self.suffix}{ending}")

    def _existing(self, name: PurePosixPath, expected: str) -> Path | None:
        """The result that an earlier command has written; one of several outputs if they are chosen by their names."""
        for ending in ("", *(f"-{one}" for one in self.only)):
            path = self._expected(name, ending)
            # Without an extension that is known, a result is what has the name and any extension.
            fitting = path.parent.glob(f"{escape(path.name)}{escape(expected) or '.*'}")
            for one in sorted(fitting):
                if one.stem == path.name and one.is_file() and identity_of(one) not in self.inputs:
                    return one
        return None

    def tell_apart(self, names: Collection[PurePosixPath]) -> None:
        """Keep the source's extension in the names of results where two sources differ only in it (a.mov, a.mp4)."""
        stems = Counter(map(_without_suffix, set(names)))
        self._alike.update(name for name in names if stems[_without_suffix(name)] > 1)

    def save(self, client: Client, screen: Screen, job: Job, name: PurePosixPath) -> list[Path]:
        """Download the outputs of a job that succeeded; return where they are.

        Raises:
            CommandError: a file cannot be written; the daemon keeps the result.
        """
        outputs = [one for one in job.get("outputs") or () if not self.only or one["name"] in self.only]
        return [self._save(client, screen, job, output, self._path(name, output, outputs)) for output in outputs]

    def _save(self, client: Client, screen: Screen, job: Job, output: dict[str, Any], path: Path) -> Path:
        if self._taken.setdefault(path, job["id"]) != job["id"]:
            # If two sources have the same name, the end of the job's id is added to the second result.
            path = path.with_name(f"{path.stem}-{job['id'][-6:]}{path.suffix}")
        if has_content(path, output["size"], output["sha256"]):
            self.there.add(path)
            return path
        target = Target(str(path), force=self.force, inputs=self.inputs)
        if target.replaces:
            target = protecting(client, job["input"], target)
        make_folder(path.parent)
        written = target.file("")
        source = Source(f"/v1/jobs/{job['id']}/outputs/{output['name']}", output["size"], output["sha256"])
        download(client, screen, source, target, written, quiet=True)
        return written

    def _path(self, name: PurePosixPath, output: dict[str, Any], outputs: list[dict[str, Any]]) -> Path:
        stem = self._stem(name)
        which = "" if len(outputs) == 1 or output["name"] == USUAL else f"-{output['name']}"
        return stem.with_name(with_extension(f"{stem.name}{self.suffix}{which}", output.get("filename") or ""))

    def _stem(self, name: PurePosixPath) -> Path:
        stem = _without_suffix(name)
        if name in self._alike and name.suffix:
            stem = stem.with_name(f"{stem.name}-{name.suffix[1:]}")
        if self.folder is None:
            return Path(stem)
        # Titles are untrusted: the path must stay inside the folder.
        parts = [part for part in stem.parts if part not in ("", "/", "..", ".")] or ["result"]
        return self.folder.joinpath(*parts)


def with_extension(name: str, filename: str) -> str:
    """Return a name with the extension of a file, which it may end in already: outputs may be named `sprite.vtt`."""
    extension = PurePosixPath(filename).suffix
    return name if extension and name.endswith(extension) else name + extension


def _without_suffix(name: PurePosixPath) -> PurePosixPath:
    return name.with_suffix("") if name.suffix else name
