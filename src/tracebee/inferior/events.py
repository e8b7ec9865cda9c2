"""What an Inferior tells of its threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tracebee.inferior.processes import Thread


class Events(Protocol):
    """Called while the thread is stopped; it goes on when the method returns, or raises.

    Each thread's events come in their order.  Between threads the order is that of the stops as far as one thread
    waits for the other (a fork before what the child does), and else undefined.
    """

    def syscall_enter(self, thread: Thread) -> None:
        """`number`, `arguments` and `is_compat` are those of the call."""

    def syscall_exit(self, thread: Thread) -> None:
        """`result` is there too.  For a new process or thread this comes after `forked`, with result 0."""

    def forked(self, parent: Thread, child: Thread, kind: str) -> None:
        """`child` has been started and has not run yet; `kind` is "fork", "vfork", "clone" or "thread"."""

    def executed(self, thread: Thread, former_tid: int, filename: str) -> None:
        """A new program, before its first instruction.  `filename` is what execve(2) was given.

        `former_tid` differs from the thread's where not the leader has executed it, as the thread becomes the
        leader.
        """

    def exited(self, thread: Thread, status: int) -> None:
        """A thread ends; `status` is what wait(2) would give.

        Its memory and registers are still there, unless it was killed by SIGKILL or by another thread's execve(2).
        """

    def mapped(self, thread: Thread) -> None:
        """The thread has mapped a file as executable; only if libraries are watched."""

    def signalled(self, thread: Thread, siginfo: bytes) -> None:
        """A signal is about to be delivered, perhaps to be ignored: a traced thread stops for those too."""

    def hit(self, thread: Thread, key: int) -> None:
        """A breakpoint; the registers are those before its instruction."""

    def returned(self, thread: Thread, key: int) -> None:
        """The function with this breakpoint has returned to its caller."""

    def sample(self, thread: Thread) -> None:
        """The thread was on a CPU when a sample was asked for."""

    def warn(self, text: str) -> None:
        """Something that a person should know."""


class NoEvents:
    """Events that go nowhere."""

    def syscall_enter(self, thread: Thread) -> None: ...

    def syscall_exit(self, thread: Thread) -> None: ...

    def forked(self, parent: Thread, child: Thread, kind: str) -> None: ...

    def executed(self, thread: Thread, former_tid: int, filename: str) -> None: ...

    def exited(self, thread: Thread, status: int) -> None: ...

    def mapped(self, thread: Thread) -> None: ...

    def signalled(self, thread: Thread, siginfo: bytes) -> None: ...

    def hit(self, thread: Thread, key: int) -> None: ...

    def returned(self, thread: Thread, key: int) -> None: ...

    def sample(self, thread: Thread) -> None: ...

    def warn(self, text: str) -> None: ...
