"""What all maps have in common, and what the maps of one machine share.

A map has two sides.  Programs get addresses of values and numbers as the kernel's helper functions give them:
0, or minus an errno.  User space gets bytes, and a SyscallError where the kernel's system call would fail; that
side is the protocol `tracebee.session.backend.BackendMap`.

Every value that a program has asked for is a memory region of its own.  The region of a removed value stays
until the program that runs has ended, as RCU keeps it in the kernel; so an address that a program has got is good
for as long as it may use it.
"""

from __future__ import annotations

import errno
from struct import Struct
from typing import TYPE_CHECKING, ClassVar

from tracebee.errors import SyscallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracebee.engine.maps.ring import RingMap
    from tracebee.engine.memory import Memory
    from tracebee.spec.objects import MapSpec

BPF_ANY, BPF_NOEXIST, BPF_EXIST, BPF_F_LOCK = 0, 1, 2, 4
"""Flags of an update (linux/bpf.h)."""

BPF_F_NO_PREALLOC = 1 << 0
BPF_F_RDONLY = 1 << 3
BPF_F_WRONLY = 1 << 4
BPF_F_RDONLY_PROG = 1 << 7
BPF_F_WRONLY_PROG = 1 << 8
BPF_F_INNER_MAP = 1 << 12

ENOTSUPP = 524
"""The kernel's own errno for what a kind of map does not do."""


class Shared:
    """What the maps of one machine have together.

    `cpu` is the processor that the running program is on, out of `cpus`; `retired` are the regions of removed
    values, and `records` the ring records that are reserved and not yet submitted, by address.
    """

    __slots__ = ("by_handle", "cpu", "cpus", "memory", "records", "retired")

    def __init__(self, memory: Memory, cpus: int = 1) -> None:
        self.memory = memory
        self.cpus = cpus
        self.cpu = 0
        self.retired: list[int] = []
        self.records: dict[int, RingMap] = {}
        self.by_handle: dict[int, EngineMap] = {}

    def settle(self) -> None:
        """After a program has ended: let go of what only it could still use."""
        if self.retired:
            drop = self.memory.drop
            for address in self.retired:
                drop(address)
            self.retired.clear()
        if self.records:
            # It ended by a fault: what it had begun to write would block the ring.
            for address, ring in list(self.records.items()):
                ring.discard(address)


class EngineMap:
    """Base of the maps; what a kind of map does not do is refused here.

    `handle` stands for the map in a register.  `slot` is the size of one processor's value as user space sees
    it, out of `cpus`.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    """Names of enum bpf_map_type that the class is for."""
    per_cpu: ClassVar[bool] = False
    is_filter: ClassVar[bool] = False
    """Whether `peek` asks about a value rather than giving one."""

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        self.spec = spec
        self.shared = shared
        self.memory = shared.memory
        self.key_size = spec.key_size
        self.value_size = spec.value_size
        # Takes a key or a value out of a region in one copy, which a slice of a bytearray does not.
        self.key_at = Struct(f"{spec.key_size}s").unpack_from
        self.value_at = Struct(f"{spec.value_size}s").unpack_from
        self.max_entries = spec.max_entries
        self.id = len(shared.by_handle) + 1
        self.handle = shared.memory.handle(f"map {spec.name}")
        self.cpus = shared.cpus if self.per_cpu else 1
        self.slot = (spec.value_size + 7) & ~7 if self.per_cpu else spec.value_size
        self.value_bytes = self.slot * self.cpus
        self.writable = not spec.flags & BPF_F_RDONLY_PROG
        self.is_frozen = False
        # Told of each key whose value is not at the address any more that programs have got.
        self.moved: Callable[[bytes], None] | None = None
        self.check()
        shared.by_handle[self.handle] = self

    def __repr__(self) -> str:
        return f"<map {self.spec.name}: {self.spec.type}>"

    def check(self) -> None:
        """Raise UsageError if no such map can be made."""
        self.require(self.key_size > 0, "the size of a key must not be 0")
        self.require(self.value_size > 0, "the size of a value must not be 0")
        self.require(self.max_entries > 0, "there must be room for an entry")

    def require(self, condition: bool, reason: str) -> None:
        if not condition:
            raise UsageError(f"map {self.spec.name} of type {self.spec.type}: {reason}")

    # --- programs

    def lookup(self, key: bytes) -> int:
        """The address of a value, or 0."""
        return 0

    def lookup_on(self, key: bytes, cpu: int) -> int:
        """The address of another processor's value, or 0 (bpf_map_lookup_percpu_elem)."""
        return 0

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """Set a value; 0 or minus an errno."""
        return -errno.EOPNOTSUPP

    def delete(self, key: bytes) -> int:
        return -errno.EOPNOTSUPP

    def push(self, value: bytes, flags: int) -> int:
        return -errno.EOPNOTSUPP

    def pop(self) -> bytes | None:
        """Take out a value; None if there is none."""
        return None

    def peek(self) -> bytes | None:
        return None

    def for_each(self, visit: Callable[[int, int], int]) -> int:
        """Call ``visit(key, value)`` with addresses until it gives something else than 0.

        Gives the number of calls, or minus an errno.
        """
        return -errno.EINVAL

    # --- user space

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        raise self.refused("lookup", ENOTSUPP)

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key."""
        raise self.refused("update", ENOTSUPP)

    def remove(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""
        raise self.refused("delete", ENOTSUPP)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values."""
        raise self.refused("walk", ENOTSUPP)

    def clear(self) -> None:
        """Remove all elements; those of an array become zero."""
        for key in [key for key, _ in self.items()]:
            self.remove(key)

    def freeze(self) -> None:
        """From now on user space can only read."""
        self.is_frozen = True

    def refused(self, what: str, number: int) -> SyscallError:
        return SyscallError(f"{what} of map {self.spec.name}", number)

    def done(self, what: str, result: int) -> None:
        """Raise what a negative result means."""
        if result < 0:
            raise self.refused(what, -result)

    def check_write(self, what: str, key: bytes, value: bytes | None = None) -> None:
        """Raise what the system call would answer to user space that may not write, or gives a wrong size."""
        if self.is_frozen or self.spec.flags & BPF_F_RDONLY:
            raise self.refused(what, errno.EPERM)
        if len(key) != self.key_size or (value is not None and len(value) != self.value_bytes):
            raise self.refused(what, errno.EINVAL)
