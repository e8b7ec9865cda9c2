"""tracebee as a whole on the kernel at hand: what it prints, and that nothing stays when it is gone."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tracebee.errors import SyscallError
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SOURCE = Path(__file__).parent.parent.parent / "src"
TOOL = [sys.executable, "-m", "tracebee"]

# A name of its own for the maps of these tests: others trace on this machine at the same time.
MARK = f"zz{os.getpid()}"


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        pytest.skip(f"bpf(2) is refused here: {error}")


def environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("BPFTRACE_", "TRACEBEE_"))
    }
    return kept | {"PYTHONPATH": str(SOURCE)}


def tracebee(*arguments: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        [*before, *TOOL, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(),
        check=False,
    )


# ---------------------------------------------------------------------- what the kernel holds


def objects(kind: str) -> Iterator[tuple[int, str]]:
    """Id and name of the maps or programs that the kernel holds now; `kind` is "MAP" or "PROG"."""
    layout = uapi.BPF_MAP_INFO if kind == "MAP" else uapi.BPF_PROG_INFO
    offset, size = layout["name"]
    number = 0
    while True:
        attr = bpf.Attr(uapi.ATTR_GET_ID).set(start_id=number)
        attr.size = max(attr.size, 8)
        if attr.call(f"{kind}_GET_NEXT_ID") < 0:
            return
        number = attr.get("next_id")
        asked = bpf.Attr(uapi.ATTR_GET_ID).set(start_id=number)
        fd = asked.call(f"{kind}_GET_FD_BY_ID")
        if fd < 0:
            continue  # gone meanwhile
        try:
            info = bpf.object_info(fd, 256)
        finally:
            os.close(fd)
        yield number, ctypes.create_string_buffer(info[offset : offset + size], size + 1).value.decode()


def ours() -> list[str]:
    """The maps of these tests.  A map lives as long as a program that uses it, and a program as its links."""
    return [name for _, name in objects("MAP") if MARK in name]


def wait_until(answer: Callable[[], bool]) -> bool:
    """The kernel frees objects a little after their last descriptor is closed."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if answer():
            return True
        time.sleep(0.01)
    return answer()


def script(extra: str = "") -> str:
    """A script with a map of these tests' name in each program, on a tracepoint, a timer and a uprobe."""
    return (
        f'BEGIN {{ @{MARK} = 1; printf("ready\\n"); }}\n'
        f"tracepoint:raw_syscalls:sys_enter /pid == {os.getpid()}/ {{ @{MARK} = 2; }}\n"
        f"interval:ms:50 {{ @{MARK} = 3; }}\n"
        f"profile:hz:10 {{ @{MARK} = 4; }}\n{extra}"
    )


def started(*arguments: str, **options: bool) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*TOOL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=options.get("session", False),
    )
    assert process.stdout is not None
    seen = ""
    while "ready" not in seen:
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"ended early: {process.communicate()}")
        seen += line
    return process


# ---------------------------------------------------------------------- the end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_nothing_stays_behind(number: signal.Signals) -> None:
    process = started("-q", "-e", script())
    try:
        assert wait_until(lambda: bool(ours()))
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 0
        assert f"@{MARK}: " in out
    assert "Traceback" not in err
    assert wait_until(lambda: not ours())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_right_after_the_notice_ends_in_order(number: signal.Signals) -> None:
    program = "BEGIN { @counted = 7; } interval:s:100 { }"
    with subprocess.Popen(
        [*TOOL, "-e", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Attached 2 probes\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "\n\n@counted: 7\n", "")


def test_exit_leaves_nothing_behind() -> None:
    done = tracebee("-q", "-e", script("interval:ms:1 { exit(3); }"))
    assert (done.returncode, done.stderr) == (3, "")
    assert wait_until(lambda: not ours())


def test_a_reader_that_leaves_ends_it() -> None:
    """``tracebee … | head -1``."""
    process = subprocess.Popen(
        [*TOOL, "-q", "-e", f'BEGIN {{ @{MARK} = 1; }} interval:ms:5 {{ printf("line\\n"); }}'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
    assert wait_until(lambda: not ours())


# ---------------------------------------------------------------------- the command of -c


def running(mark: str) -> list[int]:
    """Processes whose command line has a word."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in words:
                found.append(int(name))
    return found


@pytest.mark.parametrize(
    "program",
    [
        "BEGIN { undefined_function(); }",
        'BEGIN { @a = 1; @a = "text"; }',
        "tracepoint:nothing:at_all { exit(); }",
    ],
)
def test_a_script_that_fails_starts_no_command(program: str, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    done = tracebee("-e", program, "-c", f"/usr/bin/touch {mark}")
    assert done.returncode == 1
    assert "ERROR" in done.stderr
    assert "Traceback" not in done.stderr
    assert not mark.exists()
    assert running(str(mark)) == []


def test_the_command_is_traced_from_its_first_call(tmp_path: Path) -> None:
    program = (
        'tracepoint:syscalls:sys_enter_execve /pid == cpid/ { printf("exec %s\\n", str(args.filename)); }\n'
        'tracepoint:syscalls:sys_enter_exit_group /pid == cpid/ { printf("exit %d\\n", args.error_code); }'
    )
    done = tracebee("-q", "-e", program, "-c", "/bin/sh -c 'exit 7'")
    assert done.stderr == ""
    assert done.stdout.split() == ["exec", "/bin/sh", "exit", "7"]


def test_the_command_ends_with_the_session(tmp_path: Path) -> None:
    word = f"{4000 + os.getpid() % 1000}.125"
    done = tracebee("-q", "-e", "interval:ms:20 { exit(); }", "-c", f"/bin/sleep {word}")
    assert (done.returncode, done.stderr) == (0, "")
    assert running(word) == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/nonexistent/tool", "no such file"),
        ("nonexistent-tool-of-tracebee", "no such command on PATH"),
        ("/etc", "is a directory"),
        ("/etc/passwd", "is not executable"),
        ("echo 'a", "No closing quotation"),
        ("", "the command is empty"),
    ],
)
def test_a_command_that_cannot_be_run(command: str, message: str) -> None:
    done = tracebee("-e", "BEGIN { exit(); }", "-c", command)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# ---------------------------------------------------------------------- rights

needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
WITHOUT = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@needs_setpriv
@pytest.mark.parametrize(
    "program",
    ["BEGIN { exit(); }", "interval:s:1 { @ = count(); exit(); }", "BEGIN { @ = kstack(3); exit(); }"],
)
def test_without_any_capability(program: str) -> None:
    done = tracebee("--backend", "kernel", "-e", program, before=WITHOUT)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "ERROR: loading BPF programs needs CAP_BPF and CAP_PERFMON"
    assert lines[1].startswith("HINT: run as root, or give the capabilities")
    assert len(lines) == 2


@needs_setpriv
def test_without_the_right_to_read_tracefs() -> None:
    if os.path.isdir("/sys/kernel/tracing/events"):
        pytest.skip("tracefs is mounted, and its owner is root")
    done = tracebee("--backend", "kernel", "-e", "tracepoint:sched:sched_switch { exit(); }", before=WITHOUT)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("ERROR: reading the list of tracepoints (tracefs) needs CAP_")
    assert lines[1].startswith("HINT: run as root")


@needs_setpriv
def test_what_needs_no_rights() -> None:
    done = tracebee("--fmt", "-e", "BEGIN{exit()}", before=WITHOUT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "exit();" in done.stdout or "exit()" in done.stdout
    done = tracebee("--info", before=WITHOUT)
    assert done.returncode == 0
    assert "unknown (needs CAP_BPF and CAP_PERFMON)" in done.stdout


# ---------------------------------------------------------------------- start-up

COSTLY = ("elftools", "subprocess", "tempfile", "json", "shlex", "platform", "socket", "pwd", "dataclasses")
LOOK = """
import sys
before = set(sys.modules)
sys.path.insert(0, {source!r})
from tracebee.cli.main import main
status = main(["-q", "-e", 'BEGIN {{ printf("hello\\\\n"); exit(); }}'])
print(" ".join(sorted(set(sys.modules) - before)), file=sys.stderr)
sys.exit(status)
"""


def test_hello_imports_nothing_costly() -> None:
    """Without `site`, whose .pth files import what they like."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", LOOK.format(source=str(SOURCE))],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n\n\n")
    found = set(done.stderr.split())
    assert "tracebee.session.session" in found
    assert found & set(COSTLY) == set()
