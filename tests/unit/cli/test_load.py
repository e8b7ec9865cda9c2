"""tracebee.cli.load and what it prints with."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import tracebee
from tracebee.cli.eventlines import EventColumns
from tracebee.cli.load import parse, parse_seconds, prepare
from tracebee.cli.main import main
from tracebee.errors import UsageError
from tracebee.session.objects.events import event_codec

ROOT = Path(__file__).parents[3]
SNOOP = str(ROOT / "examples/opensnoop/opensnoop.bpf.o")


def test_a_command_line() -> None:
    wish = parse(
        [
            *("x.o", "--set", "a=1", "--set", "b={1, 2}", "--events", "ring:struct event", "--events", "raw"),
            *("-c", "ls -l", "--attach", "count:eth0", "--program", "a,b", "--duration", "1.5s", "-j", "-q"),
            *("--backend", "user", "--pin", "/sys/fs/bpf/x", "--dry-run", "--trace"),
        ]
    )
    assert (wish.paths, wish.command, wish.backend, wish.pin) == (["x.o"], "ls -l", "user", "/sys/fs/bpf/x")
    assert wish.settings == [("a", "1"), ("b", "{1, 2}")]
    assert wish.events == [("ring", "struct event"), ("raw", "")]
    assert wish.attach == [("count", "eth0")]
    assert wish.programs == ["a", "b"]
    assert wish.duration == 1.5
    assert (wish.json, wish.quiet, wish.dry_run, wish.trace) == (True, True, True, True)


@pytest.mark.parametrize("text", ["x", "", "-1", "nan", "inf", "1e12"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="not a number of seconds"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([SNOOP, "--set", "targ_pod=1"], "no constant 'targ_pod'\nHINT: did you mean 'targ_pid'?"),
        (
            [SNOOP, "--set", "targ_pid=99999999999"],
            "targ_pid: 99999999999 is no u32: it must be 0 to 4294967295",
        ),
        ([SNOOP, "--set", "targ_failed=maybe"], "targ_failed: 'maybe' is no _Bool"),
        ([SNOOP, "--set", "targ_pid"], "'targ_pid' should be NAME=VALUE"),
        ([SNOOP, "--set", "targ_pid=cpid"], "there is no command"),
        ([SNOOP, "--events", "event"], "no buffer 'event'; did you mean 'events'?"),
        ([SNOOP, "--events", "start:event"], "map start is no ring buffer and no perf event array, but HASH"),
        ([SNOOP, "--events", "events:evnt"], "no type 'evnt'\nHINT: did you mean 'event'?"),
        ([SNOOP, "--program", "enter_opn"], "no program 'enter_opn'; did you mean 'enter_open'?"),
        ([SNOOP, "--attach", "nothing:eth0"], "no program 'nothing'"),
        ([SNOOP, "--backend", "usr"], "unknown backend: usr"),
        ([SNOOP, "--evens", "x"], "did you mean 'events'?"),
        ([SNOOP, "-c", "/no/such/command"], "/no/such/command: no such file"),
        ([SNOOP, "-f", "xml"], "Valid formats: 'text', 'json'"),
        ([SNOOP, "other.o"], "failed to open file 'other.o'"),
        ([], "which object is to be loaded?"),
        (["/nothing.o"], "failed to open file '/nothing.o': No such file or directory"),
        ([str(ROOT / "README.md")], "no ELF file"),
    ],
)
def test_what_makes_no_sense(words: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["load", *words]) == 1
    assert message in capfd.readouterr().err


def test_an_object_is_no_script(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([SNOOP]) == 1
    assert f"tracebee load {SNOOP}" in capfd.readouterr().err


def test_a_hidden_character_in_a_section_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = Path(SNOOP).read_bytes()
    name = b"tracepoint/syscalls/sys_enter_openat2\0"
    assert name in data
    spoilt = tmp_path / "spoilt.bpf.o"
    spoilt.write_bytes(data.replace(name, b"\t" + name[1:]))
    assert main(["load", str(spoilt)]) == 1
    message = capfd.readouterr().err
    assert r"'\tracepoint/syscalls/sys_enter_openat2'" in message
    assert "did you mean 'tracepoint/syscalls/sys_enter_openat2'?" in message


def test_settings_get_into_the_object() -> None:
    found = tracebee.Object.from_elf(SNOOP)
    prepare(
        found, parse([SNOOP, "--set", "targ_pid=0x10", "--set", "targ_failed=true", "--program", "exit_open"])
    )
    assert (found.variables["targ_pid"], found.variables["targ_failed"]) == (16, True)
    assert [name for name, one in found.programs.items() if one.autoload] == ["exit_open"]


def test_lines_of_columns() -> None:
    found = tracebee.Object.from_elf(SNOOP)
    codec = event_codec(found.btf, "event")
    columns = EventColumns(codec)  # type: ignore[arg-type]
    data = struct.pack("<QIIIii16s256s", 5, 1, 2, 3, -2, 4, b"a\nb\xff", b"/etc")
    first = columns.line(codec.decode(data.ljust(codec.size, b"\0"))).split("\n")
    assert len(first) == 2
    assert first[0].split() == ["WHEN", "PID", "TID", "UID", "RET", "FLAGS", "COMM", "PATH"]
    assert first[1].split() == ["5", "1", "2", "3", "-2", "4", r"a\nb\xff", "/etc"]
    assert first[0].index("PATH") == first[1].index("/etc")
    assert "\n" not in columns.line(codec.decode(data.ljust(codec.size, b"\0")))
