"""Breakpoints: every hit is told, once, and the program computes what it computes without them."""

from __future__ import annotations

import os
from collections import Counter
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
    instructions_of,
    offset_of,
    plain,
    put,
    trace,
    wait_for,
)

if TYPE_CHECKING:
    from tracebee.inferior.control import Inferior

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="breakpoints are for x86-64")

LIBRARIES = Watch(libraries=True)

MANY = """
#include <stdio.h>
#include <string.h>
#include <math.h>
#define KEEP __attribute__((noinline, noclone))
static double table[8] = { 1, 2.5, 3, 4, 5, 6, 7, 8 };
static int counter;
KEEP int one(int x) { return x * 3 + counter++; }
KEEP int two(int x) { return x ^ 0x55; }
static int (*functions[2])(int) = { one, two };
KEEP long work(int n, const char *text) {
    long sum = 0; double real = 0; char copy[64];
    for (int i = 0; i < n; i++) {
        switch (i % 7) {
            case 0: sum += one(i); break;
            case 1: sum -= functions[i & 1](i); break;
            case 2: real += sqrt(table[i & 7]) * 2.25; break;
            case 3: memcpy(copy, text, strlen(text) + 1); sum += copy[i % 5]; break;
            case 4: sum = sum << 3 | sum >> 61; break;
            case 5: sum += sum / (i + 1) + sum % 7; break;
            default: sum += i > 20 ? counter : -counter;
        }
    }
    return sum + (long)(real * 1000);
}
KEEP void odd(void) {
    long a = 5, b = 0, c = 0;
    asm volatile(
        "mov $3, %%rcx\\n 1: add $2, %0\\n loop 1b\\n"
        "xor %%ecx, %%ecx\\n jrcxz 2f\\n add $1000, %0\\n 2:\\n"
        "lea functions(%%rip), %%rdx\\n mov $9, %%edi\\n"
        "call *functions+8(%%rip)\\n cltq\\n mov %%rax, %1\\n"
        "push %%rdx\\n push %%rdx\\n lea two(%%rip), %%rax\\n mov %%rax, (%%rsp)\\n mov $4, %%edi\\n"
        "call *(%%rsp)\\n add %%rax, %1\\n pop %%rax\\n pop %%rax\\n"
        "lea two(%%rip), %%r12\\n mov $1, %%edi\\n call *%%r12\\n add %%rax, %1\\n"
        "jmp 4f\\n 3: add $7, %2\\n jmp 5f\\n 4: jmp 3b\\n 5:\\n"
        "clc\\n jnc 6f\\n add $10000, %2\\n 6: stc\\n adc $0, %2\\n cmovc %0, %%rdx\\n"
        "movups functions(%%rip), %%xmm0\\n cmpl $0x12345, counter(%%rip)\\n movl $77, counter(%%rip)\\n"
        "nopw 0x0(%%rax,%%rax,1)\\n endbr64\\n"
        : "+r"(a), "+r"(b), "+r"(c) : : "rax", "rcx", "rdx", "rdi", "r12", "memory", "xmm0");
    printf("%ld %ld %ld\\n", a, b, c);
}
int main(void) { for (int i = 0; i < 3; i++) { printf("%ld\\n", work(50, "hello")); odd(); } return one(0) & 63; }
"""


def test_every_instruction_works_under_a_breakpoint(tmp_path: Path) -> None:
    program = compile_c(tmp_path, MANY, "-lm", "-no-pie")
    offsets = [at for name in ("one", "two", "work", "odd", "main") for at in instructions_of(program, name)]
    assert len(offsets) > 150

    def prepare(inferior: Inferior) -> None:
        for offset in offsets:
            inferior.insert(offset, str(program), offset, False)

    untraced, run = plain([program]), trace([program], prepare=prepare)
    assert (run.output, run.status) == (untraced.output, untraced.status)
    assert run.of("warn") == []
    hits = Counter(one[2] for one in run.of("hit"))
    first = {name: offset_of(program, name)[0] for name in ("one", "two", "work", "odd", "main")}
    assert [hits[first[name]] for name in first] == [3 * (8 + 3) + 1, 3 * (4 + 3), 3, 3, 1]
    # Straight code is all hit equally often.
    assert {hits[at] for at in instructions_of(program, "two")} == {hits[first["two"]]}


def test_position_independent_program_and_its_library(tmp_path: Path) -> None:
    program = compile_c(tmp_path, MANY, "-lm")
    libm = (
        next(Path(folder) for folder in _library_folders() if (Path(folder) / "libc.so.6").exists())
        / "libc.so.6"
    )
    symbols = instructions_of(program, "work")

    def prepare(inferior: Inferior) -> None:
        for offset in symbols:
            inferior.insert(offset, str(program), offset, False)
        inferior.insert(0, str(libm), offset_of(libm, "puts")[0], False)
        inferior.insert(1, str(libm), offset_of(libm, "printf")[0], True)

    untraced, run = plain([program]), trace([program], LIBRARIES, prepare=prepare)
    assert (run.output, run.status) == (untraced.output, untraced.status)
    assert len([one for one in run.of("returned") if one[2] == 1]) == 6
    assert len([one for one in run.of("hit") if one[2] == symbols[0]]) == 3


def _library_folders() -> list[str]:
    return ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"]


THREADS = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#define KEEP __attribute__((noinline, noclone))
static long total;
KEEP long f(long x) { return __sync_add_and_fetch(&total, x); }
static void *run(void *x) { for (int i = 0; i < 500; i++) f((long)x); return 0; }
int main(void) {
    pthread_t threads[6];
    for (long i = 0; i < 6; i++) pthread_create(threads + i, 0, run, (void *)(i + 1));
    for (int i = 0; i < 6; i++) pthread_join(threads[i], 0);
    printf("%ld\\n", total);
    return 0;
}
"""


@pytest.mark.parametrize("returns", [False, True])
def test_no_thread_misses_a_breakpoint(tmp_path: Path, returns: bool) -> None:
    program = compile_c(tmp_path, THREADS)
    run = trace([program], prepare=put(program, "f", returns=returns))
    assert (run.output, run.status) == (b"10500\n", 0)
    hits = Counter(one[1] for one in run.of("returned" if returns else "hit"))
    assert sorted(hits.values()) == [500] * 6


class Values(Recorder):
    """Notes the argument of a hit and the result of a return."""

    def hit(self, thread, key) -> None:  # type: ignore[no-untyped-def]
        self.add("hit", thread, key, word(thread, 14), word(thread, 16))

    def returned(self, thread, key) -> None:  # type: ignore[no-untyped-def]
        self.add("returned", thread, key, word(thread, 10))


def word(thread, index) -> int:  # type: ignore[no-untyped-def]
    data: bytes = thread.registers()
    return int.from_bytes(data[8 * index : 8 * index + 8], "little")


RETURNS = """
#include <setjmp.h>
#include <stdio.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))
static jmp_buf place;
KEEP int factorial(int n) { return n <= 1 ? 1 : n * factorial(n - 1) + !n; }
KEEP int leaves(int n) { if (n & 1) longjmp(place, n); return n; }
KEEP int last(int n) { asm volatile(""); return n + 1; }
KEEP int first(int n) { asm volatile(""); return last(n + 10); }
int main(void) {
    volatile int sum = factorial(5);
    for (volatile int i = 0; i < 4; i++) sum += setjmp(place) ? 100 : leaves(i + 10);
    sum += first(1);
    printf("%d\\n", sum);
    return 0;
}
"""


def test_returns(tmp_path: Path) -> None:
    program = compile_c(tmp_path, RETURNS, "-fno-optimize-sibling-calls")
    untraced = plain([program])
    names = ("factorial", "leaves", "first", "last")
    run = trace([program], prepare=put(program, *names, returns=True), events=Values)
    assert (run.output, run.status) == (untraced.output, 0)
    returned = [one[2:] for one in run.of("returned")]
    assert returned == [
        *((0, value) for value in (1, 2, 6, 24, 120)),
        *((1, value) for value in (10, 12)),
        *((3, 12), (2, 12)),
    ]


def test_return_of_a_function_that_ends_in_another(tmp_path: Path) -> None:
    program = compile_c(tmp_path, RETURNS, "-O2")
    run = trace([program], prepare=put(program, "first", "last", returns=True), events=Values)
    assert [one[2:] for one in run.of("returned")] == [(1, 12), (0, 12)]
    assert run.status == 0


SIGNALS = """
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <sys/time.h>
#define KEEP __attribute__((noinline, noclone))
static volatile long calls, seen, strange;
KEEP void f(void) { asm volatile("addq $1, %0" : "+m"(calls)); }
extern char __executable_start, etext;
static void tick(int n, siginfo_t *info, void *context) {
    long at = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    seen++;
    if (at >= (long)&__executable_start && at < (long)&etext) f();
    else strange++;
}
int main(void) {
    struct sigaction action = { .sa_sigaction = tick, .sa_flags = SA_SIGINFO };
    sigaction(SIGALRM, &action, 0);
    struct itimerval timer = { { 0, 300 }, { 0, 300 } };
    setitimer(ITIMER_REAL, &timer, 0);
    while (seen < 300) f();
    timer.it_value.tv_usec = timer.it_interval.tv_usec = 0;
    setitimer(ITIMER_REAL, &timer, 0);
    printf("%ld %ld\\n", calls, strange);
    return 0;
}
"""


def test_signals_at_a_breakpoint(tmp_path: Path) -> None:
    """Signals that come between the stop and the instruction neither repeat the event nor see the other place."""
    program = compile_c(tmp_path, SIGNALS, "-static")
    run = trace([program], prepare=put(program, "f"))
    called, strange = map(int, run.output.split())
    assert (run.status, strange) == (0, 0)
    assert len(run.of("hit")) == called


FAULTS = """
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <ucontext.h>
#include <sys/mman.h>
#define KEEP __attribute__((noinline, noclone))
static char *page;
KEEP int get(char *p);
asm("get: movsbl (%rdi), %eax\\n ret\\n.type get, @function\\n.size get, .-get");
KEEP void bad(void);
asm("bad: ud2\\n ret\\n.type bad, @function\\n.size bad, .-bad");
static void seen(int n, siginfo_t *info, void *context) {
    greg_t *ip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    if (n == SIGSEGV) {
        printf("%d %d %d\\n", n, *ip == (long)get, info->si_addr == page);
        mprotect(page, 4096, PROT_READ);
    } else {
        printf("%d %d %d\\n", n, *ip == (long)bad, info->si_addr == (void *)bad);
        *ip += 2;
    }
}
int main(void) {
    struct sigaction action = { .sa_sigaction = seen, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGILL, &action, 0);
    page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("%d\\n", get(page));
    bad();
    return 0;
}
"""


def test_faults_are_where_they_belong(tmp_path: Path) -> None:
    program = compile_c(tmp_path, FAULTS)
    run = trace([program], prepare=put(program, "get", "bad"))
    assert run.output.splitlines() == [b"11 1 1", b"0", b"4 1 1"]
    assert [one[2] for one in run.of("hit")] == [0, 1]


PROCESSES = """
#include <stdio.h>
#include <unistd.h>
#include <sys/wait.h>
#define KEEP __attribute__((noinline, noclone))
KEEP int f(int x) { asm volatile(""); return x + 1; }
KEEP int outer(int x) {
    int status, pid = fork();
    if (pid) waitpid(pid, &status, 0); else x = 100;
    return f(x);
}
int main(int argc, char **argv) {
    int status;
    if (argc > 1) return f(1);
    int mine = getpid(), x = outer(10);
    if (getpid() != mine) _exit(x);
    if (vfork() == 0) { f(2); _exit(3); }
    wait(&status);
    if (vfork() == 0) { execl(argv[0], argv[0], "again", (char *)0); _exit(4); }
    wait(&status);
    printf("%d %d\\n", x, status);
    return 0;
}
"""


def test_processes_have_the_breakpoints_of_their_memory(tmp_path: Path) -> None:
    program = compile_c(tmp_path, PROCESSES)
    untraced = plain([program])

    def prepare(inferior: Inferior) -> None:
        inferior.insert(0, str(program), offset_of(program, "f")[0], False)
        inferior.insert(1, str(program), offset_of(program, "outer")[0], True)

    run = trace([program], prepare=prepare, events=Values)
    assert (run.output, run.status) == (untraced.output, 0)
    forked, vforked, executed = (one[2] for one in run.of("forked"))
    hits = Counter(one[1] for one in run.of("hit"))
    assert hits == {run.pid: 1, forked: 1, vforked: 1, executed: 1}
    assert {one[1]: one[3] for one in run.of("returned")} == {run.pid: 11, forked: 101}


CALL = """
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <ucontext.h>
#include <sys/time.h>
#define KEEP __attribute__((noinline, noclone))
long call(long number, long a, void *b, long c);
asm("call: mov %rdi, %rax\\n mov %rsi, %rdi\\n mov %rdx, %rsi\\n mov %rcx, %rdx\\n.globl doing\\ndoing: syscall\\n"
    ".globl done\\ndone: ret\\n.type call, @function\\n.size call, .-call");
extern char doing[], done[];
static volatile int seen, strange;
static void tick(int n, siginfo_t *info, void *context) {
    char *at = (char *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    if (at != doing && at != done) strange++;
    if (++seen == 3) write(4, "x", 1);
}
int main(void) {
    int ends[2]; char byte;
    pipe(ends); dup2(ends[0], 3); dup2(ends[1], 4);
    struct sigaction action = { .sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGALRM, &action, 0);
    struct itimerval timer = { { 0, 20000 }, { 0, 20000 } };
    setitimer(ITIMER_REAL, &timer, 0);
    long got = call(0, 3, &byte, 1);
    printf("%ld %d %ld\\n", got, strange, call(39, 0, 0, 0) == getpid());
    return 0;
}
"""


def test_a_system_call_under_a_breakpoint(tmp_path: Path) -> None:
    """It is started again in its own place when a signal has interrupted it."""
    program = compile_c(tmp_path, CALL)
    offsets = instructions_of(program, "call")

    def prepare(inferior: Inferior) -> None:
        for key, offset in enumerate(offsets):
            inferior.insert(key, str(program), offset, False)

    run = trace([program], Watch(enter=calls("read"), exit=calls("getpid")), prepare=prepare)
    assert (run.output, run.status) == (b"1 0 1\n", 0)
    hits = Counter(one[2] for one in run.of("hit"))
    assert hits[0] == hits[len(offsets) - 1] == 2


OWN = """
#include <signal.h>
#include <stdio.h>
static volatile int seen;
static void trap(int n) { seen++; }
void f(void);
asm("f: nop\\n int3\\n nop\\n ret\\n.type f, @function\\n.size f, .-f");
int main(void) { signal(SIGTRAP, trap); f(); f(); raise(SIGTRAP); printf("%d\\n", seen); return 0; }
"""


def test_breakpoints_of_the_program_itself(tmp_path: Path) -> None:
    program = compile_c(tmp_path, OWN)

    def prepare(inferior: Inferior) -> None:
        for key, offset in enumerate(instructions_of(program, "f")):
            inferior.insert(key, str(program), offset, False)

    run = trace([program], Watch(signals=True), prepare=prepare)
    assert (run.output, run.status) == (b"3\n", 0)
    assert [one[2] for one in run.of("hit")] == [0, 1, 2, 3] * 2
    assert len(run.of("signalled")) == 3


class Leaving(Recorder):
    """Takes a breakpoint out at some hit, or all."""

    def hit(self, thread, key) -> None:  # type: ignore[no-untyped-def]
        super().hit(thread, key)
        if len(self.seen) == 1000:
            self.inferior.remove(0)
            self.add("removed", thread)
        if len(self.seen) == 1500:
            self.inferior.retreat()


def test_breakpoints_are_taken_out(tmp_path: Path) -> None:
    program = compile_c(
        tmp_path,
        THREADS.replace("f((long)x);", "f((long)x), g();").replace(
            "static void *run", 'KEEP void g(void) { asm volatile("nop"); }\nstatic void *run'
        ),
    )
    run = trace([program], prepare=put(program, "f", "g"), events=Leaving)
    assert (run.output, run.status) == (b"10500\n", 0)
    assert len(run.seen) == 1500
    assert {one[2] for one in run.of("hit")} == {0, 1}
    at = run.seen.index(run.of("removed")[0])
    assert {one[2] for one in run.seen[at:] if one[0] == "hit"} == {1}


def test_a_process_in_a_sandbox_is_not_entered(tmp_path: Path) -> None:
    """A filter of its own may kill it for the system call that breakpoints need."""
    program = compile_c(
        tmp_path,
        """
        #include <stdio.h>
        #include <unistd.h>
        #include <sys/prctl.h>
        #include <linux/seccomp.h>
        #include <linux/filter.h>
        __attribute__((noinline, noclone)) int f(int x) { asm volatile(""); return x; }
        int main(void) {
            struct sock_filter code[] = { { 0x20, 0, 0, 0 }, { 0x15, 0, 1, 9 }, { 6, 0, 0, 0x80000000 },
                                          { 6, 0, 0, 0x7fff0000 } };
            struct sock_fprog program = { 4, code };
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            prctl(PR_SET_SECCOMP, 2, &program);
            return f(1) + f(2) + f(3);
        }
        """,
    )
    run = trace([program], prepare=put(program, "f"))
    assert os.waitstatus_to_exitcode(run.status) == 6
    assert len(run.of("hit")) == 1
    assert len(run.of("warn")) == 1


SPIN = """
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))
KEEP int f(int x) { asm volatile(""); return x; }
static void *run(void *x) { for (;;) f(1); }
int main(void) {
    pthread_t thread; char byte;
    for (int i = 0; i < 3; i++) pthread_create(&thread, 0, run, 0);
    write(1, "x", 1);
    read(0, &byte, 1);
    return 5;
}
"""


def test_an_attached_process_is_left_as_it_was(tmp_path: Path) -> None:
    program = compile_c(tmp_path, SPIN)
    offset, size = offset_of(program, "f")
    ready, ready_writer = os.pipe()
    reader, writer = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, ready_writer, 1)]
    pid = os.posix_spawn(program, [str(program)], {}, file_actions=actions)
    os.read(ready, 1)

    def work(inferior: Inferior) -> None:
        while len(recorder.seen) < 2000 or len({one[1] for one in recorder.seen}) < 3:
            inferior.pump(1)
        inferior.retreat()
        assert not inferior.alive

    recorder = Recorder()
    tracer = Tracer(
        pid, Watch(), filtered=False, prepare=put(program, "f"), work=work, events=lambda: recorder
    )
    seen, _ = tracer.finish()
    assert len({one[1] for one in seen}) == 3
    assert "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()
    start = next(
        int(line.split("-")[0], 16)
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
        if line.endswith(str(program)) and " r-xp " in line
    )
    segment = next(
        int(line.split()[2], 16)
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
        if line.endswith(str(program)) and " r-xp " in line
    )
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(start + offset - segment)
        assert memory.read(size) == program.read_bytes()[offset : offset + size]
    os.write(writer, b"x")
    assert os.waitstatus_to_exitcode(wait_for(pid)) == 5
    for fd in (ready, ready_writer, reader, writer):
        os.close(fd)


def test_a_library_that_is_loaded_later(tmp_path: Path) -> None:
    library = compile_c(tmp_path, "int lib(int x) { return x + 1; }", "-shared", "-fPIC", name="library.so")
    program = compile_c(
        tmp_path,
        """
        #include <dlfcn.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            char byte; int sum = 0;
            read(0, &byte, 1);
            for (int i = 0; i < argc; i++) {
                void *library = dlopen(argv[1], RTLD_NOW);
                sum += ((int (*)(int))dlsym(library, "lib"))(i);
                dlclose(library);
            }
            return sum;
        }
        """,
        "-ldl",
    )
    run = trace([program, library, "again"], LIBRARIES, prepare=put(library, "lib"))
    assert os.waitstatus_to_exitcode(run.status) == 6
    assert len(run.of("hit")) == 3
    # In a process that was attached to, the library is waited for by stopping at every call until it is there.
    reader, writer = os.pipe()
    pid = os.posix_spawn(program, [program, library], {}, file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)])
    tracer = Tracer(pid, Watch(libraries=True), filtered=False, prepare=put(library, "lib"))
    os.write(writer, b"x")
    assert os.waitstatus_to_exitcode(wait_for(pid)) == 3
    seen, _ = tracer.finish()
    assert len([one for one in seen if one[0] == "hit"]) == 1
    os.close(reader)
    os.close(writer)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(TracerFailed, match=r"TargetError: .*No such file"):
        trace(["/bin/true"], prepare=lambda inferior: inferior.insert(0, str(tmp_path / "no"), 0, False))
