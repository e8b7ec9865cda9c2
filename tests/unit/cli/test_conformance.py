"""``tracebee conformance`` and its plugin."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tracebee.cli.main import main

GOOD = "-- asm\nmov %r0, 7\nexit\n-- result\n7\n"
WRONG = "-- asm\nmov %r0, 7\nexit\n-- result\n8\n"
BROKEN = "-- asm\nmovv %r0, 7\nexit\n-- result\n7\n"
UNUSED = "-- raw\nb7 10 00 00 00 00 00 00\n95 00 00 00 00 00 00 00\n-- error\n"
RUNS = "-- raw\nb7 00 00 00 00 00 00 00\n95 00 00 00 00 00 00 00\n-- error\n"


def suite(folder: Path, **files: str) -> str:
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.data").write_text(text)
    (folder / "README.md").write_text("no test")
    return str(folder)


@pytest.mark.parametrize("path", ["fast", "reference", "native"])
def test_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    if path == "native":
        pytest.importorskip("llvmlite", reason="the native path needs llvmlite")
    folder = suite(tmp_path / "tests", one=GOOD, two=GOOD)
    assert main(["conformance", folder, "--path", path]) == 0
    told = capsys.readouterr().out
    assert told == f"2 tests on the {path} path: 2 passed, 0 failed, 0 refused; 0 not as they should be\n"


def test_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = suite(tmp_path / "tests", broken=BROKEN, good=GOOD, wrong=WRONG)
    assert main(["conformance", folder]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"WRONG: {folder}/broken.data: refused: ")
    assert lines[1] == f"WRONG: {folder}/wrong.data: failed: the result is 0x7, not 0x8"
    assert lines[2].endswith("1 passed, 1 failed, 1 refused; 2 not as they should be")


def test_negative_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = suite(tmp_path / "negative", broken=BROKEN, wrong=WRONG, unused=UNUSED)
    assert main(["conformance", folder, "-v"]) == 0
    assert "0 passed, 1 failed, 2 refused; 0 not" in capsys.readouterr().out
    for name, text in (("good", GOOD), ("runs", RUNS)):
        (tmp_path / "negative" / f"{name}.data").write_text(text)
        assert main(["conformance", f"{folder}/{name}.data"]) == 1
        assert "1 not as they should be" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["/no/such/place"], ["--path", "quick", "."], ["--what"], ["{}"]])
def test_bad_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["conformance", *[word.format(tmp_path) for word in arguments]]) == 1
    assert "ERROR" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("conformance", "conformance-plugin"):
        assert main([command, "--help"]) == 0
        assert f"tracebee {command}" in capsys.readouterr().out


PROGRAM = "79 10 01 00 00 00 00 00 95 00 00 00 00 00 00 00\n"


@pytest.mark.parametrize("path", ["fast", "reference", "native"])
def test_the_plugin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str) -> None:
    if path == "native":
        pytest.importorskip("llvmlite", reason="the native path needs llvmlite")
    monkeypatch.setattr("sys.stdin", io.StringIO(PROGRAM))
    assert main(["conformance-plugin", "00 01 02 03 04 05 06 07 08", "--path", path]) == 0
    assert capsys.readouterr().out == "807060504030201\n"


def test_the_plugin_takes_objects(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first program of this one files the name of a file to be opened, and gives 0."""
    data = (Path(__file__).parents[3] / "examples" / "my_probe.bpf.o").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.StringIO(data.hex(" ")))
    assert main(["conformance-plugin", bytes(64).hex(), "--elf"]) == 0
    assert capsys.readouterr().out == "0\n"


@pytest.mark.parametrize(
    ("program", "arguments", "reason"),
    [
        (PROGRAM, ["00 01"], "outside of the program's memory"),
        (PROGRAM, ["0g"], "hex"),
        ("95 00", [], "ends inside an instruction"),
        ("ff 00 00 00 00 00 00 00", [], "opcode 0xff"),
        (PROGRAM, ["00", "--elf"], "ELF"),
        ("7f 45 4c 46 02 01 01 00", ["--elf"], "ELF"),
        (PROGRAM, ["00", "11"], "more than the memory"),
        (PROGRAM, ["--shout"], "--shout"),
    ],
)
def test_the_plugin_fails(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    program: str,
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(program))
    assert main(["conformance-plugin", *arguments]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert reason in told.err
