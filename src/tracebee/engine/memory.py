"""The memory that programs can reach: regions of bytes with bounds and permissions, at 64-bit addresses.

    63      56 55            32 31                      0
    1ggggggg   index of region  offset in the region         g: how often the index was used before, 0 to 126

Each region has 4 GiB of addresses to itself, so that whatever runs off its end is in no other.  The addresses
are non-canonical ones, which neither a process nor a kernel can have, and negative as the kernel's are.  A
region is found by one dict access on ``address >> 32``, and Python's own check of the index is the check of
the bounds: the engine's fast path does just that with `Memory.readable` and `Memory.writable`.

Numbers are little-endian in a program's memory, on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.engine.faults import Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    # A memoryview must be of single bytes (format "B", one dimension).
    Data = bytes | bytearray | memoryview

MASK32 = (1 << 32) - 1

_FIRST = 0x8000_0000  # the upper half of the first region's address
_INDEX_BITS = 24
_INDEX_MASK = (1 << _INDEX_BITS) - 1
# Keeps the upper half below 0xFFFF8000, from where on addresses are the kernel's.
_GENERATIONS = 127


class Region(NamedTuple):
    """A region as messages name it; `size` is None for a handle, which has no bytes."""

    address: int
    size: int | None
    writable: bool
    name: str

    def __str__(self) -> str:
        title = self.name or "memory"
        if self.size is None:
            return f"{title} at {self.address:#x}, which is no memory"
        kind = "" if self.writable else "read-only, "
        return f"{title} ({kind}{self.size} bytes at {self.address:#x})"


class MemoryFault(Stop):
    """A program touched what it was not given.

    `action` is "read" or "write", `size` a number of bytes, `nearest` the region closest to `address`.  Whoever
    runs the program makes an EngineFault of it.
    """

    def __init__(self, action: str, address: int, size: int, nearest: Region | None) -> None:
        self.action = action
        self.address = address
        self.size = size
        self.nearest = nearest
        super().__init__(f"{action} of {size} byte{'s' * (size != 1)} outside of the program's memory")

    @property
    def where(self) -> str:
        """How the access lies to the nearest region, as a clause; empty if there is no region."""
        near = self.nearest
        if near is None:
            return ""
        if near.size is None:
            return f"that is {near}" if near.address == self.address else f"the nearest is {near}"
        before, behind = near.address - self.address, self.address - near.address - near.size
        if before > 0:
            return f"{before} bytes before {near}"
        if behind >= 0:
            return f"{behind} bytes behind the end of {near}"
        if behind + self.size > 0:
            return f"{behind + self.size} of them behind the end of {near}"
        return f"in {near}"


class Memory:
    """The regions of a machine's programs.

    `readable` and `writable` have the bytes of the regions by ``address >> 32``; a writable region is in both.
    They are to be looked up only.
    """

    __slots__ = ("_free", "_handles", "_names", "_used", "readable", "watcher", "writable")

    def __init__(self) -> None:
        self.readable: dict[int, Data] = {}
        self.writable: dict[int, bytearray | memoryview] = {}
        # Told of each region that comes, with its bytes and whether they are writable, and of each that goes.
        self.watcher: Callable[[int, Data | None, bool], None] | None = None
        self._names: dict[int, str] = {}
        self._handles: set[int] = set()
        self._free: list[int] = []
        self._used = 0

    def add(self, data: Data, writable: bool = True, name: str = "") -> int:
        """Let programs reach `data`, which is not copied; the address of its first byte.

        What cannot be written in Python is read-only for programs too.  `name` is for messages.
        """
        if isinstance(data, memoryview):
            data = data.cast("B")
            writable = writable and not data.readonly
        number = self._number()
        self.readable[number] = data
        if isinstance(data, bytes):
            writable = False
        elif writable:
            self.writable[number] = data
        if name:
            self._names[number] = name
        if self.watcher is not None:
            self.watcher(number, data, writable)
        return number << 32

    def replace(self, address: int, data: bytes | bytearray) -> None:
        """Let the region that starts at `address` be of other bytes from now on."""
        number = address >> 32
        self.readable[number] = data
        writable = isinstance(data, bytearray)
        if isinstance(data, bytearray):
            self.writable[number] = data
        else:
            self.writable.pop(number, None)
        if self.watcher is not None:
            self.watcher(number, None, False)
            self.watcher(number, data, writable)

    def handle(self, name: str) -> int:
        """An address that is nobody else's and has no bytes, to stand for a map or a function."""
        number = self._number()
        self._handles.add(number)
        self._names[number] = name
        return number << 32

    def drop(self, address: int) -> None:
        """Take away the region that starts at `address`, or the handle; KeyError if there is none."""
        number = address >> 32
        if number in self._handles:
            self._handles.discard(number)
        else:
            del self.readable[number]
            self.writable.pop(number, None)
            if self.watcher is not None:
                self.watcher(number, None, False)
        self._names.pop(number, None)
        generation, index = divmod(number - _FIRST, 1 << _INDEX_BITS)
        # An address of the old region is not one of the next: a late access is a fault.
        self._free.append(_FIRST + ((generation + 1) % _GENERATIONS << _INDEX_BITS) + index)

    def read(self, address: int, size: int) -> bytes:
        """A copy of `size` bytes.  Raises MemoryFault."""
        data = self.readable.get(address >> 32)
        start = address & MASK32
        end = start + size
        if data is None or size < 0 or end > len(data):
            raise self.fault("read", address, size)
        return bytes(data[start:end])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Replace the bytes from `address` on.  Raises MemoryFault."""
        target = self.writable.get(address >> 32)
        start = address & MASK32
        end = start + len(data)
        if target is None or end > len(target):
            raise self.fault("write", address, len(data))
        target[start:end] = data

    def view(self, address: int, size: int, writable: bool = False) -> memoryview:
        """`size` bytes in place, to be let go of soon.  Raises MemoryFault."""
        data = (self.writable if writable else self.readable).get(address >> 32)
        start = address & MASK32
        end = start + size
        if data is None or size < 0 or end > len(data):
            raise self.fault("write" if writable else "read", address, size)
        return memoryview(data)[start:end]

    def find(self, address: int) -> Region | None:
        """The region that has the byte at `address`."""
        region = self._region(address >> 32)
        if region is None or region.size is None or address - region.address >= region.size:
            return None
        return region

    def nearest(self, address: int) -> Region | None:
        """The region, or handle, that `address` is in or closest to."""

        def distance(number: int) -> int:
            start = number << 32
            return max(start - address, address - start - len(self.readable.get(number, b"")))

        numbers = [*self.readable, *self._handles]
        return self._region(min(numbers, key=distance)) if numbers else None

    def fault(self, action: str, address: int, size: int) -> MemoryFault:
        """The exception for an access that is not allowed."""
        return MemoryFault(action, address, size, self.nearest(address))

    def _region(self, number: int) -> Region | None:
        name = self._names.get(number, "")
        if number in self._handles:
            return Region(number << 32, None, False, name)
        data = self.readable.get(number)
        if data is None:
            return None
        return Region(number << 32, len(data), number in self.writable, name)

    def _number(self) -> int:
        """The upper half of the address of the next region."""
        if self._free:
            return self._free.pop()
        if self._used > _INDEX_MASK:
            raise MemoryError("a program's machine has more regions of memory than addresses for them")
        self._used += 1
        return _FIRST + self._used - 1
