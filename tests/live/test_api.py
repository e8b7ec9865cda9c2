"""The Python API on the kernel at hand: what goes in by maps, what comes back, and that nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tracebee
from tracebee.errors import SyscallError
from tracebee.syscalls import bpf

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        pytest.skip(f"bpf(2) is refused here: {error}")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def bpf_descriptors() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if "bpf" in target or "perf_event" in target:
            found.append(target)
    return found


def test_results_are_values() -> None:
    script = """
    begin {
      printf("%s has %d\\n", "x", -5);
      print((1, "a"));
      @m["k", 2] = 7;
      print(@m);
      time("%%");
      warnf("mind %d", 3);
      exit(4);
    }
    end { printf("the end"); }
    """
    with tracebee.trace(script) as tracer:
        results = list(tracer.events(timeout=10))
        assert results == [
            tracebee.Printed("x has -5\n", ("x", -5)),
            tracebee.Value((1, "a")),
            tracebee.MapPrinted("@m", ((("k", 2), 7),)),
            tracebee.Text("time", "%"),
            tracebee.Message("warning", "mind 3", 8, 7),
            tracebee.Printed("the end", ()),
        ]
        assert tracer.finished
        assert tracer.exit_code == 4


def test_maps_are_set_before_anything_is_attached() -> None:
    script = """
    let @limit: uint64;
    let @names[int32, string[8]]: string[16];
    begin { @doubled = @limit * 2; @found = @names[3, "key"]; exit(); }
    """
    with tracebee.load(script) as tracer:
        tracer.maps["@limit"] = 1 << 40
        tracer.maps["names"][3, "key"] = "value"
        assert dict(tracer.maps["@names"]) == {(3, "key"): "value"}
        tracer.attach()
        assert tracer.wait(10)
        assert tracer.maps["@doubled"] == 1 << 41
        assert tracer.maps["@found"] == "value"
        with pytest.raises(tracebee.UsageError, match="does not fit"):
            tracer.maps["@limit"] = 1 << 64


def test_a_command_is_traced_from_its_first_instruction() -> None:
    script = "tracepoint:syscalls:sys_enter_execve /pid == cpid/ { @[str(args.filename)] = count(); }"
    with tracebee.trace(script, command=["sh", "-c", "exec /bin/true"]) as tracer:
        assert tracer.pid > 0
        assert tracer.wait(20)
        seen = dict(tracer.maps["@"])
        assert sum(seen.values()) == 2
        assert any(name.endswith("/sh") for name in seen)
        assert any(name.endswith("/true") for name in seen)


def test_one_process_alone() -> None:
    script = "tracepoint:syscalls:sys_enter_getppid { @[pid] = count(); }"
    with tracebee.trace(script, pid=os.getpid()) as tracer:
        subprocess.run([sys.executable, "-S", "-c", "import os; os.getppid()"], check=True)
        for _ in range(3):
            os.getppid()
        tracer.detach()
        assert dict(tracer.maps["@"]) == {os.getpid(): 3}


def test_functions_of_a_process_that_has_ended() -> None:
    """The stack is named long after the command, which is no more to be found in /proc."""
    script = "tracepoint:syscalls:sys_enter_getcwd /pid == cpid/ { @[ustack(raw), ustack] = count(); }"
    with tracebee.trace(script, command="/bin/pwd -P") as tracer:
        assert tracer.wait(20)
        assert (
            not os.path.exists(f"/proc/{tracer.pid}/maps") or not Path(f"/proc/{tracer.pid}/maps").read_text()
        )
        stacks = [named for (_, named) in dict(tracer.maps["@"])]
        assert stacks
        innermost = {stack.frames[0].name for stack in stacks}
        assert any("getcwd" in name for name in innermost), innermost


def test_parameters() -> None:
    with tracebee.trace(
        'begin { printf("%d %s %d", $1, str($2), getopt("n", 1)); exit(); }', 5, "word", named={"n": 9}
    ) as tracer:
        assert [str(result) for result in tracer.events(10)] == ["5 word 9"]


def test_configuration() -> None:
    script = "begin { for ($i : 0..5) { @[$i] = 1; } exit(); }"
    with tracebee.trace(script, config={"max_map_keys": 3}) as tracer:
        tracer.wait(10)
        assert len(tracer.maps["@"]) == 3
    with pytest.raises(tracebee.UsageError, match="max_strln") as caught:
        tracebee.load("begin { }", config={"max_strln": 4})
    assert "max_strlen" in caught.value.hint


def test_waiting_ends_with_the_time_that_was_given() -> None:
    with tracebee.trace("interval:ms:10 { @n++; } end { @ended = 1; }") as tracer:
        assert not tracer.wait(0.1)
        assert list(tracer.events(0.05)) == []
        assert tracer.maps["@n"] > 0
        assert tracer.maps["@ended"] == 0
        tracer.detach()
        after = tracer.maps["@n"]
        assert tracer.maps["@ended"] == 1
        assert not tracer.poll(0.05)
        assert tracer.maps["@n"] == after


def test_polling_gives_what_is_there() -> None:
    with tracebee.trace("interval:ms:5 { print(1); }") as tracer:
        found = tracer.poll(5)
        assert found
        assert set(found) == {tracebee.Value(1)}


@pytest.mark.parametrize("stage", ["load", "attach", "inside"])
def test_nothing_stays_after_an_exception(stage: str) -> None:
    tracebee.load("begin { }").close()  # what is kept for the process is there
    before = descriptors()
    script = 'interval:s:1 { @a[pid] = count(); printf("x"); }'
    if stage == "load":
        with pytest.raises(tracebee.SourceError):
            tracebee.load(script + "begin { nonsense(); }")
    elif stage == "attach":
        with pytest.raises(tracebee.TargetError), tracebee.load(script, command="/") as tracer:
            tracer.attach()
    else:
        with (
            pytest.raises(ZeroDivisionError),
            tracebee.trace(script, command="sleep 9") as tracer,
        ):
            assert bpf_descriptors()
            child = tracer.pid
            raise ZeroDivisionError
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)
    assert bpf_descriptors() == []
    assert descriptors() == before


def test_the_order_of_calls() -> None:
    with tracebee.load("begin { exit(); }") as tracer:
        with pytest.raises(tracebee.UsageError):
            tracer.poll()
        with pytest.raises(tracebee.UsageError):
            tracer.wait()
        tracer.attach()
        with pytest.raises(tracebee.UsageError):
            tracer.attach()
    tracer.close()
    tracer.detach()


def test_what_the_verifier_said() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tracebee", "-d", "verifier", "-e", "begin { @ = 1; exit(); }"],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=True,
    )
    assert "// verifier log of begin_1\n" in done.stdout
    assert "processed " in done.stdout
    assert "; begin { @ = 1; exit(); }" in done.stdout  # the script's own line, from its BTF


def test_the_example_that_filters_reads(tmp_path: Path) -> None:
    numbers = [3, -7, 1 << 40, 11]
    file = tmp_path / "numbers"
    file.write_bytes(b"".join(number.to_bytes(8, "little", signed=True) for number in numbers))
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/read_filter.py"), str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "read() gave      32 bytes",
        f"the kernel put   {file.read_bytes().hex(' ', 8)}",
        f"and their sum is {sum(numbers)}",
    ]
