"""The address space of programs: bounds, permissions, addresses of regions that are gone."""

from __future__ import annotations

import pytest

from tracebee.engine.memory import Memory, MemoryFault, Region

USER_END = 1 << 47
KERNEL_START = 0xFFFF_8000_0000_0000


def test_bytes_are_shared_with_the_owner() -> None:
    memory, data = Memory(), bytearray(b"0123456789")
    address = memory.add(data, name="ten")
    assert memory.read(address + 2, 3) == b"234"
    memory.write(address + 8, b"ab")
    assert data == b"01234567ab"
    data[0] = 0xFF
    assert memory.view(address, 1)[0] == 0xFF
    memory.view(address, 2, writable=True)[:] = b"xy"
    assert data[:2] == b"xy"


def test_addresses_are_nobody_elses() -> None:
    memory = Memory()
    for _ in range(300):  # an index goes round its generations
        address = memory.add(bytearray(8))
        assert USER_END < address < KERNEL_START
        assert address & 0xFFFF_FFFF == 0
        memory.drop(address)


def test_a_late_access_is_a_fault() -> None:
    memory = Memory()
    old = memory.add(bytearray(8), name="old")
    memory.drop(old)
    new = memory.add(bytearray(8), name="new")
    assert new != old
    with pytest.raises(MemoryFault):
        memory.read(old, 1)
    with pytest.raises(KeyError):
        memory.drop(old)


@pytest.mark.parametrize(("start", "size"), [(-1, 1), (8, 1), (7, 2), (0, 9), (1 << 31, 1), (3, -1)])
def test_outside_is_a_fault(start: int, size: int) -> None:
    memory = Memory()
    memory.add(bytearray(8))
    address = memory.add(bytearray(8), name="mine")
    memory.add(bytearray(8))
    for attempt in (memory.read, memory.view, lambda a, n: memory.view(a, n, writable=True)):
        with pytest.raises(MemoryFault) as caught:
            attempt(address + start, size)
        assert caught.value.address == address + start
        assert caught.value.size == size
    if size > 0:
        with pytest.raises(MemoryFault) as caught:
            memory.write(address + start, bytes(size))
        assert caught.value.action == "write"


@pytest.mark.parametrize("address", [0, 8, 0x7FFF_FFFF_0000, KERNEL_START, (1 << 64) - 8])
def test_addresses_of_others_are_faults(address: int) -> None:
    memory = Memory()
    with pytest.raises(MemoryFault) as caught:
        memory.read(address, 4)
    assert caught.value.nearest is None
    assert caught.value.where == ""
    region = memory.add(bytearray(8), name="stack")
    with pytest.raises(MemoryFault) as caught:
        memory.read(address, 4)
    assert caught.value.nearest == Region(region, 8, True, "stack")


def test_read_only() -> None:
    memory = Memory()
    for data, writable in ((bytearray(4), False), (b"1234", True), (memoryview(b"1234"), True)):
        address = memory.add(data, writable)
        assert memory.read(address, 4) == bytes(data)
        with pytest.raises(MemoryFault):
            memory.write(address, b"x")
        with pytest.raises(MemoryFault):
            memory.view(address, 1, writable=True)
        assert "read-only" in str(memory.find(address))


def test_find_and_nearest() -> None:
    memory = Memory()
    first = memory.add(bytearray(16), name="context")
    second = memory.add(bytearray(8), name="stack")
    assert memory.find(first + 15) == Region(first, 16, True, "context")
    assert memory.find(first + 16) is None
    assert memory.nearest(first + 16) == memory.find(first)
    assert memory.nearest(second - 1) == memory.find(second)
    assert memory.nearest(0) == memory.find(first)
    assert memory.nearest((1 << 64) - 1) == memory.find(second)


@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (8, 4, "0 bytes behind the end of stack (8 bytes at {:#x})"),
        (6, 4, "2 of them behind the end of stack (8 bytes at {:#x})"),
        (-4, 4, "4 bytes before stack (8 bytes at {:#x})"),
    ],
)
def test_words_for_the_place(offset: int, size: int, text: str) -> None:
    memory = Memory()
    address = memory.add(bytearray(8), name="stack")
    with pytest.raises(MemoryFault) as caught:
        memory.write(address + offset, bytes(size))
    assert caught.value.where == text.format(address)


def test_a_handle_has_no_bytes() -> None:
    memory = Memory()
    handle = memory.handle("map counts")
    assert memory.find(handle) is None
    with pytest.raises(MemoryFault) as caught:
        memory.read(handle, 1)
    assert caught.value.where == f"that is map counts at {handle:#x}, which is no memory"
    memory.drop(handle)
    assert memory.nearest(handle) is None


def test_a_watcher_is_told() -> None:
    memory, seen = Memory(), []
    memory.watcher = lambda number, data, writable: seen.append((number, data, writable))
    data = bytearray(4)
    address = memory.add(data, writable=False)
    memory.handle("none of its business")
    memory.drop(address)
    assert seen == [(address >> 32, data, False), (address >> 32, None, False)]


def test_a_region_gets_other_bytes() -> None:
    memory, seen = Memory(), []
    memory.watcher = lambda number, data, writable: seen.append((data, writable))
    address = memory.add(b"", name="the context")
    memory.replace(address, bytearray(b"1234"))
    memory.write(address, b"5")
    assert memory.read(address, 4) == b"5234"
    memory.replace(address, b"ab")
    assert memory.read(address, 2) == b"ab"
    with pytest.raises(MemoryFault):
        memory.write(address, b"5")
    with pytest.raises(MemoryFault):
        memory.read(address, 3)
    assert seen == [(b"", False), (None, False), (b"5234", True), (None, False), (b"ab", False)]
