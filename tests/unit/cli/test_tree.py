"""The tree of what is loaded, from a made-up kernel."""

from __future__ import annotations

import json

import pytest

from tracebee.cli import tree
from tracebee.cli.tree import ABOVE, Tree, key_text, lines_of

from .loadedthings import inventory

EXPECTED = """\
snoop(100)
├─ link 30 raw tracepoint sys_enter
│  └─ program 10 enter (raw_tracepoint)
│     ├─ map 20 start (hash, 4096 B)
│     └─ map 21 events (ringbuf, 8192 B)
└─ link 31 tracepoint sched_switch
   └─ program 11 exit_of_a_long_name (raw_tracepoint)
      └─ map 20 start (hash, 4096 B) (above)
other(200)
├─ perf event kprobe vfs_read, without a link
│  └─ program 15 old (kprobe)
├─ program 13 tail (socket_filter)
└─ map 20 start (hash, 4096 B) (above)
/sys/fs/bpf/filter
└─ program 12 pinned (socket_filter)
   ├─ map 22 outer (array_of_maps)
   │  └─ [2] map 24 inner (array)
   └─ map 23 tails (prog_array)
      └─ [0] program 13 tail (socket_filter) (above)
cgroup /web
└─ program 14 egress (cgroup_skb), inet_egress without a link
held by the kernel, or by processes that are not seen
├─ link 32 iterator over bpf_map_elem of map 25
│  ├─ program 13 tail (socket_filter) (above)
│  └─ map 25 alone (hash)
└─ BTF 41 (90 B)
"""


def test_the_tree() -> None:
    lines = [line for root in Tree(inventory()).roots() for line in lines_of(root)]
    assert lines == EXPECTED.splitlines()


def test_every_object_is_there_in_whole_once() -> None:
    text = "\n".join(line for root in Tree(inventory()).roots() for line in lines_of(root))
    things = inventory()
    for word, numbers in (("link", things.links), ("program", things.programs), ("map", things.maps)):
        for number in numbers:
            shown = [
                line
                for line in text.splitlines()
                if f"─ {word} {number} " in f"{line} " or f"] {word} {number} " in line
            ]
            assert len([line for line in shown if ABOVE not in line]) == 1, (word, number)


def test_what_this_process_holds_is_hidden() -> None:
    lines = [line for root in Tree(inventory()).roots(hidden_pid=100) for line in lines_of(root)]
    assert "snoop(100)" not in lines
    assert not any("link 30" in line or "link 31" in line for line in lines)


def test_an_object_that_went_meanwhile() -> None:
    things = inventory()
    del things.maps[20]
    lines = [line for root in Tree(things).roots() for line in lines_of(root)]
    assert "│     ├─ map 20, gone meanwhile" in lines


def test_programs_that_call_each_other_end() -> None:
    """A program array with the program that uses it."""
    things = inventory()
    things.inside[23] = [((1).to_bytes(4, "little"), 12)]
    lines = [line for root in Tree(things).roots() for line in lines_of(root)]
    assert "      └─ [1] program 12 pinned (socket_filter) (above)" in lines


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tree, "read_inventory", inventory)
    assert tree.run(["-j"]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    roots = json.loads(line)
    assert [root["kind"] for root in roots] == ["process", "process", "pin", "cgroup", "others"]
    assert roots[0]["pid"] == 100
    link = roots[0]["children"][1]
    assert (link["kind"], link["id"], link["type"], link["place"]) == (
        "link",
        31,
        "perf_event",
        "tracepoint sched_switch",
    )
    repeated = link["children"][0]["children"][0]
    assert repeated == {
        "kind": "map",
        "id": 20,
        "type": "hash",
        "name": "start",
        "bytes_memlock": 4096,
        "again": True,
    }
    assert roots[2]["children"][0]["children"][0]["children"][0]["key"] == "2"


def test_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tree, "read_inventory", inventory)
    monkeypatch.setattr(tree, "terminal_width", lambda: 30)
    tree.run([])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 30
    assert "├─ link 30 raw tracepoint sys…" in lines


def test_keys() -> None:
    assert key_text(b"\x07\0\0\0") == "7"
    assert key_text(b"\x07\0\x01") == "07 00 01"
