"""The border at which errors become messages."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tracebee._version import VERSION
from tracebee.cli import main as border
from tracebee.cli.refusal import LAST_LINES, describe_refusal, last_source_line
from tracebee.cli.usage import USAGE
from tracebee.errors import (
    AttachError,
    EngineFault,
    FormatError,
    InternalError,
    NotSupportedError,
    PermissionRefused,
    SyscallError,
    TargetError,
    UsageError,
    VerifierError,
)
from tracebee.explain.chooser import explain_text
from tracebee.explain.facts import Facts

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str) -> int:
    return border.main(list(words))


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def dispatch(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(border, "dispatch", dispatch)
    return border.main([])


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 0
    assert capfd.readouterr() == (USAGE, "")


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_version(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(word) == 0
    assert capfd.readouterr() == (f"tracebee v{VERSION}\n", "")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UsageError("bad word", "try another"), "ERROR: bad word\nHINT: try another\n"),
        (UsageError("bad word"), "ERROR: bad word\n"),
        (TargetError("ls", "no such file"), "ERROR: ls: no such file\n"),
        (FormatError("not an ELF file", 16), "ERROR: not an ELF file (at byte 0x10)\n"),
        (
            NotSupportedError("fentry", "5.5", "use kprobes"),
            "ERROR: fentry (since Linux 5.5)\nHINT: use kprobes\n",
        ),
        (
            PermissionRefused("tracing", "CAP_BPF", "run as root"),
            "ERROR: tracing needs CAP_BPF\nHINT: run as root\n",
        ),
        (AttachError("kprobe:f", "busy", "wait"), "ERROR: cannot attach kprobe:f: busy\nHINT: wait\n"),
        (
            SyscallError("bpf(BPF_MAP_CREATE)", errno.E2BIG),
            "ERROR: bpf(BPF_MAP_CREATE): Argument list too long (E2BIG)\n",
        ),
        (EngineFault("bad address", 7, 16), "ERROR: instruction 7: bad address at address 0x10\n"),
        (InternalError("oops"), f"ERROR: internal error: oops\nHINT: {InternalError.hint}\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
            "ERROR: x: No such file or directory\n",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "ERROR: No space left on device\n"),
        (MemoryError(), "ERROR: out of memory\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_messages(
    error: Exception, text: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert failing(monkeypatch, error) == 1
    assert capfd.readouterr() == ("", text)


def test_names_that_are_not_utf8(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    failing(monkeypatch, TargetError(os.fsdecode(b"a\xff"), "no such file"))
    assert capfdbinary.readouterr().err == b"ERROR: a\xff: no such file\n"


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert failing(monkeypatch, KeyboardInterrupt()) == 130
    assert capfd.readouterr().err == ""


def test_a_reader_that_left(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(border, "_silence_stdout", lambda: None)
    assert failing(monkeypatch, BrokenPipeError()) == 0
    assert capfd.readouterr().err == ""


def test_a_script_that_is_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--fmt", "-e", "BEGIN { @ = ; }") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("stdin:1:")
    assert "ERROR: " in err
    assert "Traceback" not in err


def test_standard_form(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--fmt", "-e", "BEGIN{@=1;exit()}") == 0
    first = capfd.readouterr().out
    assert run("--fmt", "-e", first) == 0
    assert capfd.readouterr().out == first != "BEGIN{@=1;exit()}"


def test_unknown_features_are_answered_with_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--no-feature", "may_got", "-e", "BEGIN {}") == 1
    assert "unknown feature: may_got" in (err := capfd.readouterr().err)
    assert "may_goto" in err


# ---------------------------------------------------------------------- a program that the kernel refused

LOG = """func#0 @0
0: R1=ctx() R10=fp0
; @x[1] = 5; @ tool.bt:3
0: (b7) r1 = 1                        ; R1_w=1
; $a = *(uint64 *)arg0; @ tool.bt:4
1: (79) r2 = *(u64 *)(r7 +0)
R7 !read_ok
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def test_the_line_that_was_quoted_last() -> None:
    assert last_source_line(LOG) == "tool.bt:4: $a = *(uint64 *)arg0;"
    assert last_source_line("; exit();\n0: (95) exit\n") == "exit();"
    assert last_source_line("0: (95) exit\nR0 !read_ok\n") == ""
    assert last_source_line("") == ""


def test_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lines = describe_refusal(VerifierError("begin_1", errno.EACCES, "noise\n" * 100 + LOG)).splitlines()
    assert lines[0] == "ERROR: the kernel refused program 'begin_1': Permission denied (EACCES)"
    assert lines[1].startswith("Register R7 is used on a path where it was never set")
    assert lines[2] == "at: tool.bt:4: $a = *(uint64 *)arg0; [instruction 1]"
    assert "id: reg-uninit" in lines
    (saved,) = tmp_path.iterdir()
    assert lines[-1] == f"the whole log is in {saved}"
    assert saved.read_text() == "noise\n" * 100 + LOG


def test_a_refusal_that_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    log = LOG.replace("R7 !read_ok", "words of a kernel to come")
    lines = describe_refusal(VerifierError("begin_1", errno.EACCES, "noise\n" * 100 + log)).splitlines()
    assert lines[1] == "at tool.bt:4: $a = *(uint64 *)arg0;"
    shown = [line for line in lines if line.startswith("    ")]
    assert len(shown) == LAST_LINES
    assert shown[-2:] == [f"    {line}" for line in log.splitlines()[-2:]]


def test_a_refusal_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    first = "ERROR: the kernel refused program 'f': Operation not permitted (EPERM)"
    monkeypatch.setattr(VerifierError, "explainer", lambda error: explain_text(error.log))
    assert describe_refusal(VerifierError("f", errno.EPERM, "")).splitlines() == [first]
    monkeypatch.setattr(
        VerifierError, "explainer", lambda error: explain_text(error.log, Facts(errno="EPERM"))
    )
    lines = describe_refusal(VerifierError("f", errno.EPERM, "")).splitlines()
    assert lines[0] == first
    assert lines[1].startswith("Probably: The kernel answers EPERM without looking at the program")
    assert "id: no-capability (not sure)" in lines


def test_a_bug_is_told_in_one_message(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert failing(monkeypatch, ZeroDivisionError("division by zero")) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("ERROR: internal error: ZeroDivisionError: division by zero (")
    assert "Traceback" not in err
    assert "TRACEBEE_TRACEBACK=1" in err


@pytest.mark.parametrize(
    ("words", "position"),
    [
        (["prog", "list"], 0),
        (["-j", "prog", "list"], 1),
        (["--json", "-p", "map"], 2),
        (["-p", "123", "-e", "begin {}"], 0),
        (["-p", "opensnoop"], 0),
        (["-j"], 0),
        (["-e", "prog"], 0),
    ],
)
def test_a_command_may_stand_behind_options_of_its_output(words: list[str], position: int) -> None:
    assert border.command_position(words) == position
