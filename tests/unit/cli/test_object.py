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
    assert "'/nowhere.o': No such file" in capfd.readouterr().err


# ---------------------------------------------------------------------- check, link, diff


def test_check(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(OBJECTS / "openers.bpf.o"), "--btf", "none"]) == 0
    text = capfd.readouterr().out
    assert "enter_openat  tracepoint/syscalls/sys_enter_openat  nothing speaks against it" in text
    core = str(OBJECTS / "core.bpf.o")
    # A type and its flavor are of different sizes.
    assert main(["check", "-f", "json", core, "--btf", core]) == 1
    found = json.loads(capfd.readouterr().out)
    assert [(one["program"], one["reason"]) for one in found["programs"]] == [
        ("ask", "size of the type struct task: 88, not here: types called task differ about it"),
        ("loads", ""),
    ]
    assert main(["check", core, "--btf", str(OBJECTS / "openers.bpf.o")]) == 1
    assert "not here: the target has nothing like it in task" in capfd.readouterr().out


def test_check_of_code_that_is_no_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray((OBJECTS / "legacy.bpf.o").read_bytes())
    data[data.index(b"\x95" + bytes(7))] = 0xFF
    (tmp_path / "bad.o").write_bytes(data)
    assert main(["check", str(tmp_path / "bad.o"), "--btf", "none"]) == 1
    assert "0xff" in capfd.readouterr().out


def test_check_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--kernel", "6.1", str(OBJECTS / "core.bpf.o")]) == 1
    assert "tracebee vm run --kernel 6.1 -- tracebee load" in capfd.readouterr().err
    assert main(["check", "--btf", "none", "-e", "BEGIN { }"]) == 1
    assert "--btf is for objects" in capfd.readouterr().err


def test_link_and_diff(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    parts = [str(OBJECTS / f"{name}.bpf.o") for name in ("first", "second")]
    out = str(tmp_path / "out.o")
    assert main(["object", "link", "-o", out, *parts]) == 0
    assert main(["object", "diff", out, out]) == 0
    assert capfd.readouterr().out == "nothing differs\n"
    assert main(["object", "diff", parts[0], out, "--disasm"]) == 1
    text = capfd.readouterr().out
    assert ["map", "counts", "there", "no", "HASH", "of", "8"] in [line.split() for line in text.splitlines()]
    assert "  +(85) call local which" not in text
    assert main(["object", "diff", "-j", parts[0], out]) == 1
    found = json.loads(capfd.readouterr().out)
    assert {"kind": "map", "name": "counts", "what": "", "before": "", "after": "HASH of 8"} in found[
        "changes"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["link", "a.o"], "what is to be linked"),
        (["link", "-o"], "-o: which file?"),
        (["link", "-x", "-o", "a"], "unknown option -x"),
        (["diff", "a.o"], "two objects are needed"),
        (["diff", "a.o", "b.o", "--what"], "unknown option"),
    ],
)
def test_other_words_that_make_no_sense(
    words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["object", *words]) == 1
    assert message in capfd.readouterr().err


def test_link_does_not_write_over_what_it_reads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.o"
    path.write_bytes((OBJECTS / "first.bpf.o").read_bytes())
    assert main(["object", "link", "-o", str(path), str(path)]) == 1
    assert "is to be read and to be written" in capfd.readouterr().err
    assert path.read_bytes() == (OBJECTS / "first.bpf.o").read_bytes()
