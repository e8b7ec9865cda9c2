"""The verbs of ``tracebee prog`` about code and runs, as far as they need no kernel."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.cli.prog import attaching, dump, machinecode, profile, testrun, tracelog
from tracebee.cli.prog.dump import SourceLines
from tracebee.cli.prog.machinecode import Function
from tracebee.errors import NotSupportedError, UsageError
from tracebee.insn.xlated import Source
from tracebee.kernel.info import ProgramInfo
from tracebee.kernel.xlated import ProgramCode

if TYPE_CHECKING:
    from collections.abc import Callable


def program(**fields: Any) -> ProgramInfo:
    values = {"id": 7, "type": "XDP", "name": "drop", "kernel_name": "drop", "tag": "00" * 8}
    values |= {"gpl_compatible": True, "load_time": 0, "created_by_uid": 0}
    return ProgramInfo(**{**values, "xlated_prog_len": 8, "jited_prog_len": 40, **fields})


def no_code() -> ProgramCode:
    return ProgramCode(None, None, (), (), (), (), (), (), (), 0)


# ---------------------------------------------------------------------- words


def test_words_behind_a_dumped_program() -> None:
    wanted = dump.parse_wanted("xlated", ["opcodes", "file", "visual", "linum"])
    assert wanted == dump.Wanted("xlated", frozenset(("opcodes", "linum")), "visual")
    assert dump.parse_wanted("jited", ["intel"]).flags == {"intel"}


def test_words_behind_a_run() -> None:
    request = testrun.parse_request(["data_in", "-", "repeat", "10", "ctx_out", "-", "data_out", "-"])
    assert request.files == {"data_in": "-", "ctx_out": "-", "data_out": "-"}
    assert request.numbers == {"repeat": 10}


def test_words_behind_an_attachment() -> None:
    assert attaching.parse_place(["id", "3", "sk_skb_verdict", "pinned", "/x"]) == (
        ["id", "3"],
        "SK_SKB_VERDICT",
        ["pinned", "/x"],
    )
    assert attaching.parse_place(["3", "flow_dissector"]) == (["3"], "FLOW_DISSECTOR", [])


def test_words_behind_a_profile() -> None:
    wanted = profile.parse_wanted(["id", "3", "duration", "0.5", "cycles", "llc_misses"])
    assert wanted == profile.Wanted(["id", "3"], 0.5, ("cycles", "llc_misses"))
    assert profile.parse_wanted([]) == profile.Wanted([], 0.0, ())
    assert profile.parse_wanted(["duration", "2"]).selector == []
    assert profile.parse_wanted(["cycles"]) == profile.Wanted([], 0.0, ("cycles",))


@pytest.mark.parametrize(
    ("parse", "words"),
    [
        (lambda words: dump.parse_wanted("xlated", words), ["intel"]),
        (lambda words: dump.parse_wanted("jited", words), ["file"]),
        (testrun.parse_request, ["data_in"]),
        (testrun.parse_request, ["repeat", "-1"]),
        (testrun.parse_request, ["repeat", str(1 << 31)]),
        (testrun.parse_request, ["again", "1"]),
        (testrun.parse_request, ["data_in", "-", "ctx_in", "-"]),
        (attaching.parse_place, ["id", "3"]),
        (attaching.parse_place, ["id", "3", "sk_msg_verdict"]),
        (attaching.parse_place, ["id", "3", "flow_dissector", "id", "4"]),
        (attaching.parse_place, ["id", "3", "sk_msg_verdict", "id", "4", "5"]),
        (profile.parse_wanted, ["id", "3", "duration"]),
        (profile.parse_wanted, ["id", "3", "duration", "nan"]),
        (profile.parse_wanted, ["id", "3", "duration", "-1"]),
        (profile.parse_wanted, ["id", "3", "branches"]),
        (tracelog.split_command_option, ["-c"]),
    ],
)
def test_wrong_words(parse: Callable[[list[str]], object], words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)


def test_a_command_among_the_words() -> None:
    assert tracelog.split_command_option(["id", "3", "-c", "ls -l", "-j"]) == (["id", "3", "-j"], "ls -l")
    assert tracelog.split_command_option(["id", "3"]) == (["id", "3"], "")


# ---------------------------------------------------------------------- code


def test_code_that_the_kernel_keeps_to_itself() -> None:
    with pytest.raises(NotSupportedError, match="no instructions of program 7") as caught:
        dump.code_bytes("xlated", 7, program(), no_code())
    assert caught.value.hint
    with pytest.raises(NotSupportedError, match="no machine code of program 7"):
        dump.code_bytes("jited", 7, program(), no_code())


def test_a_line_of_source_is_shown_once_in_a_row() -> None:
    first, again = Source("a++;", "/src/a.c", 3, 1), Source("a++;", "/src/a.c", 3, 9)
    other, empty = Source("b++;", "/src/a.c", 4, 1), Source("", "", 0, 0)
    lines = SourceLines(exact=False)
    shown = [lines.show(source) for source in (first, again, None, empty, other, first)]
    assert shown == [["; a++;  [a.c:3:1]"], [], [], [], ["; b++;  [a.c:4:1]"], ["; a++;  [a.c:3:1]"]]
    lines.start_function()
    assert lines.show(again) == ["; a++;  [a.c:3:9]"]
    assert lines.show(Source("", "a.c", 5, 2)) == ["; [a.c:5:2]"]
    exact = SourceLines(exact=True)
    assert [exact.show(source) for source in (first, first)] == [
        ["; a++; [file:/src/a.c line_num:3 line_col:1]"]
    ] * 2


class Symbols:
    """What machine code asks of names."""

    def symbol(self, address: int) -> str:
        return "vfs_read" if address == 0xFFFF_FFFF_8150_0000 else ""


def disassembled(
    machine: str, code: str, address: int = 0, intel: bool = False
) -> list[tuple[int, str, str, str]]:
    pytest.importorskip("capstone")
    made = machinecode.make_disassembler(machine, intel)
    function = Function("", "f", address, bytes.fromhex(code))
    return [
        (insn.offset, insn.operation, insn.operands, insn.note)
        for insn in machinecode.disassemble(made, function, Symbols())  # type: ignore[arg-type]
    ]


def test_machine_code_of_x86() -> None:
    address = 0xFFFF_FFFF_8150_0000 - 0x16
    code = "55 48 89 e5 48 bf 00 b0 06 00 00 c9 ff ff e8 00 00 00 00 74 eb e8 e6 ff ff ff"
    assert disassembled("x86_64", code, address) == [
        (0, "pushq", "%rbp", ""),
        (1, "movq", "%rsp, %rbp", ""),
        (4, "movabsq", "$0xffffc9000006b000, %rdi", ""),
        (14, "callq", f"{address + 19:#x}", "to 13"),
        (19, "je", f"{address:#x}", "to 0"),
        (21, "callq", f"{address:#x}", "to 0"),
    ]
    call = disassembled("x86_64", "e8 fb ff ff ff", 0xFFFF_FFFF_8150_0000, intel=True)
    assert call == [(0, "call", "0xffffffff81500000", "vfs_read")]
    assert disassembled("x86_64", "4889e5", intel=True) == [(0, "mov", "rbp, rsp", "")]


def test_machine_code_of_other_machines() -> None:
    assert disassembled("aarch64", "fd7bbfa9 c0035fd6") == [
        (0, "stp", "x29, x30, [sp, #-0x10]!", ""),
        (4, "ret", "", ""),
    ]
    # Instructions of two bytes and of four.
    assert [row[0] for row in disassembled("riscv64", "8280 13050000 8280")] == [0, 2, 6]
    assert machinecode.make_disassembler("pdp11") is None


def test_bytes_that_are_no_instruction_do_not_end_the_listing() -> None:
    assert [(row[0], row[1]) for row in disassembled("x86_64", "06 55")] == [(0, ".byte"), (1, "pushq")]


def test_operands_are_split_outside_of_brackets() -> None:
    split = machinecode._split_operands
    assert split("%rax, 8(%rbx, %rcx, 4)") == ["%rax", "8(%rbx, %rcx, 4)"]
    assert split("x29, x30, [sp, #-0x10]!") == ["x29", "x30", "[sp, #-0x10]!"]
    assert split("") == []


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    assert machinecode.make_disassembler("x86_64") is None


# ---------------------------------------------------------------------- runs


def test_what_programs_did_between_two_moments() -> None:
    before = {7: program(run_cnt=5, run_time_ns=1000), 8: program(id=8, name="idle")}
    after = {
        7: program(run_cnt=15, run_time_ns=51_000, recursion_misses=2),
        8: program(id=8, name="idle"),
    }
    busy, idle = profile.differences(before, after, 2_000_000_000)
    assert (busy.run_cnt, busy.run_time_ns, busy.each_ns, busy.runs_per_second) == (10, 50_000, 5000.0, 5.0)
    assert busy.cpu_percent == 0.0025
    assert (idle.run_cnt, idle.each_ns) == (0, 0.0)
    assert [line.split() for line in profile.report([busy, idle])] == [
        ["ID", "NAME", "RUNS", "TIME", "EACH", "RUNS/S", "CPU", "MISSED"],
        ["7", "drop", "10", "50", "µs", "5", "µs", "5.0", "0.00%", "2"],
        ["8", "idle", "0", "0", "ns", "0.0", "0.00%"],
    ]
    assert profile.record(busy)["run_time_ns_each"] == 5000.0


def test_bytes_are_shown_in_rows() -> None:
    assert testrun.hex_rows(b"ABC\x00" * 4 + b"\xff") == [
        "0000000  41 42 43 00 41 42 43 00 41 42 43 00 41 42 43 00  |ABC.ABC.ABC.ABC.|",
        "0000010  ff                                               |.|",
    ]


def test_lines_of_a_pipe_while_a_command_runs() -> None:
    """All that was written before the command ended arrives, in whole lines."""
    read, write = os.pipe2(os.O_NONBLOCK)
    shown: list[bytes] = []
    try:
        os.write(write, b"one\ntw")
        os.write(write, b"o\nthree")
        assert tracelog.follow(read, shown.append, "/bin/sh -c 'exit 3'") == 3
    finally:
        os.close(read)
        os.close(write)
    assert b"".join(shown) == b"one\ntwo\nthree\n"
