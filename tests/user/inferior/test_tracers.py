"""Targets that are tracers, or sandboxed, or hard to follow; and what is refused."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tracebee.inferior.watch import Watch

from .tracing import (
    Recorder,
    Tracer,
    TracerFailed,
    calls,
    compile_c,
    number,
    offset_of,
    plain,
    put,
    trace,
    wait_for,
)

if TYPE_CHECKING:
    from tracebee.inferior.control import Inferior

EVERY = frozenset(range(1024))

TRACER = """
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
__attribute__((noinline, noclone)) int f(int x) { asm volatile(""); return x; }
static int child(void) {
    char byte = 'c';
    int sum = 0;
    for (int i = 0; i < 5; i++) sum += getppid() > 0;
    sum += f(1);
    sum += write(1, &byte, 1);
    if (fork() == 0) { getppid(); write(1, "g", 1); _exit(0); }
    wait(0);
    return sum;
}
int main(int argc, char **argv) {
    int status, stops = 0, traps = 0, traces_me = argc > 1;
    f(2);
    int ends[2]; char byte; pipe(ends);
    pid_t pid = fork();
    if (pid == 0) {
        if (traces_me) { if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(99); raise(SIGSTOP); }
        else read(ends[0], &byte, 1);
        _exit(child());
    }
    if (!traces_me) {
        usleep(20000);
        if (ptrace(PTRACE_SEIZE, pid, 0, 0)) { printf("seize %d\\n", errno); return 1; }
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        write(ends[1], "x", 1);
    }
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
        int number = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
        struct user_regs_struct regs;
        ptrace(PTRACE_GETREGS, pid, 0, &regs);
        stops += (long)regs.orig_rax == SYS_getppid;
        siginfo_t info;
        if (ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0) traps += info.si_signo == SIGTRAP && info.si_code == 0x80;
        ptrace(PTRACE_SYSCALL, pid, 0, number);
    }
    printf("stops %d traps %d status %d\\n", stops, traps, WEXITSTATUS(status));
    fflush(stdout);
    return getppid() > 0 ? 7 : 8;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the tracer in this test is for x86-64")
@pytest.mark.parametrize("options", [[], ["traceme"]])
def test_a_target_that_traces(tmp_path: Path, options: list[str]) -> None:
    program = compile_c(tmp_path, TRACER)
    untraced = plain([program, *options])
    assert untraced.output.splitlines()[-1] == b"cgstops 10 traps 0 status 7"
    watch = Watch(enter=calls("getppid", "write", "read"), exit=calls("getppid"), every_abi=True)
    run = trace([program, *options], watch, prepare=put(program, "f"))
    assert (run.output, run.status) == (untraced.output, untraced.status)
    child = run.of("forked")[0][2]
    assert [one[2] for one in run.of("warn")] == [
        f"process {child} is traced by process {run.pid} now: its system calls are not seen"
    ]
    # The tracer itself is still followed, its tracee is not, nor has it a breakpoint any more.
    assert run.of("exit")[-1][1:3] == (run.pid, number("getppid"))
    assert {one[1] for one in run.of("enter") if one[2] == number("getppid")} == {run.pid}
    assert [one[1] for one in run.of("hit")] == [run.pid]
    assert [one[1] for one in run.of("exited")] == [run.pid]


def test_strace_of_a_command_and_of_a_process(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    log = tmp_path / "log"
    strace = shutil.which("strace")
    words = [
        "/bin/sh",
        "-c",
        f"{strace} -f -o {log} -e trace=getppid,openat /bin/sh -c '/bin/true; exit 4'; echo $?",
    ]
    plain(words)
    opened = log.read_text().count("openat(")
    assert opened > 1
    log.unlink()
    run = trace(words, Watch(enter=EVERY, exit=EVERY, every_abi=True))
    assert (run.output, run.status) == (b"4\n", 0)
    assert "exited with 4" in log.read_text()
    assert log.read_text().count("openat(") == opened
    log.unlink()
    # What waits for a FIFO is stopped in a call, which goes on under its new tracer.
    fifo, said = tmp_path / "fifo", tmp_path / "said"
    os.mkfifo(fifo)
    words[2] = (
        f"cat {fifo} & cat=$!; {strace} -f -o {log} -e trace=openat,read -p $cat 2>{said} &"
        f" until grep -q attached {said}; do sleep 0.05; done; echo through >{fifo}; wait $cat; echo $?; wait"
    )
    run = trace(words, Watch(enter=EVERY, exit=EVERY, every_abi=True))
    assert (run.output, run.status) == (b"through\n0\n", 0)
    assert '"through\\n"' in log.read_text()
    assert "exited with 0" in log.read_text()


def test_gdb_in_a_target(tmp_path: Path) -> None:
    gdb = shutil.which("gdb")
    if gdb is None:
        pytest.skip("no gdb")
    program = compile_c(tmp_path, "int f(int x) { return x + 1; } int main(void) { return f(4); }", "-O0")
    words = [
        gdb,
        "-nx",
        "-q",
        "-batch",
        "-ex",
        "break f",
        "-ex",
        "run",
        "-ex",
        "print x",
        "-ex",
        "continue",
        program,
    ]
    run = trace(words, Watch(enter=calls("read", "openat"), exit=calls("read")))
    assert run.status == 0
    assert b"$1 = 4" in run.output
    assert b"exited with code 05" in run.output


def test_calls_of_a_handed_over_process_pass_after_the_retreat(tmp_path: Path) -> None:
    program = compile_c(tmp_path, TRACER)

    class Retreating(Recorder):
        def forked(self, parent, child, kind) -> None:  # type: ignore[no-untyped-def]
            super().forked(parent, child, kind)
            self.inferior.retreat()

    untraced = plain([program])
    watch = Watch(enter=calls("getppid", "write", "read"), exit=calls("getppid"))
    run = trace([program], watch, events=Retreating, prepare=put(program, "f"))
    assert (run.output, run.status) == (untraced.output, untraced.status)
    assert run.seen[-1][0] == "forked"


def test_filtered_processes_pass_through_after_the_retreat(tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        """
        #include <pthread.h>
        #include <stdio.h>
        #include <unistd.h>
        #include <sys/wait.h>
        static void *run(void *x) { long n = 0; for (int i = 0; i < 300; i++) n += getppid() > 0; return (void *)n; }
        int main(void) {
            pthread_t thread; void *n; int status;
            run(0);
            pthread_create(&thread, 0, run, 0);
            pthread_join(thread, &n);
            if (fork() == 0) _exit((long)run(0) == 300 ? 5 : 6);
            wait(&status);
            printf("%ld %d\\n", (long)n, WEXITSTATUS(status));
            return 0;
        }
        """,
    )

    class Retreating(Recorder):
        def syscall_exit(self, thread) -> None:  # type: ignore[no-untyped-def]
            super().syscall_exit(thread)
            if len(self.seen) == 101:
                self.inferior.retreat()

    run = trace([program], Watch(enter=calls("getppid"), exit=calls("getppid")), events=Retreating)
    assert (run.output, run.status) == (b"300 5\n", 0)
    assert len(run.seen) == 101


def test_a_filter_of_the_target_that_wants_a_tracer(tmp_path: Path) -> None:
    """Without one its calls fail with ENOSYS, and so they do with us."""
    program = compile_c(
        tmp_path,
        """
        #include <errno.h>
        #include <stdio.h>
        #include <unistd.h>
        #include <sys/prctl.h>
        #include <sys/syscall.h>
        #include <linux/filter.h>
        int main(void) {
            struct sock_filter code[] = { { 0x20, 0, 0, 0 }, { 0x15, 0, 1, SYS_getpgrp }, { 6, 0, 0, 0x7ff00000 },
                                          { 6, 0, 0, 0x7fff0000 } };
            struct sock_fprog program = { 4, code };
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            prctl(PR_SET_SECCOMP, 2, &program);
            int result = syscall(SYS_getpgrp);
            printf("%d %d\\n", result, errno);
            return 0;
        }
        """,
    )
    untraced = plain([program])
    assert untraced.output == b"-1 38\n"
    run = trace([program], Watch(enter=calls("write"), exit=calls("write")))
    assert (run.output, run.status) == (untraced.output, 0)


BUSY = """
#include <pthread.h>
#include <unistd.h>
static volatile int stop;
static void *idle(void *x) { while (!stop) usleep(20000); return 0; }
__attribute__((noinline, noclone)) void busy(void) { for (volatile long i = 0; i < 400000000; i++); }
int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, idle, 0);
    busy();
    stop = 1;
    pthread_join(thread, 0);
    return 0;
}
"""


def test_samples_are_of_what_runs(tmp_path: Path) -> None:
    program = compile_c(tmp_path, BUSY, "-static")
    offset, size = offset_of(program, "busy")

    class Sampling(Recorder):
        def sample(self, thread) -> None:  # type: ignore[no-untyped-def]
            pointer = int.from_bytes(thread.registers()[128:136], "little")
            self.add("sample", thread, pointer)

    def work(inferior: Inferior) -> None:
        while inferior.alive:
            inferior.pump(0.005)
            inferior.sample()

    run = trace([program], Watch(), events=Sampling, work=work)
    assert run.status == 0
    samples = run.of("sample")
    assert len(samples) > 10
    inside = [one for one in samples if one[1] == run.pid and 0 <= one[2] - 0x400000 - offset < size]
    assert len(inside) > 0.8 * len(samples)


def test_an_interrupted_epoll_wait_is_not_noticed(tmp_path: Path) -> None:
    """epoll_wait(2) fails with EINTR whenever its thread is stopped, even if no signal is delivered."""
    program = compile_c(
        tmp_path,
        """
        #include <errno.h>
        #include <stdio.h>
        #include <unistd.h>
        #include <sys/epoll.h>
        int main(void) {
            struct epoll_event event;
            int fd = epoll_create1(0);
            write(1, "x", 1);
            int result = epoll_wait(fd, &event, 1, 600);
            return result == 0 ? 0 : errno;
        }
        """,
    )
    ready, writer = os.pipe()
    pid = os.posix_spawn(program, [program], {}, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.read(ready, 1)
    os.close(ready)
    os.close(writer)
    while not Path(f"/proc/{pid}/syscall").read_text().startswith(str(number("epoll_wait"))):
        time.sleep(0.01)
    # This process has no filter: its thread is stopped, so that its next call can be seen.
    tracer = Tracer(pid, Watch(enter=calls("exit_group")), filtered=False)
    assert os.waitstatus_to_exitcode(wait_for(pid)) == 0
    seen, _ = tracer.finish()
    assert [one[0] for one in seen] == ["enter", "exited"]


def test_killed_while_stopped(tmp_path: Path) -> None:
    """SIGKILL ends a thread in any stop; the tracer goes on."""
    program = compile_c(
        tmp_path,
        """
        #include <pthread.h>
        #include <unistd.h>
        #include <signal.h>
        #include <sys/wait.h>
        static void *run(void *x) { for (;;) getppid(); }
        int main(void) {
            for (int i = 0; i < 20; i++) {
                pid_t pid = fork();
                if (pid == 0) {
                    pthread_t thread;
                    for (int k = 0; k < 4; k++) pthread_create(&thread, 0, run, 0);
                    if (fork() == 0) { run(0); }
                    run(0);
                }
                usleep(3000 + i * 500);
                kill(pid, SIGKILL);
                waitpid(pid, 0, 0);
            }
            kill(0, SIGKILL);
        }
        """,
    )

    def group(inferior: Inferior) -> None:
        while inferior.alive:
            inferior.pump(1)

    run = trace(
        ["/usr/bin/setsid", program], Watch(enter=calls("getppid"), exit=calls("getppid")), work=group
    )
    assert run.status in (int(signal.SIGKILL), 0)
    assert run.of("warn") == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user to be")
def test_an_ordinary_user_can_trace(tmp_path: Path) -> None:
    run = trace(
        ["/bin/sh", "-c", "/bin/true; exit 9"], Watch(enter=calls("openat"), exit=calls("openat")), user=65534
    )
    assert os.waitstatus_to_exitcode(run.status) == 9
    assert len(run.of("enter")) == len(run.of("exit")) > 3
    assert [one[4] for one in run.of("forked")][:1] in (["vfork"], ["fork"])


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user to be")
def test_what_may_not_be_traced(tmp_path: Path) -> None:
    pid = os.posix_spawn("/bin/sleep", ["sleep", "30"], {})
    try:
        with pytest.raises(TracerFailed, match=r"runs as user 0, needs CAP_SYS_PTRACE.*user 0, or as root"):
            Tracer(pid, Watch(), filtered=False, user=65534).finish()
        reader, writer = os.pipe()

        def wait(inferior: Inferior) -> None:
            os.read(reader, 1)
            inferior.retreat()

        first = Tracer(pid, Watch(), filtered=False, work=wait)
        with pytest.raises(
            TracerFailed, match=f"TargetError: process {pid}: is already traced by process {first.pid}"
        ):
            Tracer(pid, Watch(), filtered=False).finish()
        os.write(writer, b"x")
        first.finish()
        os.close(reader)
        os.close(writer)
        assert "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()
        with pytest.raises(TracerFailed, match="TargetError: process 2: is a thread of the kernel"):
            if Path("/proc/2/comm").read_text() != "kthreadd\n":
                pytest.skip("no kernel threads to be seen")
            Tracer(2, Watch(), filtered=False).finish()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with pytest.raises(TracerFailed, match=f"TargetError: process {pid}: there is no such process"):
        Tracer(pid, Watch(), filtered=False).finish()
