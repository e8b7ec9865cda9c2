"""The maps of the engine: what programs and user space get from each kind, errors included."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tracebee.engine.maps import KERNEL_ONLY, EngineMap, Shared, make_map, make_maps
from tracebee.engine.maps.nested import ArrayOfMaps, HashOfMaps
from tracebee.engine.maps.queue import BloomFilterMap
from tracebee.engine.maps.ring import (
    BPF_RB_AVAIL_DATA,
    BPF_RB_CONS_POS,
    BPF_RB_PROD_POS,
    BPF_RB_RING_SIZE,
    BUSY,
    DISCARDED,
    PerfEventArrayMap,
    RingMap,
    Sample,
)
from tracebee.engine.maps.stacks import BPF_F_FAST_STACK_CMP, BPF_F_REUSE_STACKID, StackTraceMap
from tracebee.engine.memory import Memory, MemoryFault
from tracebee.errors import NotSupportedError, SyscallError, UsageError
from tracebee.spec.objects import MapSpec

ANY, NOEXIST, EXIST, LOCK = 0, 1, 2, 4


def made(kind: str, key: int = 4, value: int = 8, entries: int = 3, cpus: int = 1, **more: Any) -> Any:
    return make_map(MapSpec("m", kind, key, value, entries, **more), Memory(), cpus)


def k(number: int, size: int = 4) -> bytes:
    return number.to_bytes(size, "little")


def v(number: int) -> bytes:
    return number.to_bytes(8, "little")


def at(table: EngineMap, address: int) -> int:
    return int.from_bytes(table.memory.read(address, 8), "little")


def refusal(function: Any, *arguments: Any) -> int | None:
    with pytest.raises(SyscallError) as caught:
        function(*arguments)
    return caught.value.errno


HASHES = ("HASH", "LRU_HASH", "PERCPU_HASH", "LRU_PERCPU_HASH")
KEYED = (*HASHES, "ARRAY", "PERCPU_ARRAY")


# ---------------------------------------------------------------------- hash maps


@pytest.mark.parametrize("kind", HASHES)
def test_hash_updates_as_the_flags_say(kind: str) -> None:
    table = made(kind)
    assert table.lookup(k(1)) == 0
    assert table.update(k(1), v(5), EXIST) == -errno.ENOENT
    assert table.update(k(1), v(5), NOEXIST) == 0
    assert table.update(k(1), v(6), NOEXIST) == -errno.EEXIST
    assert at(table, table.lookup(k(1))) == 5
    assert table.update(k(1), v(7), EXIST) == 0
    assert table.update(k(1), v(8), 3) == -errno.EINVAL
    assert table.update(k(1), v(8), 8) == -errno.EINVAL
    assert at(table, table.lookup(k(1))) == 7
    assert table.delete(k(1)) == 0
    assert table.delete(k(1)) == -errno.ENOENT
    assert table.lookup(k(1)) == 0


@pytest.mark.parametrize("kind", ["HASH", "PERCPU_HASH"])
def test_a_full_hash_takes_no_new_key(kind: str) -> None:
    table = made(kind, entries=2)
    assert [table.update(k(key), v(key), ANY) for key in (1, 2, 3)] == [0, 0, -errno.E2BIG]
    assert table.update(k(2), v(9), ANY) == 0
    assert refusal(table.put, k(3), v(3)) == errno.E2BIG
    assert table.delete(k(1)) == 0
    assert table.update(k(3), v(3), ANY) == 0
    assert dict(table.items()) == {k(2): v(9), k(3): v(3)}


@pytest.mark.parametrize("kind", ["LRU_HASH", "LRU_PERCPU_HASH"])
def test_a_full_lru_map_drops_what_was_used_longest_ago(kind: str) -> None:
    table = made(kind)
    for key in (1, 2, 3):
        table.update(k(key), v(key), ANY)
    table.lookup(k(1))
    table.update(k(2), v(22), ANY)
    assert table.update(k(4), v(4), ANY) == 0
    assert sorted(dict(table.items())) == [k(1), k(2), k(4)]
    table.get(k(1))  # user space reading does not count as use
    assert table.update(k(5), v(5), NOEXIST) == 0
    assert sorted(dict(table.items())) == [k(2), k(4), k(5)]
    table.put(k(6), v(6))
    assert sorted(dict(table.items())) == [k(4), k(5), k(6)]
    assert table.update(k(7), v(7), EXIST) == -errno.ENOENT
    assert sorted(dict(table.items())) == [k(4), k(5), k(6)]


def test_an_address_stays_good_until_the_program_ends() -> None:
    table = made("HASH")
    table.update(k(1), v(5), ANY)
    old = table.lookup(k(1))
    table.update(k(1), v(6), ANY)
    new = table.lookup(k(1))
    assert (at(table, old), at(table, new)) == (5, 6)
    table.delete(k(1))
    assert at(table, new) == 6
    table.shared.settle()
    for address in (old, new):
        with pytest.raises(MemoryFault):
            table.memory.read(address, 1)


def test_an_update_under_the_lock_is_in_place() -> None:
    table = made("HASH")
    table.update(k(1), v(5), ANY)
    address = table.lookup(k(1))
    assert table.update(k(1), v(6), LOCK) == 0
    assert at(table, address) == 6
    assert table.update(k(1), v(7), LOCK | NOEXIST) == -errno.EEXIST
    assert table.update(k(2), v(7), LOCK | EXIST) == -errno.ENOENT


@pytest.mark.parametrize("kind", KEYED)
def test_what_a_program_writes_is_what_user_space_reads(kind: str) -> None:
    table = made(kind, value=4)
    table.update(k(1), b"abcd", ANY)
    table.memory.write(table.lookup(k(1)) + 1, b"BC")
    padding = b"\0" * 4 if table.per_cpu else b""
    assert table.get(k(1)) == b"aBCd" + padding
    table.put(k(1), b"wxyz" + padding)
    assert table.memory.read(table.lookup(k(1)), 4) == b"wxyz"


@pytest.mark.parametrize("kind", KEYED)
def test_values_are_regions_of_their_own(kind: str) -> None:
    table = made(kind, value=4)
    for key in (0, 1):
        table.update(k(key), b"abcd", ANY)
    first = table.lookup(k(0))
    assert first == table.lookup(k(0)) != table.lookup(k(1))
    with pytest.raises(MemoryFault):
        table.memory.write(first + 1, b"wxyz")
    with pytest.raises(MemoryFault):
        table.memory.read(first + 4, 1)


@pytest.mark.parametrize("kind", ["PERCPU_HASH", "LRU_PERCPU_HASH", "PERCPU_ARRAY"])
def test_each_processor_has_a_value(kind: str) -> None:
    table = made(kind, value=4, cpus=3)
    assert (table.slot, table.cpus, table.value_bytes) == (8, 3, 24)
    table.shared.cpu = 1
    assert table.update(k(2), b"bbbb", ANY) == 0
    assert table.get(k(2)) == b"".join([bytes(8), b"bbbb\0\0\0\0", bytes(8)])
    mine = table.lookup(k(2))
    assert table.lookup_on(k(2), 1) == mine
    assert table.lookup_on(k(2), 3) == 0
    table.shared.cpu = 2
    assert table.lookup(k(2)) not in (0, mine)
    table.memory.write(table.lookup_on(k(2), 0), b"aaaa")
    assert table.get(k(2)) == b"".join([b"aaaa\0\0\0\0", b"bbbb\0\0\0\0", bytes(8)])
    table.put(k(2), b"".join([b"xxxx----", b"yyyy----", b"zzzz----"]))
    assert table.memory.read(mine, 4) == b"yyyy"
    assert table.get(k(2)) == b"".join([b"xxxx\0\0\0\0", b"yyyy\0\0\0\0", b"zzzz\0\0\0\0"])
    assert refusal(table.put, k(2), b"xxxx") == errno.EINVAL


@pytest.mark.parametrize("kind", ["HASH", "ARRAY"])
def test_only_per_cpu_maps_have_values_by_processor(kind: str) -> None:
    table = made(kind)
    table.update(k(1), v(1), ANY)
    assert table.lookup_on(k(1), 0) == 0


def test_for_each_goes_on_when_the_map_changes() -> None:
    table = made("HASH", entries=10)
    for key in range(5):
        table.update(k(key), v(key), ANY)
    seen = []

    def visit(key: int, value: int) -> int:
        number = int.from_bytes(table.memory.read(key, 4), "little")
        assert at(table, value) == number
        with pytest.raises(MemoryFault):
            table.memory.write(key, b"x")
        seen.append(number)
        table.delete(k(number + 1))
        table.update(k(number + 100), v(0), ANY)
        return 0

    assert table.for_each(visit) == 3
    assert seen == [0, 2, 4]


@pytest.mark.parametrize("kind", KEYED)
def test_for_each_stops_when_told(kind: str) -> None:
    table = made(kind)
    for key in range(3):
        table.update(k(key), v(key), ANY)
    seen = []

    def visit(key: int, value: int) -> int:
        seen.append((int.from_bytes(table.memory.read(key, 4), "little"), at(table, value)))
        return int(len(seen) == 2)

    assert table.for_each(visit) == 2
    assert seen == [(0, 0), (1, 1)]


# ---------------------------------------------------------------------- arrays


@pytest.mark.parametrize("kind", ["ARRAY", "PERCPU_ARRAY"])
def test_array(kind: str) -> None:
    table = made(kind, entries=3)
    assert at(table, table.lookup(k(2))) == 0
    assert table.lookup(k(3)) == 0
    assert table.update(k(2), v(7), ANY) == 0
    assert table.update(k(2), v(8), EXIST) == 0
    assert table.update(k(2), v(9), NOEXIST) == -errno.EEXIST
    assert table.update(k(3), v(9), NOEXIST) == -errno.E2BIG
    assert table.update(k(3), v(9), 8) == -errno.EINVAL
    assert table.delete(k(2)) == -errno.EINVAL
    assert list(table.items()) == [(k(0), v(0)), (k(1), v(0)), (k(2), v(8))]
    assert table.get(k(3)) is None
    assert refusal(table.put, k(3), v(0)) == errno.E2BIG
    assert refusal(table.remove, k(2)) == errno.EINVAL
    table.clear()
    assert [value for _, value in table.items()] == [v(0)] * 3


def test_an_array_is_updated_in_place() -> None:
    table = made("ARRAY")
    address = table.lookup(k(0))
    table.update(k(0), v(3), ANY)
    assert at(table, address) == 3
    table.put(k(0), v(4))
    assert at(table, address) == 4
    table.clear()
    assert at(table, address) == 0


def test_a_large_array_costs_what_is_used_of_it() -> None:
    table = made("ARRAY", value=1 << 20, entries=1 << 30)
    assert table.update(k(1 << 29), bytes(1 << 20), ANY) == 0
    assert table.get(k(1)) == bytes(1 << 20)


def test_contents_of_a_read_only_array() -> None:
    table = made("ARRAY", value=4, entries=1, contents=b"ab", flags=1 << 7, frozen=True)
    address = table.lookup(bytes(4))
    assert table.memory.read(address, 4) == b"ab\0\0"
    with pytest.raises(MemoryFault):
        table.memory.write(address, b"x")
    assert refusal(table.put, bytes(4), b"wxyz") == errno.EPERM
    assert refusal(table.clear) == errno.EPERM
    with pytest.raises(UsageError, match="larger than a value"):
        made("ARRAY", value=4, entries=1, contents=b"12345")


@pytest.mark.parametrize("kind", KEYED)
def test_a_frozen_map_is_not_written_by_user_space(kind: str) -> None:
    table = made(kind)
    table.put(k(0), v(1))
    table.freeze()
    assert refusal(table.put, k(0), v(2)) == errno.EPERM
    assert refusal(table.clear) == errno.EPERM
    assert table.update(k(0), v(3), ANY) == 0
    assert table.get(k(0)) == v(3)


@pytest.mark.parametrize("kind", KEYED)
def test_user_space_gives_the_right_sizes(kind: str) -> None:
    table = made(kind)
    assert refusal(table.put, b"abc", v(1)) == errno.EINVAL
    assert refusal(table.put, k(1), b"abc") == errno.EINVAL


# ---------------------------------------------------------------------- queue, stack, Bloom filter


@pytest.mark.parametrize(("kind", "order"), [("QUEUE", [1, 2, 3]), ("STACK", [3, 2, 1])])
def test_queue_and_stack(kind: str, order: list[int]) -> None:
    table = made(kind, key=0)
    assert table.pop() is None
    assert table.peek() is None
    assert [table.push(v(number), ANY) for number in (1, 2, 3, 4)] == [0, 0, 0, -errno.E2BIG]
    assert table.push(v(4), NOEXIST) == -errno.EINVAL
    assert table.push(v(4), 4) == -errno.EINVAL
    assert table.peek() == v(order[0]) == table.get(b"")
    assert [value for _, value in table.items()] == [v(number) for number in order]
    assert [table.pop() for _ in range(4)] == [*(v(number) for number in order), None]
    table.put(b"", v(9))
    assert table.remove(b"")
    assert not table.remove(b"")


@pytest.mark.parametrize(("kind", "left"), [("QUEUE", [2, 3, 4]), ("STACK", [4, 3, 2])])
def test_the_oldest_value_makes_room(kind: str, left: list[int]) -> None:
    table = made(kind, key=0)
    for number in (1, 2, 3, 4):
        assert table.push(v(number), EXIST) == 0
    assert [table.pop() for _ in range(3)] == [v(number) for number in left]


def test_bloom_filter() -> None:
    table = made("BLOOM_FILTER", key=0, entries=100)
    assert isinstance(table, BloomFilterMap)
    assert table.push(v(1), EXIST) == -errno.EINVAL
    for number in range(100):
        assert table.push(v(number), ANY) == 0
    assert all(table.contains(v(number)) for number in range(100))
    assert sum(table.contains(v(number)) for number in range(1000, 2000)) < 300
    table.clear()
    assert not table.contains(v(1))


# ---------------------------------------------------------------------- longest prefix


def prefix(text: str, length: int) -> bytes:
    return k(length) + bytes(int(part) for part in text.split("."))


def test_longest_prefix() -> None:
    table = made("LPM_TRIE", key=8, entries=4, flags=1)
    assert table.update(prefix("10.0.0.0", 33), v(0), ANY) == -errno.EINVAL
    assert table.update(prefix("10.0.0.0", 8), v(8), EXIST) == -errno.ENOENT
    assert table.update(prefix("10.0.0.0", 8), v(8), ANY) == 0
    assert table.update(prefix("10.1.2.3", 8), v(9), NOEXIST) == -errno.EEXIST
    assert table.update(prefix("10.1.0.0", 16), v(16), NOEXIST) == 0
    assert table.update(prefix("0.0.0.0", 0), v(0), ANY) == 0
    assert table.update(prefix("192.168.1.1", 32), v(32), ANY) == 0
    assert table.update(prefix("11.0.0.0", 8), v(8), ANY) == -errno.ENOSPC

    def found(text: str, length: int = 32) -> int:
        address = table.lookup(prefix(text, length))
        return at(table, address) if address else -1

    assert [found("10.1.2.3"), found("10.2.2.3"), found("9.9.9.9"), found("192.168.1.1")] == [16, 8, 0, 32]
    assert found("10.1.2.3", 15) == 8
    assert found("10.1.2.3", 33) == -1
    assert table.get(prefix("10.1.2.3", 32)) == v(16)
    assert [key for key, _ in table.items()] == [
        prefix("10.1.0.0", 16),
        prefix("10.0.0.0", 8),
        prefix("192.168.1.1", 32),
        prefix("0.0.0.0", 0),
    ]
    assert table.delete(prefix("10.1.9.9", 16)) == 0
    assert table.delete(prefix("10.1.9.9", 16)) == -errno.ENOENT
    assert table.delete(prefix("10.1.9.9", 40)) == -errno.EINVAL
    assert found("10.1.2.3") == 8
    table.clear()
    assert found("10.1.2.3") == -1
    assert table.count == 0


def test_a_replaced_prefix_keeps_its_old_value_for_the_program() -> None:
    table = made("LPM_TRIE", key=8, flags=1)
    table.update(prefix("10.0.0.0", 8), v(1), ANY)
    old = table.lookup(prefix("10.1.1.1", 32))
    table.update(prefix("10.0.0.0", 8), v(2), EXIST)
    assert (at(table, old), at(table, table.lookup(prefix("10.1.1.1", 32)))) == (1, 2)


# ---------------------------------------------------------------------- ring buffer


def records(table: RingMap, stop_after: int = 1000) -> list[bytes]:
    """What is in the ring, as a reader goes through it."""
    found: list[bytes] = []

    def take(data: memoryview, words: memoryview, start: int, end: int, limit: int) -> int:
        at = start
        while at < end and len(found) < stop_after:
            length = words[at >> 2]
            if length & BUSY:
                return at
            if not length & DISCARDED:
                found.append(bytes(data[at + 8 : at + 8 + length]))
            at += ((length & ~DISCARDED) + 8 + 7) & ~7
        assert limit == end
        return at

    table.drain(take)
    return found


def test_ring_records_come_in_the_order_of_their_reservation() -> None:
    table = made("RINGBUF", 0, 0, 4096)
    first, second = table.reserve(5, 0), table.reserve(8, 0)
    assert table.reserve(8, 1) == 0
    assert table.output(b"third", 0) == 0
    assert table.output(b"third", 4) == -errno.EINVAL
    table.memory.write(second, b"12345678")
    table.submit(second)
    assert records(table) == []
    table.memory.write(first, b"first")
    with pytest.raises(MemoryFault):
        table.memory.write(first, b"first!")
    table.submit(first)
    with pytest.raises(MemoryFault):
        table.memory.write(first, b"late")
    with pytest.raises(KeyError):
        table.submit(first)
    assert records(table, 1) == [b"first"]
    assert records(table) == [b"12345678", b"third"]
    assert table.is_empty


def test_a_ring_is_full_when_the_kernels_is() -> None:
    """Positions may differ by the size less one, so one of 4096 bytes holds 255 records of 16."""
    table = made("RINGBUF", 0, 0, 4096)
    results = [table.output(v(number), 0) for number in range(257)]
    assert results == [0] * 255 + [-errno.EAGAIN] * 2
    assert table.reserve(8, 0) == 0
    assert table.query(BPF_RB_AVAIL_DATA) == 255 * 16
    assert records(table, 100) == [v(number) for number in range(100)]
    assert table.reserve(0, 0) != 0
    assert table.output(bytes(4096), 0) == -errno.EAGAIN
    assert table.query(BPF_RB_RING_SIZE) == 4096
    assert table.query(BPF_RB_CONS_POS) == 1600
    assert table.query(BPF_RB_PROD_POS) == 255 * 16 + 8
    assert table.query(9) == 0


def test_a_ring_takes_records_at_its_end_while_old_ones_wait() -> None:
    table = made("RINGBUF", 0, 0, 4096)
    written = [bytes([number % 256]) * (number % 50) for number in range(2000)]
    read: list[bytes] = []
    for data in written:
        while table.output(data, 0):
            read += records(table, 3)
    read += records(table)
    assert read == written


def test_a_record_left_open_by_a_fault_does_not_block_the_ring() -> None:
    table = made("RINGBUF", 0, 0, 4096)
    lost = table.reserve(8, 0)
    table.output(b"next", 0)
    assert records(table) == []
    table.shared.settle()
    assert records(table) == [b"next"]
    assert table.memory.find(lost) is None


def test_a_ring_whose_size_is_open_gets_one() -> None:
    assert made("RINGBUF", 0, 0, 0).size == 1 << 20


# ---------------------------------------------------------------------- perf events


def test_perf_event_array() -> None:
    table = made("PERF_EVENT_ARRAY", 4, 4, 3, cpus=2)
    assert isinstance(table, PerfEventArrayMap)
    table.shared.cpu = 1
    assert table.output(b"one", 0xFFFF_FFFF) == 0
    assert table.output(b"two", 1) == 0
    assert table.output(b"x", 0) == -errno.EOPNOTSUPP
    assert table.output(b"x", 2) == -errno.ENOENT
    assert table.output(b"x", 3) == -errno.E2BIG
    assert table.output(b"x", 1 << 32) == -errno.EINVAL
    assert table.take() == [Sample(1, b"one"), Sample(1, b"two")]
    assert table.take() == []


def test_samples_that_nobody_reads_are_lost() -> None:
    table = made("PERF_EVENT_ARRAY", 4, 4, 0)
    results = [table.output(bytes(1 << 16), 0) for _ in range(20)]
    assert results == [0] * 15 + [-errno.ENOSPC] * 5
    assert table.lost == 5
    assert len(table.take()) == 15
    assert table.output(b"again", 0) == 0


# ---------------------------------------------------------------------- maps of maps, programs, stacks


def nested(kind: str, inner: MapSpec, *others: MapSpec) -> tuple[Any, dict[str, EngineMap]]:
    outer = MapSpec("outer", kind, 4, 4, 2, inner=inner)
    tables = make_maps([outer, inner, *others], Shared(Memory()))
    return tables["outer"], tables


@pytest.mark.parametrize("kind", ["ARRAY_OF_MAPS", "HASH_OF_MAPS"])
def test_maps_of_maps(kind: str) -> None:
    inner = MapSpec("inner", "HASH", 4, 8, 10)
    outer, tables = nested(kind, inner, inner.__class__("small", "HASH", 4, 8, 5))
    assert isinstance(outer, ArrayOfMaps | HashOfMaps)
    assert outer.lookup(k(1)) == 0
    outer.set_inner(k(1), tables["inner"])
    assert outer.lookup(k(1)) == tables["inner"].handle
    assert outer.shared.by_handle[outer.lookup(k(1))] is tables["inner"]
    outer.put(k(1), tables["small"].id.to_bytes(4, "little"))
    assert outer.get(k(1)) == k(tables["small"].id)
    assert list(outer.items()) == [(k(1), k(tables["small"].id))]
    assert refusal(outer.put, k(1), k(99)) == errno.EBADF
    assert outer.remove(k(1))
    assert not outer.remove(k(1))
    assert outer.update(k(1), k(1), ANY) == -errno.EOPNOTSUPP


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (MapSpec("x", "ARRAY", 4, 8, 10), "its type is ARRAY"),
        (MapSpec("x", "HASH", 8, 8, 10), "its key size is 8"),
        (MapSpec("x", "HASH", 4, 4, 10), "its value size is 4"),
        (MapSpec("x", "HASH", 4, 8, 10, 1), "its flags is 1"),
    ],
)
def test_an_inner_map_is_like_the_template(other: MapSpec, reason: str) -> None:
    outer, tables = nested("HASH_OF_MAPS", MapSpec("inner", "HASH", 4, 8, 10), other)
    with pytest.raises(SyscallError) as caught:
        outer.set_inner(k(0), tables["x"])
    assert caught.value.errno == errno.EINVAL
    assert reason in caught.value.__notes__[0]


@pytest.mark.parametrize(("flags", "fits"), [(0, False), (1 << 12, True)])
def test_inner_arrays_have_as_many_entries(flags: int, fits: bool) -> None:
    outer, tables = nested(
        "ARRAY_OF_MAPS", MapSpec("inner", "ARRAY", 4, 8, 10, flags), MapSpec("x", "ARRAY", 4, 8, 5, flags)
    )
    if fits:
        outer.set_inner(k(0), tables["x"])
        assert outer.lookup(k(0)) == tables["x"].handle
    else:
        assert refusal(outer.set_inner, k(0), tables["x"]) == errno.EINVAL


def test_rules_of_outer_maps() -> None:
    inner = MapSpec("inner", "HASH", 4, 8, 10)
    array, tables = nested("ARRAY_OF_MAPS", inner)
    assert refusal(array.set_inner, k(2), tables["inner"]) == errno.E2BIG
    assert refusal(array.set_inner, k(0), tables["inner"], EXIST) == errno.EINVAL
    table, tables = nested("HASH_OF_MAPS", inner)
    assert refusal(table.set_inner, k(0), tables["inner"], EXIST) == errno.ENOENT
    table.set_inner(k(70), tables["inner"], NOEXIST)
    assert refusal(table.set_inner, k(70), tables["inner"], NOEXIST) == errno.EEXIST
    table.set_inner(k(71), tables["inner"])
    assert refusal(table.set_inner, k(72), tables["inner"]) == errno.E2BIG
    assert refusal(table.set_inner, k(71), tables["inner"], 8) == errno.EINVAL


def test_entries_from_the_start() -> None:
    inner = MapSpec("inner", "HASH", 4, 8, 10)
    specs = [
        MapSpec("outer", "ARRAY_OF_MAPS", 4, 4, 3, inner=inner, entries=((2, "inner"),)),
        inner,
        MapSpec("jumps", "PROG_ARRAY", 4, 4, 3, entries=((0, "second"), (2, "first"))),
    ]
    tables = make_maps(specs, Shared(Memory()), {"first": 1, "second": 2})
    assert tables["outer"].lookup(k(2)) == tables["inner"].handle
    assert dict(tables["jumps"].items()) == {k(0): k(2), k(2): k(1)}
    for entries in (((0, "gone"),),):
        with pytest.raises(UsageError, match="no 'gone' for its entry 0"):
            make_maps([MapSpec("jumps", "PROG_ARRAY", 4, 4, 3, entries=entries)], Shared(Memory()))


def test_program_array() -> None:
    table = made("PROG_ARRAY", 4, 4, 2)
    table.put(k(1), k(7))
    assert table.programs == {1: 7}
    assert (table.get(k(1)), table.get(k(0))) == (k(7), None)
    assert refusal(table.put, k(2), k(7)) == errno.E2BIG
    assert (table.remove(k(1)), table.remove(k(1))) == (True, False)


def test_stack_traces() -> None:
    table = made("STACK_TRACE", 4, 32, 1)
    assert isinstance(table, StackTraceMap)
    here = v(1) + v(2)
    place = table.file(here, 0)
    assert table.file(here, 0) == place == 0
    assert table.get(k(place)) == here + bytes(16)
    there = v(3)
    assert table.file(there, 0) == -errno.EEXIST
    assert table.file(there, BPF_F_FAST_STACK_CMP) == place
    assert table.get(k(place)) == here + bytes(16)
    assert table.file(there, BPF_F_REUSE_STACKID) == place
    assert list(table.items()) == [(k(place), there + bytes(24))]
    assert refusal(table.put, k(0), bytes(32)) == errno.EINVAL
    assert (table.remove(k(0)), table.remove(k(0))) == (True, False)


# ---------------------------------------------------------------------- what cannot be made


@pytest.mark.parametrize("kind", sorted(KERNEL_ONLY))
def test_maps_that_only_the_kernel_has(kind: str) -> None:
    with pytest.raises(NotSupportedError, match=f"map m of type {kind} outside") as caught:
        made(kind)
    assert "the kernel backend has it" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "key", "value", "entries", "reason"),
    [
        ("HASH", 0, 8, 1, "size of a key"),
        ("HASH", 4, 0, 1, "size of a value"),
        ("LRU_HASH", 4, 8, 0, "room for an entry"),
        ("ARRAY", 8, 8, 1, "4 bytes"),
        ("PROG_ARRAY", 4, 8, 1, "4 bytes"),
        ("QUEUE", 4, 8, 1, "no keys"),
        ("STACK", 0, 0, 1, "size of a value"),
        ("BLOOM_FILTER", 0, 8, 0, "room for an entry"),
        ("LPM_TRIE", 4, 8, 1, "1 to 256 more"),
        ("LPM_TRIE", 8, 8, 1, "BPF_F_NO_PREALLOC"),
        ("RINGBUF", 4, 0, 4096, "no keys"),
        ("RINGBUF", 0, 0, 5000, "5000 bytes are not a power of two of pages"),
        ("RINGBUF", 0, 0, 2048, "2048 bytes are not a power of two of pages"),
        ("RINGBUF", 0, 0, 1 << 30, "1073741824 bytes are more than 268435456"),
        ("PERF_EVENT_ARRAY", 4, 8, 1, "4 bytes"),
        ("ARRAY_OF_MAPS", 4, 8, 1, "4 bytes"),
        ("STACK_TRACE", 4, 12, 1, "8 bytes each"),
        ("HUSH", 4, 8, 1, "no type of map called 'HUSH'"),
    ],
)
def test_maps_that_the_kernel_would_refuse(
    kind: str, key: int, value: int, entries: int, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        made(kind, key, value, entries)


@pytest.mark.parametrize("kind", ["RINGBUF", "PERF_EVENT_ARRAY"])
def test_buffers_have_no_elements(kind: str) -> None:
    table = made(kind, *((0, 0, 4096) if kind == "RINGBUF" else (4, 4, 1)))
    assert table.update(b"", b"", ANY) == -errno.EOPNOTSUPP
    assert table.delete(b"") == -errno.EOPNOTSUPP
    assert table.push(b"", ANY) == -errno.EOPNOTSUPP
    assert table.for_each(lambda key, value: 0) == -errno.EINVAL
    for function, arguments in ((table.get, (b"",)), (table.put, (b"", b"")), (table.items, ())):
        assert refusal(function, *arguments) == 524
