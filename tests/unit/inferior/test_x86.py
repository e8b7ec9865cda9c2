"""Lengths of x86-64 instructions against objdump, and what relocated code does, by an interpreter of its jumps."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tracebee.errors import FormatError
from tracebee.inferior.x86 import REACH, SLOT_SIZE, decode, relocate

PLACE, ADDRESS = 0x10000000, 0x10401000


@pytest.mark.parametrize(
    ("code", "length"),
    [
        ("55", 1),  # push %rbp
        ("f3 0f 1e fa", 4),  # endbr64
        ("48 89 e5", 3),
        ("66 2e 0f 1f 84 00 00 00 00 00", 10),  # nopw %cs:0x0(%rax,%rax,1)
        ("48 b8 01 02 03 04 05 06 07 08", 10),  # movabs
        ("66 b8 01 02", 4),
        ("b8 01 02 03 04", 5),
        ("48 a1 01 02 03 04 05 06 07 08", 10),
        ("67 a1 01 02 03 04", 6),
        ("c8 10 00 00", 4),  # enter
        ("c2 08 00", 3),  # ret
        ("f6 04 25 00 00 60 00 01", 8),  # testb $1, 0x600000
        ("f6 d8", 2),  # neg %al
        ("66 f7 c0 01 00", 5),  # test $1, %ax
        ("48 f7 c0 01 00 00 00", 7),
        ("48 f7 d8", 3),
        ("8f 00", 2),  # pop (%rax)
        ("8f e9 78 81 c1", 5),  # vfrczpd: XOP
        ("8f e8 78 c0 c1 05", 6),  # vprotb: XOP with a byte
        ("c5 f8 77", 3),  # vzeroupper
        ("c5 f9 70 c1 e4", 5),  # vpshufd
        ("c5 fd 6f 05 00 01 00 00", 8),
        ("c4 e2 7d 18 05 00 01 00 00", 9),
        ("c4 e3 7d 19 c1 01", 6),  # vextractf128
        ("62 f1 7c 48 10 05 00 01 00 00", 10),  # vmovups 0x100(%rip), %zmm0
        ("62 f3 7d 48 3b c1 01", 7),
        ("62 f1 7d 48 70 c1 e4", 7),
        ("0f 38 00 c1", 4),
        ("66 0f 3a 0f c1 08", 6),  # palignr
        ("0f 0f c1 9e", 4),  # 3DNow!
        ("0f 05", 2),
        ("cd 80", 2),
        ("e8 00 00 00 00", 5),
        ("66 66 48 e8 00 00 00 00", 8),
        ("0f 84 00 00 00 00", 6),
        ("f2 ff 25 00 00 00 00", 7),  # bnd jmp
        ("41 ff 14 24", 4),
        ("65 48 8b 04 25 28 00 00 00", 9),
        ("c7 84 24 80 00 00 00 01 00 00 00", 11),
        ("66 c7 00 01 00", 5),
        ("0f c8", 2),
        ("f0 48 0f c7 4c 24 10", 7),  # lock cmpxchg16b
        ("9b", 1),
        ("d9 9f ec cb 3b cf", 6),
    ],
)
def test_lengths(code: str, length: int) -> None:
    data = bytes.fromhex(code)
    assert decode(data + b"\x05" * 15).length == length
    if length > 1:
        with pytest.raises(FormatError):
            decode(data[: length - 1])


@pytest.mark.parametrize(
    "code", ["06", "60", "9a", "d5 00", "0f 04", "62 f4 7c 08 58 00", "c4 e7 00 00 00", "", "66"]
)
def test_what_is_no_instruction(code: str) -> None:
    with pytest.raises(FormatError):
        decode(bytes.fromhex(code))


def test_prefixes_without_end() -> None:
    with pytest.raises(FormatError):
        decode(b"\x66" * 20)


LINE = re.compile(r"\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(.*)")


def test_lengths_against_objdump() -> None:
    """Every distinct instruction of a few thousand of the interpreter or a library of this machine."""
    objdump = shutil.which("objdump")
    files = [Path(sys.executable).resolve(), *Path("/lib/x86_64-linux-gnu").glob("lib[cm].so.6")]
    if objdump is None or not files:
        pytest.skip("no objdump")
    seen: set[bytes] = set()
    for path in files:
        with subprocess.Popen(
            [objdump, "-d", "-w", "-j", ".text", str(path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                found = LINE.match(line)
                if found is None or "(bad)" in line:
                    continue
                code = bytes.fromhex(found[2])
                if code in seen or found[3].startswith((".byte", "rex")) or code[0] == 0x9B:
                    continue  # objdump takes FWAIT and what follows for one
                seen.add(code)
                assert decode(code + b"\x90" * 8).length == len(code), line
                if len(seen) % 20000 == 0:
                    process.kill()
                    break
    if not seen:
        pytest.skip("objdump does not know this machine's code")


# ---------------------------------------------------------------------- other places


def relative(code: bytes, at: int) -> int:
    return int.from_bytes(code[at : at + 4], "little", signed=True)


def ends_in_jump(code: bytes, at: int) -> int:
    """Where the jump at an offset leads."""
    assert code[at] == 0xE9
    return PLACE + at + 5 + relative(code, at + 1)


@pytest.mark.parametrize("code", ["55", "48 89 e5", "f3 0f 1e fa", "c5 f8 77", "0f 0b", "f3 48 a5", "c3"])
def test_plain_instructions_are_copied(code: str) -> None:
    data = bytes.fromhex(code)
    moved = relocate(decode(data), ADDRESS, PLACE)
    assert moved.code[: len(data)] == data
    assert ends_in_jump(moved.code, len(data)) == ADDRESS + len(data)
    assert moved.meanings == {0: ADDRESS, len(data): ADDRESS + len(data)}
    assert not moved.enters_kernel


@pytest.mark.parametrize(
    ("code", "at"),
    [
        ("48 8d 05 f0 0f 00 00", 3),
        ("c7 05 f0 0f 00 00 4d 00 00 00", 2),
        ("c5 fd 6f 05 f0 0f 00 00", 4),
        ("62 f1 7c 48 10 05 f0 0f 00 00", 6),
        ("66 0f 3a 0f 0d f0 0f 00 00 08", 5),
        ("ff 25 f0 0f 00 00", 2),
    ],
)
def test_operands_by_the_instruction_pointer(code: str, at: int) -> None:
    data = bytes.fromhex(code)
    moved = relocate(decode(data), ADDRESS, PLACE)
    assert PLACE + len(data) + relative(moved.code, at) == ADDRESS + len(data) + 0xFF0
    assert moved.code[:at] == data[:at]
    assert moved.code[at + 4 : len(data)] == data[at + 4 :]
    assert ends_in_jump(moved.code, len(data)) == ADDRESS + len(data)


@pytest.mark.parametrize(
    ("code", "size", "distance"),
    [
        ("eb 10", 2, 0x10),
        ("eb fe", 2, -2),
        ("e9 00 01 00 00", 5, 0x100),
        ("e9 fb ff ff ff", 5, -5),
    ],
)
def test_jumps(code: str, size: int, distance: int) -> None:
    moved = relocate(decode(bytes.fromhex(code)), ADDRESS, PLACE)
    assert ends_in_jump(moved.code, 0) == ADDRESS + size + distance


@pytest.mark.parametrize(
    ("code", "head", "distance"),
    [
        ("74 10", "74 05", 0x10),
        ("7f f0", "7f 05", -16),
        ("0f 85 00 01 00 00", "75 05", 0x100),
        ("f2 0f 84 00 01 00 00", "74 05", 0x100),
        ("e2 10", "e2 05", 0x10),
        ("67 e3 10", "67 e3 05", 0x10),
    ],
)
def test_conditions(code: str, head: str, distance: int) -> None:
    """Not taken: the first jump, to the next instruction; taken: over it, to the target."""
    data, start = bytes.fromhex(code), bytes.fromhex(head)
    moved = relocate(decode(data), ADDRESS, PLACE)
    after, target = ADDRESS + len(data), ADDRESS + len(data) + distance
    assert moved.code[: len(start)] == start
    assert ends_in_jump(moved.code, len(start)) == after
    assert ends_in_jump(moved.code, len(start) + 5) == target
    assert moved.meanings == {0: ADDRESS, len(start): after, len(start) + 5: target}


def pushed(code: bytes) -> int:
    """The 8 bytes that PUSH m64 at the beginning takes."""
    assert code[:2] == b"\xff\x35"
    at = 6 + relative(code, 2)
    return int.from_bytes(code[at : at + 8], "little")


def test_calls_push_their_own_place() -> None:
    moved = relocate(decode(bytes.fromhex("e8 00 01 00 00")), ADDRESS, PLACE)
    assert pushed(moved.code) == ADDRESS + 5
    assert ends_in_jump(moved.code, 6) == ADDRESS + 5 + 0x100
    assert moved.meanings == {0: ADDRESS, 6: ADDRESS + 5 + 0x100}


@pytest.mark.parametrize(
    ("code", "jump"),
    [
        ("ff d0", "ff e0"),
        ("41 ff d4", "41 ff e4"),
        ("ff 10", "ff 20"),
        ("ff 54 c8 10", "ff 64 c8 10"),
        # What the stack pointer is the base of lies 8 higher after the push.
        ("ff 14 24", "ff a4 24 08 00 00 00"),
        ("ff 54 24 78", "ff a4 24 80 00 00 00"),
        ("ff 94 cc f8 ff ff ff", "ff a4 cc 00 00 00 00"),
        # %r12 has the same number but for one bit.
        ("41 ff 54 24 10", "41 ff 64 24 10"),
    ],
)
def test_calls_by_a_register_or_memory(code: str, jump: str) -> None:
    data, expected = bytes.fromhex(code), bytes.fromhex(jump)
    moved = relocate(decode(data), ADDRESS, PLACE)
    assert moved.code[6 : 6 + len(expected)] == expected
    assert pushed(moved.code) == ADDRESS + len(data)
    assert (moved.undone, moved.meanings[6]) == (6, ADDRESS)


def test_call_by_memory_at_the_instruction_pointer() -> None:
    moved = relocate(decode(bytes.fromhex("ff 15 f0 0f 00 00")), ADDRESS, PLACE)
    assert moved.code[6:8] == b"\xff\x25"
    assert PLACE + 12 + relative(moved.code, 8) == ADDRESS + 6 + 0xFF0
    assert pushed(moved.code) == ADDRESS + 6


@pytest.mark.parametrize("code", ["0f 05", "cd 80", "0f 34"])
def test_system_calls_are_marked(code: str) -> None:
    assert relocate(decode(bytes.fromhex(code)), ADDRESS, PLACE).enters_kernel


@pytest.mark.parametrize(
    "code", ["cc", "f1", "ff 1c 24", "c7 f8 00 00 00 00", "ff d4", "66 ff d0", "67 8b 05 00 00 00 00"]
)
def test_what_cannot_be_moved(code: str) -> None:
    with pytest.raises(FormatError):
        relocate(decode(bytes.fromhex(code)), ADDRESS, PLACE)


def test_distances() -> None:
    nop = decode(b"\x90")
    relocate(nop, PLACE + REACH, PLACE)
    with pytest.raises(FormatError, match="too far"):
        relocate(nop, PLACE + REACH + 1, PLACE)
    far = decode(bytes.fromhex("e9 ff ff ff 7f"))
    with pytest.raises(FormatError, match="too far"):
        relocate(far, PLACE + 0x1000, PLACE)


def test_all_fit_into_their_slot() -> None:
    longest = [
        "ff 94 cc f8 ff ff ff",
        "2e 65 f2 41 ff 94 cc f8 ff ff ff",
        "66 2e 0f 1f 84 00 00 00 00 00",
        "48 c7 84 24 80 00 00 00 01 00 00 00",
        "66 66 66 66 66 66 2e 0f 1f 84 00 00 00 00 00",
    ]
    for code in longest:
        assert len(relocate(decode(bytes.fromhex(code)), ADDRESS, PLACE).code) <= SLOT_SIZE
