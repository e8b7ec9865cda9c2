"""Programs for a caller that is machine code: what they compute, the ring, the table of places, and faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tracebee.engine.embedded import CURRENT, ENTRIES, RING_END, SCRATCH, Embedded
from tracebee.engine.machine import Machine
from tracebee.errors import EngineFault, NotSupportedError
from tracebee.insn.asm import assemble
from tracebee.spec.objects import MapSpec, ObjectSpec, ProgramSpec, Schema
from tracebee.syscalls.nativecode import Door

if TYPE_CHECKING:
    from collections.abc import Iterable

pytest.importorskip("llvmlite", reason="machine code needs llvmlite")

RING = MapSpec("events", "RINGBUF", 0, 0, 4096)
COUNTS = MapSpec("counts", "HASH", 4, 8, 16)
CALLER = """
define i64 @go(ptr %program, i64 %length) {
  %kind = call i64 @run(ptr %program, i64 %length)
  ret i64 %kind
}
"""


class Facts:
    """The world of a thread that is in no process."""

    def pid_tgid(self) -> int:
        raise AssertionError("machine code knows it")

    def cookie(self) -> int:
        return 0

    def uid_gid(self) -> int:
        return 7

    def clock(self, name: str) -> int:
        return 1


class Made:
    """A program that is run by machine code, on a machine that has it in Python too."""

    def __init__(self, text: str, maps: Iterable[MapSpec] = ()) -> None:
        spec = ObjectSpec(
            (ProgramSpec("main", "RAW_TRACEPOINT", assemble(text)),), tuple(maps), (), Schema(), b""
        )
        facts: Any = Facts()
        self.machine = Machine(spec, facts, budget=1 << 20)
        door = Door()
        self.embedded = Embedded(self.machine.runtime, door, self.machine.ring)
        self.attended = 0
        self.embedded.attending = self._attend
        address_of = self.embedded.translate(self.machine.linked, CALLER)
        self._code = address_of("f0_0")
        self._go = door.function(address_of("go"), 2)

    def _attend(self) -> None:
        self.attended += 1

    def put(self, offset: int, value: int) -> None:
        self.embedded._put(offset, value)

    def run(self, context: bytes = b"", times: int = 1) -> int:
        """What the last run gave."""
        self.embedded.context[: len(context)] = context
        self.embedded.begin()
        kind = 0
        for _ in range(times):
            kind = self._go(self._code, len(context))
        self.error = self.machine.explain(self.embedded.stopped(kind)) if kind else None  # type: ignore[arg-type]
        self.embedded.end()
        return kind

    def python(self, context: bytes = b"") -> int:
        return self.machine.programs["main"].run(context)

    def fault(self, context: bytes = b"") -> EngineFault:
        assert self.run(context)
        assert isinstance(self.error, EngineFault)
        return self.error

    def records(self) -> list[bytes]:
        found: list[bytes] = []

        def take(data: memoryview, words: memoryview, start: int, end: int, limit: int) -> int:
            while start < end:
                head = words[start >> 2]
                assert not head >> 31, "a record is not finished"
                size = head & 0x3FFFFFFF
                if not head >> 30:
                    found.append(bytes(data[start + 8 : start + 8 + size]))
                start += (size + 15) & ~7
            return end

        ring = self.machine.ring
        assert ring is not None
        ring.drain(take)
        return found

    def count(self, key: int, name: str = "counts") -> int:
        value = self.machine.maps[name].get(key.to_bytes(4, "little"))
        assert value is not None
        return int.from_bytes(value, "little")


COUNT = """
    r6 = *(u32 *)(r1 +0)
    *(u32 *)(r10 -4) = r6
    r1 = map[counts]
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem
    if r0 == 0 goto new
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
    r0 = 0
    exit
new:
    *(u64 *)(r10 -16) = 1
    r1 = map[counts]
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    call bpf_map_update_elem
    r0 = 0
    exit
"""

WRITE = """
    r6 = r1
    r1 = map[events]
    r2 = 16
    r3 = 0
    call bpf_ringbuf_reserve
    if r0 == 0 goto out
    r1 = *(u64 *)(r6 +0)
    *(u64 *)(r0 +0) = r1
    *(u32 *)(r0 +8) = 5
    r1 = r0
    r2 = 0
    call bpf_ringbuf_submit
    r0 = 0
    exit
out:
    r0 = 1
    exit
"""


def test_counts_by_machine_code_and_by_python_are_the_same_counts() -> None:
    made = Made(COUNT, [COUNTS])
    for key in (1, 2, 1):
        context = key.to_bytes(4, "little")
        made.run(context, 10)
        made.python(context)
    assert (made.count(1), made.count(2)) == (22, 11)


def test_a_key_that_was_looked_up_needs_no_python() -> None:
    made = Made(COUNT, [COUNTS])
    made.run(bytes(4), 3)  # the first makes it, the second finds it in Python, the third alone
    before = made.attended
    made.run(bytes(4), 100)
    assert made.attended == before
    assert made.count(0) == 103


def test_a_key_that_was_removed_is_not_found_in_its_old_place() -> None:
    made = Made(COUNT, [COUNTS])
    made.run(bytes(4), 5)
    made.machine.maps["counts"].remove(bytes(4))
    made.run(bytes(4), 2)
    assert made.count(0) == 2


def test_a_value_that_was_replaced_is_found_in_its_new_place() -> None:
    made = Made(COUNT, [COUNTS])
    made.run(bytes(4), 5)
    made.machine.maps["counts"].put(bytes(4), (1000).to_bytes(8, "little"))
    made.machine.runtime.shared.settle()
    made.run(bytes(4), 3)
    assert made.count(0) == 1003


@pytest.mark.parametrize("size", [1, 3, 4, 8, 11, 16, 56, 57])
def test_keys_of_any_size_are_told_apart(size: int) -> None:
    """More of them than the table has entries: they take each other's place."""
    table = MapSpec("counts", "HASH", size, 8, 4096)
    words = "\n".join(f"r2 = *(u8 *)(r1 +{at})\n*(u8 *)(r10 -{64 - at}) = r2" for at in range(size))
    text = (
        words
        + """
    r1 = map[counts]
    r2 = r10
    r2 += -64
    call bpf_map_lookup_elem
    if r0 == 0 goto none
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
none:
    r0 = 0
    exit
    """
    )
    made = Made(text, [table])
    keys = [number.to_bytes(max(size, 2), "little")[:size] for number in range(min(256**size, 3 * ENTRIES))]
    counts = made.machine.maps["counts"]
    for key in keys:
        counts.put(key, bytes(8))
    for _ in range(3):
        for key in keys:
            made.run(key)
    assert {key: int.from_bytes(value, "little") for key, value in counts.items()} == dict.fromkeys(keys, 3)


def test_records_are_as_python_writes_them() -> None:
    made = Made(WRITE, [RING])
    context = (123456).to_bytes(8, "little")
    made.python(context)
    made.run(context, 2)
    made.python(context)
    assert made.records() == [context + b"\5" + bytes(7)] * 4


def test_a_full_ring_takes_no_more() -> None:
    by_machine, by_python = Made(WRITE, [RING]), Made(WRITE, [RING])
    by_machine.run(bytes(8), 1000)
    for _ in range(1000):
        by_python.python(bytes(8))
    assert by_machine.records() == by_python.records() != []


def test_a_ring_that_was_drained_in_part_is_used_to_its_end() -> None:
    made = Made(WRITE, [RING])
    found = []
    for number in range(600):
        made.run(number.to_bytes(8, "little"), 7)
        found += made.records()
    assert [int.from_bytes(one[:8], "little") for one in found] == [n for n in range(600) for _ in range(7)]


def test_a_record_that_is_not_submitted_is_dropped() -> None:
    made = Made(
        """
    r1 = map[events]
    r2 = 8
    r3 = 0
    call bpf_ringbuf_reserve
    r0 = 0
    exit
    """,
        [RING],
    )
    assert made.run(times=3) == 0
    assert made.records() == []


@pytest.mark.parametrize("size", [0, 1, 8, 100, SCRATCH - 500, SCRATCH + 1])
def test_output_copies_what_it_is_given(size: int) -> None:
    table = MapSpec("data", "ARRAY", 4, 8192, 1)
    made = Made(
        f"""
    r1 = map[events]
    r2 = map[data][0]+0
    r3 = {size}
    r4 = 0
    call bpf_ringbuf_output
    exit
    """,
        [MapSpec("events", "RINGBUF", 0, 0, 1 << 16), table],
    )
    made.machine.maps["data"].put(bytes(4), bytes(range(256)) * 32)
    made.run()
    assert made.records() == [(bytes(range(256)) * 32)[:size]]


def test_who_the_thread_is() -> None:
    made = Made(COUNT.replace("r6 = *(u32 *)(r1 +0)", "call bpf_get_current_pid_tgid\nr6 = r0"), [COUNTS])
    made.put(CURRENT, 77 << 32 | 78)
    made.run()
    assert made.count(78) == 1


def test_python_is_told_of_an_event_once() -> None:
    made = Made(
        """
    call bpf_get_current_uid_gid
    r6 = r0
    call bpf_get_current_uid_gid
    r6 += r0
    *(u32 *)(r10 -4) = r6
    r1 = map[counts]
    r2 = r10
    r2 += -4
    *(u64 *)(r10 -16) = 1
    r3 = r10
    r3 += -16
    r4 = 0
    call bpf_map_update_elem
    r0 = 0
    exit
    """,
        [COUNTS],
    )
    made.run(times=4)
    assert made.attended == 4
    assert made.count(14) == 1


def test_a_context_has_its_own_size() -> None:
    made = Made("r0 = *(u64 *)(r1 +8)\nexit")
    assert made.run(bytes(16)) == 0
    error = made.fault(bytes(8))
    assert error.insn_index == 0
    assert "outside" in error.reason
    assert made.run(bytes(16)) == 0  # and the fault is over


def test_a_write_to_the_context_is_a_fault() -> None:
    assert "cannot be written" in Made("*(u64 *)(r1 +0) = 1\nr0 = 0\nexit").fault(bytes(8)).reason


def test_a_write_behind_a_record_is_a_fault() -> None:
    text = WRITE.replace("*(u32 *)(r0 +8) = 5", "*(u32 *)(r0 +16) = 5")
    made = Made(text, [RING])
    assert made.fault(bytes(8)).insn_index > 0
    assert made.records() == []


def test_a_record_is_gone_when_it_is_submitted() -> None:
    text = WRITE.replace(
        "r1 = r0\n    r2 = 0\n    call", "r7 = r0\n    r1 = r0\n    r2 = 0\n    call"
    ).replace("call bpf_ringbuf_submit", "call bpf_ringbuf_submit\n    *(u64 *)(r7 +0) = 1")
    made = Made(text, [RING])
    assert made.fault(bytes(8)).insn_index > 0
    assert len(made.records()) == 1


def test_a_program_that_does_not_end_is_stopped() -> None:
    assert "does not end" in Made("r0 = 0\nagain:\nr0 += 1\nif r0 != 0 goto again\nexit").fault().reason


def test_programs_that_would_take_seconds_to_compile_are_refused() -> None:
    with pytest.raises(NotSupportedError):
        Made("r0 = 0\n" * 9000 + "exit")


def test_a_machine_that_was_let_go_of_is_as_it_was() -> None:
    made = Made(COUNT, [COUNTS])
    memory = made.machine.memory
    made.run(bytes(4), 5)
    made.embedded.close()
    assert memory.watcher is None
    assert made.machine.runtime.beginning is None
    made.machine.maps["counts"].remove(bytes(4))
    made.python(bytes(4))
    assert made.count(0) == 1


def test_the_ring_is_python_s_again_after_a_burst() -> None:
    made = Made(WRITE, [RING])
    made.run(bytes(8), 3)
    ring = made.machine.ring
    assert ring is not None
    assert ring.end == made.embedded._get(RING_END) == 72
