"""Laws of the engine's maps: after any operations they hold what a plain dict would, and addresses show it."""

from __future__ import annotations

import errno
import ipaddress
from collections import OrderedDict, deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.engine.maps import Shared, make_map
from tracebee.engine.maps.ring import BUSY, DISCARDED, RingMap
from tracebee.engine.memory import Memory
from tracebee.errors import SyscallError
from tracebee.spec.objects import MapSpec

ANY, NOEXIST, EXIST = 0, 1, 2

keys = st.integers(0, 7).map(lambda number: number.to_bytes(4, "little"))
values = st.binary(min_size=6, max_size=6)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("update"), keys, values, st.sampled_from((ANY, NOEXIST, EXIST, 3))),
        st.tuples(st.just("put"), keys, values),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.just("lookup"), keys),
        st.tuples(st.just("write"), keys, values),
        st.tuples(st.just("settle")),
    ),
    max_size=40,
)

FULL = {"HASH": errno.E2BIG, "LRU_HASH": 0, "ARRAY": errno.E2BIG}


class Model:
    """A hash, an LRU hash or an array of 5 entries, in the plainest way."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.values: OrderedDict[bytes, bytes] = OrderedDict()
        if kind == "ARRAY":
            self.values.update((number.to_bytes(4, "little"), bytes(6)) for number in range(5))

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        if flags > EXIST:
            return -errno.EINVAL
        there = key in self.values
        if self.kind == "ARRAY" and not there:
            return -errno.E2BIG
        if there and flags == NOEXIST:
            return -errno.EEXIST
        if not there and flags == EXIST:
            return -errno.ENOENT
        if not there and len(self.values) == 5:
            if self.kind != "LRU_HASH":
                return -errno.E2BIG
            self.values.popitem(last=False)
        self.values[key] = value
        self.values.move_to_end(key)
        return 0

    def delete(self, key: bytes) -> int:
        if self.kind == "ARRAY":
            return -errno.EINVAL
        return 0 if self.values.pop(key, None) is not None else -errno.ENOENT

    def lookup(self, key: bytes) -> bytes | None:
        if key in self.values:
            self.values.move_to_end(key)
        return self.values.get(key)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(("HASH", "LRU_HASH", "ARRAY")), st.booleans(), steps)
def test_a_map_holds_what_a_dict_would(kind: str, per_cpu: bool, steps: list[tuple[Any, ...]]) -> None:
    name = kind.replace("HASH", "PERCPU_HASH").replace("ARRAY", "PERCPU_ARRAY") if per_cpu else kind
    memory = Memory()
    table = make_map(MapSpec("m", name, 4, 6, 5), memory)
    model = Model(kind)
    for step, *arguments in steps:
        if step == "update":
            assert table.update(*arguments) == model.update(*arguments)
        elif step == "put":
            key, value = arguments
            expected = model.update(key, value, ANY)
            try:
                table.put(key, value.ljust(table.value_bytes, b"\0"))
                result = 0
            except SyscallError as error:
                result = -(error.errno or 0)
            assert result == expected
        elif step == "delete":
            assert table.delete(*arguments) == model.delete(*arguments)
        elif step == "settle":
            table.shared.settle()
        else:
            key = arguments[0]
            address = table.lookup(key)
            expected_value = model.lookup(key)
            assert (memory.read(address, 6) if address else None) == expected_value
            if step == "write" and address:
                memory.write(address, arguments[1])
                model.values[key] = arguments[1]
        held = {key: value[:6] for key, value in table.items()}
        assert held == dict(model.values)
    table.shared.settle()
    # One region for each value that was asked for and is still there, and the map's handle.
    assert len(memory.readable) <= len(model.values)


@settings(max_examples=100, deadline=None)
@given(
    st.booleans(),
    st.lists(
        st.one_of(st.tuples(st.binary(min_size=2, max_size=2), st.sampled_from((ANY, EXIST))), st.none())
    ),
)
def test_queues_are_deques(newest_first: bool, steps: list[tuple[bytes, int] | None]) -> None:
    table = make_map(MapSpec("m", "STACK" if newest_first else "QUEUE", 0, 2, 3), Memory())
    model: deque[bytes] = deque()
    for step in steps:
        if step is None:
            expected = (model.pop() if newest_first else model.popleft()) if model else None
            assert table.peek() == expected
            assert table.pop() == expected
        else:
            value, flags = step
            if len(model) == 3 and flags == ANY:
                assert table.push(value, flags) == -errno.E2BIG
                continue
            if len(model) == 3:
                model.popleft()
            assert table.push(value, flags) == 0
            model.append(value)


networks = st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 16))


def prefix_key(number: int, length: int) -> bytes:
    return length.to_bytes(4, "little") + number.to_bytes(2, "big")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), networks)), st.lists(networks))
def test_longest_prefixes_are_found(
    changes: list[tuple[bool, tuple[int, int]]], queries: list[tuple[int, int]]
) -> None:
    """Judged by the networks of ipaddress."""
    memory = Memory()
    table = make_map(MapSpec("m", "LPM_TRIE", 6, 8, 100, 1), memory)
    model: dict[ipaddress.IPv4Network, bytes] = {}
    for index, (adds, (number, length)) in enumerate(changes):
        network = ipaddress.IPv4Network((number << 16, length), strict=False)
        value = index.to_bytes(8, "little")
        if adds:
            expected = -errno.ENOSPC if len(model) == 100 and network not in model else 0
            assert table.update(prefix_key(number, length), value, ANY) == expected
            if not expected:
                model[network] = value
        else:
            expected = 0 if model.pop(network, None) is not None else -errno.ENOENT
            assert table.delete(prefix_key(number, length)) == expected
    for number, length in queries:
        asked = ipaddress.IPv4Network((number << 16, length), strict=False)
        fitting = [network for network in model if asked.subnet_of(network)]
        best = max(fitting, key=lambda network: network.prefixlen, default=None)
        address = table.lookup(prefix_key(number, length))
        assert (memory.read(address, 8) if address else None) == (model[best] if best is not None else None)
    assert sorted(value for _, value in table.items()) == sorted(model.values())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(("output", "reserve")), st.binary(max_size=900)),
            st.tuples(st.sampled_from(("submit", "discard")), st.integers(0, 3)),
            st.tuples(st.just("drain"), st.integers(0, 20)),
        )
    )
)
def test_a_ring_gives_what_was_submitted_in_order(steps: list[tuple[str, Any]]) -> None:
    table = make_map(MapSpec("m", "RINGBUF", 0, 0, 4096), Memory())
    assert isinstance(table, RingMap)
    model: list[list[Any]] = []  # [data, "open" | "ready" | "gone", address]
    read: list[bytes] = []
    expected: list[bytes] = []

    def drain(most: int) -> None:
        taken = 0

        def take(data: memoryview, words: memoryview, start: int, end: int, limit: int) -> int:
            nonlocal taken
            while start < end and taken < most and not words[start >> 2] & BUSY:
                length = words[start >> 2] & ~DISCARDED
                if not words[start >> 2] & DISCARDED:
                    read.append(bytes(data[start + 8 : start + 8 + length]))
                start += (length + 15) & ~7
                taken += 1
            return start

        table.drain(take)
        while most and model and model[0][1] != "open":
            data, state, _ = model.pop(0)
            most -= 1
            if state == "ready":
                expected.append(data)

    for step, argument in steps:
        if step == "drain":
            drain(argument)
        elif step in ("output", "reserve"):
            used = sum((len(data) + 15) & ~7 for data, _, _ in model)
            fits = used + ((len(argument) + 15) & ~7) <= 4095
            if step == "output":
                result = table.output(argument, 0)
                done = result == 0
            else:
                result = table.reserve(len(argument), 0)
                done = result != 0
            if done:
                assert fits
                if step == "reserve":
                    table.memory.write(result, argument)
                model.append([argument, "open" if step == "reserve" else "ready", result])
            else:
                # Records that are open cannot move to make room; without them it has to fit.
                assert not fits or any(state == "open" for _, state, _ in model)
        else:
            opened = [entry for entry in model if entry[1] == "open"]
            if argument < len(opened):
                entry = opened[argument]
                getattr(table, step)(entry[2])
                entry[1] = "ready" if step == "submit" else "gone"
        assert read == expected
    table.shared.settle()
    for entry in model:
        if entry[1] == "open":
            entry[1] = "gone"
    drain(1000)
    assert read == expected
    assert table.is_empty


def test_regions_do_not_pile_up() -> None:
    """A key that comes and goes with every event leaves nothing behind."""
    shared = Shared(Memory())
    table = make_map(MapSpec("m", "HASH", 4, 8, 10), shared.memory, shared=shared)
    for number in range(1000):
        key = number.to_bytes(4, "little")
        assert table.update(key, bytes(8), ANY) == 0
        assert table.lookup(key)
        assert table.delete(key) == 0
        shared.settle()
    assert len(shared.memory.readable) == 0
