"""Reads of the context, found in instructions without running them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import FormatError
from tracebee.insn import Builder, Insn
from tracebee.insn import opcodes as op
from tracebee.insn.codec import decode, encode
from tracebee.object.contextreads import context_reads


def reads(build: object) -> list[tuple[int, int]]:
    """(offset, size) of each read in a program."""
    builder = Builder()
    build(builder)  # type: ignore[operator]
    builder.mov_imm(0, 0)
    builder.exit()
    insns: list[Insn] = decode(encode(builder.finish()))
    return [(one.offset, one.size) for one in context_reads(insns)]


def test_plain_and_moved() -> None:
    def build(b: Builder) -> None:
        b.load(4, 2, 1, 8)
        b.mov(6, 1)
        b.alu_imm(op.BPF_ADD, 6, 16)
        b.load(8, 3, 6, 24)

    assert reads(build) == [(8, 4), (40, 8)]


def test_through_the_stack() -> None:
    def build(b: Builder) -> None:
        b.store(8, 10, -8, 1)
        b.load(8, 7, 10, -8)
        b.load(2, 3, 7, 100)

    assert reads(build) == [(100, 2)]


@pytest.mark.parametrize("spoil", ["call", "write", "other"])
def test_a_register_that_has_something_else(spoil: str) -> None:
    def build(b: Builder) -> None:
        if spoil == "call":
            b.call(5)
        elif spoil == "write":
            b.mov_imm(1, 0)
        else:
            b.load(8, 1, 1, 8)
        b.load(8, 2, 1, 512)

    assert (512, 8) not in reads(build)


def test_an_overwritten_slot() -> None:
    def build(b: Builder) -> None:
        b.store(8, 10, -8, 1)
        b.store_imm(4, 10, -6, 0)
        b.load(8, 7, 10, -8)
        b.load(8, 3, 7, 64)

    assert reads(build) == []


def test_where_two_ways_meet_nothing_is_made_up() -> None:
    def build(b: Builder) -> None:
        b.mov(6, 1)
        b.load(4, 2, 1, 0)
        b.jump_if_imm(op.BPF_JEQ, 2, 0, "other")
        b.alu_imm(op.BPF_ADD, 6, 400)
        b.label("other")
        b.load(8, 3, 6, 8)
        b.load(8, 4, 1, 16)

    assert reads(build) == [(0, 4), (16, 8)]


def test_loops_end() -> None:
    def build(b: Builder) -> None:
        b.mov(6, 1)
        b.label("again")
        b.load(4, 2, 6, 4)
        b.alu_imm(op.BPF_ADD, 6, 4)
        b.jump_if_imm(op.BPF_JNE, 2, 0, "again")

    assert reads(build) == []


def test_no_program() -> None:
    assert context_reads([]) == []


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=24))
def test_any_instructions_come_to_an_end(slots: list[bytes]) -> None:
    try:
        insns = decode(b"".join(slots))
    except FormatError:
        return
    assert all(one.size in (1, 2, 4, 8) for one in context_reads(insns))
