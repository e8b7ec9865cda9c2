"""The command line taken apart, the help text, and where the output goes."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tracebee.cli.output import BUFFERED, StreamOutput, open_output
from tracebee.cli.trace import (
    LONG,
    LONG_TO_SHORT,
    SHORT,
    Arguments,
    check_targets,
    parse_arguments,
    parse_pid,
    read_source,
)
from tracebee.cli.usage import USAGE
from tracebee.errors import TargetError, UsageError
from tracebee.language.source import Source

DEFAULTS = vars(Arguments())


def changed(*words: str) -> dict[str, object]:
    """What a command line changes of the defaults."""
    return {
        name: value for name, value in vars(parse_arguments(list(words))).items() if value != DEFAULTS[name]
    }


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], {}),
        (["tool.bt"], {"words": ["tool.bt"]}),
        (["-e", "BEGIN { }"], {"program": "BEGIN { }"}),
        (["-eBEGIN { }"], {"program": "BEGIN { }"}),
        (["-e", ""], {"program": ""}),
        (["-e", "x", "1", "two"], {"program": "x", "words": ["1", "two"]}),
        (["tool.bt", "-v", "1"], {"verbose": True, "words": ["tool.bt", "1"]}),
        (["tool.bt", "--", "--name=v"], {"words": ["tool.bt", "--", "--name=v"]}),
        (["tool.bt", "--", "-v"], {"words": ["tool.bt", "--", "-v"]}),
        (["-"], {"words": ["-"]}),
        (["-l"], {"listing": True}),
        (["-lv", "tracepoint:*"], {"listing": True, "verbose": True, "words": ["tracepoint:*"]}),
        (["-c", "ls -l"], {"command": "ls -l"}),
        (["--cmd", "ls"], {"command": "ls"}),
        (["--cmd=ls"], {"command": "ls"}),
        (["-p", "1"], {"pid": 1}),
        (["--pid=42"], {"pid": 42}),
        (["-o", "out"], {"output": "out"}),
        (["-f", "json"], {"format": "json"}),
        (["-B", "none"], {"buffering": "none"}),
        (["-q"], {"quiet": True}),
        (["--quiet"], {"quiet": True}),
        (["-k"], {"report_failures": True}),
        (["--no-warnings"], {"warnings": False}),
        (["--unsafe"], {"unsafe": True}),
        (["--dry-run"], {"dry_run": True}),
        (["--info"], {"info": True}),
        (["--fmt"], {"reformat": True}),
        (["-I", "a", "-I", "b"], {"include_paths": ["a", "b"]}),
        (["--include", "x.h"], {"includes": ["x.h"]}),
        (["--no-feature", "a,b", "--no-feature=c"], {"disabled": ["a", "b", "c"]}),
        (["--probe-filter", "sys.*"], {"probe_filter": "sys.*"}),
        (["--test"], {"mode": "test"}),
        (["--bench"], {"mode": "bench"}),
        (["--mode", "test"], {"mode": "test"}),
        (["--backend=auto"], {}),
    ],
    ids=" ".join,
)
def test_words(words: list[str], wanted: dict[str, object]) -> None:
    assert changed(*words) == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nothing"], "option --nothing not recognized"),
        (["-x"], "option -x not recognized"),
        (["-e"], "option -e requires argument"),
        (["--pid"], "option --pid requires argument"),
        (["-v", "--help"], "stands alone"),
        (["-v", "-V"], "stands alone"),
        (["--backend", "moon"], "unknown backend: moon"),
        (["-p", "x"], "Failed to parse pid: invalid integer: x"),
        (["-p", ""], "Failed to parse pid: invalid integer: "),
        (["-p", "-1"], "Failed to parse pid: invalid integer: -1"),
        (["-p", "12x"], "Failed to parse pid: invalid trailing bytes: 12x"),
        (["-p", "0"], "Pid out of range: 0"),
        (["-p", "4194305"], "Pid out of range: 4194305"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_arguments(words)
    assert message in str(caught.value)


def test_an_unknown_option_is_answered_with_the_usage() -> None:
    with pytest.raises(UsageError) as caught:
        parse_arguments(["--nothing"])
    assert "\n\nUSAGE:\n" in str(caught.value)
    assert "OPTIONS:" not in str(caught.value)
    assert "OPTIONS:" not in str(caught.value)


def test_the_largest_pid() -> None:
    assert parse_pid("4194304") == 1 << 22


# ---------------------------------------------------------------------- the help text


def test_help_starts_with_three_commands_to_copy() -> None:
    lines = USAGE.splitlines()
    for line in lines[:3]:
        words = shlex.split(line)
        assert words[0] == "tracebee"
        parsed = parse_arguments(words[1:])
        assert parsed.program or parsed.listing
    assert lines[3] == ""


def test_the_commands_of_the_help_text_compile() -> None:
    """As far as their grammar goes: what they name depends on the machine."""
    from tracebee.language.diagnostics import Diagnostics
    from tracebee.language.parser import parse

    programs = [
        parse_arguments(shlex.split(line.split("      ")[0])[1:]).program
        for line in USAGE.splitlines()
        if line.lstrip().startswith("tracebee -e '")
    ]
    assert len(programs) >= 5
    for program in programs:
        assert program
        diagnostics = Diagnostics()
        assert parse(Source("help", program), diagnostics).probes


def test_every_option_of_the_help_text_is_understood() -> None:
    options = USAGE.partition("OPTIONS:")[2].partition("ENVIRONMENT:")[0]
    named = set(re.findall(r"(?<![\w-])(--?[A-Za-z][\w-]*)", options))
    shorts = {f"-{letter}" for letter in SHORT if letter != ":"}
    longs = {f"--{name.rstrip('=')}" for name in LONG}
    assert {name for name in named if not name.startswith("--")} <= shorts | {"-lv"}
    assert {name for name in named if name.startswith("--")} <= longs
    # And every letter is described.
    assert shorts <= named
    assert set(LONG_TO_SHORT) <= longs
    assert set(LONG_TO_SHORT.values()) <= shorts


# ---------------------------------------------------------------------- the program


def arguments(*words: str) -> Arguments:
    return parse_arguments(list(words))


def test_a_program_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tool.bt"
    path.write_text("BEGIN { /* é */ }\n", encoding="utf-8")
    source, words = read_source(arguments(str(path), "1", "two"))
    assert (source.name, source.text, words) == (str(path), "BEGIN { /* é */ }\n", ["1", "two"])


def test_a_program_from_the_command_line() -> None:
    source, words = read_source(arguments("-e", "BEGIN {}", "1"))
    assert (source.name, source.text, words) == ("stdin", "BEGIN {}", ["1"])


def test_no_program(tmp_path: Path) -> None:
    for words in ([], ["--", "--x=1"]):
        with pytest.raises(UsageError, match="filename or -e 'program' required"):
            read_source(arguments(*words))
    for name, reason in ((tmp_path / "nothing.bt", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=f"failed to open file '{name}': {reason}"):
            read_source(arguments(str(name)))


@pytest.mark.parametrize(
    ("data", "place"),
    [(b"\xff", "1:1"), (b"ab\xff", "1:3"), (b"a\nbc\n\xc3(", "3:1"), (b"\xc3\xa9\n\xe9", "2:1")],
)
def test_a_file_that_is_not_utf8(data: bytes, place: str) -> None:
    with pytest.raises(UsageError, match=f"tool.bt:{place}: the script is not valid UTF-8"):
        Source.decode("tool.bt", data)


def test_an_object_is_no_script(tmp_path: Path) -> None:
    path = tmp_path / "probe.bpf.o"
    path.write_bytes(b"\x7fELF\x02\x01\x01\xff")
    with pytest.raises(UsageError, match=r"probe\.bpf\.o is an ELF object, not a script"):
        read_source(arguments(str(path)))


def test_targets() -> None:
    check_targets(None, os.getpid())
    check_targets("/bin/true", 0)
    with pytest.raises(TargetError, match="no such file"):
        check_targets("/nonexistent", 0)
    # Above what this kernel gives out, but within what one may.
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    if limit < 1 << 22:
        with pytest.raises(TargetError, match="there is no such process"):
            check_targets(None, limit + 1)


# ---------------------------------------------------------------------- the output


def read_all(fd: int) -> bytes:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("mode", ["none", "line", "full"])
def test_batches(mode: str) -> None:
    reader, writer = os.pipe()
    try:
        output = StreamOutput(writer, "text", mode)
        output.write("a\n")
        output.write("b\n")
        assert read_all(reader) == b""
        output.flush()
        assert read_all(reader) == (b"" if mode == "full" else b"a\nb\n")
        output.close()
        assert read_all(reader) == (b"a\nb\n" if mode == "full" else b"")
    finally:
        os.close(reader)
        os.close(writer)


def test_much_is_written_at_once(tmp_path: Path) -> None:
    output = open_output(str(tmp_path / "out"), "text", "full", False)
    line = "x" * 1023 + "\n"
    for _ in range(BUFFERED // 1024 + 1):
        output.write(line)
    assert (tmp_path / "out").stat().st_size > BUFFERED
    output.write("tail\udcff")
    output.close()
    assert (tmp_path / "out").read_bytes().endswith(b"\ntail\xff")
    os.close(output.fd)


def test_a_file_is_emptied_first(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old and long")
    output = open_output(str(tmp_path / "out"), "text", "line", False)
    output.write("new\n")
    output.close()
    assert (tmp_path / "out").read_text() == "new\n"
    assert not os.get_inheritable(output.fd)
    os.close(output.fd)


@pytest.mark.parametrize(
    ("path", "kind", "mode", "message"),
    [
        ("", "xml", "line", 'Invalid output format "xml"'),
        ("", "text", "sometimes", 'Invalid buffering mode "sometimes"'),
        ("/nonexistent/out", "text", "line", "Failed to open output file: '/nonexistent/out': No such file"),
    ],
)
def test_outputs_that_cannot_be(path: str, kind: str, mode: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_output(path, kind, mode, False)
    assert message in str(caught.value)
