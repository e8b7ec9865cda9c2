"""A world that a test makes up, and a machine without programs for what helper functions need of one."""

from __future__ import annotations

from typing import Any

from tracebee.engine.calls import CALLS
from tracebee.engine.maps import Shared, make_maps
from tracebee.engine.memory import Memory
from tracebee.engine.runtime import Runtime
from tracebee.insn.helpers import helper_id
from tracebee.spec.objects import MapSpec


class MadeUpWorld:
    """Facts as attributes.  `user` and `kernel` are bytes by the address where they start."""

    def __init__(self) -> None:
        self.user: dict[int, bytearray] = {}
        self.kernel: dict[int, bytearray] = {}
        self.printed: list[bytes] = []
        self.signals: list[tuple[int, bool]] = []
        self.namespaces: dict[tuple[int, int], tuple[int, int]] = {}
        self.stacks: tuple[list[int], list[int]] = ([], [])
        self.clocks = {"monotonic": 1, "boot": 2, "tai": 3, "coarse": 4, "jiffies": 5}
        self.name = b"made up"

    def pid_tgid(self) -> int:
        return 7 << 32 | 8

    def ns_pid_tgid(self, device: int, inode: int) -> tuple[int, int] | None:
        return self.namespaces.get((device, inode))

    def uid_gid(self) -> int:
        return 100 << 32 | 1000

    def comm(self) -> bytes:
        return self.name

    def cpu(self) -> int:
        return 3

    def numa_node(self) -> int:
        return 1

    def cgroup_id(self) -> int:
        return 77

    def clock(self, name: str) -> int:
        return self.clocks[name]

    def random(self) -> int:
        return 0xDEAD_BEEF

    def current_task(self) -> int:
        return 0xFFFF_8880_0000_1000

    def _bytes(self, memory: dict[int, bytearray], address: int, size: int) -> bytearray | None:
        for start, data in memory.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        return None

    def read_user(self, address: int, size: int) -> bytes | None:
        found = self._bytes(self.user, address, size)
        return None if found is None else bytes(found)

    def read_user_string(self, address: int, size: int) -> bytes | None:
        text = b""
        while len(text) < size:
            byte = self.read_user(address + len(text), 1)
            if byte is None:
                return None
            if byte == b"\0":
                break
            text += byte
        return text

    def write_user(self, address: int, data: bytes) -> bool:
        if self.read_user(address, len(data)) is None:
            return False
        for start, memory in self.user.items():
            if start <= address < start + len(memory):
                memory[address - start : address - start + len(data)] = data
        return True

    def read_kernel(self, address: int, size: int) -> bytes | None:
        found = self._bytes(self.kernel, address, size)
        return None if found is None else bytes(found)

    def user_stack(self, most: int) -> list[int]:
        return self.stacks[0][:most]

    def kernel_stack(self, most: int) -> list[int]:
        return self.stacks[1][:most]

    def cookie(self) -> int:
        return 0xC00C1E

    def function_address(self) -> int:
        return 0x401000

    def trace_print(self, text: bytes) -> None:
        self.printed.append(text)

    def send_signal(self, number: int, whole_process: bool) -> int:
        self.signals.append((number, whole_process))
        return 0


class Bench:
    """A machine's memory, maps and helper functions: ``bench.call("ktime_get_ns")``."""

    def __init__(self, *specs: MapSpec, cpus: int = 1) -> None:
        self.world = MadeUpWorld()
        self.memory = Memory()
        self.shared = Shared(self.memory, cpus)
        self.maps: dict[str, Any] = dict(make_maps(specs, self.shared))
        self.machine = Runtime(self.memory, self.world, self.shared, 1000)

    def call(self, name: str, *arguments: int) -> int:
        """r0 of a helper function, as the signed number that failures are."""
        values = [value & (1 << 64) - 1 for value in arguments]
        return CALLS[helper_id(name)].make(self.machine)(*values, *[0] * (5 - len(values)))

    def put(self, data: bytes) -> int:
        """The address of a copy of some bytes."""
        return self.memory.add(bytearray(data))

    def get(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)
