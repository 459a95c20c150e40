"""`vidqueue keys` as an operator uses it: the first key before the first start, and a daemon that listens to others."""

from __future__ import annotations

from pathlib import Path

import httpx2

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon, until


def test_a_daemon_listens_to_others_once_there_is_a_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    vidqueue = CommandLine(tmp_path, "http://127.0.0.1:9")
    vidqueue.variables |= {"VIDQUEUE_DATA_DIR": str(data)}
    refused = vidqueue("serve", variables={"VIDQUEUE_API__HOST": "0.0.0.0", "VIDQUEUE_API__PORT": "0"})
    assert refused.code == 78, refused.err
    assert "vidqueue keys create" in refused.err

    made = vidqueue("keys", "create", "--owner", "boss", "--role", "admin", "--name", "laptop")
    assert made.code == 0, made.err
    boss = {"VIDQUEUE_API_KEY": made.out.strip()}
    daemon = Daemon(data, VIDQUEUE_API__HOST="0.0.0.0").start()
    try:
        url = daemon.url.replace("0.0.0.0", "127.0.0.1")
        vidqueue.variables |= {"VIDQUEUE_URL": url}
        stranger = vidqueue("list")
        assert stranger.code == 77, stranger.err
        assert "VIDQUEUE_API_KEY" in stranger.err
        assert vidqueue("list", variables=boss).code == 0

        ann = vidqueue("keys", "create", "--owner", "ann", "--expires", "1d", "--json").json
        assert ann["role"] == "submit"
        as_ann = {"VIDQUEUE_API_KEY": ann["key"]}
        submitted = vidqueue("submit", "zoo", "--act", "work", "--json", variables=as_ann)
        assert submitted.code == 0, submitted.err
        assert submitted.json["owner"] == "ann"
        assert vidqueue("submit", "zoo", "--owner", "ann", "--json", variables=boss).json["owner"] == "ann"
        too_much = vidqueue("pause", variables=as_ann)
        assert too_much.code == 77
        assert "operate" in too_much.err

        assert vidqueue("keys", "revoke", ann["id"]).code == 0
        headers = {"Authorization": f"Bearer {ann['key']}"}
        until(lambda: httpx2.get(f"{url}/v1/jobs", headers=headers).status_code == 401, what="the key is refused")
        listed = vidqueue("keys", "list").out
        assert "revoked" in listed
        assert ann["key"] not in listed
        assert vidqueue("keys", "revoke", ann["id"], "--delete").code == 0
        assert ann["id"] not in vidqueue("keys", "list").out
        assert vidqueue("keys", "revoke", ann["id"]).code == 4
    finally:
        assert daemon.stop() == 0
