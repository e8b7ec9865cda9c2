"""The command of -c: how it is split and found, that it waits, and that it goes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tracebee.errors import TargetError
from tracebee.session.child import Child, find_executable, split_command


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("ls", ["ls"]),
        ("  ls   -l  ", ["ls", "-l"]),
        ("echo 'a b' c", ["echo", "a b", "c"]),
        ('echo "a b"', ["echo", "a b"]),
        ("echo a\\ b", ["echo", "a b"]),
        ('echo "say \\"hi\\""', ["echo", 'say "hi"']),
        ("echo 'it'\"'\"'s'", ["echo", "it's"]),
        ("echo ''", ["echo", ""]),
        ("echo a'b'c", ["echo", "abc"]),
        ("echo # no comment", ["echo", "#", "no", "comment"]),
        # Only words: nothing of what else a shell does.
        ("echo $HOME; ls | wc > x *", ["echo", "$HOME;", "ls", "|", "wc", ">", "x", "*"]),
        ("echo\ta\nb", ["echo", "a", "b"]),
        (["echo", "a b", ""], ["echo", "a b", ""]),
        (("ls",), ["ls"]),
    ],
)
def test_split(command: str | list[str], words: list[str]) -> None:
    assert split_command(command) == words


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ([], "empty"),
        ("echo 'a", "No closing quotation"),
        ("a\\", "No escaped"),
    ],
)
def test_not_split(command: str | list[str], reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        split_command(command)


def executable(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = executable(tmp_path / "tool", "#!/bin/sh\n")
    assert find_executable(path) == path
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_executable("tool") == path


def test_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    plain = executable(tmp_path / "plain", "", 0o644)
    for name, reason in (
        ("tool", "no such command on PATH"),
        (str(tmp_path / "tool"), "no such file"),
        (str(tmp_path), "is a directory"),
        (plain, "is not executable"),
    ):
        with pytest.raises(TargetError, match=reason) as caught:
            find_executable(name)
        assert caught.value.target == name
    assert "chmod +x" in caught.value.hint


def test_an_empty_name_is_no_command() -> None:
    with pytest.raises(TargetError):
        find_executable("")


# ---------------------------------------------------------------------- a child


def gone(pid: int) -> bool:
    """Whether a process was reaped: it is no child of ours any more."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_it_waits_until_it_is_released(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = Child(["/bin/sh", "-c", f"echo $$ >{mark}"])
    assert os.readlink(f"/proc/{child.pid}/exe") == os.readlink("/proc/self/exe")
    assert not child.poll()
    assert not mark.exists()
    child.release()
    child.wait()
    # The process that the probes were told of is the one that becomes the command.
    assert mark.read_text().strip() == str(child.pid)
    assert child.status == 0
    child.close()
    assert gone(child.pid)


def test_a_child_that_is_never_released_goes(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = Child(["/bin/sh", "-c", f"touch {mark}"])
    child.close()
    assert gone(child.pid)
    assert not mark.exists()
    child.close()


def test_a_command_that_does_not_end_is_ended() -> None:
    child = Child("/bin/sleep 1000")
    child.release()
    child.close()
    assert gone(child.pid)
    assert child.status is not None
    assert os.WTERMSIG(child.status) == signal.SIGTERM


def test_the_command_has_its_signals_and_descriptors() -> None:
    child = Child(["/bin/sleep", "1000"])
    child.release()
    try:
        status = asleep(child.pid)
        # Python ignores SIGPIPE; a command should not.
        assert int(status["SigIgn"], 16) >> (signal.SIGPIPE - 1) & 1 == 0
        assert int(status["SigCgt"], 16) == 0
        assert {int(fd) for fd in os.listdir(f"/proc/{child.pid}/fd")} <= inheritable()
    finally:
        child.close()


def asleep(pid: int) -> dict[str, str]:
    """The fields of status once the command sleeps: `release` returns while the kernel still closes files."""
    deadline = time.monotonic() + 10
    while True:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if status["Name"] == "sleep" and status["State"].startswith("S"):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.01)


def inheritable() -> set[int]:
    """What whoever started these tests passes on to every command."""
    found = {0, 1, 2}
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.add(int(name))
        except OSError:
            pass  # the descriptor of the listing itself
    return found


def test_a_command_that_cannot_start(tmp_path: Path) -> None:
    path = executable(tmp_path / "tool", "#!/nonexistent/interpreter\n")
    child = Child([path])
    with pytest.raises(TargetError, match="No such file") as caught:
        child.release()
    assert "interpreter" in caught.value.hint
    child.close()
    assert gone(child.pid)


def test_a_script_without_a_first_line_goes_to_the_shell(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = Child([executable(tmp_path / "tool", f'printf "%s" "$1" >{mark}\n'), "a b"])
    child.release()
    child.wait()
    assert mark.read_text() == "a b"
    child.close()


def test_a_child_that_was_ended_from_outside() -> None:
    child = Child("/bin/true")
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(TargetError, match="ended before it could start"):
        child.release()
    child.close()
    assert gone(child.pid)


def test_no_child_for_a_command_that_is_none(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TargetError):
        Child(str(tmp_path / "nothing"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_stays_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for release in (True, False):
        child = Child("/bin/true")
        if release:
            child.release()
            child.wait()
        child.close()
    assert len(os.listdir("/proc/self/fd")) == before
