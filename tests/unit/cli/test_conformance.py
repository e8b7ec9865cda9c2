"""``tracebee conformance`` and its plugin."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import pytest

from tracebee.cli.main import main
from tracebee.engine.conformance import assembled
from tracebee.insn.codec import encode

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


def elf_of(program: bytes, section: str = ".text", function: str = "main") -> bytes:
    """An object with one section of code, and no string table but that of the sections' names."""
    names = f"\0.shstrtab\0.symtab\0{section}\0{function}\0".encode()
    at = {name: names.index(name.encode() + b"\0") for name in (".shstrtab", ".symtab", section, function)}
    symbols = bytes(24) + struct.pack("<IBBHQQ", at[function], 0x12, 0, 3, 0, len(program))
    bodies = [(names, 3, 0, 0, 0), (symbols, 2, 1, 1, 24), (program, 1, 0, 0, 0)]
    headers, rest = bytes(64), b""
    for name, (body, kind, link, info, size) in zip([".shstrtab", ".symtab", section], bodies, strict=True):
        flags = 0 if kind != 1 else 3 if section == ".data" else 6
        headers += struct.pack(
            "<IIQQQQIIQQ", at[name], kind, flags, 0, 64 + len(rest), len(body), link, info, 4, size
        )
        rest += body
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    start = 64 + len(rest)
    return (
        ident + struct.pack("<HHIQQQIHHHHHH", 1, 247, 1, 0, 0, start, 0, 64, 0, 0, 64, 4, 1) + rest + headers
    )


@pytest.mark.parametrize("section", [".text", "xdp"])
def test_the_plugin_takes_the_objects_of_the_suite(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], section: str
) -> None:
    """Its programs lie in .text, as one function, with calls inside of it."""
    program = assembled(
        ["ldxb %r1, [%r1+1]", "call local f", "exit", "f:", "mov %r0, %r1", "add %r0, 1", "exit"]
    )
    data = elf_of(encode(program, byteorder="little"), section)
    monkeypatch.setattr(sys, "stdin", io.StringIO(data.hex(" ").replace(" ", "  ") + "  \n"))
    assert main(["conformance-plugin", "08  29  ", "--elf"]) == 0
    assert capsys.readouterr().out == "2a\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["00 08 01 00 00 00 00 00 00 ", ""],
        ["", "00 08 01 00 00 00 00 00 00"],
        ["00 08 01 00 00 00 00 00 00", "--debug"],
    ],
)
def test_words_that_say_nothing_to_the_plugin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(PROGRAM))
    assert main(["conformance-plugin", *arguments]) == 0
    assert capsys.readouterr().out == "108\n"


def test_a_program_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("not read"))
    assert main(["conformance-plugin", "--program", PROGRAM.strip(), "00 07 00 00 00 00 00 00 00"]) == 0
    assert capsys.readouterr().out == "7\n"


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
        (elf_of(b"").hex(), ["--elf"], "is empty"),
        (elf_of(bytes(8), ".data").hex(), ["--elf"], "no program"),
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
