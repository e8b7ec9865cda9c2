"""The loop itself: time limits, wake-ups, handlers that raise, and leaving from inside of a handler."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tracebee.inferior.control import Inferior
from tracebee.inferior.watch import Watch

from .tracing import Recorder, Tracer, calls, compile_c, trace, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sleeper() -> Iterator[int]:
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
        time.sleep(0.001)  # so that its start is no event
    yield pid
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_pump_ends_after_its_time(sleeper: int) -> None:
    inferior = Inferior(Watch(), Recorder())
    try:
        inferior.seize(sleeper, filtered=False)
        end, pumps = time.monotonic() + 0.3, 0
        while time.monotonic() < end:
            inferior.pump(0.05)
            pumps += 1
        assert pumps < 50  # each sleeps, unless something has happened
        inferior.pump(0)
        assert inferior.alive
        inferior.retreat()
        assert not inferior.alive
        inferior.pump(0.01)
    finally:
        inferior.close()
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


@pytest.mark.parametrize("follows", [True, False])
def test_pump_ends_when_there_is_something_to_read(sleeper: int, follows: bool) -> None:
    reader, writer = os.pipe()
    inferior = Inferior(Watch(), Recorder(), reader)
    if follows:
        inferior.seize(sleeper, filtered=False)
    else:
        os.kill(sleeper, signal.SIGKILL)
        os.waitpid(sleeper, 0)
    timer = threading.Timer(0.1, os.write, (writer, b"x"))
    try:
        timer.start()
        began = time.monotonic()
        inferior.pump(30)
        inferior.pump(30)  # it is still to be read
        assert time.monotonic() - began < 10
        os.read(reader, 1)
        # The end of the file is told once; then there is nothing more to wait for.
        os.close(writer)
        began = time.monotonic()
        for _ in range(20):
            inferior.pump(0.01)
        assert time.monotonic() - began > 0.1
        inferior.retreat()
    finally:
        timer.join()
        inferior.close()
        os.close(reader)


class Raising(Recorder):
    """Raises once in each kind of event."""

    def add(self, kind, thread, *facts):  # type: ignore[no-untyped-def]
        new = kind not in {one[0] for one in self.seen}
        super().add(kind, thread, *facts)
        if new:
            raise ValueError(kind)


def test_a_thread_goes_on_when_a_handler_raises(tmp_path: Path) -> None:
    raised = []

    def work(inferior: Inferior) -> None:
        while inferior.alive:
            try:
                inferior.pump(1)
            except ValueError as error:
                raised.append(str(error))
        inferior._events.seen.append(("raised", 0, raised))  # type: ignore[attr-defined]

    run = trace(
        ["/bin/sh", "-c", "(kill -USR1 $$; exit 2); trap : USR2; kill -USR2 $$; /bin/true; echo end"],
        Watch(enter=calls("openat"), exit=calls("openat"), signals=True),
        events=Raising,
        work=work,
    )
    # The shell has no handler for SIGUSR1.
    assert os.WTERMSIG(run.status) == signal.SIGUSR1
    assert set(run.of("raised")[0][2]) == {"enter", "exit", "forked", "executed", "exited", "signalled"}


def test_retreat_inside_of_a_handler(tmp_path: Path) -> None:
    """The process is not left at once, as it is stopped for the handler, but soon."""
    program = compile_c(
        tmp_path,
        """
        #include <pthread.h>
        #include <unistd.h>
        static void *run(void *x) { for (;;) getppid(); }
        int main(void) {
            char byte; pthread_t thread;
            for (int i = 0; i < 3; i++) pthread_create(&thread, 0, run, 0);
            write(1, "x", 1);
            read(0, &byte, 1);
            return 7;
        }
        """,
    )

    class Retreating(Recorder):
        def syscall_enter(self, thread) -> None:  # type: ignore[no-untyped-def]
            super().syscall_enter(thread)
            if len(self.seen) == 50:
                self.inferior.retreat()

    reader, writer = os.pipe()
    ready, ready_writer = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, ready_writer, 1)]
    pid = os.posix_spawn(program, [program], {}, file_actions=actions)
    os.read(ready, 1)
    tracer = Tracer(pid, Watch(enter=calls("getppid")), filtered=False, events=Retreating)
    seen, _ = tracer.finish()
    assert len(seen) == 50
    assert "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()
    os.write(writer, b"x")
    assert os.waitstatus_to_exitcode(wait_for(pid)) == 7
    for fd in (reader, writer, ready, ready_writer):
        os.close(fd)
