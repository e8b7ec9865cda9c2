"""Formats of tracepoints in every shape that kernels print, and a directory tree in the place of tracefs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tracebee.errors import FormatError
from tracebee.host.tracefs import TraceFs, TracepointField, parse_declaration, parse_format

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """name: {name}
ID: 316
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

"""
TAIL = '\nprint fmt: "a=%s", REC->a ? "field:" : "x"\n'


def field(line: str) -> TracepointField:
    """The field of a format that has one."""
    (found,) = parse_format(HEAD.format(name="x") + "\t" + line + "\n" + TAIL).arguments
    return found


def test_a_whole_format() -> None:
    text = (
        HEAD.format(name="sched_switch")
        + "\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n"
        + "\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;\n"
        + TAIL
    )
    found = parse_format(text)
    assert (found.name, found.id) == ("sched_switch", 316)
    assert [f.name for f in found.fields if f.is_common] == [
        "common_type",
        "common_flags",
        "common_preempt_count",
        "common_pid",
    ]
    assert found.arguments == (
        TracepointField("prev_comm", "char", 8, 16, False, False, 16, True),
        TracepointField("prev_pid", "pid_t", 24, 4, True),
    )
    assert found.find_field("prev_pid") is found.arguments[1]
    assert found.find_field("nothing") is None


@pytest.mark.parametrize(
    ("line", "name", "c_type", "count", "is_array", "data_loc"),
    [
        ("field:const char * filename;offset:8;size:8;signed:0;", "filename", "const char *", 0, False, ""),
        (
            "field:const char *const * argv;offset:8;size:8;signed:0;",
            "argv",
            "const char *const *",
            0,
            False,
            "",
        ),
        ("field:const void* p;offset:8;size:8;signed:0;", "p", "const void*", 0, False, ""),
        ("field:struct iocb * * iocbpp;offset:8;size:8;signed:0;", "iocbpp", "struct iocb * *", 0, False, ""),
        ("field:unsigned char *p;offset:8;size:8;signed:0;", "p", "unsigned char *", 0, False, ""),
        ("field:unsigned long args[6];offset:8;size:48;signed:0;", "args", "unsigned long", 6, True, ""),
        ("field:unsigned long args[];offset:8;size:0;signed:0;", "args", "unsigned long", 0, True, ""),
        ("field:u32 arr[3][2];offset:8;size:24;signed:0;", "arr", "u32", 6, True, ""),
        ("field:__u8 saddr [4];offset:8;size:4;signed:0;", "saddr", "__u8", 4, True, ""),
        ("field:char comm[TASK_COMM_LEN];offset:8;size:16;signed:0;", "comm", "char", 16, True, ""),
        ("field:u32 a[SOME_LEN];offset:8;size:16;signed:0;", "a", "u32", 0, True, ""),
        (
            "field:enum skb_drop_reason reason;offset:8;size:4;signed:0;",
            "reason",
            "enum skb_drop_reason",
            0,
            0,
            "",
        ),
        ("field:struct my_struct s;offset:8;size:40;signed:0;", "s", "struct my_struct", 0, False, ""),
        ("field:void __seg_gs * pcpu;offset:8;size:8;signed:0;", "pcpu", "void __seg_gs *", 0, False, ""),
        ("field:__data_loc char[] name;offset:8;size:4;signed:0;", "name", "char", 0, True, "data_loc"),
        ("field:__rel_loc char[] name;offset:8;size:4;signed:0;", "name", "char", 0, True, "rel_loc"),
        ("field:__rel_loc char name[];offset:8;size:4;signed:0;", "name", "char", 0, True, "rel_loc"),
        (
            "field:__data_loc unsigned long[] cpus;offset:8;size:4;signed:0;",
            "cpus",
            "unsigned long",
            0,
            True,
            "data_loc",
        ),
        (
            "field:__data_loc cpumask_t cpus;offset:8;size:4;signed:0;",
            "cpus",
            "cpumask_t",
            0,
            False,
            "data_loc",
        ),
        ("field:void (*fn)(int, long);offset:8;size:8;signed:0;", "fn", "void (*)(int, long)", 0, False, ""),
        ("field special:char buf;offset:8;size:0;", "buf", "char", 0, False, ""),
    ],
)
def test_shapes_of_fields(
    line: str, name: str, c_type: str, count: int, is_array: bool, data_loc: str
) -> None:
    found = field(line)
    assert (found.name, found.c_type, found.count) == (name, c_type, count)
    assert (found.is_array, found.data_loc) == (is_array, data_loc)
    assert not found.is_common


def test_size_of_an_element() -> None:
    assert field("field:unsigned long args[6];offset:8;size:48;signed:0;").element_size == 8
    assert field("field:int x;offset:8;size:4;signed:1;").element_size == 4


def test_an_event_without_fields_of_its_own() -> None:
    found = parse_format(HEAD.format(name="x") + TAIL)
    assert found.arguments == ()
    assert len(found.fields) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name: x\nID: 1\n",
        "name: x\nformat:\n",
        "ID: 5\nformat:\n",
        "name: x\nID: many\nformat:\n",
        "name: x\nID: -4\nformat:\n",
        "name: x\nID: 1\nfield:int a;offset:0;size:4;signed:1;\nformat:\n",
        "name: x\nID: 1\nformat:\nnonsense\n",
        "name: x\nID: 1\nformat:\nfield:int a;\n",
        "name: x\nID: 1\nformat:\nfield:int a;offset:0;signed:1;\n",
        "name: x\nID: 1\nformat:\nfield:int a;offset:zero;size:4;signed:1;\n",
        "name: x\nID: 1\nformat:\nfield:int a;offset:0;size:99999999999;signed:1;\n",
        "name: x\nID: 1\nformat:\nfield:a;offset:0;size:4;signed:1;\n",
        "name: x\nID: 1\nformat:\nfield:;offset:0;size:4;signed:1;\n",
        "name: x\nID: 1\nformat:\nfield:int a];offset:0;size:4;signed:1;\n",
        "name: x\nID: 1\nformat:\nfield:int a[400];offset:0;size:4;signed:1;\n",
        "name: x\nID: 1\nformat:\nfield:int (*;offset:0;size:4;signed:1;\n",
        "name: x\nID: 1\nformat:\nfieldint a;offset:0;size:4;signed:1;\n",
    ],
)
def test_bad_formats(text: str) -> None:
    with pytest.raises(FormatError):
        parse_format(text)


def test_declarations_keep_named_dimensions() -> None:
    assert parse_declaration("char comm[TASK_COMM_LEN]") == ("comm", "char", ("TASK_COMM_LEN",), "")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What tracefs looks like, with two events and the files that stand between them."""
    for category, name, number in (
        ("sched", "sched_switch", 316),
        ("sched", "sched_wakeup", 317),
        ("irq", "x", 5),
    ):
        event = tmp_path / "events" / category / name
        event.mkdir(parents=True)
        (event / "id").write_text(f"{number}\n")
        (event / "format").write_text(HEAD.format(name=name) + TAIL)
        (event.parent / "enable").write_text("0\n")
    (tmp_path / "events" / "header_page").write_text("")
    (tmp_path / "available_events").write_text("sched:sched_switch\nsched:sched_wakeup\nirq:x\n")
    return tmp_path


@pytest.fixture(params=["path", "descriptor", "path-only descriptor"])
def tracefs(request: pytest.FixtureRequest, tree: Path) -> TraceFs:
    if request.param == "path":
        return TraceFs(str(tree))
    # A detached mount is a descriptor like the second one: nothing but openat(2) works on it.
    flags = os.O_RDONLY if request.param == "descriptor" else os.O_PATH
    fd = os.open(tree, flags | os.O_DIRECTORY)
    request.addfinalizer(lambda: os.close(fd))
    return TraceFs(fd)


def test_listing(tracefs: TraceFs) -> None:
    assert tracefs.categories() == ["irq", "sched"]
    assert list(tracefs.events()) == [("sched", "sched_switch"), ("sched", "sched_wakeup"), ("irq", "x")]
    assert tracefs.events_of("sched") == ["sched_switch", "sched_wakeup"]
    assert tracefs.events_of("nothing") == []


def test_reading_an_event(tracefs: TraceFs) -> None:
    assert tracefs.event_id("sched", "sched_switch") == 316
    assert tracefs.format("sched", "sched_wakeup").name == "sched_wakeup"
    assert tracefs.has_event("sched", "sched_switch")
    assert not tracefs.has_event("sched", "nothing")
    with pytest.raises(FileNotFoundError):
        tracefs.format("sched", "nothing")


@pytest.mark.parametrize("name", ["..", ".", "", "../sched/sched_switch", "a\0b"])
def test_names_stay_below_events(tracefs: TraceFs, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        tracefs.format_text("sched", name)


def test_a_bad_id(tracefs: TraceFs, tree: Path) -> None:
    (tree / "events" / "irq" / "x" / "id").write_text("what\n")
    with pytest.raises(FormatError):
        tracefs.event_id("irq", "x")
