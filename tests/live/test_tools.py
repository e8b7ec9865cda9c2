"""The tools that ship, where tests/cases/tools.toml does not reach: -p, Ctrl-C, a terminal, other kernels' places."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tracebee.cli.tools import read_tool, tool_names
from tracebee.session.machine import LiveMachine

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root"),
    pytest.mark.skipif(
        not os.access("/sys/kernel/btf/vmlinux", os.R_OK), reason="the kernel's BTF cannot be read"
    ),
]

WORDS = [sys.executable, "-m", "tracebee"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "__BPFTRACE_NOTIFY_PROBES_ATTACHED": "1"}
ATTACHED = rb"^__BPFTRACE_NOTIFY_PROBES_ATTACHED\n"


def read_until(process: subprocess.Popen[bytes], pattern: bytes) -> None:
    """Read a tool's output up to a line."""
    assert process.stdout is not None
    seen = b""
    while not re.search(pattern, seen, re.MULTILINE):
        got = os.read(process.stdout.fileno(), 4096)
        assert got, process.communicate()[1].decode()
        seen += got


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A tool from when its probes are attached; ended at the end if it still runs."""
    process = subprocess.Popen(
        [*WORDS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, bufsize=0
    )
    try:
        read_until(process, ATTACHED)
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[bytes]) -> str:
    """What a tool printed after it had attached, once it is over."""
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors.decode()
    return out.decode()


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[bytes]]:
    """A shell that does what is written to it."""
    process = subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
    yield process
    process.kill()
    process.communicate()


def say(shell: subprocess.Popen[bytes], line: str) -> None:
    assert shell.stdin is not None
    shell.stdin.write(f"{line}\n".encode())


def test_one_process(shell: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """-p shows that process and no other, and ends with it."""
    with running("opensnoop", "-x", "-p", str(shell.pid)) as tool:
        with pytest.raises(FileNotFoundError):
            (tmp_path / "mine").read_bytes()
        say(shell, f"(true < {tmp_path}/theirs); true < {tmp_path}/its; exit")
        shell.wait()
        lines = ended(tool).splitlines()
    rows = [line.split() for line in lines if str(tmp_path) in line]
    assert rows == [[str(shell.pid), "sh", "-1", "2", f"{tmp_path}/its"]]


def test_a_process_that_does_not_exist() -> None:
    done = subprocess.run(
        [*WORDS, "opensnoop", "-p", "4194304"],
        capture_output=True,
        text=True,
        timeout=30,
        env=ENVIRONMENT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no such process" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(shell: subprocess.Popen[bytes], number: int) -> None:
    """Tools that sum up print their sums when they are told to end."""
    with running("syscount", "-p", str(shell.pid), "--top", "0", "-T", "1") as tool:
        read_until(tool, rb"^\d\d:\d\d:\d\d\n")  # a round is over: signals are heeded
        say(shell, "kill -0 $$; kill -0 $$; kill -0 $$; kill -STOP $$")
        os.waitpid(shell.pid, os.WUNTRACED)
        tool.send_signal(number)
        out = ended(tool)
    counts = [int(count) for count in re.findall(r"^@calls\[kill\]: (\d+)$", out, re.MULTILINE)]
    assert sum(counts) == 4, out


def test_rounds() -> None:
    """A table for each round, and none after the last; the command is ours."""
    done = subprocess.run(
        [*WORDS, "syscount", "-T", "1", "2", "-c", "sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1; done'"],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\d\d:\d\d:\d\d$", done.stdout, re.MULTILINE)) == 2


def test_what_is_typed() -> None:
    """bash asks readline only on a terminal."""
    master, slave = pty.openpty()
    bash = subprocess.Popen(
        ["/bin/bash", "--norc", "--noprofile", "-i"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={"TERM": "dumb", "HISTFILE": ""},
    )
    try:
        with running("bashreadline", "-p", str(bash.pid)) as tool:
            # The first line ends a call of readline that may have begun before.
            os.write(master, b"\n: what is typed\nexit\n")
            bash.wait(30)
            out = ended(tool)
    finally:
        bash.kill()
        bash.wait()
        os.close(slave)
        os.close(master)
    assert re.search(rf"^\d\d:\d\d:\d\d {bash.pid:<7d} : what is typed$", out, re.MULTILINE), out


def test_output_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [*WORDS, "-q", "-o", str(tmp_path / "out"), "execsnoop", "-c", "/usr/bin/true one two"],
        capture_output=True,
        text=True,
        timeout=30,
        env={**ENVIRONMENT, "__BPFTRACE_NOTIFY_PROBES_ATTACHED": ""},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert re.search(
        r"^true +\d+ +\d+ +0 /usr/bin/true one two$", (tmp_path / "out").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("name", tool_names())
def test_starts_or_says_why_not(name: str) -> None:
    """On a kernel that lacks what a tool needs it ends with one message; on all others it attaches."""
    done = subprocess.run(
        [*WORDS, name, "--dry-run"], capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False
    )
    if done.returncode == 0:
        assert "ERROR" not in done.stderr and "WARNING" not in done.stderr
        return
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("ERROR") == 1, done.stderr
    assert done.stderr.startswith(f"ERROR: {name} cannot run here: "), done.stderr
    needs_kprobes = all(hook.startswith(("kprobe", "kretprobe")) for hook in read_tool(name).hooks[-1])
    assert needs_kprobes or name.endswith("dist")
    if not LiveMachine().feature("kprobe"):
        assert "no kprobes" in done.stderr
