"""Unit tests of probes: made-up events go in, maps and output come out.

No kernel runs anything here, no process is traced, and no privilege is needed: the programs run in this Python.

    pytest examples/test_my_probe.py
"""

from __future__ import annotations

import struct
from errno import EACCES, ENOENT
from pathlib import Path

import pytest

from tracebee.testing import ObjectBench, ScriptBench, World, load_object, load_script

HERE = Path(__file__).parent

ENTER = "tracepoint:syscalls:sys_enter_openat"
EXIT = "tracepoint:syscalls:sys_exit_openat"


# ---------------------------------------------------------------------- a script

SCRIPT = """
tracepoint:syscalls:sys_exit_read /args.ret > 0/ { @bytes[comm] = sum(args.ret); }
tracepoint:syscalls:sys_exit_read /args.ret < 0/ { printf("%s: read failed with %d\\n", comm, -args.ret); }
kprobe:vfs_fsync { @synced[arg0] = count(); }
kretprobe:vfs_fsync /retval != 0/ { exit(); }
interval:s:1 { clear(@synced); }
end { printf("bye\\n"); }
"""


@pytest.fixture
def script() -> ScriptBench:
    return load_script(SCRIPT)


def test_bytes_are_added_up_by_name(script: ScriptBench) -> None:
    for name, result in (("cat", 100), ("grep", 7), ("cat", 20), ("cat", -9)):
        script.world.name = name
        script.fire("tracepoint:syscalls:sys_exit_read", ret=result)
    assert dict(script.maps["@bytes"]) == {"cat": 120, "grep": 7}
    assert script.output == "cat: read failed with 9\n"


def test_functions_of_the_kernel(script: ScriptBench) -> None:
    """A kprobe gets registers: here those that carry the arguments, or the result."""
    script.fire("kprobe:vfs_fsync", (0xFFFF_8880_0000_1000, 0))
    script.fire("kprobe:vfs_fsync", (0xFFFF_8880_0000_1000, 1))
    assert list(script.maps["@synced"].values()) == [2]
    script.fire("interval:s:1")
    assert dict(script.maps["@synced"]) == {}
    assert not script.finished
    script.fire("kretprobe:vfs_fsync", returned=-5)
    assert script.finished
    assert script.finish().startswith("bye\n")


def test_a_script_of_this_folder() -> None:
    """Strings in the place of an address are put into the memory of the made-up task."""
    with load_script(HERE / "opens.bt", world=World(pid=4711, name="cat")) as bench:
        bench.fire(ENTER, filename="/etc/passwd", flags=0)
        bench.fire(EXIT, ret=3)
        bench.fire(ENTER, filename="/nothing")
        bench.fire(EXIT, ret=-ENOENT)
    lines = bench.output.splitlines()
    assert any("4711" in line and "/etc/passwd" in line for line in lines)
    assert any("/nothing: No such file or directory" in line for line in lines)


# ---------------------------------------------------------------------- an object that clang has made


@pytest.fixture
def probe() -> ObjectBench:
    return load_object(HERE / "my_probe.bpf.o", world=World(pid=4711))


def test_failures_are_reported(probe: ObjectBench) -> None:
    probe.fire("opens", filename="/etc/shadow")
    probe.fire("opened", returned=-EACCES)
    assert dict(probe.maps["failed"]) == {4711: 1}
    assert probe.records("failures") == [struct.pack("<Ii64s", 4711, EACCES, b"/etc/shadow")]


def test_what_succeeds_is_forgotten(probe: ObjectBench) -> None:
    probe.fire("opens", filename="/etc/passwd")
    assert len(probe.maps["opening"]) == 1
    probe.fire("opened", returned=3)
    assert len(probe.maps["opening"]) == 0
    assert len(probe.maps["failed"]) == 0


def test_threads_are_kept_apart(probe: ObjectBench) -> None:
    for tid, path in ((4711, "/one"), (4712, "/two")):
        probe.world.tid = tid
        probe.fire("opens", filename=path)
    for tid in (4712, 4711):
        probe.world.tid = tid
        probe.fire("opened", returned=-ENOENT)
    assert [record[8:12] for record in probe.records("failures")] == [b"/two", b"/one"]


def test_a_path_that_cannot_be_read(probe: ObjectBench) -> None:
    probe.fire("opens", filename=0xDEAD)
    probe.fire("opened", returned=-ENOENT)
    assert probe.records("failures") == [struct.pack("<Ii64s", 4711, ENOENT, b"")]


def test_the_bytes_of_an_event(probe: ObjectBench) -> None:
    """What the program gets can be said to the byte, too."""
    path = probe.world.store("/x")
    probe.fire("opens", context=struct.pack("<Qq6Q", 0, 257, 0, path, 0, 0, 0, 0))
    probe.fire("opened", context=struct.pack("<Qqq", 0, 257, -EACCES))
    assert probe.maps["failed"][4711] == 1


def test_constants_are_set_before_the_object_is_loaded() -> None:
    probe = load_object(HERE / "my_probe.bpf.o", constants={"only_pid": 1}, world=World(pid=2))
    probe.fire("opens", filename="/x")
    assert len(probe.maps["opening"]) == 0
