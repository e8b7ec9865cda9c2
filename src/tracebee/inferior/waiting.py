"""Waiting for stopped threads, cheaply and with an end.

A tracer and its target hand the CPU to each other twice for each stop.  Where each has a processor of its own, and
that goes to sleep meanwhile, waking it costs many times what the stop costs (in a virtual machine 30 µs against 5).
So the tracer may look for the next stop a few times before it sleeps.  That helps in one situation and hurts in
another, where both share a processor, and cannot be known in advance: every now and then both ways are tried for
some stops, and the faster one is kept.

The sleep is wait4(2), which costs one system call for a stop and knows no timeout.  Signals end it: SIGALRM
for the time, SIGIO for the descriptor.  A signal between the look at the flag and the sleep would be lost, so the
timer repeats.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from errno import EINTR
from typing import Any

from tracebee.syscalls import ptrace

_TICK = 0.02
"""Seconds that a lost signal may cost."""

_WINDOW = 64
"""Stops that are measured together."""

_KEEP = 16
_MOST_KEPT = 256
"""Windows until the other way is tried again: more each time that it is the worse one again."""

_LOOKS = 64
"""Looks before a sleep: about 50 µs."""

_IDLE = 0.002
"""Seconds without a stop after which a window says nothing."""

_LOOK_OPTIONS = ptrace.WALL | ptrace.WNOHANG


class Waiter:
    """Waits for stops of any thread.  One at a time, on the main thread, as it uses signals."""

    def __init__(self, wake_fd: int = -1) -> None:
        self.wake_fd = wake_fd
        self.is_due = False
        self._previous: dict[int, Any] = {
            number: signal.signal(number, self._interrupt) for number in (signal.SIGALRM, signal.SIGIO)
        }
        self._poll: select.poll | None = None
        self._flags = 0
        if wake_fd >= 0:
            self._flags = fcntl.fcntl(wake_fd, fcntl.F_GETFL)
            fcntl.fcntl(wake_fd, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(wake_fd, fcntl.F_SETFL, self._flags | os.O_ASYNC)
            self._poll = select.poll()
            self._poll.register(wake_fd, select.POLLIN)
        self._looks = 0
        self._left = _WINDOW
        self._began = time.perf_counter()
        self._costs = [0.0, 0.0]
        self._trial = False
        self._better = 0
        self._keep = _KEEP
        self._until_trial = 1

    def close(self) -> None:
        """Give the signals back.  The descriptor stays open."""
        if self._poll is not None:
            try:
                fcntl.fcntl(self.wake_fd, fcntl.F_SETFL, self._flags)
            except OSError:
                pass  # its owner has closed it
            self._poll = None
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _interrupt(self, number: int, frame: object) -> None:
        self.is_due = True

    def is_woken(self) -> bool:
        """Whether the descriptor has something to read; one that is closed, or at its end, is forgotten."""
        if self._poll is None:
            return False
        for _, events in self._poll.poll(0):
            if not events & select.POLLIN:
                self._poll = None
            return not events & select.POLLNVAL
        return False

    def rest(self, seconds: float) -> None:
        """Wait for the descriptor alone."""
        if self._poll is not None:
            self._poll.poll(seconds * 1000)
        else:
            time.sleep(seconds)

    def arm(self, seconds: float) -> None:
        """Let `is_due` become true, and a sleep end, after some time."""
        self.is_due = False
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6), _TICK)

    def disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.is_due = False

    def look(self) -> int:
        """A thread that has something to tell, by ptrace.status_word; 0 if there is none, -1 if nobody is traced."""
        return ptrace.look(-1, ptrace.place, _LOOK_OPTIONS, None)

    def sleep(self) -> int:
        """Wait for a thread as look() does; 0 when it is due."""
        began = time.perf_counter()
        tid = self._sleep()
        if time.perf_counter() - began > _IDLE:
            self._left, self._began = _WINDOW, time.perf_counter()
        return tid

    def _sleep(self) -> int:
        wait, place = ptrace.wait, ptrace.place
        while not self.is_due:
            tid = wait(-1, place, ptrace.WALL, None)
            if tid > 0:
                return tid
            if ptrace.get_errno() != EINTR:
                return -1
        return 0

    def next(self) -> int:
        """The next thread, soon after another: sleeps only after some looks, if those have paid."""
        self._left -= 1
        if self._left <= 0:
            self._judge()
        if self._looks:
            look, place = ptrace.look, ptrace.place
            for _ in range(self._looks):
                tid = look(-1, place, _LOOK_OPTIONS, None)
                if tid:
                    return tid
        return self._sleep()

    def _judge(self) -> None:
        """The end of a window: keep the way, or try the other."""
        now = time.perf_counter()
        way = 1 if self._looks else 0
        costs = self._costs
        cost = now - self._began
        costs[way] = cost if not costs[way] else (costs[way] + cost) / 2
        if self._trial:
            # Both ways have been tried now.  Looking costs a processor: it has to be worth it.
            self._trial = False
            better = 1 if costs[1] < 0.9 * costs[0] else 0
            self._keep = min(2 * self._keep, _MOST_KEPT) if better == self._better else _KEEP
            self._better = way = better
            self._until_trial = self._keep
        else:
            self._until_trial -= 1
            if self._until_trial <= 0:
                self._trial = True
                way = 1 - way
        self._looks = _LOOKS if way else 0
        self._left = _WINDOW
        self._began = time.perf_counter()
