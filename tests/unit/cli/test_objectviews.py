"""Tables, blocks and JSON of objects that are made up."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.cli import facts, objectviews
from tracebee.cli.btf import listing as btfs
from tracebee.cli.link import listing as links
from tracebee.cli.main import main
from tracebee.cli.map import listing as maps
from tracebee.cli.objectviews import run_view, visible
from tracebee.cli.prog import listing as programs
from tracebee.host.holders import Holder, Holders
from tracebee.kernel.inventory import Inventory

from .loadedthings import OTHER, inventory

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects are read from the made-up kernel."""
    monkeypatch.setattr(objectviews, "read_inventory", lambda kinds, places: inventory())
    monkeypatch.setattr(objectviews, "find", lambda kind, words: [(int(word), os.dup(0)) for word in words])
    monkeypatch.setattr(programs, "boot_time_ns", lambda: 10**18)


def test_the_owners_and_the_belongings() -> None:
    things = inventory()
    assert things.links_of_program(10) == [30]
    assert things.programs_of_map(20) == [10, 11]
    assert things.links_of_map(25) == [32]
    assert things.inner_maps_of(22) == [24]
    assert things.outer_maps_of(24) == [22]
    assert things.outer_maps_of(13) == []
    assert things.programs_in_map(23) == [13]
    assert things.arrays_of_program(13) == [23]
    assert things.same_code_as(10) == [11]
    assert things.programs_of_btf(40) == [10, 11]
    assert things.maps_of_btf(40) == [20]
    assert things.pinned("prog", 12) == ("/sys/fs/bpf/filter",)


def test_a_table_of_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert programs.run_list([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "ID",
        "TYPE",
        "NAME",
        "TAG",
        "AGE",
        "RUNS",
        "EACH",
        "MAPS",
        "AT",
        "OWNERS",
        "PINNED",
    ]
    assert [line.split()[0] for line in lines[1:]] == ["10", "11", "12", "13", "14", "15"]
    assert re.search(r"^10 .* aa0{14} .* 20,21 .* raw tracepoint sys_enter .* snoop\(100\)$", lines[1])
    assert " 4  500 ns " in lines[3]
    assert lines[3].endswith("/sys/fs/bpf/filter")
    assert "iterator over bpf_map_elem of map 25, in map 23 for tail calls" in lines[4]
    assert "cgroup /web inet_egress" in lines[5]
    assert "kprobe vfs_read" in lines[6]


def facts_of(output: str) -> dict[str, str]:
    """The facts of a block: first lines by word."""
    found = {}
    for line in output.splitlines()[1:]:
        match = re.match(r"    (\S+(?: \S+)*)  +(.*)", line)
        if match:
            found[match[1]] = match[2]
    return found


def test_a_program_in_detail(capsys: pytest.CaptureFixture[str]) -> None:
    programs.run_show(["11"])
    output = capsys.readouterr().out
    assert output.startswith("11: raw_tracepoint program exit_of_a_long_name\n")
    found = facts_of(output)
    assert found["tag"] == "aa00000000000000 (the same code as 10)"
    assert found["name"] == "cut to exit_of_a_long_ by the kernel"
    assert found["code"] == "16 bytes (2 instructions), 30 bytes of machine code"
    assert found["loaded"].endswith("by root (uid 0)")
    assert found["ran"].startswith("not counted")
    assert found["maps"] == "20 start (hash)"
    assert found["links"] == "31 tracepoint sched_switch"
    programs.run_show(["12"])
    found = facts_of(capsys.readouterr().out)
    assert found["ran"] == "4 times, 2 µs in all, 500 ns each"
    assert found["pinned"] == "/sys/fs/bpf/filter"
    programs.run_show(["15"])
    assert facts_of(capsys.readouterr().out)["perf events"] == "kprobe vfs_read, descriptor 6 of other(200)"
    programs.run_show(["14"])
    assert facts_of(capsys.readouterr().out)["cgroups"] == "/web inet_egress, without a link"


def test_blocks_stand_apart(capsys: pytest.CaptureFixture[str]) -> None:
    programs.run_show([])
    output = capsys.readouterr().out
    assert not output.startswith("\n")
    assert output.count("\n\n") == 5


def one_record(run: Any, number: int, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    run(["-j", str(number)])
    record = json.loads(capsys.readouterr().out)
    assert isinstance(record, dict)
    return record


def test_a_program_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_record(programs.run_show, 12, capsys) == {
        "id": 12,
        "type": "socket_filter",
        "name": "pinned",
        "tag": "000000000000000c",
        "gpl_compatible": True,
        "run_time_ns": 2000,
        "run_cnt": 4,
        "bytes_xlated": 16,
        "jited": True,
        "bytes_jited": 30,
        "map_ids": [22, 23],
        "pinned": ["/sys/fs/bpf/filter"],
    }
    record = one_record(programs.run_show, 11, capsys)
    assert (record["loaded_at"], record["uid"]) == (10**9 + 1, 0)
    assert (record["same_code_as"], record["link_ids"]) == ([10], [31])
    record = one_record(programs.run_show, 13, capsys)
    assert (record["pids"], record["prog_array_ids"]) == ([{"pid": 200, "comm": "other"}], [23])
    record = one_record(programs.run_show, 14, capsys)
    assert record["cgroups"] == [{"path": "/web", "attach_type": "cgroup_inet_egress"}]
    record = one_record(programs.run_show, 15, capsys)
    assert record["perf_events"] == [
        {"pid": 200, "fd": 6, "fd_type": "kprobe", "name": "vfs_read", "offset": 4, "addr": 0}
    ]


def test_one_selected_is_an_object_and_more_are_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    programs.run_list(["-j"])
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert [one["id"] for one in json.loads(line)] == [10, 11, 12, 13, 14, 15]
    programs.run_list(["-p", "12"])
    pretty = capsys.readouterr().out
    assert pretty.startswith('{\n    "id": 12,\n')


def test_maps(capsys: pytest.CaptureFixture[str]) -> None:
    maps.run_list([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["20", "hash", "start", "4", "8", "16", "4096", "B", "no_prealloc", "10,11",
                                "snoop(100),", "other(200)"]  # fmt: skip
    assert lines[3].split() == ["22", "array_of_maps", "outer", "4", "8", "16", "12", "24"]
    assert "rdonly_prog,0x40000000,frozen" in lines[5]
    maps.run_show(["24"])
    found = facts_of(capsys.readouterr().out)
    assert found["flags"] == "BPF_F_RDONLY_PROG | 0x40000000"
    assert found["in maps"] == "22 outer (array_of_maps)"
    assert found["frozen"]
    maps.run_show(["23"])
    found = facts_of(capsys.readouterr().out)
    assert found["takes"] == "programs of type socket_filter, compiled"
    assert found["programs in it"] == "13 tail (socket_filter)"
    maps.run_show(["21"])
    found = facts_of(capsys.readouterr().out)
    assert found["ring"] == "16 B"
    assert "entries" not in found


def test_maps_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_record(maps.run_show, 20, capsys) == {
        "id": 20,
        "type": "hash",
        "name": "start",
        "flags": 1,
        "bytes_key": 4,
        "bytes_value": 8,
        "max_entries": 16,
        "bytes_memlock": 4096,
        "frozen": 0,
        "btf_id": 40,
        "pids": [{"pid": 100, "comm": "snoop"}, {"pid": 200, "comm": "other"}],
        "flag_names": ["BPF_F_NO_PREALLOC"],
        "prog_ids": [10, 11],
    }
    record = one_record(maps.run_show, 23, capsys)
    assert (record["owner_prog_type"], record["owner_jited"]) == ("socket_filter", True)
    assert record["inner_prog_ids"] == [13]
    assert one_record(maps.run_show, 22, capsys)["inner_map_ids"] == [24]
    assert one_record(maps.run_show, 24, capsys)["outer_map_ids"] == [22]
    assert one_record(maps.run_show, 25, capsys)["link_ids"] == [32]


def test_links(capsys: pytest.CaptureFixture[str]) -> None:
    links.run_list([])
    lines = capsys.readouterr().out.splitlines()
    assert re.split("  +", lines[1]) == [
        "30",
        "raw_tracepoint",
        "10 enter",
        "raw tracepoint sys_enter",
        "snoop(100)",
    ]
    assert [re.split("  +", line.strip()) for line in lines[4:]] == [
        ["-", "none", "15 old", "kprobe vfs_read", "other(200)"],
        ["-", "none", "14 egress", "cgroup /web inet_egress"],
    ]
    links.run_list(["30"])
    assert len(capsys.readouterr().out.splitlines()) == 2
    links.run_show(["31"])
    found = facts_of(capsys.readouterr().out)
    assert (found["at"], found["cookie"]) == ("tracepoint sched_switch", "7 (0x7)")
    record = one_record(links.run_show, 32, capsys)
    assert record == {
        "id": 32,
        "type": "iter",
        "prog_id": 13,
        "target_name": "bpf_map_elem",
        "map_id": 25,
        "prog_name": "tail",
        "place": "iterator over bpf_map_elem of map 25",
    }


def test_btf_objects(capsys: pytest.CaptureFixture[str]) -> None:
    btfs.run_list([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["1", "kernel", "vmlinux", "4882", "KiB"]
    assert lines[2].split() == ["40", "process", "700", "B", "10,11", "20"]
    assert one_record(btfs.run_list, 1, capsys) == {
        "id": 1,
        "size": 5000000,
        "prog_ids": [],
        "map_ids": [],
        "kernel": True,
        "name": "vmlinux",
    }
    assert one_record(btfs.run_list, 41, capsys) == {
        "id": 41,
        "size": 90,
        "prog_ids": [],
        "map_ids": [],
        "kernel": False,
    }


def test_what_this_process_alone_holds_is_hidden() -> None:
    things = inventory()
    ours = Holder(os.getpid(), "us")
    held = {("prog", 10): (ours,), ("prog", 11): (ours, OTHER), ("prog", 12): (ours,)}
    things.holders = Holders(held, (), 0)
    # The pinned one outlives us.
    assert [one.id for one in visible("prog", things, None)] == [11, 12, 13, 14, 15]
    assert [one.id for one in visible("prog", things, None, everything=True)] == [10, 11, 12, 13, 14, 15]
    assert [one.id for one in visible("prog", things, [10])] == [10]


def test_who_only_looks_is_no_owner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is selected is open while the owners are looked for."""
    things = inventory()
    things.holders = Holders({("prog", 10): (OTHER, Holder(os.getpid(), "us"))}, (), 0)
    monkeypatch.setattr(objectviews, "read_inventory", lambda kinds, places: things)
    assert one_record(programs.run_show, 10, capsys)["pids"] == [{"pid": 200, "comm": "other"}]


def test_nothing_loaded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(objectviews, "read_inventory", lambda kinds, places: Inventory({}, {}, {}, {}))
    run_view(programs.VIEW, [], blocks=False)
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "no programs are loaded\n")
    run_view(programs.VIEW, ["-j"], blocks=False)
    assert capsys.readouterr().out == "[]\n"


def test_processes_that_were_not_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    things = inventory()
    things.holders = Holders({}, (), 3)
    monkeypatch.setattr(objectviews, "read_inventory", lambda kinds, places: things)
    programs.run_list([])
    assert capsys.readouterr().err == "note: 3 processes could not be looked into; owners may be missing\n"


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("listing", [programs, maps, links, btfs])
def test_a_table_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], listing: ModuleType, width: int
) -> None:
    monkeypatch.setattr(objectviews, "terminal_width", lambda: width)
    listing.run_list([])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert "ID" in lines[0]


def test_words_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prog", "list", "1", "2"]) == 1
    assert "what is '2'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (10**6, "11 d"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert facts.age(seconds) == text


def test_words_for_numbers() -> None:
    assert facts.duration(999) == "999 ns"
    assert facts.duration(5612) == "5.61 µs"
    assert facts.duration(1.5e12) == "1500 s"
    assert facts.size(None) == ""
    assert facts.size(10239) == "10239 B"
    assert facts.size(10240) == "10 KiB"
    assert facts.size(1 << 24) == "16 MiB"
    assert facts.map_flags(0) == ""
    assert facts.map_flags(0x480) == "BPF_F_RDONLY_PROG | BPF_F_MMAPABLE"
    assert facts.word("77") == "type 77"
    assert facts.json_word("77") == 77
