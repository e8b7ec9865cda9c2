"""A task that does not exist, and its memory."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

NOBODY = (1 << 22) + 1
"""A process id that no process has: they are at most 2^22 (PID_MAX_LIMIT)."""

FIRST_ADDRESS = 0x7F00_0000_0000
PAGE = 4096


class World:
    """The task that events happen to, and the machine around it.  All attributes can be set at any time.

    `tid` is that of the process's first thread unless it is given.  `now` is what all clocks say, in
    nanoseconds, and `random_numbers` what `rand` gives, the last one for ever.  `user_frames` and `kernel_frames`
    are stacks, innermost first.  `printed` is what went to the trace pipe, `signals` what programs have sent:
    number, and whether to the whole process.
    """

    def __init__(
        self, *, pid: int = NOBODY, tid: int = 0, uid: int = 1000, gid: int = 1000, name: str = "test"
    ) -> None:
        self.pid = pid
        self.tid = tid
        self.uid = uid
        self.gid = gid
        self.name = name
        self.processor = 0
        self.node = 0
        self.cgroup = 1
        self.now = 1_000_000_000
        self.random_numbers: Sequence[int] = (4,)
        self.user_frames: Sequence[int] = ()
        self.kernel_frames: Sequence[int] = ()
        self.attach_cookie = 0
        self.probed_function = 0
        self.task_address = 0
        self.printed: list[str] = []
        self.signals: list[tuple[int, bool]] = []
        self._memory: dict[int, bytearray] = {}
        self._starts: list[int] = []
        self._next = FIRST_ADDRESS

    # --- memory

    def store(self, data: str | bytes, address: int = 0) -> int:
        """Put bytes, or a string and a NUL, into memory; their address.

        Without an `address` they get one where nothing else is near.  Memory of the kernel is what lies in the
        upper half of the addresses.  Raises UsageError if something is there already.
        """
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogateescape") + b"\0"
        if not address:
            address = self._next
            self._next += (len(data) // PAGE + 2) * PAGE
        place = bisect_right(self._starts, address)
        before = self._starts[place - 1] if place else None
        behind = self._starts[place] if place < len(self._starts) else None
        if (before is not None and address < before + len(self._memory[before])) or (
            behind is not None and address + len(data) > behind
        ):
            raise UsageError(f"there is something else at {address:#x}")
        self._starts.insert(place, address)
        self._memory[address] = bytearray(data)
        return address

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes of memory, None if they are not all there."""
        place = bisect_right(self._starts, address)
        if not place:
            return None
        start = self._starts[place - 1]
        found = self._memory[start][address - start : address - start + size]
        return bytes(found) if len(found) == size else None

    # --- what programs ask for (tracebee.engine.world)

    def pid_tgid(self) -> int:
        return self.pid << 32 | (self.tid or self.pid)

    def ns_pid_tgid(self, device: int, inode: int) -> tuple[int, int] | None:
        return self.tid or self.pid, self.pid

    def uid_gid(self) -> int:
        return self.gid << 32 | self.uid

    def comm(self) -> bytes:
        return self.name.encode("utf-8", "surrogateescape")[:15]

    def cpu(self) -> int:
        return self.processor

    def numa_node(self) -> int:
        return self.node

    def cgroup_id(self) -> int:
        return self.cgroup

    def clock(self, name: str) -> int:
        return self.now // 10_000_000 if name == "jiffies" else self.now

    def random(self) -> int:
        found, *rest = self.random_numbers
        if rest:
            self.random_numbers = rest
        return found & 0xFFFF_FFFF

    def current_task(self) -> int:
        return self.task_address

    def read_user(self, address: int, size: int) -> bytes | None:
        return self.read(address, size) if address >> 63 == 0 else None

    def read_user_string(self, address: int, size: int) -> bytes | None:
        found = b""
        while len(found) < size:
            byte = self.read_user(address + len(found), 1)
            if byte is None:
                return None
            if byte == b"\0":
                break
            found += byte
        return found

    def write_user(self, address: int, data: bytes) -> bool:
        if self.read_user(address, len(data)) is None:
            return False
        start = self._starts[bisect_right(self._starts, address) - 1]
        self._memory[start][address - start : address - start + len(data)] = data
        return True

    def read_kernel(self, address: int, size: int) -> bytes | None:
        return self.read(address, size) if address >> 63 else None

    def user_stack(self, most: int) -> Sequence[int]:
        return self.user_frames[:most]

    def kernel_stack(self, most: int) -> Sequence[int]:
        return self.kernel_frames[:most]

    def cookie(self) -> int:
        return self.attach_cookie

    def function_address(self) -> int:
        return self.probed_function

    def trace_print(self, text: bytes) -> None:
        self.printed.append(text.decode("utf-8", "surrogateescape"))

    def send_signal(self, number: int, whole_process: bool) -> int:
        self.signals.append((number, whole_process))
        return 0
