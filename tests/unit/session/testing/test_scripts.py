"""Scripts with made-up events."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tracebee.syscalls.bpf
from tracebee.errors import EngineFault, SourceError, UsageError
from tracebee.testing import ScriptBench, World, load_script

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here may ask a kernel to run something, or start a process."""

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("a system call that tests must not need")

    monkeypatch.setattr(tracebee.syscalls.bpf, "syscall", refuse)
    monkeypatch.setattr(os, "fork", refuse)


def fired(script: str, probe: str, *arguments: Any, **event: Any) -> ScriptBench:
    bench = load_script(script)
    bench.fire(probe, *arguments, **event)
    return bench


OPENAT = "tracepoint:syscalls:sys_enter_openat"


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        ((("AT", "/x", 7),), {}),
        ((), {"dfd": "AT", "filename": "/x", "flags": 7}),
        (((),), {"filename": b"/x\0", "flags": 7, "dfd": "AT"}),
        ((("AT", "/y"),), {"filename": "/x", "flags": 7}),
    ],
)
def test_fields_of_tracepoints(arguments: tuple[Any, ...], event: dict[str, Any]) -> None:
    bench = fired(
        f'{OPENAT} {{ printf("%s %d %d", str(args.filename), args.flags, args.__syscall_nr); }}',
        OPENAT,
        *arguments,
        **event,
    )
    assert bench.output == "/x 7 257"


def test_the_number_of_the_system_call_is_that_of_the_processor() -> None:
    bench = load_script(f"{OPENAT} {{ @ = args.__syscall_nr; }}", arch="aarch64")
    bench.fire(OPENAT)
    assert bench.maps["@"] == 56
    with pytest.raises(UsageError, match="no processor 'pdp11'"):
        load_script("begin { }", arch="pdp11")


def test_results() -> None:
    exit_ = "tracepoint:syscalls:sys_exit_read"
    for event in ({"returned": -9}, {"ret": -9}):
        assert fired(f"{exit_} {{ @ = args.ret; }}", exit_, **event).maps["@"] == -9


def test_arrays_of_characters_and_text_behind_the_record() -> None:
    fork, exec_ = "tracepoint:sched:sched_process_fork", "tracepoint:sched:sched_process_exec"
    bench = load_script(
        f'{fork} {{ printf("%s %d\\n", args.child_comm, args.child_pid); }}'
        f'{exec_} {{ printf("%s %d\\n", str(args.filename), args.old_pid); }}'
    )
    bench.fire(fork, child_comm="child", child_pid=8)
    bench.fire(exec_, filename="/bin/true", old_pid=7)
    assert bench.output == "child 8\n/bin/true 7\n"
    with pytest.raises(UsageError, match="has 16 bytes"):
        bench.fire(fork, child_comm="x" * 16)
    with pytest.raises(UsageError, match="give a string or bytes, not 5"):
        bench.fire(fork, child_comm=5)


def test_the_task() -> None:
    world = World(pid=10, tid=11, uid=12, gid=13, name="task")
    world.processor, world.cgroup, world.now = 2, 99, 5_000_000_123
    world.random_numbers = (7, 8)
    bench = load_script(
        'begin { @started = nsecs; } interval:s:1 { printf("%d %d %d %d %s %d %d %lld %d %d %d", '
        "pid, tid, uid, gid, comm, cpu, cgroup, nsecs, elapsed, rand, rand); }",
        world=world,
    )
    world.now += 1000
    bench.fire("interval:s:1")
    assert bench.output == "10 11 12 13 task 2 99 5000001123 1000 7 8"
    assert bench.maps["@started"] == 5_000_000_123


def test_registers() -> None:
    script = 'kprobe:f { printf("%d %d %s %d", arg0, arg5, str(uptr(arg1)), reg("r12")); }'
    bench = fired(script, "kprobe:f", (1, "two", 3, 4, 5, 6), registers={"r12": 77})
    assert bench.output == "1 6 two 77"
    with pytest.raises(UsageError, match="registers carry 6 arguments"):
        bench.fire("kprobe:f", range(7))
    with pytest.raises(UsageError, match="no register 'r99'"):
        bench.fire("kprobe:f", registers={"r99": 1})
    with pytest.raises(UsageError, match="this event has no fields: fd"):
        bench.fire("kprobe:f", fd=1)


def test_memory_of_the_kernel() -> None:
    world = World()
    name = world.store("in the kernel", 0xFFFF_8880_0000_1000)
    world.store((12345).to_bytes(8, "little"), 0xFFFF_8880_0000_2000)
    bench = load_script('kprobe:f { printf("%s %d", str(kptr(arg0)), *(uint64*)arg1); }', world=world)
    bench.fire("kprobe:f", (name, 0xFFFF_8880_0000_2000))
    assert bench.output == "in the kernel 12345"


def test_functions_of_programs() -> None:
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    path = next(line.split()[-1] for line in maps.splitlines() if re.search(r"/libc[.-]", line))
    bench = load_script(f'uprobe:{path}:malloc {{ printf("%d %s", arg0, str(arg1)); }}')
    (probe,) = bench.probes
    bench.fire(probe, (3, "text"))
    assert bench.output == "3 text"


def test_bytes_of_an_event() -> None:
    bench = fired("kprobe:f { @ = arg0; }", "kprobe:f", context=bytes(112) + b"\5" + bytes(60))
    assert bench.maps["@"] == 5
    with pytest.raises(EngineFault, match="outside of the program's memory"):
        bench.fire("kprobe:f", context=b"short")


def test_probes_on_request_and_timers() -> None:
    bench = load_script(
        'begin { printf("begin\\n"); } self:signal:SIGUSR1 { printf("signal\\n"); } '
        'interval:ms:5 { printf("interval\\n"); } profile:hz:99 { printf("%d\\n", reg("ax")); } '
        'end { printf("end\\n"); @x = 1; }'
    )
    assert bench.output == "begin\n"
    bench.fire("self:signal:SIGUSR1")
    bench.fire("interval:ms:5")
    bench.fire("profile:hz:99", registers={"ax": 7})
    assert bench.finish() == "begin\nsignal\ninterval\n7\nend\n\n\n@x: 1\n"
    assert bench.finish() == bench.output


def test_blocks_of_one_probe_run_in_order() -> None:
    bench = fired('kprobe:f { printf("1"); } kprobe:g { printf("2"); } kprobe:f { printf("3"); }', "kprobe:f")
    assert bench.output == "13"
    assert bench.probes == ("kprobe:f", "kprobe:g")


def test_stacks() -> None:
    world = World()
    world.user_frames, world.kernel_frames = [0x1000, 0x2000], [0xFFFF_FFFF_8000_0000]
    bench = load_script("kprobe:f { @[ustack(raw), kstack(raw, 1)] = count(); }", world=world)
    bench.fire("kprobe:f")
    ((users, kernel),) = bench.maps["@"]
    assert [frame.address for frame in users.frames] == [0x1000, 0x2000]
    assert [frame.address for frame in kernel.frames] == [0xFFFF_FFFF_8000_0000]


def test_maps_can_be_set() -> None:
    bench = load_script("let @wanted: int64; kprobe:f /arg0 == @wanted/ { @ = count(); }")
    bench.maps["@wanted"] = 5
    for number in (4, 5, 6):
        bench.fire("kprobe:f", (number,))
    assert bench.maps["@"] == 1


def test_parameters_and_configuration() -> None:
    bench = load_script(
        'begin { printf("%d %s %s", $1, str($2), getopt("name", "none")); @[1] = 1; @[2] = 2; }',
        5,
        "text",
        named={"name": "given"},
        config={"max_map_keys": 1},
    )
    assert bench.output == "5 text given"
    assert "Map full" in bench.messages
    assert len(bench.maps["@"]) == 1


def test_exit() -> None:
    bench = fired("kprobe:f { @ = count(); if (arg0) { exit(3); } }", "kprobe:f")
    assert not bench.finished
    bench.fire("kprobe:f", (1,))
    assert bench.finished
    bench.fire("kprobe:f")
    bench.finish()
    assert (bench.exit_code, bench.maps["@"]) == (3, 2)


def test_signals_are_kept() -> None:
    bench = load_script('kprobe:f { signal("SIGTERM"); }', unsafe=True)
    bench.fire("kprobe:f")
    assert bench.world.signals == [(15, True)]


@pytest.mark.parametrize(
    ("probe", "event", "message", "hint"),
    [
        ("tracepoint:syscalls:sys_enter_opena", {}, "no probe", f"did you mean {OPENAT}?"),
        ("kprobe:other", {}, "no probe", "it has"),
        (OPENAT, {"filname": "x"}, "no field 'filname'", "did you mean filename?"),
        (OPENAT, {"zzz": "x"}, "no field 'zzz'", "there are dfd, filename"),
        (OPENAT, {"returned": 1}, "has no result", ""),
        (OPENAT, {"registers": {"ax": 1}}, "has no registers", ""),
    ],
)
def test_events_that_do_not_fit(probe: str, event: dict[str, Any], message: str, hint: str) -> None:
    bench = load_script(f"{OPENAT} {{ }}")
    with pytest.raises(UsageError, match=message) as caught:
        bench.fire(probe, **event)
    assert caught.value.hint.startswith(hint)


def test_too_many_arguments() -> None:
    bench = load_script(f"{OPENAT} {{ }}")
    with pytest.raises(UsageError, match="has 4 fields, and there are 5 arguments"):
        bench.fire(OPENAT, (1, 2, 3, 4, 5))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kprobe:f { @ = nothing; }", "nothing"),
        ("fentry:f { }", "a test cannot see functions of the kernel"),
        ("iter:task { }", "a test cannot see the kernel's objects"),
        ("kprobe:f { override(1); }", "override"),
    ],
)
def test_scripts_that_are_refused(script: str, message: str) -> None:
    with pytest.raises(SourceError, match=re.escape(message)):
        load_script(script, unsafe=True)


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="failed to open"):
        load_script(tmp_path / "none.bt")
    with pytest.raises(UsageError, match="unknown configuration variable"):
        load_script("begin { }", config={"max_strln": 5})


# ---------------------------------------------------------------------- the world


def test_memory_has_bounds() -> None:
    world = World()
    one = world.store(b"12345678")
    two = world.store("text")
    assert abs(one - two) >= 4096
    assert (world.read(one + 2, 3), world.read(one, 9), world.read(one - 1, 2), world.read(1, 1)) == (
        b"345",
        None,
        None,
        None,
    )
    assert world.read_user_string(two, 10) == b"text"
    assert world.read_user_string(one, 10) is None
    assert world.read_user_string(one, 4) == b"1234"
    assert world.write_user(one + 6, b"ab")
    assert not world.write_user(one + 6, b"abc")
    assert world.read(one, 8) == b"123456ab"
    for address in (one - 1, one, one + 7):
        with pytest.raises(UsageError, match="something else"):
            world.store(b"xx", address)
    kernel = world.store(b"k", 1 << 63)
    assert (world.read_kernel(kernel, 1), world.read_user(kernel, 1), world.read_kernel(one, 1)) == (
        b"k",
        None,
        None,
    )


def test_the_example() -> None:
    """examples/test_my_probe.py, as a user runs it."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(ROOT / "examples" / "test_my_probe.py"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"\d+ passed", done.stdout)
