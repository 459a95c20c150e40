"""Collects the files that the nodes of a graph have saved, each as soon as its name is certain, and publishes it.

One file is `output`; several are `output_1` and so on, in the order of node ids. So a file waits until all nodes before
its own have told theirs, and until it is known whether it is the only one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context
from vidqueue.processors.comfy.client import Client, RemoteFile
from vidqueue.processors.comfy.graph import in_order
from vidqueue.processors.media import suffix_of

MOST_FILES = 1000


class Collector:
    """The files of one prompt. `single` names the output instead, where the workflow has but one."""

    def __init__(
        self,
        client: Client,
        graph: Mapping[str, Any],
        saving: list[str],
        ctx: Context,
        publish: Callable[[OutputDraft], None],
    ) -> None:
        self._client = client
        self._graph = graph
        self._ctx = ctx
        self._publish = publish
        self._saving = in_order(saving)
        self._files: dict[str, list[RemoteFile] | None] = {}
        self._names: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """Begin with a run of the graph. What an earlier run of this attempt has published stays, under its names."""
        self._files = dict.fromkeys(self._saving)

    def hear(self, node_id: str, output: Any) -> None:
        """Take what a node has saved, and publish what can be named now."""
        files = [file for file in files_of(output) if file.kind == "output"]
        if node_id in self._files:
            self._files[node_id] = files
            self._flush()

    def end(self, outputs: Mapping[str, Any]) -> None:
        """Take what the history says of all nodes, and publish the rest.

        Raises:
            VidqueueError: `bad_output`, there is no file.
        """
        found = {node_id: files_of(output) for node_id, output in outputs.items()}
        kept = {node_id: [file for file in files if file.kind == "output"] for node_id, files in found.items()}
        if not any(kept.values()) and not self._names:
            # Only pictures for the editor, which ComfyUI keeps until it ends.
            kept = found
        self._files = {node_id: kept.get(node_id, []) for node_id in in_order([*{*self._files, *kept}])}
        if not any(self._files.values()):
            raise VidqueueError("bad_output", "The graph ended without a file.", hint="Add a node that saves a result.")
        self._flush(ended=True)

    def _flush(self, *, ended: bool = False) -> None:
        count = sum(len(files or ()) for files in self._files.values())
        if count > MOST_FILES:
            raise VidqueueError("bad_output", f"The graph saved {count} files; {MOST_FILES} are allowed.")
        if count < 2 and not ended:
            return
        number = 0
        for node_id, files in self._files.items():
            if files is None:
                return
            for file in files:
                number += 1
                name = "output" if count == 1 and not self._names else f"output_{number}"
                if name not in self._names:
                    self._take(node_id, file, name)
                    self._names.add(name)

    def _take(self, node_id: str, file: RemoteFile, name: str) -> None:
        path = self._ctx.output_path(f"{name}{suffix_of(file.filename)}")
        limit = self._ctx.limits.max_output_mib << 20
        media_type = self._client.download(file, path, limit=limit, check=self._ctx.check_canceled)
        node = self._graph.get(node_id) or self._graph.get(node_id.partition(":")[0]) or {}
        facts = self._facts(path, media_type) | {
            "node": node_id, "class_type": str(node.get("class_type", "")), "filename": file.filename,
        }  # fmt: skip
        self._publish(OutputDraft(name, path, media_type, facts))

    def _facts(self, path: Path, media_type: str) -> dict[str, Any]:
        """What a probe finds in a video or in sound; nothing where it finds none."""
        from vidqueue.media.probe import probe

        if media_type.partition("/")[0] not in ("video", "audio"):
            return {}
        try:
            return probe(path, self._ctx.limits, self._ctx.canceled).model_dump(mode="json", exclude_none=True)
        except VidqueueError as error:
            self._ctx.log(f"{path.name} cannot be probed: {error.message}", "warning")
            return {}


def files_of(output: Any) -> list[RemoteFile]:
    """Every file in what a node tells of its outputs, whatever the list is called (`images`, `gifs`, `audio`)."""
    found = []
    for listed in output.values() if isinstance(output, dict) else ():
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict) and isinstance(one.get("filename"), str) and one["filename"]:
                file = RemoteFile(one["filename"], str(one.get("subfolder") or ""), str(one.get("type") or "output"))
                if file not in found:
                    found.append(file)
    return found
