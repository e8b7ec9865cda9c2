"""What a program can ask of the world around it: the task that it runs for, the clocks, memory that is not its own.

The helper functions (tracebee.engine.calls) ask; whoever runs programs answers: a tracer about the thread that
it has stopped, a test with what it made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class World(Protocol):
    """Facts about the event that a program runs for.  All numbers are unsigned."""

    def pid_tgid(self) -> int:
        """Process id (tgid) << 32 | thread id, as bpf_get_current_pid_tgid gives it."""

    def ns_pid_tgid(self, device: int, inode: int) -> tuple[int, int] | None:
        """Thread and process id as a pid namespace sees them; None if the task is not in it."""

    def uid_gid(self) -> int:
        """Group id << 32 | user id."""

    def comm(self) -> bytes:
        """Name of the thread, at most 15 bytes."""

    def cpu(self) -> int:
        """The processor that the thread runs on, or ran on last."""

    def numa_node(self) -> int: ...

    def cgroup_id(self) -> int: ...

    def clock(self, name: str) -> int:
        """Nanoseconds of a clock: "monotonic", "boot", "tai", "coarse"; "jiffies" counts ticks."""

    def random(self) -> int:
        """32 random bits."""

    def current_task(self) -> int:
        """The address of the kernel's task_struct; 0 where that cannot be seen."""

    def read_user(self, address: int, size: int) -> bytes | None:
        """`size` bytes of the task's memory; None if not all of them are there."""

    def read_user_string(self, address: int, size: int) -> bytes | None:
        """The bytes in front of the first NUL, at most `size`; None if memory ends before that."""

    def write_user(self, address: int, data: bytes) -> bool:
        """Whether all of it could be written."""

    def read_kernel(self, address: int, size: int) -> bytes | None:
        """Memory that is neither the program's nor the task's; None if it cannot be read."""

    def user_stack(self, most: int) -> Sequence[int]:
        """Addresses of the task's user stack, innermost first, at most `most`."""

    def kernel_stack(self, most: int) -> Sequence[int]: ...

    def cookie(self) -> int:
        """What was given with the attachment (bpf_get_attach_cookie)."""

    def function_address(self) -> int:
        """Where the probed function starts (bpf_get_func_ip); 0 if it is none."""

    def trace_print(self, text: bytes) -> None:
        """Text for the trace pipe (bpf_trace_printk)."""

    def send_signal(self, number: int, whole_process: bool) -> int:
        """Send a signal to the thread or its process; 0 or minus an errno."""
