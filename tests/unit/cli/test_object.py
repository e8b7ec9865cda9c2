"""``tracebee object``: what the words mean, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracebee.cli.main import main
from tracebee.cli.object.show import Wish, read_words
from tracebee.errors import UsageError

OBJECTS = Path(__file__).parents[2] / "data" / "objects"


def wish(**fields: object) -> Wish:
    made = Wish("a.o", "", frozenset(), "", False, False)
    return made._replace(**fields)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a.o", wish()),
        ("-j a.o", wish(json=True)),
        ("a.o --btf none -p", wish(btf="none", pretty=True)),
        ("--btf=x a.o", wish(btf="x")),
        ("a.o --disasm", wish(parts=frozenset({"disasm"}))),
        ("--disasm a.o", wish(parts=frozenset({"disasm"}))),
        ("a.o --disasm main", wish(parts=frozenset({"disasm"}), program="main")),
        ("--disasm main a.o", wish(parts=frozenset({"disasm"}), program="main")),
        ("--disasm=main a.o", wish(parts=frozenset({"disasm"}), program="main")),
        ("a.o --types --sections", wish(parts=frozenset({"types", "sections"}))),
    ],
)
def test_words(words: str, expected: Wish) -> None:
    assert read_words(words.split()) == expected


@pytest.mark.parametrize("words", ["", "a.o b.o", "a.o --btf", "a.o --what", "--disasm a b c"])
def test_words_that_make_no_sense(words: str) -> None:
    with pytest.raises(UsageError):
        read_words(words.split())


def shown(capfd: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert main(["object", "show", *words]) == status
    captured = capfd.readouterr()
    assert captured.err == ""
    return captured.out


def test_text(capfd: pytest.CaptureFixture[str]) -> None:
    text = shown(capfd, str(OBJECTS / "openers.bpf.o"), "--btf", "none")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "8 .rodata 12 alloc constants, which a loader may set before it loads" in lines
    assert (
        "enter_openat tracepoint/syscalls/sys_enter_openat a tracepoint TRACEPOINT "
        "syscalls/sys_enter_openat 53 (85) openers.bpf.c:67-88"
    ) in lines
    assert "opens HASH u32 (4) u64 (8) 128" in lines
    assert '.rodata 4 8 global volatile const char greeting[8] "hello"' in lines
    assert ".BTF.ext" not in text
    assert ".BTF.ext" in shown(capfd, str(OBJECTS / "openers.bpf.o"), "--btf", "none", "--sections")


def test_parts(capfd: pytest.CaptureFixture[str]) -> None:
    path = str(OBJECTS / "pieces-eb.bpf.o")
    text = shown(capfd, path, "--btf", "none", "--relocations", "--types")
    assert "struct pair {\n\tu32 a;\n\tu64 b;\n};" in text
    assert "function visit in .text" in text
    assert "Programs:" not in text
    text = shown(capfd, path, "--btf=none", "--disasm", "jumps_away")
    assert text.startswith("program jumps_away in socket:\n")
    assert "; return -1;    [pieces.bpf.c:104]" in text


def test_json(capfd: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown(capfd, "-j", str(OBJECTS / "openers.bpf.o"), "--btf", "none", "--disasm"))
    assert {row["name"]: row["value"] for row in found["globals"]}["greeting"] == "hello"
    assert [row["name"] for row in found["programs"]] == ["enter_openat", "exit_openat"]
    assert found["disassembly"]["exit_openat"][0] == {
        "kind": "function",
        "slot": 0,
        "text": "exit_openat",
        "note": "",
        "place": "",
    }
    assert found["problems"] == []


def test_types_of_a_file_answer(capfd: pytest.CaptureFixture[str]) -> None:
    core = str(OBJECTS / "core.bpf.o")
    found = json.loads(shown(capfd, "-j", core, "--btf", core))
    row = next(
        row for row in found["core"] if row["subject"] == "struct task.pid" and row["kind"] == "byte_off"
    )
    assert (row["in_object"], row["here"]) == (0, 0)


def test_what_is_wrong_is_said_last(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = (OBJECTS / "legacy.bpf.o").read_bytes().replace(b"kprobe/do", b"\tkprobe/d")
    (tmp_path / "bad.o").write_bytes(data)
    text = shown(capfd, str(tmp_path / "bad.o"), "--btf", "none", status=1)
    assert "\\tkprobe/d_something" in text.replace("\\x09", "\\t")
    assert "did you mean 'kprobe/d_something'?" in text.split("What is wrong:")[1]


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "an empty file"), (b"!<arch>\n", "an archive"), (b"\x7fELF", "too short for a header")],
)
def test_no_object(tmp_path: Path, capfd: pytest.CaptureFixture[str], data: bytes, message: str) -> None:
    (tmp_path / "no.o").write_bytes(data)
    assert main(["object", "show", str(tmp_path / "no.o"), "--btf", "none"]) == 1
    assert message in capfd.readouterr().err


def test_no_file(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["object", "show", "/nowhere.o"]) == 1
    assert "/nowhere.o: No such file" in capfd.readouterr().err
