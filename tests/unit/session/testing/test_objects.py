"""Objects with made-up events."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tracebee.btf.writer import BtfBuilder
from tracebee.errors import EngineFault, FormatError, UsageError
from tracebee.testing import ObjectBench, World, load_object

FOLDER = Path(__file__).parents[3] / "data" / "objects"


@pytest.fixture
def openers() -> ObjectBench:
    return load_object(FOLDER / "openers.bpf.o", world=World(pid=7, name="cat"))


def test_events_by_program_and_by_section(openers: ObjectBench) -> None:
    assert openers.programs == ("enter_openat", "exit_openat")
    assert openers.fire("enter_openat", filename="/x") == 1
    assert openers.fire("tracepoint/syscalls/sys_enter_openat", (0, "/yy")) == 1
    assert openers.fire("exit_openat", returned=-2) == 0
    assert openers.world.printed == ["hello"]
    with pytest.raises(UsageError, match="no program 'enter'"):
        openers.fire("enter")


def test_maps_are_typed(openers: ObjectBench) -> None:
    openers.fire("enter_openat", filename="/x")
    openers.fire("exit_openat", returned=-2)
    assert {name: dict(table) for name, table in openers.maps.items()} == {
        "opens": {7: 1, 0: 1},
        "results": {0: [0], 1: [1]},
    }
    opens = openers.maps["opens"]
    opens[9] = 100
    assert (opens[9], 9 in opens, 8 in opens, len(opens)) == (100, True, False, 3)
    del opens[9]
    with pytest.raises(KeyError):
        opens[9]
    with pytest.raises(KeyError):
        del opens[9]
    with pytest.raises(UsageError, match="it must be 0 to 4294967295"):
        opens[1 << 40] = 1
    with pytest.raises(UsageError, match="value of opens: b'short' is no u64"):
        opens[1] = b"short"
    openers.maps["results"][1] = [5]
    assert openers.maps["results"][1] == [5]


def test_arrays_are_lists() -> None:
    bench = load_object(FOLDER / "core.bpf.o")
    assert bench.variables["answers"] == [0] * 32
    bench.variables["answers"] = [1, 2]
    assert bench.variables["answers"] == [1, 2] + [0] * 30


def test_variables(openers: ObjectBench) -> None:
    assert dict(openers.variables) == {
        "wanted_pid": 0,
        "greeting": "hello",
        "calls": 0,
        "largest": 5,
        "hidden": 7,
    }
    openers.variables["calls"] = 41
    openers.fire("enter_openat", filename="/a long path")
    assert (openers.variables["calls"], openers.variables["largest"]) == (42, 13)
    with pytest.raises(KeyError):
        openers.variables["nothing"]


def test_constants() -> None:
    bench = load_object(FOLDER / "openers.bpf.o", constants={"wanted_pid": 5, "greeting": b"goodbye\0"})
    assert bench.fire("enter_openat", filename="/x") == 0
    bench.world.pid = 5
    assert bench.fire("enter_openat", filename="/x") == 1
    bench.fire("exit_openat")
    assert bench.world.printed == ["goodbye"]
    for name in ("calls", "nothing"):
        with pytest.raises(UsageError, match=f"no constant '{name}'") as caught:
            load_object(FOLDER / "openers.bpf.o", constants={name: 1})
        assert caught.value.hint == "it has wanted_pid, greeting"


def test_records(openers: ObjectBench) -> None:
    openers.fire("enter_openat", filename="/x")
    openers.fire("enter_openat", filename=0)
    assert openers.records("events") == [
        struct.pack("<II16s64s", 7, 3, b"cat", b"/x"),
        struct.pack("<II16s64s", 7, 0, b"cat", b""),
    ]
    assert openers.records("events") == []
    with pytest.raises(UsageError, match="no ring buffer 'opens'"):
        openers.records("opens")


def test_samples_of_an_object_without_types() -> None:
    bench = load_object((FOLDER / "legacy.bpf.o").read_bytes())
    bench.fire("probe", (1, 2))
    assert bench.records("samples") == [struct.pack("<Q", 0x1122334455667788)]
    assert dict(bench.maps["counts"]) == {1: 1}
    assert dict(bench.variables) == {}


def test_sections_that_say_nothing_about_events() -> None:
    types = BtfBuilder()
    types.add_int("int", 4, 1)
    with pytest.raises(FormatError, match="CONFIG_HZ"):
        load_object(FOLDER / "pieces.bpf.o")
    with pytest.raises(EngineFault, match="variable typed_symbol"):
        load_object(FOLDER / "pieces.bpf.o", kconfig={"CONFIG_HZ": "100"}, version=1)


def test_types_of_another_kernel() -> None:
    from tracebee.btf import Btf, Member

    types = BtfBuilder()
    number, pointer = types.add_int("unsigned int", 4), types.add_ptr(0)
    members = [Member("flags", number, 0), Member("narrow", number, 32), Member("parent", pointer, 64)]
    types.add_struct("task", 16, members)
    bench = load_object(FOLDER / "core.bpf.o", btf=Btf.from_bytes(types.to_bytes()))
    bench.fire("loads", context=struct.pack("<IIQ", 1, 2, 3))
    assert bench.variables["answers"][:3] == [2, 3, 1]


def test_a_program_that_goes_wrong_says_where() -> None:
    bench = load_object(FOLDER / "openers.bpf.o")
    with pytest.raises(EngineFault) as caught:
        bench.fire("exit_openat", context=b"short")
    assert caught.value.program == "exit_openat"
    assert "context->result" in caught.value.line
    assert "the context" in caught.value.nearest


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="failed to open"):
        load_object(tmp_path / "none.o")
    (tmp_path / "bad.o").write_bytes(b"no object")
    with pytest.raises(FormatError, match="no ELF file") as caught:
        load_object(tmp_path / "bad.o")
    assert caught.value.__notes__ == [f"in {tmp_path / 'bad.o'}"]
