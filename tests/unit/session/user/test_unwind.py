"""Chains of frame pointers in made-up memory."""

from __future__ import annotations

import struct

from tracebee.language.machine import ARM64, X86_64, Arch
from tracebee.session.user.unwind import CHUNK, user_stack

STACK = 0x7FFE_0000_0000
CODE = 0x40_0000


def registers(arch: Arch = X86_64, **values: int) -> bytes:
    data = bytearray(8 * 36)
    for name, value in values.items():
        struct.pack_into("<Q", data, arch.registers[name], value)
    return bytes(data)


class Memory:
    """A stack of some bytes; counts how often it is read."""

    def __init__(self, words: dict[int, int], size: int = 4096, width: str = "Q") -> None:
        self.stack = bytearray(size)
        self.reads = 0
        for at, word in words.items():
            struct.pack_into("<" + width, self.stack, at, word)

    def read(self, address: int, size: int) -> bytes | None:
        self.reads += 1
        at = address - STACK
        return bytes(self.stack[at : at + size]) if 0 <= at <= len(self.stack) - size else None


def test_frames_by_rbp() -> None:
    memory = Memory({64: STACK + 128, 72: 0x1111, 128: 0, 136: 0x2222})
    found = user_stack(registers(ip=CODE, sp=STACK, bp=STACK + 64), memory.read, 10, X86_64)
    assert found == [CODE, 0x1111, 0x2222]
    assert memory.reads == 1


def test_no_more_than_asked_for() -> None:
    memory = Memory({64: STACK + 64, 72: 0x1111})
    assert user_stack(registers(ip=CODE, sp=STACK, bp=STACK + 64), memory.read, 4, X86_64) == [
        CODE,
        *[0x1111] * 3,
    ]
    assert user_stack(registers(ip=CODE, sp=STACK, bp=STACK + 64), memory.read, 1, X86_64) == [CODE]


def test_a_frame_pointer_that_is_none() -> None:
    memory = Memory({})
    for bp in (0, 1, 0xFFFF_8000_0000_0000, 1 << 63):
        assert user_stack(registers(ip=CODE, sp=STACK, bp=bp), memory.read, 9, X86_64) == [CODE]


def test_frames_far_from_each_other_and_at_the_end_of_memory() -> None:
    far = 3 * CHUNK
    memory = Memory(
        {16: STACK + far, 24: 0x1111, far: STACK + 4096 - 16, far + 8: 0x2222, 4080: 0, 4088: 0x3333}
    )
    found = user_stack(registers(ip=CODE, sp=STACK, bp=STACK + 16), memory.read, 9, X86_64)
    assert found == [CODE, 0x1111, 0x2222, 0x3333]


def test_a_stack_that_ends_within_the_first_chunk() -> None:
    memory = Memory({16: 0, 24: 0x1111}, size=64)
    assert user_stack(registers(ip=CODE, sp=STACK, bp=STACK + 16), memory.read, 9, X86_64) == [CODE, 0x1111]


def test_at_the_entry_of_a_function_the_caller_is_on_top() -> None:
    words = {0: 0x9999, 64: 0, 72: 0x1111}
    for code, entry in (
        (b"\x55\x48\x89\xe5", True),
        (b"\xf3\x0f\x1e\xfa", True),
        (b"\x90\x90\x90\x90", False),
    ):
        memory = Memory(words)
        state = registers(ip=CODE, sp=STACK, bp=STACK + 64)
        found = user_stack(state, memory.read, 9, X86_64, code)
        assert found == ([CODE, 0x9999, 0x1111] if entry else [CODE, 0x1111])
        assert user_stack(state, memory.read, 9, X86_64) == [CODE, 0x1111]


def test_programs_of_32_bits() -> None:
    class Low(Memory):
        def read(self, address: int, size: int) -> bytes | None:
            return super().read(address - 0xFF00_0000 + STACK, size)

    memory = Low({16: 0xFF00_0020, 20: 0x1111, 32: 0, 36: 0x2222}, width="I")
    state = registers(ip=0x8048000, sp=0xFF00_0000, bp=0xFF00_0010, cs=0x23)
    assert user_stack(state, memory.read, 9, X86_64) == [0x8048000, 0x1111, 0x2222]


def test_arm64_frames_must_grow() -> None:
    memory = Memory({64: STACK + 128, 72: 0x1111, 128: STACK + 64, 136: 0x2222})
    state = registers(ARM64, pc=CODE, sp=STACK, fp=STACK + 64)
    assert user_stack(state, memory.read, 9, ARM64) == [CODE, 0x1111, 0x2222]
