"""`vidqueue limits`: what owners and processors may have at most."""

from __future__ import annotations

from tests.cli.conftest import CommandLine
from vidqueue.cli.exits import Exit


def test_limits_of_a_processor_are_set_shown_kept_and_removed_as_those_of_an_owner(vidqueue: CommandLine) -> None:
    assert vidqueue("limits", "set", "--processor", "lifo", "--queued", "0").code == Exit.ERROR, "there is none"
    most = ("--queued", "0", "--running", "2", "--per-minute", "60", "--gpu-hours", "1.5")
    assert vidqueue("limits", "set", "--processor", "zoo", *most).code == Exit.OK
    assert vidqueue("limits", "set", "nobody-else", "--weight", "2").code == Exit.OK
    told = vidqueue("limits", "list").out.splitlines()
    assert ["zoo", "0", "2", "60", "1.5", "h"] in [line.split() for line in told]
    of_owner, of_processor = vidqueue("limits", "list", "--json").lines
    assert (of_owner["owner"], of_processor["max_gpu_s_per_day"]) == ("nobody-else", 5400)
    refused = vidqueue("submit", "zoo", "--json")
    assert refused.code == Exit.BUSY, refused.err
    assert "0 jobs of the processor zoo may wait, and 0 do" in refused.err
    for wrong in ((), ("ann", "--processor", "zoo"), ("--processor", "zoo", "--weight", "2")):
        assert vidqueue("limits", "set", *wrong).code == Exit.USAGE
    assert vidqueue("limits", "remove", "nobody-else").code == Exit.OK
    assert vidqueue("limits", "remove", "--processor", "zoo").code == Exit.OK
    assert vidqueue("limits", "remove", "--processor", "zoo").code == Exit.NOT_FOUND
    assert vidqueue("limits", "list", "--json").out == ""
