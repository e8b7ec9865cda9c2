"""A guest as its host sees it: a program in QEMU's place speaks over the ports."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tracebee.errors import GuestError, NotSupportedError
from tracebee.microvm import accelerator, machine
from tracebee.microvm.image import Job
from tracebee.microvm.kernels import Kernel
from tracebee.microvm.machine import ERRORS, OUTPUT, TIMED_OUT, Limits, run_job
from tracebee.microvm.qemu import PROGRAMS, find_qemu

KERNEL = Kernel("6.1", "6.1.0-test", "/nowhere/vmlinuz", "", "")

QEMU = """\
#!{python}
import os, re, sys, time
ports = {{int(number): int(fd) for number, fd in re.findall(r"id=port(\\d),fd=(\\d+)", " ".join(sys.argv))}}
def say(port, text):
    os.write(ports[port], text.encode())
with open({log!r}, "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
starts = len(open({log!r}).readlines())
{body}
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeQemu:
    return FakeQemu(tmp_path, monkeypatch)


class FakeQemu:
    """Installs a program in QEMU's place whose behaviour is a piece of Python."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.log = folder / "log"
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        # Real layers take half a second each, and nobody looks into them here.
        monkeypatch.setattr(machine, "python_layer", machine.package_layer)
        monkeypatch.setenv("TRACEBEE_VM_ACCELERATOR", "tcg")
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")

    def run(self, body: str, limits: Limits | None = None) -> tuple[int, str, str]:
        program = self.folder / "bin" / PROGRAMS[os.uname().machine]
        program.parent.mkdir(exist_ok=True)
        program.write_text(QEMU.format(python=sys.executable, log=str(self.log), body=textwrap.dedent(body)))
        program.chmod(0o755)
        taken = {OUTPUT: b"", ERRORS: b""}

        def write(stream: int, data: bytes) -> None:
            taken[stream] += data

        job = Job(["true"], str(self.folder), {}, (), False)
        status = run_job(KERNEL, job, limits or Limits(), write, lambda text: None)
        return status, taken[OUTPUT].decode(), taken[ERRORS].decode()

    def starts(self) -> list[str]:
        return self.log.read_text().splitlines()


def test_output_and_status_come_back(fake: FakeQemu) -> None:
    body = """
    say(0, "noise of the kernel")
    say(3, "ready\\nbe"); say(1, "out"); say(2, "err"); say(3, "at\\nexit 7\\n")
    time.sleep(60)
    """
    assert fake.run(body) == (7, "out", "err")
    (words,) = fake.starts()
    assert "-kernel /nowhere/vmlinuz" in words
    assert len(fake.starts()) == 1


def test_much_output_comes_back_whole(fake: FakeQemu) -> None:
    body = """
    say(3, "ready\\n")
    for number in range(2000):
        say(1, f"{number:>999}\\n")
    say(3, "exit 0\\n")
    """
    status, out, _ = fake.run(body)
    assert status == 0
    assert [int(line) for line in out.splitlines()] == list(range(2000))


def test_a_guest_that_dies_before_its_command_is_started_again(fake: FakeQemu) -> None:
    body = """
    if starts < 3:
        say(0, "[1.0] Kernel panic - not syncing: no luck\\r\\n")
        sys.exit(0)
    say(3, "ready\\nexit 0\\n")
    """
    assert fake.run(body)[0] == 0
    assert len(fake.starts()) == 3


def test_a_guest_that_never_comes_up(fake: FakeQemu) -> None:
    body = """
    say(0, "[1.0] one\\r\\n[1.1] Kernel panic - not syncing: no luck\\r\\n")
    sys.stderr.write("qemu: it said something\\n")
    """
    with pytest.raises(GuestError, match="did not start") as caught:
        fake.run(body)
    assert "Kernel panic - not syncing: no luck" in str(caught.value)
    assert "qemu: it said something" in str(caught.value)
    assert caught.value.console.splitlines()[0] == "[1.0] one"
    assert len(fake.starts()) == machine.TRIES


def test_a_guest_that_dies_under_its_command_is_not_started_again(fake: FakeQemu) -> None:
    with pytest.raises(GuestError, match="it ended before its command did"):
        fake.run('say(3, "ready\\n"); say(1, "half"); sys.exit(0)')
    assert len(fake.starts()) == 1


def test_a_guest_that_hangs(fake: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SILENT_SECONDS", 1)
    with pytest.raises(GuestError, match="no sign of life"):
        fake.run(
            'say(3, "ready\\n"); open(sys.argv[0] + ".pid", "w").write(str(os.getpid())); time.sleep(60)'
        )
    pid = int(next((fake.folder / "bin").glob("*.pid")).read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_a_boot_that_hangs(fake: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "BOOT_SECONDS", {"tcg": 1})
    monkeypatch.setattr(machine, "TRIES", 1)
    with pytest.raises(GuestError, match="did not come up within 1 seconds"):
        fake.run("time.sleep(60)")


def test_without_kvm_when_a_guest_does_not_come_up_with_it(
    fake: FakeQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEBEE_VM_ACCELERATOR", "kvm")
    monkeypatch.setattr(machine, "BOOT_SECONDS", {"kvm": 1, "tcg": 60})
    body = """
    if "kvm" in sys.argv:
        time.sleep(60)
    say(3, "ready\\nexit 0\\n")
    """
    assert fake.run(body)[0] == 0
    assert ["-accel kvm -cpu host" in words for words in fake.starts()] == [True, False]
    # The next guest is not made to wait.
    monkeypatch.delenv("TRACEBEE_VM_ACCELERATOR")
    monkeypatch.setattr(accelerator, "DEVICE", str(fake.log))
    assert fake.run(body)[0] == 0
    assert len(fake.starts()) == 3


def test_a_command_that_runs_past_its_time(fake: FakeQemu) -> None:
    body = """
    say(3, "ready\\n")
    while True:
        say(3, "beat\\n"); time.sleep(0.1)
    """
    assert fake.run(body, Limits(seconds=1))[0] == TIMED_OUT


def test_signals_go_to_the_command(fake: FakeQemu) -> None:
    body = f"""
    say(3, "ready\\n")
    os.kill(os.getppid(), {int(signal.SIGTERM)})
    said = os.read(ports[3], 100).decode()
    say(1, said); say(3, "exit 143\\n")
    """
    assert fake.run(body) == (143, f"signal {int(signal.SIGTERM)}\n", "")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_machine_ends_with_its_host(fake: FakeQemu) -> None:
    """Also when that is killed: the fake tells its process id and waits for ever."""
    body = 'say(3, "ready\\n"); say(1, f"{os.getpid()}\\n"); time.sleep(600)'
    program = fake.folder / "bin" / PROGRAMS[os.uname().machine]
    program.parent.mkdir(exist_ok=True)
    program.write_text(QEMU.format(python=sys.executable, log=str(fake.log), body=body))
    program.chmod(0o755)
    kernel = fake.folder / "vmlinuz"
    image = bytearray(4096)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (0x300).to_bytes(2, "little")
    image[0x500:0x50C] = b"6.1.0-test x"
    kernel.write_bytes(image)
    words = [
        sys.executable,
        "-m",
        "tracebee",
        "vm",
        "run",
        "--kernel",
        str(kernel),
        "--no-folder",
        "--",
        "true",
    ]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True) as host:
        assert host.stdout is not None and host.stderr is not None
        line = host.stdout.readline()
        assert line, host.stderr.read()
        pidfd = os.pidfd_open(int(line))
        host.kill()
    try:
        # Readable when the process has ended.
        assert select.select([pidfd], [], [], 20)[0]
    finally:
        os.close(pidfd)


def test_without_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotSupportedError, match="not installed") as caught:
        find_qemu()
    assert "apt install" in caught.value.hint
