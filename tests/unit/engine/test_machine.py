"""Programs on a machine, by every path: what they compute, what stops them and what is said about it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import pytest

from tracebee.engine.machine import Machine
from tracebee.errors import EngineFault, InternalError, NotSupportedError, UsageError
from tracebee.insn import Insn
from tracebee.insn import opcodes as op
from tracebee.insn.asm import assemble
from tracebee.spec.objects import LineInfo, MapSpec, ObjectSpec, ProgramSpec, Schema
from tracebee.syscalls.nativecode import Door

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.engine.world import World

PATHS = ("reference", "fast", "native")
NOBODY = cast("World", None)
MASK64 = (1 << 64) - 1


def program(text: str | tuple[Insn, ...], name: str = "main") -> ProgramSpec:
    insns = assemble(text) if isinstance(text, str) else text
    return ProgramSpec(name, "RAW_TRACEPOINT", insns)


def machine(
    *programs: ProgramSpec,
    maps: Iterable[MapSpec] = (),
    path: str = "fast",
    budget: int = 1 << 20,
    btf: bytes = b"",
) -> Machine:
    spec = ObjectSpec(programs, tuple(maps), (), Schema(), btf)
    if path == "native":
        pytest.importorskip("llvmlite", reason="the native path needs llvmlite")
    return Machine(spec, NOBODY, path=path, budget=budget, native=Door())


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(text: str, path: str, context: bytes | bytearray = b"", **more: object) -> int:
    return machine(program(text), path=path, **more).programs["main"].run(context)  # type: ignore[arg-type]


def fault(text: str, path: str, context: bytes | bytearray = b"", **more: object) -> EngineFault:
    with pytest.raises(EngineFault) as caught:
        run(text, path, context, **more)
    return caught.value


# ---------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("r0 = 5\nr1 = 0\nr0 /= r1", 0),
        ("r0 = 5\nr1 = 0\nr0 %= r1", 5),
        ("r0 = 0x1_0000_0005 ll\nr1 = 0\nw0 %= w1".replace("_", ""), 5),
        ("r0 = 0x100000005 ll\nr1 = 0x200000000 ll\nw0 /= w1", 0),
        ("r0 = -7\nr1 = 2\nr0 s/= r1", -3 & MASK64),
        ("r0 = -7\nr1 = 2\nr0 s%= r1", -1 & MASK64),
        ("r0 = 7\nr0 s%= -2", 1),
        ("r0 = -13\nr1 = 0\nr0 s%= r1", -13 & MASK64),
        ("r0 = 0x8000000000000000 ll\nr1 = -1\nr0 s/= r1", 1 << 63),
        ("r0 = 0x8000000000000000 ll\nr1 = -1\nr0 s%= r1", 0),
        ("r0 = 0x80000000 ll\nr1 = -1\nw0 s/= w1", 1 << 31),
        ("r0 = 1\nr0 <<= 65", 2),
        ("r0 = 1\nw0 <<= 33", 2),
        ("r0 = -1\nr1 = 68\nr0 >>= r1", MASK64 >> 4),
        ("r0 = -16\nw0 s>>= 36", 0xFFFF_FFFF),
        ("r0 = -1\nw0 += 1", 0),
        ("r0 = 0\nr0 -= 1", MASK64),
        ("r0 = -1\nw0 = w0", 0xFFFF_FFFF),
        ("r1 = 0x1ff\nr0 = (s8)r1", MASK64),
        ("r1 = 0x18000\nw0 = (s16)w1", 0xFFFF_8000),
        ("r1 = 0xff00000080000000 ll\nr0 = (s32)r1", 0xFFFF_FFFF_8000_0000),
        ("r0 = 0x1122334455667788 ll\nr0 = be16 r0", 0x8877),
        ("r0 = 0x1122334455667788 ll\nr0 = be32 r0", 0x8877_6655),
        ("r0 = 0x1122334455667788 ll\nr0 = le32 r0", 0x5566_7788),
        ("r0 = 0x1122334455667788 ll\nr0 = bswap64 r0", 0x8877_6655_4433_2211),
        ("r0 = -5\nr0 = -r0", 5),
        ("r0 = 1\nw0 = -w0", 0xFFFF_FFFF),
        ("r0 = -1\nr0 *= 3", -3 & MASK64),
    ],
)
def test_arithmetic(path: str, text: str, result: int) -> None:
    assert run(f"{text}\nexit", path) == result


@pytest.mark.parametrize(
    ("condition", "left", "right", "holds"),
    [
        ("s>", -1, 1, False),
        (">", -1, 1, True),
        ("s<", -1, 1, True),
        ("s<=", -5, -5, True),
        ("s>=", -6, -5, False),
        ("s>", -4, -5, True),
        ("s<", 3, -5, False),
        ("s>=", 3, -5, True),
        ("&", 6, 1, False),
        ("&", 6, -4, True),
        ("==", 7, 7, True),
        ("!=", 7, 7, False),
        ("<=", 7, 7, True),
        ("<", 7, -1, True),
    ],
)
def test_conditions(path: str, condition: str, left: int, right: int, holds: bool) -> None:
    for letter in "rw":
        for other, before in ((str(right), ""), (f"{letter}2", f"r2 = {right}\n")):
            # The value comes from memory, so that nothing is known of it beforehand.
            jump = f"if {letter}1 {condition} {other} goto end"
            text = f"r1 = *(u64 *)(r1 +0)\nr0 = 1\n{before}{jump}\nr0 = 0\nend: exit"
            assert run(text, path, (left & MASK64).to_bytes(8, "little")) == holds


# ---------------------------------------------------------------------- memory


def test_sizes_of_loads_and_stores(path: str) -> None:
    context = bytearray(range(0x81, 0x89)) + bytearray(8)
    text = """
        r6 = r1
        r2 = *(u16 *)(r6 +1)
        *(u32 *)(r6 +8) = r2
        r3 = *(s8 *)(r6 +0)
        *(u16 *)(r6 +12) = r3
        *(u8 *)(r6 +15) = 0x177
        r0 = *(u64 *)(r6 +0)
        exit
    """
    assert run(text, path, context) == 0x8887_8685_8483_8281
    assert context[8:] == bytes.fromhex("82 83 00 00 81 ff 00 77")


def test_the_stack_is_fresh_and_each_function_has_its_own(path: str) -> None:
    text = """
        *(u64 *)(r10 -8) = 7
        r6 = 5
        call local inner
        r1 = *(u64 *)(r10 -8)
        r0 += r1
        r0 += r6
        exit
    inner:
        r6 = 100
        r0 = *(u64 *)(r10 -8)
        *(u64 *)(r10 -8) = 1
        exit
    """
    made = machine(program(text), path=path)
    assert made.programs["main"].run(b"") == 12
    assert made.programs["main"].run(b"") == 12


@pytest.mark.parametrize(
    ("text", "action", "size", "nearest"),
    [
        ("r0 = *(u64 *)(r1 +1)\nexit", "read", 8, "1 of them behind the end of the context"),
        ("r0 = *(u8 *)(r1 +8)\nexit", "read", 1, "0 bytes behind the end of the context"),
        ("r0 = *(u8 *)(r1 -1)\nexit", "read", 1, "1 bytes before the context"),
        ("r0 = *(u32 *)(r10 +0)\nexit", "read", 4, "0 bytes behind the end of the stack"),
        ("r2 = r10\nr2 += -508\n*(u64 *)(r2 -8) = r2\nexit", "write", 8, "4 bytes before the stack"),
        ("*(u16 *)(r1 +0) = 1\nexit", "write", 2, "in the context (read-only"),
        ("lock *(u64 *)(r1 +0) += r1\nexit", "write", 8, "in the context (read-only"),
        ("r1 = 0\nr0 = *(u64 *)(r1 +16)\nexit", "read", 8, ""),
        ("r1 = -1\nr0 = *(u16 *)(r1 +0)\nexit", "read", 2, ""),
        ("r3 = r1\nr3 <<= 1\nr0 = *(u16 *)(r3 +0)\nexit", "read", 2, ""),
    ],
)
def test_a_bad_access(path: str, text: str, action: str, size: int, nearest: str) -> None:
    caught = fault(text, path, bytes(8))
    assert caught.program == "main"
    assert caught.insn_index == text.count("\n") - 1
    assert caught.address is not None
    assert caught.reason.startswith(f"{action} of {size} byte")
    assert nearest in caught.nearest
    assert f"at address {caught.address:#x}" in str(caught)


def test_an_offset_is_not_counted_from_the_end(path: str) -> None:
    """What Python would do with a negative index."""
    for text in ("r0 = *(u8 *)(r1 -4)", "r1 += -4\nr0 = *(u32 *)(r1 +0)", "r0 = *(s16 *)(r1 -2)"):
        assert "before the context" in fault(f"{text}\nexit", path, bytes(64)).nearest


def test_a_pointer_may_be_outside_if_the_access_is_not(path: str) -> None:
    context = bytearray(range(40))
    text = """
        r1 += -7
        r0 = *(u8 *)(r1 +10)
        r2 = *(u8 *)(r1 +7)
        r0 += r2
        *(u8 *)(r1 +9) = 200
        *(u64 *)(r1 +27) = r0
        r1 += 60
        r2 = *(u8 *)(r1 -20)
        r3 = *(u8 *)(r1 -15)
        r0 += r2
        r0 += r3
        exit
    """
    assert run(text, path, context) == 3 + 0 + 33 + 38
    assert (context[2], context[20:28]) == (200, (3).to_bytes(8, "little"))
    for at, text in (
        (1, "r1 += -7\nr0 = *(u8 *)(r1 +6)"),
        (2, "r1 += -7\nr0 = *(u8 *)(r1 +8)\nr0 = *(u8 *)(r1 +6)"),
    ):
        assert fault(f"{text}\nr0 = *(u8 *)(r1 +8)\nexit", path, context).insn_index == at


def test_atomics(path: str) -> None:
    context = bytearray((10).to_bytes(8, "little") + (0xFFFF_FFFF).to_bytes(8, "little"))
    text = """
        r6 = r1
        r2 = 5
        r2 = atomic64_fetch_add((u64 *)(r6 +0), r2)
        r3 = r2
        r0 = 15
        r4 = 99
        r0 = atomic64_cmpxchg((u64 *)(r6 +0), r0, r4)
        r3 += r0
        r0 = 1
        r4 = 77
        r0 = atomic64_cmpxchg((u64 *)(r6 +0), r0, r4)
        r3 += r0
        r2 = 2
        lock *(u32 *)(r6 +8) += r2
        r2 = 0x1ff
        r2 = atomic_xchg((u32 *)(r6 +12), r2)
        r1 = load_acquire((u32 *)(r6 +12))
        r3 += r1
        store_release((u8 *)(r6 +12), r3)
        r0 = r3
        exit
    """
    assert run(text, path, context) == 10 + 15 + 99 + 0x1FF
    assert context == (99).to_bytes(8, "little") + b"\x01\0\0\0" + bytes(
        [(10 + 15 + 99 + 0x1FF) & 255, 1, 0, 0]
    )


# ---------------------------------------------------------------------- control flow


def test_loops_and_branches(path: str) -> None:
    """Primes below 100, by the sieve, with loops in loops and jumps out of them."""
    text = """
        r6 = r1
        r7 = 2
        r0 = 0
    next:
        if r7 >= 100 goto done
        r2 = r6
        r2 += r7
        r3 = *(u8 *)(r2 +0)
        if r3 != 0 goto composite
        r0 += 1
        r4 = r7
    strike:
        r4 += r7
        if r4 >= 100 goto composite
        r2 = r6
        r2 += r4
        *(u8 *)(r2 +0) = 1
        goto strike
    composite:
        r7 += 1
        goto next
    done:
        exit
    """
    assert run(text, path, bytearray(100)) == 25


def test_a_jump_into_a_loop(path: str) -> None:
    text = """
        r1 = 0
        r2 = 3
        goto inside
    head:
        r1 += 10
    inside:
        r1 += 1
        r2 -= 1
        if r2 != 0 goto head
        r0 = r1
        exit
    """
    assert run(text, path) == 23


SHAPES = {
    "a function that starts inside of another's branch": """
        call local inside
        if r0 s> 40 goto end
        r0 += 1
    inside:
        r0 += 5
    end: exit
    """,
    "a short exit that is jumped back to": """
        if r1 == r4 goto first
        if r0 < r1 goto second
    out: exit
    second:
        r0 += 3
        goto out
    first:
        r0 += 10
        goto second
    """,
    "a loop whose first block is such an exit": """
        goto test
    out: exit
    body:
        r0 += 1
        if r0 >= 30 goto out
    test:
        if r0 != r1 goto body
        goto out
    """,
    "a loop that is entered in its middle, with another constant": """
        r0 = 0
        if r1 > 2 goto middle
        r0 = 100
    head:
        r3 += 1
    middle:
        if r3 > 3 goto end
        r4 = r0
        goto head
    end:
        r0 += r4
        exit
    """,
    "loops that overlap": """
    one:
        r0 += 1
    two:
        r3 += r0
        if r3 < 50 goto one
        r3 &= 31
        if r3 > 28 goto two
        if r0 > r1 goto end
        goto one
    end: exit
    """,
    "a jump out of two loops, and one to the outer": """
    outer:
        r3 += 1
        r4 = 0
    inner:
        r4 += 1
        r0 += r4
        if r0 > 200 goto end
        if r4 == 5 goto outer
        if r4 == r1 goto behind
        goto inner
    behind:
        r0 += 1000
    end: exit
    """,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_jumps(path: str, shape: str) -> None:
    """Each of them was, or could have been, translated wrongly."""
    for given in range(8):
        text = f"r0 = 0\nr3 = 0\nr4 = 0\nr1 = *(u8 *)(r1 +0)\n{SHAPES[shape]}"
        assert run(text, path, bytes([given])) == run(text, "reference", bytes([given]))


@pytest.mark.parametrize("text", ["again: goto again", "r1 = 1\nagain: if r1 == 1 goto again\nexit"])
def test_an_endless_loop_ends(path: str, text: str) -> None:
    caught = fault(text, path, budget=10_000)
    assert "does not end" in caught.reason
    assert "10000 instructions" in caught.reason


def test_calls_that_never_end_up_anywhere(path: str) -> None:
    caught = fault("again: call local again\nexit", path)
    assert caught.reason == "more than 8 functions call each other"
    # Each of 8 levels calls the next many times.
    steps = "\n".join(
        f"f{n}: r6 = 10\nl{n}: call local f{n + 1}\nr6 -= 1\nif r6 != 0 goto l{n}\nexit" for n in range(7)
    )
    assert "does not end" in fault(f"{steps}\nf7: r0 = 1\nexit", path).reason


def test_may_goto_ends_a_loop(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("interpreter", "translate", "native"):
        monkeypatch.setattr(f"tracebee.engine.{module}.MAY_GOTO_ROUNDS", 10)
    assert run("r0 = 0\nagain: may_goto out\nr0 += 1\ngoto again\nout: exit", path) == 10


def test_a_register_names_a_function_or_a_helper(path: str) -> None:
    text = "r1 = 4\nr6 = subprog[twice]\ncallx r6\nexit\ntwice: r0 = r1\nr0 += r1\nexit"
    assert run(text, path) == 8
    assert fault("r6 = 77\nr6 <<= 40\ncallx r6\nr0 = 1\nexit", path).reason == "call of what is no function"


def test_a_helper_calls_back(path: str) -> None:
    text = """
        r1 = 5
        r2 = subprog[visit]
        r3 = r10
        r3 += -8
        *(u64 *)(r10 -8) = 0
        r4 = 0
        call bpf_loop
        r1 = *(u64 *)(r10 -8)
        r1 *= 100
        r0 += r1
        exit
    visit:
        r3 = *(u64 *)(r2 +0)
        r3 += r1
        *(u64 *)(r2 +0) = r3
        r0 = 0
        if r1 != 3 goto on
        r0 = 1
    on: exit
    """
    assert run(text, path) == 604


def test_tail_calls(path: str) -> None:
    table = MapSpec("table", "PROG_ARRAY", 4, 4, 2, entries=((0, "main"), (1, "other")))
    text = """
        r6 = *(u32 *)(r1 +0)
        r7 = r1
        r6 += 1
        *(u32 *)(r1 +0) = r6
        r2 = map[table]
        r3 = {index}
        call bpf_tail_call
        r0 = *(u32 *)(r7 +0)
        exit
    """
    other = program("r0 = *(u32 *)(r1 +0)\nr0 += 1000\nexit", "other")

    def result(index: int) -> int:
        made = machine(program(text.format(index=index)), other, maps=[table], path=path)
        return made.programs["main"].run(bytearray(4))

    assert result(1) == 1001
    # Itself: 33 times, then the call fails and the program goes on.
    assert result(0) == 34
    # A place with nothing in it.
    assert result(5) == 1


def test_a_tail_call_of_a_function_returns_to_its_caller(path: str) -> None:
    table = MapSpec("table", "PROG_ARRAY", 4, 4, 1, entries=((0, "other"),))
    text = """
        r6 = 5
        call local leave
        r0 += r6
        exit
    leave:
        r2 = map[table]
        r3 = 0
        call bpf_tail_call
        r0 = 0
        exit
    """
    made = machine(program(text), program("r0 = 37\nexit", "other"), maps=[table], path=path)
    assert made.programs["main"].run(b"") == 42


# ---------------------------------------------------------------------- maps and names


def test_maps(path: str) -> None:
    text = """
        *(u32 *)(r10 -4) = 3
        r1 = map[counts]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto end
        r1 = 1
        lock *(u64 *)(r0 +0) += r1
        r2 = map[only][0]+8
        r0 = *(u32 *)(r2 +0)
        *(u32 *)(r2 +0) = 9
    end: exit
    """
    counts = MapSpec("counts", "ARRAY", 4, 8, 5)
    only = MapSpec("only", "ARRAY", 4, 16, 1, contents=bytes(8) + b"\x11\x22\0\0")
    made = machine(program(text), maps=[counts, only], path=path)
    assert [made.programs["main"].run(b"") for _ in range(3)] == [0x2211, 9, 9]
    assert made.maps["counts"].get((3).to_bytes(4, "little")) == (3).to_bytes(8, "little")


def test_a_frozen_map_is_not_written(path: str) -> None:
    only = MapSpec("only", "ARRAY", 4, 8, 1, flags=1 << 7, contents=b"constant", frozen=True)
    caught = fault("r2 = map[only][0]+4\n*(u32 *)(r2 +0) = 9\nr0 = 0\nexit", path, maps=[only])
    assert caught.reason == "write of 4 bytes that cannot be written"
    assert "in only (read-only" in caught.nearest


def test_records_of_a_ring(path: str) -> None:
    text = """
        r1 = map[events]
        r2 = 16
        r3 = 0
        call bpf_ringbuf_reserve
        if r0 == 0 goto full
        r1 = r0
        *(u64 *)(r1 +0) = 7
        *(u64 *)(r1 +8) = 8
        r2 = 0
        call bpf_ringbuf_submit
        r0 = 0
        exit
    full:
        r0 = 1
        exit
    """
    made = machine(program(text), maps=[MapSpec("events", "RINGBUF", 0, 0, 4096)], path=path)
    assert [made.programs["main"].run(b"") for _ in range(3)] == [0, 0, 0]
    seen: list[bytes] = []

    def take(data: memoryview, words: memoryview, first: int, last: int, limit: int) -> int:
        seen.append(bytes(data[:72]))
        return last

    assert made.ring is not None
    made.ring.drain(take)
    record = (16).to_bytes(8, "little") + (7).to_bytes(8, "little") + (8).to_bytes(8, "little")
    assert seen == [record * 3]


def test_values_come_and_go(path: str) -> None:
    """Regions of map values are made and dropped between runs, and by the program itself."""
    text = """
        r6 = *(u32 *)(r1 +0)
        *(u32 *)(r10 -4) = r6
        *(u64 *)(r10 -16) = 5
        r1 = map[table]
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -16
        r4 = 0
        call bpf_map_update_elem
        r1 = map[table]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto none
        r7 = r0
        *(u64 *)(r7 +0) = r6
        r1 = map[table]
        r2 = r10
        r2 += -4
        call bpf_map_delete_elem
        r0 = *(u64 *)(r7 +0)
    none: exit
    """
    made = machine(program(text), maps=[MapSpec("table", "HASH", 4, 8, 8)], path=path)
    run = made.programs["main"].run
    assert [run(number.to_bytes(4, "little")) for number in range(1, 600)] == list(range(1, 600))
    assert list(made.maps["table"].items()) == []


def test_an_interrupt_gets_through(path: str) -> None:
    def interrupted(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        raise KeyboardInterrupt

    if path == "native":
        pytest.importorskip("llvmlite", reason="the native path needs llvmlite")
    spec = ObjectSpec((program("call 7000\nexit"),), (), (), Schema())
    made = Machine(spec, NOBODY, path=path, helpers={7000: interrupted}, native=Door())
    with pytest.raises(KeyboardInterrupt):
        made.programs["main"].run(b"")


def test_a_helper_with_a_bug_is_told(path: str) -> None:
    def wrong(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        raise KeyError("bug")

    if path == "native":
        pytest.importorskip("llvmlite", reason="the native path needs llvmlite")
    spec = ObjectSpec((program("call 7000\nexit"),), (), (), Schema())
    made = Machine(spec, NOBODY, path=path, helpers={7000: wrong}, native=Door())
    with pytest.raises(InternalError, match="KeyError"):
        made.programs["main"].run(b"")


def test_names_that_nothing_has(path: str) -> None:
    assert "there is no map nothing" in str(fault("r1 = map[nothing]\nr0 = 0\nexit", path))
    counts = MapSpec("counts", "HASH", 4, 8, 5)
    assert "no value with a fixed address" in str(
        fault("r1 = map[counts][0]+0\nr0 = 0\nexit", path, maps=[counts])
    )


def test_a_helper_gets_a_bad_address(path: str) -> None:
    caught = fault(
        "r2 = 64\nr1 = map[counts]\ncall bpf_map_lookup_elem\nexit",
        path,
        maps=[MapSpec("counts", "HASH", 8, 8, 5)],
    )
    assert caught.insn_index == 3
    assert caught.address == 64


def test_the_source_line_is_named(path: str) -> None:
    from tracebee.btf.writer import BtfBuilder

    writer = BtfBuilder()
    file, text = writer.add_string("script.bt"), writer.add_string("  @ = *ptr;")
    spec = program("r0 = 1\nr0 = 2\nr0 = *(u64 *)(r0 +0)\nexit")
    lines = (LineInfo(0, file, file, 1, 1), LineInfo(1, file, text, 3, 7), LineInfo(3, file, file, 9, 1))
    spec = ProgramSpec(spec.name, spec.type, spec.insns, line_info=lines)
    made = machine(spec, path=path, btf=writer.to_bytes())
    with pytest.raises(EngineFault) as caught:
        made.programs["main"].run(b"")
    assert caught.value.line == "script.bt:3: @ = *ptr;"
    assert "script.bt:3" in caught.value.hint


def test_an_unknown_path() -> None:
    with pytest.raises(UsageError):
        machine(program("r0 = 0\nexit"), path="quick")


def test_the_native_path_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ObjectSpec((program("r0 = 0\nexit"),), (), (), Schema())
    with pytest.raises(UsageError, match="door"):
        Machine(spec, NOBODY, path="native")
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with pytest.raises(NotSupportedError) as caught:
        Machine(spec, NOBODY, path="native", native=Door())
    assert "pip install" in caught.value.hint


def test_huge_programs_end(path: str) -> None:
    """Deeper and longer than CPython's compiler can take in one piece."""
    nested = "".join(f"if r1 > {n} goto l{n}\nr0 += 1\n" for n in range(300)) + "".join(
        f"l{n}: r0 += 2\n" for n in reversed(range(300))
    )
    assert run(f"r0 = 0\n{nested}exit", path) == run(f"r0 = 0\n{nested}exit", "reference")
    loops = "".join(f"l{n}: r0 += 1\n" for n in range(40)) + "".join(
        f"r{1 + n % 5} += 1\nif r{1 + n % 5} == {n} goto l{39 - n}\n" for n in range(40)
    )
    # Each function has all that follows.
    shared = "".join(f"f{n}: call local f{n + 1}\n" for n in range(600)) + "f600: r0 += 1\n"
    assert "call each other" in fault(f"{shared}exit", path).reason
    for text in (loops, "r0 += 1\n" * 30_000):
        text = f"r0 = 0\nr1 = 0\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\n{text}exit"
        assert run(text, path) == run(text, "reference")


def test_a_raw_instruction_runs(path: str) -> None:
    insns = (Insn(op.BPF_ALU64 | op.BPF_MOV, 0, imm=3), Insn(op.BPF_JMP | op.BPF_EXIT))
    assert machine(program(insns), path=path).programs["main"].run(b"") == 3
