"""A server of the OpenAI-shaped video API that keeps its videos in memory: `python video_server.py PORT [JOURNAL]`.

A video is made at once; one with the prompt `wait`, when the file that `negative_prompt` names is there, and one with
`take S` in its prompt after S seconds. The first answer about one whose prompt begins with `drop` is lost, and that
about `hold` never comes. What it takes it writes into the journal.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

VIDEOS = dict[str, dict[str, Any]]()
NUMBERS = count(1)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode("latin-1")
        fields = dict(re.findall(r'name="(\w+)"[^\r]*\r\n(?:[^\r]+\r\n)*\r\n([^\r]*)\r\n', body))
        video = {"id": f"video_{next(NUMBERS)}", "object": "video", "status": "in_progress", "progress": 50, **fields}
        video["created_at"] = int(time.time())
        VIDEOS[str(video["id"])] = video
        print(f"takes {video['id']}", flush=True)
        for path in sys.argv[2:]:
            line = {"server": os.getpid(), "at": time.time(), "prompt": video["prompt"]}
            with Path(path).open("a") as journal:
                journal.write(f"{json.dumps(line)}\n")
        if fields["prompt"] == "hold":
            self.rfile.read(1)
        if fields["prompt"].startswith(("drop", "hold")):
            self.close_connection = True
            return
        self._answer(200, video)

    def do_GET(self) -> None:
        _, _, video_id, *rest = [*self.path.partition("?")[0].strip("/").split("/"), ""]
        if not video_id:
            self._answer(200, {"object": "list", "data": list(map(_now, VIDEOS.values()))})
        elif (video := VIDEOS.get(video_id)) is None:
            self._answer(404, {"error": {"code": "not_found", "message": "there is no such video"}})
        elif rest[0] == "content":
            self._send(200, b"the video", "video/mp4")
        else:
            self._answer(200, _now(video))

    def do_DELETE(self) -> None:
        VIDEOS.pop(self.path.rpartition("/")[2], None)
        print("deletes one", flush=True)
        self._answer(200, {"deleted": True})

    def _answer(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def _now(video: dict[str, Any]) -> dict[str, Any]:
    seconds = re.search(r"take ([\d.]+)", video["prompt"])
    done = video["prompt"] != "wait" or Path(video["negative_prompt"]).exists()
    if done and (seconds is None or time.time() > video["created_at"] + float(seconds[1])):
        video["status"] = "completed"
    return video


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
