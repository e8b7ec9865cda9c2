"""System calls, threads, forks, executions and ends under a tracer, and that the program does not notice."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tracebee.inferior.watch import Watch

from .tracing import Recorder, calls, compile_c, number, plain, trace

if TYPE_CHECKING:
    from pathlib import Path

READS = """
#include <fcntl.h>
#include <unistd.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    char byte; int fd = open("/dev/zero", O_RDONLY);
    for (int i = 0; i < atoi(argv[1]); i++) { read(fd, &byte, 1); getppid(); }
    close(-7);
    return 3;
}
"""


def test_entry_alone_stops_once(tmp_path: Path) -> None:
    program = compile_c(tmp_path, READS, "-static")
    few, many = (trace([program, count], Watch(enter=calls("read"))) for count in ("10", "60"))
    assert os.waitstatus_to_exitcode(many.status) == 3
    assert many.stops - few.stops == 50
    entered = [one for one in many.of("enter") if one[3][2] == 1]
    assert len(entered) == 60
    assert all(one[1] == many.pid and one[2] == number("read") and not one[4] for one in entered)
    assert many.of("exit") == []


def test_exit_stops_once_more(tmp_path: Path) -> None:
    program = compile_c(tmp_path, READS, "-static")
    watch = Watch(exit=calls("read", "close"))
    few, many = (trace([program, count], watch) for count in ("10", "60"))
    assert many.stops - few.stops == 100
    assert many.of("enter") == []
    assert [one[3] for one in many.of("exit") if one[2] == number("read")][-60:] == [1] * 60
    assert many.of("exit")[-1] == ("exit", many.pid, number("close"), -9, False)


def test_unwatched_calls_do_not_stop(tmp_path: Path) -> None:
    program = compile_c(tmp_path, READS, "-static")
    few, many = (trace([program, count], Watch(enter=calls("openat"))) for count in ("1", "1000"))
    assert few.stops == many.stops
    assert len(many.of("enter")) == 1


def test_every_call(tmp_path: Path) -> None:
    every = frozenset(range(1024))
    program = compile_c(tmp_path, READS, "-static")
    run = trace([program, "2"], Watch(enter=every, exit=every, every_abi=True))
    numbers = [one[2] for one in run.of("enter")]
    assert numbers[-6:] == [number(n) for n in ("read", "getppid", "read", "getppid", "close", "exit_group")]
    inside = [one for one in run.of("enter", "exit") if one[2] != number("exit_group")]
    assert [one[0] for one in inside][1::2] == ["exit"] * (len(inside) // 2)


def test_attached_process_stops_for_every_call(tmp_path: Path) -> None:
    """Without a filter each call stops twice, and what is reported is the same."""
    from .tracing import Tracer, wait_for

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)
            for _ in range(20):
                os.getppid()
        finally:
            os._exit(7)
    os.close(reader)
    tracer = Tracer(pid, Watch(enter=calls("getppid"), exit=calls("getppid", "read")), filtered=False)
    os.write(writer, b"x")
    os.close(writer)
    assert os.waitstatus_to_exitcode(wait_for(pid)) == 7
    seen, _ = tracer.finish()
    # Whether the call that was under way is seen depends on who comes first.
    assert [one[3] for one in seen if one[:3] == ("exit", pid, number("read"))] in ([], [1], [-512, 1])
    assert [one[0] for one in seen if one[2] == number("getppid")] == ["enter", "exit"] * 20


STARTS = """
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <pthread.h>
#include <sys/wait.h>
#include <sys/syscall.h>
#include <linux/sched.h>
static void *run(void *x) { getppid(); return x; }
static int child(void *x) { getppid(); _exit(5); }
int main(void) {
    int status; pthread_t thread;
    if (fork() == 0) { getppid(); _exit(1); }
    wait(&status); printf("%d\\n", status);
    if (vfork() == 0) _exit(2);
    wait(&status); printf("%d\\n", status);
    pthread_create(&thread, 0, run, 0);
    pthread_join(thread, 0);
    struct clone_args args = { .flags = CLONE_PIDFD, .exit_signal = 17 }; int pidfd = -1;
    args.pidfd = (long)&pidfd;
    if (syscall(SYS_clone3, &args, sizeof args) == 0) { getppid(); _exit(4); }
    wait(&status); printf("%d %d\\n", status, pidfd);
    char *stack = malloc(65536);
    clone(child, stack + 65536, CLONE_VM | CLONE_UNTRACED | 17, 0);
    wait(&status); printf("%d\\n", status);
    return 0;
}
"""


def test_every_way_to_start_is_followed(tmp_path: Path) -> None:
    program = compile_c(tmp_path, STARTS)
    untraced = plain([program])
    run = trace([program], Watch(enter=calls("getppid"), exit=calls("vfork", "clone3")))
    assert (run.status, run.output) == (untraced.status, untraced.output)
    started = run.of("forked")
    assert [one[4] for one in started] == ["fork", "vfork", "thread", "fork", "fork"]
    assert [one[2] == one[3] for one in started] == [True, True, False, True, True]
    assert [one[1] for one in run.of("enter")] == [started[i][2] for i in (0, 2, 3, 4)]
    # A started one is told of before it does anything, and sees its own call end with 0, as in the kernel.
    vforked = started[1][2]
    assert ("exit", vforked, number("vfork"), 0, False) in run.seen
    assert ("exit", run.pid, number("vfork"), vforked, False) in run.seen
    for one in started:
        events = [position for position, other in enumerate(run.seen) if other[1] == one[2]]
        assert run.seen.index(one) < events[0]
    assert sorted(one[2] for one in run.of("exited")) == [0, 0, 0x100, 0x200, 0x400, 0x500]


EXECS = """
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static void *sleeper(void *x) { for (;;) pause(); }
static void *run(void *name) { execl(name, name, "again", (char *)0); _exit(9); }
int main(int argc, char **argv) {
    if (argc > 1) { write(1, "second\\n", 7); return 6; }
    pthread_t threads[3];
    for (int i = 0; i < 2; i++) pthread_create(threads + i, 0, sleeper, 0);
    pthread_create(threads + 2, 0, run, argv[0]);
    for (;;) pause();
}
"""


def test_execution_by_a_thread(tmp_path: Path) -> None:
    program = compile_c(tmp_path, EXECS)
    run = trace([program], Watch(enter=calls("write"), exit=calls("execve")))
    assert (os.waitstatus_to_exitcode(run.status), run.output) == (6, b"second\n")
    first, second = run.of("executed")
    assert first == ("executed", run.pid, run.pid, str(program))
    executing = run.of("forked")[2][2]
    assert second == ("executed", run.pid, executing, str(program))
    assert run.of("exit")[-1] == ("exit", run.pid, number("execve"), 0, False)
    assert run.of("enter")[-1][1] == run.pid
    # The leader's end is told of though it leaves no trace, and each other thread's once.
    tids = [run.pid, run.pid, *(one[2] for one in run.of("forked")[:2])]
    assert sorted(one[1] for one in run.of("exited")) == sorted(tids)


def test_ends(tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        "#include <stdlib.h>\n#include <signal.h>\n#include <unistd.h>\n"
        "int main(int c, char **v) { signal(SIGPIPE, SIG_DFL); kill(getpid(), atoi(v[1])); return 8; }",
    )
    for name in ("SIGTERM", "SIGSEGV", "SIGKILL", "SIGABRT", "SIGTRAP", "SIGPIPE", "SIGWINCH", "SIGCHLD"):
        words = [program, str(int(getattr(signal, name)))]
        untraced, run = plain(words), trace(words, Watch(enter=calls("kill"), signals=True))
        assert run.status == untraced.status, name
        assert [one[1] for one in run.of("exited")] == [run.pid], name
        assert run.of("exited")[0][2] == untraced.status, name


SIGNALS = """
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/time.h>
static void seen(int number, siginfo_t *info, void *context) {
    char line[99];
    int at = number == SIGSEGV || number == SIGTRAP;
    sprintf(line, "%d code %d value %d from %d\\n", number, info->si_code,
            number == SIGUSR1 || number == SIGRTMIN ? info->si_value.sival_int : 0,
            !at && info->si_code <= 0 ? info->si_pid == getpid() : 0);
    write(1, line, strlen(line));
    if (number == SIGSEGV) mprotect((void *)((long)info->si_addr & -4096), 4096, PROT_READ | PROT_WRITE);
}
int main(void) {
    struct sigaction action = { .sa_sigaction = seen, .sa_flags = SA_SIGINFO };
    int numbers[] = { SIGUSR1, SIGUSR2, SIGTRAP, SIGSEGV, SIGALRM, SIGRTMIN, SIGCONT };
    for (int i = 0; i < 7; i++) sigaction(numbers[i], &action, 0);
    union sigval value = { .sival_int = 42 };
    sigqueue(getpid(), SIGUSR1, value);
    raise(SIGUSR2);
    asm volatile("int3");
    char *page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[8] = 1;
    sigset_t set; sigemptyset(&set); sigaddset(&set, SIGRTMIN); sigprocmask(SIG_BLOCK, &set, 0);
    for (value.sival_int = 0; value.sival_int < 5; value.sival_int++) sigqueue(getpid(), SIGRTMIN, value);
    sigprocmask(SIG_UNBLOCK, &set, 0);
    struct itimerval timer = { .it_value = { 0, 20000 } };
    setitimer(ITIMER_REAL, &timer, 0);
    int result = pause();
    printf("%d %d\\n", result, errno);
    raise(SIGCONT);
    kill(getpid(), SIGTRAP);
    return 0;
}
"""


def test_signals_are_what_they_were(tmp_path: Path) -> None:
    program = compile_c(tmp_path, SIGNALS)
    untraced = plain([program])
    run = trace([program], Watch(enter=calls("write"), exit=calls("write", "pause"), signals=True))
    assert (run.status, run.output) == (untraced.status, untraced.output)
    numbers = [int.from_bytes(one[2][:4], sys.byteorder) for one in run.of("signalled")]
    rtmin = int(signal.SIGRTMIN)
    named = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTRAP, signal.SIGSEGV, *[rtmin] * 5]
    assert numbers == [*map(int, named), int(signal.SIGALRM), int(signal.SIGCONT), int(signal.SIGTRAP)]


STOPS = """
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pthread.h>
static volatile long *count;
static void *spin(void *x) { for (;;) { getppid(); count[(long)x]++; usleep(100); } }
int main(void) {
    int status;
    setpgid(0, 0); /* SIGTSTP stops nobody in a group without a parent outside, as the tests' own may be */
    count = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int pid = fork();
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, 0, spin, 0);
        spin((void *)1);
    }
    for (int i = 0; i < 3; i++) {
        usleep(5000);
        kill(pid, i == 1 ? SIGTSTP : SIGSTOP);
        waitpid(pid, &status, WUNTRACED);
        printf("stopped %d %d\\n", WIFSTOPPED(status), WSTOPSIG(status));
        usleep(1000);
        long seen = count[0] + count[1];
        usleep(20000);
        printf("moved %d\\n", seen != count[0] + count[1]);
        kill(pid, SIGCONT);
        waitpid(pid, &status, WCONTINUED);
        printf("continued %d\\n", WIFCONTINUED(status));
    }
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGTERM);
    kill(pid, SIGCONT);
    waitpid(pid, &status, 0);
    printf("%d\\n", status);
    return 0;
}
"""


def test_group_stops(tmp_path: Path) -> None:
    program = compile_c(tmp_path, STOPS)
    untraced = plain([program])
    run = trace([program], Watch(enter=calls("getppid"), exit=calls("getppid")))
    assert run.output == untraced.output
    assert run.status == untraced.status
    assert run.of("warn") == []


COMPAT = """
#include <unistd.h>
int main(void) {
    int result;
    for (int i = 0; i < 3; i++)
        asm volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    return result == getpid() ? 0 : 1;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="int 0x80 is of x86")
def test_calls_of_32_bit_programs(tmp_path: Path) -> None:
    program = compile_c(tmp_path, COMPAT, "-static")
    if plain([program]).status != 0:
        pytest.skip("this kernel has no 32-bit system calls")
    # 20 is getpid there and writev here: neither is taken for the other.
    run = trace([program], Watch(enter=frozenset([20]), exit=frozenset([20])))
    assert (run.status, run.of("enter", "exit")) == (0, [])
    every = frozenset(range(1024))
    run = trace([program], Watch(enter=every, exit=every, every_abi=True))
    compat = [one for one in run.of("enter", "exit") if one[4]]
    assert run.status == 0
    assert [(one[0], one[2]) for one in compat] == [("enter", 20), ("exit", 20)] * 3
    assert {one[3] for one in compat if one[0] == "exit"} == {run.pid}


THREADS = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static pthread_barrier_t barrier;
static void *run(void *x) { pthread_barrier_wait(&barrier); getppid(); return x; }
int main(int argc, char **argv) {
    int count = atoi(argv[1]);
    pthread_t *threads = calloc(count, sizeof *threads);
    pthread_attr_t attr; pthread_attr_init(&attr); pthread_attr_setstacksize(&attr, 65536);
    pthread_barrier_init(&barrier, 0, count + 1);
    for (int i = 0; i < count; i++) if (pthread_create(threads + i, &attr, run, 0)) abort();
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < count; i++) pthread_join(threads[i], 0);
    puts("all");
    return 0;
}
"""


def test_a_thousand_threads(tmp_path: Path) -> None:
    program = compile_c(tmp_path, THREADS)
    run = trace([program, "1000"], Watch(enter=calls("getppid")))
    assert (run.status, run.output) == (0, b"all\n")
    assert len({one[1] for one in run.of("enter")}) == 1000
    assert len(run.of("exited")) == 1001
    assert run.of("warn") == []


class Asking(Recorder):
    """Asks a stopped thread for everything."""

    def syscall_enter(self, thread) -> None:  # type: ignore[no-untyped-def]
        if self.inferior.threads[thread.tid] is not thread:
            return
        fd, address, size = thread.arguments[:3]
        if fd == 1:
            process = thread.process
            self.add("asked", thread, thread.comm(), thread.uid_gid(), process.read(address, size))
            self.add("string", thread, process.read_string(address, 64), process.read_string(address, 3))
            self.add("missing", thread, process.read(8, 8), process.read_string(8, 8))
            stack = int.from_bytes(thread.registers()[152:160], "little")
            self.add("stack", thread, address - stack)
            self.add("cpu", thread, thread.cpu())
            self.add("written", thread, process.write(address, b"X"), process.write(8, b"X"))


def test_what_can_be_asked(tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        """
        #include <string.h>
        #include <unistd.h>
        #include <sys/mman.h>
        #include <sys/prctl.h>
        int main(void) {
            prctl(PR_SET_NAME, "some name");
            char text[8] = "hello";
            write(1, text, 5);
            char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            munmap(pages + 4096, 4096);
            memset(pages, 'a', 4096);
            write(1, pages + 4091, 6);
            return text[0] != 'X';
        }
        """,
    )
    run = trace([program], Watch(enter=calls("write")), events=Asking)
    assert os.waitstatus_to_exitcode(run.status) == 0
    assert run.output == b"Xello" + b"Xaaaa"
    uid_gid = os.getgid() << 32 | os.getuid()
    asked = run.of("asked")
    assert asked[0][2:] == (b"some name", uid_gid, b"hello")
    # Six bytes at the end of memory are one too many; three of a string are there, its end is not.
    assert asked[1][2:] == (b"some name", uid_gid, None)
    assert [one[2:] for one in run.of("string")] == [(b"hello", b"hel"), (None, b"aaa")]
    assert [one[2:] for one in run.of("missing")] == [(None, None)] * 2
    assert 0 <= run.of("stack")[0][2] < 4096
    assert {one[2] for one in run.of("cpu")} <= set(range(os.cpu_count() or 1))
    assert [one[2:] for one in run.of("written")] == [(True, False)] * 2
