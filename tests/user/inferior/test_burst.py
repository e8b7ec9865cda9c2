"""The loop in machine code: what it handles alone, what it leaves to Python, and the state that it leaves behind."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.inferior import burst
from tracebee.inferior.watch import Watch
from tracebee.syscalls.nativecode import Door

from .tracing import Recorder, calls, compile_c, number, trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tracebee.inferior.control import Inferior
    from tracebee.inferior.processes import Thread

pytest.importorskip("llvmlite", reason="machine code needs llvmlite")

READS = """
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include <stdlib.h>
#include <sys/wait.h>
static int fd;
static void handler(int number) { }
static void *work(void *count) {
    char byte;
    for (long i = 0; i < (long)count; i++) read(fd, &byte, 1);
    return 0;
}
int main(int argc, char **argv) {
    int threads = atoi(argv[1]), signals = atoi(argv[2]), forks = atoi(argv[3]);
    pthread_t ids[300];
    fd = open("/dev/zero", O_RDONLY);
    signal(SIGUSR1, handler);
    for (int i = 0; i < threads; i++) pthread_create(ids + i, 0, work, (void *)500L);
    work((void *)2000L);
    for (int i = 0; i < signals; i++) { raise(SIGUSR1); work((void *)50L); }
    for (int i = 0; i < forks; i++) { if (!fork()) { work((void *)50L); _exit(0); } wait(0); }
    for (int i = 0; i < threads; i++) pthread_join(ids[i], 0);
    return 3;
}
"""


class Hook:
    """Takes down what it is told as a Recorder does, with the Thread as it is brought up to date for it."""

    def __init__(
        self, recorder: Recorder, door: Door, answer: Callable[[int], int] = lambda count: 0
    ) -> None:
        self.recorder = recorder
        self.count = 0
        self.address = door.callback(self._tell, 2)
        self._answer = answer
        self._thread_at: Any = None

    def begin(self, thread_at: Callable[[int], Thread]) -> None:
        self._thread_at = thread_at

    def end(self, error: int) -> None:
        if error:
            self.recorder.seen.append(("error", 0, error))

    def _tell(self, slot: int, is_exit: int) -> int:
        thread = self._thread_at(slot)
        facts = (thread.number, thread.result if is_exit else thread.arguments)
        self.recorder.seen.append(("quick exit" if is_exit else "quick enter", thread.tid, *facts))
        self.count += 1
        return self._answer(self.count)


def quickly(answer: Callable[[int], int] = lambda count: 0) -> Callable[[Inferior], None]:
    def prepare(inferior: Inferior) -> None:
        door = Door()
        recorder = inferior._events
        assert isinstance(recorder, Recorder)
        inferior.quicken(door, Hook(recorder, door, answer))

    return prepare


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(tmp_path_factory.mktemp("reads"), READS, "-static")


def events_of(seen: list[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    """What each thread's reads of one byte were, in order: whether the exit, and the facts."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for kind, tid, *facts in seen:
        if kind.endswith("enter") and facts[0] == number("read") and facts[1][2] == 1:
            found.setdefault(tid, []).append(("enter", facts[1][0]))
        elif kind.endswith("exit") and facts[0] == number("read") and facts[1] == 1:
            found.setdefault(tid, []).append(("exit", facts[1]))
    return found


WATCH = Watch(enter=calls("read", "openat"), exit=calls("read"))


def test_plain_stops_are_handled_alone(reads: Path) -> None:
    run = trace([reads, "0", "0", "0"], WATCH, prepare=quickly())
    assert os.waitstatus_to_exitcode(run.status) == 3
    assert events_of(run.seen) == {run.pid: [("enter", 3), ("exit", 1)] * 2000}
    assert len(run.of("quick enter", "quick exit")) > 3900
    assert len(run.of("enter", "exit")) < 100


@pytest.mark.parametrize("threads", [2, 40])
def test_threads_are_told_apart(reads: Path, threads: int) -> None:
    run = trace([reads, str(threads), "0", "0"], WATCH, prepare=quickly())
    found = events_of(run.seen)
    assert found.pop(run.pid) == [("enter", 3), ("exit", 1)] * 2000
    assert list(found.values()) == [[("enter", 3), ("exit", 1)] * 500] * threads
    assert len(run.of("quick enter", "quick exit")) > 1500


def test_signals_come_in_between(reads: Path) -> None:
    run = trace(
        [reads, "0", "60", "0"], Watch(enter=WATCH.enter, exit=WATCH.exit, signals=True), prepare=quickly()
    )
    assert os.waitstatus_to_exitcode(run.status) == 3
    assert events_of(run.seen) == {run.pid: [("enter", 3), ("exit", 1)] * 5000}
    assert len(run.of("signalled")) == 60
    assert all(int.from_bytes(one[2][:4], "little") == signal.SIGUSR1 for one in run.of("signalled"))
    assert len(run.of("quick enter", "quick exit")) > 7000


def test_forks_come_in_between(reads: Path) -> None:
    run = trace([reads, "0", "0", "20"], WATCH, prepare=quickly())
    found = events_of(run.seen)
    assert found.pop(run.pid) == [("enter", 3), ("exit", 1)] * 2000
    assert list(found.values()) == [[("enter", 3), ("exit", 1)] * 50] * 20
    children = [one[2] for one in run.of("forked")]
    assert list(found) == children


def test_exits_alone(reads: Path) -> None:
    run = trace([reads, "3", "10", "3"], Watch(exit=calls("read")), prepare=quickly())
    assert run.of("enter", "quick enter") == []
    exits = [one for one in run.of("exit", "quick exit") if one[3] == 1]
    assert len(exits) == 2000 + 3 * 500 + 10 * 50 + 3 * 50


def test_a_pause_goes_on(reads: Path) -> None:
    """The thread that the hook wanted a pause for is not stopped again, and not left behind."""
    run = trace([reads, "4", "0", "0"], WATCH, prepare=quickly(lambda count: burst.PAUSE * (count % 7 == 0)))
    found = events_of(run.seen)
    assert found.pop(run.pid) == [("enter", 3), ("exit", 1)] * 2000
    assert list(found.values()) == [[("enter", 3), ("exit", 1)] * 500] * 4
    assert len(run.of("error")) > 100


def test_an_error_lets_the_thread_go_on(reads: Path) -> None:
    """Whether at an entry or an exit."""
    run = trace([reads, "4", "0", "0"], WATCH, prepare=quickly(lambda count: 5 * (count % 11 == 0)))
    assert os.waitstatus_to_exitcode(run.status) == 3
    found = events_of(run.seen)
    assert found.pop(run.pid) == [("enter", 3), ("exit", 1)] * 2000
    assert list(found.values()) == [[("enter", 3), ("exit", 1)] * 500] * 4
    assert {one[2] for one in run.of("error")} == {5}


def test_a_target_that_is_killed_in_a_call(tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        """
#include <signal.h>
#include <unistd.h>
int main() {
    char byte;
    for (int i = 0; i < 3000; i++) close(-1);
    if (!fork()) { usleep(50000); kill(getppid(), SIGKILL); _exit(0); }
    for (;;) close(-1);
}
""",
    )
    watch = Watch(enter=calls("close"), exit=calls("close"))
    run = trace([program], watch, prepare=quickly())
    assert os.WTERMSIG(run.status) == signal.SIGKILL
    assert len(run.of("quick exit")) > 3000
    assert ("exited", run.pid, signal.SIGKILL) in run.seen


def test_retreat_ends_it(reads: Path) -> None:
    """From then on nothing is told, and the program ends as it would."""

    def work(inferior: Inferior) -> None:
        while inferior.alive:
            inferior.pump(1)
            recorder = inferior._events
            if isinstance(recorder, Recorder) and len(recorder.seen) > 500:
                inferior.retreat()

    run = trace([reads, "0", "0", "0"], WATCH, prepare=quickly(), work=work)
    assert os.waitstatus_to_exitcode(run.status) == 3
    assert 500 < len(run.seen) < 4000
