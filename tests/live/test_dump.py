"""The code and the types of loaded programs: the same as bpftool says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.cli.main import main
from tracebee.errors import SyscallError
from tracebee.insn import encode
from tracebee.insn.asm import assemble
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Iterator

OBJECTS = Path(__file__).parents[1] / "data" / "objects"
BPFFS = Path("/sys/fs/bpf")
BPFTOOL = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
OBJDUMP = shutil.which("objdump")
TRACEBEE = [sys.executable, "-m", "tracebee"]


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("BPF needs root")
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        pytest.skip(f"bpf(2) is refused here: {error}")
    if BPFTOOL is None:
        pytest.skip("bpftool is not installed")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A directory in the bpf file system, with the programs of rewritten.bpf.o."""
    path = BPFFS / f"tracebee-{uuid.uuid4().hex[:12]}"
    done = subprocess.run(
        [str(BPFTOOL), "prog", "loadall", str(OBJECTS / "rewritten.bpf.o"), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(path, ignore_errors=True)
        pytest.skip(f"bpftool cannot load the object: {done.stderr[-300:]}")
    yield path
    shutil.rmtree(path)


def bpftool(*words: str | Path) -> str:
    return subprocess.run(
        [str(BPFTOOL), *map(str, words)], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def without_notes(text: str) -> list[str]:
    """The lines of instructions, as far as bpftool has them too."""
    lines = [line.split("  //")[0].rstrip() for line in text.splitlines()]
    return [line for line in lines if re.match(r" +[0-9]+: ", line)]


@pytest.fixture
def tracebee(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command line that has to succeed, and gives what it prints."""

    def run(*words: str | Path) -> str:
        capsys.readouterr()
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return captured.out

    return run


# ---------------------------------------------------------------------- instructions


@pytest.mark.parametrize("name", ["packets", "locked"])
def test_instructions_are_those_of_bpftool(tracebee: Any, folder: Path, name: str, tmp_path: Path) -> None:
    selector = ("pinned", folder / name)
    theirs = bpftool("prog", "dump", "xlated", *selector)
    ours = tracebee("prog", "dump", "xlated", *selector)
    assert without_notes(ours) == without_notes(theirs)
    assert len(without_notes(ours)) > 15
    # The bytes, in files and behind each instruction.
    bpftool("prog", "dump", "xlated", *selector, "file", tmp_path / "theirs")
    tracebee("prog", "dump", "xlated", *selector, "file", tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes() != b""
    rows = re.compile("^ {7}[0-9a-f ]+$", re.MULTILINE)
    assert rows.findall(tracebee("prog", "dump", "xlated", *selector, "opcodes")) == [
        row.rstrip() for row in rows.findall(bpftool("prog", "dump", "xlated", *selector, "opcodes"))
    ]


def test_lines_of_source_and_prototypes(tracebee: Any, folder: Path) -> None:
    selector = ("pinned", folder / "packets")
    theirs = bpftool("prog", "dump", "xlated", *selector, "linum").splitlines()
    ours = tracebee("prog", "dump", "xlated", *selector, "linum").splitlines()
    assert [line for line in ours if line.startswith(";")] == [line for line in theirs if line[0] == ";"]
    heads = [line.replace("* ", "*") for line in theirs if line.endswith("):")]
    assert [line for line in ours if line.endswith("):")] == heads
    assert len(heads) == 4
    short = tracebee("prog", "dump", "xlated", *selector)
    assert re.search(r"^; tail_call\(context, &jumps, 1\);  \[rewritten.bpf.c:57:5\]$", short, re.MULTILINE)


def test_notes_name_maps_variables_and_functions(tracebee: Any, folder: Path) -> None:
    notes = re.findall("  // (.*)", tracebee("prog", "dump", "xlated", "pinned", folder / "packets"))
    assert notes == ["numbers", "visit", "add", "&seen", "&total", "jumps", "&limits"]


@pytest.mark.parametrize("flag", ["linum", "opcodes"])
def test_json_has_the_fields_of_bpftool(tracebee: Any, folder: Path, flag: str) -> None:
    selector = ("pinned", folder / "packets")
    theirs = json.loads(bpftool("-j", "prog", "dump", "xlated", *selector, flag))
    ours = json.loads(tracebee("prog", "dump", "-j", "xlated", *selector, flag))
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        if "proto" in other:
            other["proto"] = other["proto"].replace("* ", "*")
        assert {key: mine.get(key) for key in other} == other
    assert [row["slot"] for row in ours[:4]] == [0, 1, 2, 3]


def test_a_graph_of_each_function(tracebee: Any, folder: Path) -> None:
    text = tracebee("prog", "dump", "xlated", "pinned", folder / "packets", "visual")
    assert re.findall(r'label="([^"]*\))";', text) == [
        "int packets(void *context)",
        "long visit(void *map, u32 *key, u64 *value, u64 *sum)",
        "long add(u32 index, u64 *sum)",
        "u64 largest(u64 a, u64 b)",
    ]
    defined = set(re.findall(r"^\t\t(\w+) \[", text, re.MULTILINE))
    edges = re.findall(r"^\t\t(\w+) -> (\w+)", text, re.MULTILINE)
    assert {name for edge in edges for name in edge} == defined
    assert {edge for edge in edges if edge[0] == "at_67"} == {("at_67", "at_69"), ("at_67", "at_73")}


def test_programs_by_tag_name_and_id(tracebee: Any, folder: Path) -> None:
    shown = json.loads(bpftool("-j", "prog", "show", "pinned", folder / "locked"))
    by_id = tracebee("prog", "dump", "xlated", "id", str(shown["id"]))
    assert by_id == tracebee("prog", "dump", "xlated", str(folder / "locked"))
    # Another run of this test may have loaded the same program.
    for selector in (("tag", shown["tag"]), ("name", "locked")):
        text = tracebee("prog", "dump", "xlated", *selector)
        assert without_notes(by_id)[0] in text
        assert text == by_id or f"{shown['id']}: tracing  name locked  tag {shown['tag']}" in text


def test_wrong_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    selector = ["pinned", str(folder / "packets")]
    for words, message in (
        (["dump"], "which code"),
        (["dump", "xlated", *selector, "lines"], "what is 'lines'"),
        (["dump", "jited", *selector, "visual"], "what is 'visual'"),
        (["dump", "-j", "xlated", *selector, "visual"], "a graph is no JSON"),
        (["dump", "xlated", *selector, "file"], "file wants a path"),
        (["dump", "xlated", *selector, "file", "/no/where"], "cannot write /no/where"),
    ):
        assert main(["prog", *words]) == 1
        assert message in capsys.readouterr().err


# ---------------------------------------------------------------------- machine code


def machine_code(folder: Path, tmp_path: Path, tracebee: Any) -> tuple[bytes, list[Any]]:
    """The bytes of the program `packets`, and its functions; skips where programs are not compiled."""
    shown = json.loads(bpftool("-j", "prog", "show", "pinned", folder / "packets"))
    if not shown.get("bytes_jited"):
        pytest.skip("this kernel interprets programs")
    tracebee("prog", "dump", "jited", "pinned", folder / "packets", "file", tmp_path / "code")
    data = (tmp_path / "code").read_bytes()
    assert len(data) == shown["bytes_jited"]
    return data, json.loads(tracebee("prog", "dump", "-j", "jited", "pinned", folder / "packets"))


def test_functions_of_machine_code(tracebee: Any, folder: Path, tmp_path: Path) -> None:
    data, functions = machine_code(folder, tmp_path, tracebee)
    assert sum(function["len"] for function in functions) == len(data)
    assert [function["proto"].partition("(")[0] for function in functions] == [
        "int packets",
        "long visit",
        "long add",
        "u64 largest",
    ]
    symbols = dict(re.findall(r"^(\w+) t (bpf_prog_\w+)", Path("/proc/kallsyms").read_text(), re.MULTILINE))
    for function in functions:
        assert symbols.get(f"{function['address']:016x}") == function["name"]


@pytest.mark.skipif(OBJDUMP is None, reason="objdump is not installed")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="compares code of x86-64")
def test_machine_code_reads_as_objdump_reads_it(tracebee: Any, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("capstone")
    data, functions = machine_code(folder, tmp_path, tracebee)
    at = 0
    for function in functions:
        (tmp_path / "function").write_bytes(data[at : at + function["len"]])
        at += function["len"]
        command = [str(OBJDUMP), "-D", "-b", "binary", "-m", "i386:x86-64", str(tmp_path / "function")]
        listing = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        theirs = re.findall(r"^ +([0-9a-f]+):\t[0-9a-f ]+\t(\w+)", listing, re.MULTILINE)
        ours = [(insn["pc"].removeprefix("0x"), insn["operation"]) for insn in function["insns"]]
        assert [place for place, _ in ours] == [place for place, _ in theirs]
        # Capstone writes the size behind more mnemonics than objdump does.
        for (_, mine), (_, other) in zip(ours, theirs, strict=True):
            assert mine == other or mine.startswith(other[:3]), (mine, other)


def test_machine_code_has_lines_and_names(tracebee: Any, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("capstone")
    _, functions = machine_code(folder, tmp_path, tracebee)
    sources = [insn.get("src") for function in functions for insn in function["insns"] if "src" in insn]
    assert sources[0] == "int packets(void *context)"
    assert "return a > b ? a : b + limits[1].second;" in sources
    text = tracebee("prog", "dump", "jited", "pinned", folder / "packets")
    assert re.search(r"// bpf_prog_\w+_largest$", text, re.MULTILINE)
    assert re.search(r"^; tail_call\(context, &jumps, 1\);  \[", text, re.MULTILINE)


def test_machine_code_without_capstone(
    folder: Path,
    tmp_path: Path,
    tracebee: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, _ = machine_code(folder, tmp_path, tracebee)
    monkeypatch.setitem(sys.modules, "capstone", None)
    assert main(["prog", "dump", "jited", "pinned", str(folder / "packets")]) == 0
    captured = capsys.readouterr()
    rows = re.findall(r"^ *[0-9a-f]+: ([0-9a-f ]+)$", captured.out, re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == data
    assert captured.err == (
        "HINT: pip install 'tracebee[disasm]' (the library capstone) shows instructions instead of bytes\n"
    )
    functions = json.loads(tracebee("prog", "dump", "-j", "jited", "pinned", folder / "packets"))
    assert b"".join(bytes.fromhex(function["bytes"]) for function in functions) == data


# ---------------------------------------------------------------------- types


def test_types_of_programs_and_maps(tracebee: Any, folder: Path) -> None:
    program = json.loads(bpftool("-j", "prog", "show", "pinned", folder / "packets"))
    for words in (
        ["id", str(program["btf_id"])],
        ["prog", "id", str(program["id"])],
        *(
            ["map", "id", str(map_id), part]
            for map_id in program["map_ids"]
            for part in ("key", "value", "kv")
        ),
    ):
        done = subprocess.run(
            [str(BPFTOOL), "btf", "dump", *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            continue  # a map without types
        ours = tracebee("btf", "dump", *words)
        # What is void is not there in ours.
        assert ours == "".join(
            f"{line}\n" for line in done.stdout.splitlines() if not line.startswith("[0] ")
        ), words
    with_types = json.loads(tracebee("btf", "dump", "-j", "prog", "id", str(program["id"])))
    assert with_types == json.loads(bpftool("-j", "btf", "dump", "prog", "id", str(program["id"])))


def test_one_type_and_a_header_of_a_program(tracebee: Any, folder: Path) -> None:
    program = ["prog", "pinned", str(folder / "packets")]
    assert tracebee("btf", "dump", *program, "type", "struct", "pair").splitlines() == [
        "struct pair {        /* 8 bytes */",
        "        u32 first;   /*     0     4 */",
        "        u32 second;  /*     4     4 */",
        "};",
    ]
    header = tracebee("btf", "dump", *program, "format", "c")
    assert "struct pair {\n\tu32 first;\n\tu32 second;\n};" in header
    assert header.index("typedef unsigned int u32;") < header.index("struct pair {")


def test_wrong_words_about_types(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no BTF at all, but longer than a header")
    for words, message in (
        (["file", str(tmp_path / "text")], "wrong magic number"),
        (["file", str(tmp_path / "none")], "No such file"),
        (["file"], "file wants one path"),
        (["format", "yaml"], "there is no format 'yaml'"),
        (["type", "no_such_type_at_all"], "there is no type called"),
        (["-j", "format", "c"], "C source is no JSON"),
        (["map", "id", "1", "half"], "a map has no 'half'"),
    ):
        assert main(["btf", "dump", *words]) == 1
        assert message in capsys.readouterr().err


# ---------------------------------------------------------------------- running, pinning, watching


def test_a_program_is_run_by_hand(tracebee: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "packet").write_bytes(bytes(range(64)))
    words = ["prog", "run", "pinned", folder / "packets", "data_in", tmp_path / "packet"]
    # Each run adds 0 + 1 + 2 + 3 to a variable, and returns it with another added.
    theirs = json.loads(bpftool("-j", *words))
    ours = json.loads(tracebee(*words, "-j"))
    assert ours.keys() == theirs.keys() == {"retval", "duration"}
    assert ours["retval"] == theirs["retval"] + 6
    many = tracebee(*words, "repeat", "5", "data_out", tmp_path / "out")
    assert re.fullmatch(r"Return value: (\d+), duration \(average\): \d+ns\n", many)
    assert f"Return value: {ours['retval'] + 30}," in many
    bpftool(*words, "data_out", tmp_path / "theirs")
    data = (tmp_path / "out").read_bytes()
    assert data == (tmp_path / "theirs").read_bytes()
    assert data.endswith(bytes(range(14, 64)))
    rows = tracebee(*words, "data_out", "-").splitlines()
    assert rows[3] == "0000030  30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f  |0123456789:;<=>?|"
    assert rows[4].startswith("Return value: ")


def test_what_cannot_be_run_by_hand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prog", "run", "pinned", str(folder / "locked")]) == 1
    assert "the kernel runs no tracing programs by hand" in capsys.readouterr().err
    assert main(["prog", "run", "pinned", str(folder / "packets")]) == 1
    assert "14 bytes of an Ethernet header" in capsys.readouterr().err
    assert main(["prog", "run", "pinned", str(folder / "packets"), "repeat", "x"]) == 1
    assert "repeat wants a number" in capsys.readouterr().err


def test_pinning(tracebee: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(bpftool("-j", "prog", "show", "pinned", folder / "locked"))
    path = folder / "again"
    tracebee("prog", "pin", "id", str(shown["id"]), path)
    assert json.loads(bpftool("-j", "prog", "show", "pinned", path))["id"] == shown["id"]
    assert main(["prog", "pin", "id", str(shown["id"]), str(path)]) == 1
    assert "already" in capsys.readouterr().err
    assert main(["prog", "pin", "id", str(shown["id"])]) == 1
    assert "pin it where?" in capsys.readouterr().err


def test_runs_are_counted_while_a_command_runs(tracebee: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "packet").write_bytes(bytes(64))
    program = ["pinned", str(folder / "packets")]
    command = [*TRACEBEE, "prog", "run", *program, "data_in", str(tmp_path / "packet"), "repeat", "1000"]
    output = tracebee("prog", "profile", *program, "-j", "-c", shlex.join(command))
    (found,) = json.loads(output[output.index("[") :])
    assert found["name"] == "packets"
    assert found["run_cnt"] == 1000
    assert 0 < found["run_time_ns"] < found["seconds"] * 1e9
    assert found["run_time_ns_each"] == found["run_time_ns"] / 1000


def test_programs_attached_to_a_map_of_sockets(tracebee: Any, folder: Path, capsys: Any) -> None:
    """The map has no sockets, so that nothing is touched."""
    program, sockets = folder / "verdict", folder / "sockets"
    try:
        map_fd = bpf.map_create("SOCKMAP", 4, 4, 1)
        prog_fd, _ = bpf.prog_load("SK_MSG", encode(assemble("r0 = 1\nexit")), name="verdict")
    except SyscallError as error:
        pytest.skip(f"the kernel has no maps of sockets: {error}")
    bpf.object_pin(map_fd, str(sockets))
    bpf.object_pin(prog_fd, str(program))
    os.close(map_fd)
    os.close(prog_fd)
    words = ["pinned", str(program), "sk_msg_verdict", "pinned", str(sockets)]
    assert main(["prog", "detach", *words]) == 1
    assert "it is not attached there" in capsys.readouterr().err
    tracebee("prog", "attach", *words)
    tracebee("prog", "detach", *words)
    assert main(["prog", "attach", "pinned", str(program), "sk_msg_verdict"]) == 1
    assert "wants a map of sockets" in capsys.readouterr().err


PRINTS = """
    r1 = {low} ll
    *(u64 *)(r10 -16) = r1
    *(u64 *)(r10 -8) = 10
    r1 = r10
    r1 += -16
    r2 = 10
    call bpf_trace_printk
    r0 = 0
    exit
"""


def test_what_programs_print(folder: Path) -> None:
    mark = uuid.uuid4().hex[:8]
    code = encode(assemble(PRINTS.format(low=hex(int.from_bytes(mark.encode(), "little")))))
    try:
        fd, _ = bpf.prog_load("RAW_TRACEPOINT", code, name="prints")
    except SyscallError as error:
        pytest.skip(f"the kernel does not let programs print: {error}")
    bpf.object_pin(fd, str(folder / "prints"))
    os.close(fd)
    command = shlex.join([*TRACEBEE, "prog", "run", "pinned", str(folder / "prints")])
    for options, expected in ((["-j"], rf'"[^\n]*bpf_trace_printk: {mark}'), ([], rf": {mark}\n")):
        done = subprocess.run(
            [*TRACEBEE, "prog", "tracelog", *options, "-c", command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Return value: 0" in done.stdout
        assert re.search(expected, done.stdout), done.stdout
