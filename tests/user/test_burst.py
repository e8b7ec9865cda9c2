"""The same script with machine code for plain stops and without: what it prints, counts and loses must not differ."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("llvmlite", reason="machine code needs llvmlite")

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

EARLY, NEVER = "1", "0"


def environment(hurry: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "USER") if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TRACEBEE_HURRY": hurry,
        "TRACEBEE_TRACEBACK": "1",
    }


def start(hurry: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tracebee", "--backend", "user", "-B", "full", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment(hurry),
    )


def output(hurry: str, script: str, *command: str) -> str:
    """What a run prints, without ids."""
    process = start(hurry, "-e", script, "-c", " ".join(command))
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert "Traceback" not in err, err
    assert "ost" not in err.lower().replace("host", ""), err
    assert process.returncode == 0, err
    return out


def both(script: str, *command: str) -> str:
    """The output of a script, which has to be the same both ways."""
    slow, fast = output(NEVER, script, *command), output(EARLY, script, *command)
    assert fast == slow
    return fast


def both_sorted(script: str, *command: str) -> list[str]:
    """The lines of a script, which have to be the same both ways but for their order."""
    slow, fast = (sorted(output(hurry, script, *command).splitlines()) for hurry in (NEVER, EARLY))
    assert fast == slow
    return fast


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with a mode for each situation; what it does is the same every time."""
    folder = tmp_path_factory.mktemp("burst")
    source, made = folder / "calls.c", folder / "calls"
    source.write_text(CALLS)
    subprocess.run(
        ["gcc", "-O1", "-w", "-D_GNU_SOURCE", "-pthread", "-o", made, source], check=True, timeout=60
    )
    return made


CALLS = r"""
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#define CLOSE(n) syscall(SYS_close, n)

static void many(int count, int number) { for (int i = 0; i < count; i++) CLOSE(number + i); }
static void *thread(void *number) { many(2000, 100000 * (long)number); return 0; }
static volatile int ready;
static void *waits(void *pipe) { char one; many(500, 1000); ready = 1; read(*(int *)pipe, &one, 1); return 0; }
static volatile sig_atomic_t caught;
static void handler(int number) { caught++; CLOSE(77777); }

int main(int count, char **words) {
    const char *mode = words[1];
    pthread_t threads[8];
    if (!strcmp(mode, "plain")) many(5000, 1000);
    if (!strcmp(mode, "threads")) {
        for (long i = 0; i < 8; i++) pthread_create(&threads[i], 0, thread, (void *)(i + 1));
        for (int i = 0; i < 8; i++) pthread_join(threads[i], 0);
    }
    if (!strcmp(mode, "forks"))
        for (int i = 0; i < 40; i++) {
            many(100, 1000 * i);
            if (!fork()) { many(50, 500000); _exit(0); }
            wait(0);
        }
    if (!strcmp(mode, "signals")) {
        signal(SIGUSR1, handler);
        for (int i = 0; i < 50; i++) { many(100, 1000); raise(SIGUSR1); }
        if (caught != 50) return 1;
    }
    if (!strcmp(mode, "within")) {
        /* A thread that is in the middle of a call when the process ends. */
        int ends[2];
        pipe(ends);
        pthread_create(&threads[0], 0, waits, ends);
        many(3000, 200000);
        while (!ready) usleep(1000);
        usleep(20000);
        _exit(0);
    }
    if (!strcmp(mode, "exec")) {
        many(2000, 1000);
        execl(words[0], words[0], "plain", (char *)0);
    }
    if (!strcmp(mode, "pause")) {
        many(2000, 1000);
        if (count > 2) { FILE *file = fopen(words[2], "w"); fputs("x", file); fclose(file); }
        sleep(30);
    }
    if (!strcmp(mode, "die")) { many(3000, 1000); kill(getpid(), SIGKILL); }
    if (!strcmp(mode, "name"))
        for (int i = 0; i < 20; i++) {
            char name[16];
            sprintf(name, "name%d", i);
            prctl(PR_SET_NAME, name);
            many(60, 1000);
        }
    return 0;
}
"""

PRINTS = (
    "tracepoint:syscalls:sys_enter_close /args.fd >= 1000/ { @fd[tid] = args.fd; } "
    "tracepoint:syscalls:sys_exit_close /@fd[tid]/ "
    '{ printf("%d %d\\n", @fd[tid], args.ret); delete(@fd, tid); }'
)
COUNTS = (
    "tracepoint:syscalls:sys_enter_close /args.fd >= 1000/ { @e[args.fd] = count(); @last = args.fd; } "
    "tracepoint:syscalls:sys_exit_close /args.ret == -9/ { @x = count(); @s = sum(args.ret); @h = hist(args.ret); }"
)


@needs_gcc
@pytest.mark.parametrize("script", [PRINTS, COUNTS], ids=["prints", "counts"])
@pytest.mark.parametrize("mode", ["plain", "forks", "signals", "exec"])
def test_nothing_differs(program: Path, mode: str, script: str) -> None:
    found = both(script, str(program), mode)
    assert len(found.splitlines()) > 100


@needs_gcc
def test_each_call_of_threads_is_there_in_order(program: Path) -> None:
    script = 'tracepoint:syscalls:sys_enter_close /args.fd >= 100000/ { printf("%d\\n", args.fd); }'
    found = [int(line) for line in output(EARLY, script, str(program), "threads").split()]
    for number in range(1, 9):
        own = [one for one in found if one // 100000 == number]
        assert own == list(range(100000 * number, 100000 * number + 2000))
    assert len(found) == 16000


@needs_gcc
@pytest.mark.parametrize("mode", ["threads", "within"])
def test_threads_count_the_same(program: Path, mode: str) -> None:
    # Fewer keys than the map has room for, and none that tells of the order.
    counts = COUNTS.replace("@last = args.fd;", "").replace("@e[args.fd]", "@e[args.fd / 10]")
    assert len(both_sorted(counts, str(program), mode)) > 300
    assert len(both_sorted(PRINTS, str(program), mode)) > 3000


@needs_gcc
def test_an_entry_and_its_exit_belong_together(program: Path) -> None:
    script = (
        "tracepoint:syscalls:sys_enter_close /args.fd >= 100000/ { @in[tid] = nsecs; @n = count(); } "
        "tracepoint:syscalls:sys_exit_close /@in[tid]/ { "
        "if (nsecs < @in[tid]) { @bad = count(); } @out = count(); delete(@in, tid); }"
    )
    found = output(EARLY, script, str(program), "threads")
    assert "@n: 16000" in found and "@out: 16000" in found
    assert "@bad" not in found and "@in" not in found


@needs_gcc
def test_raw_tracepoints_see_every_call(program: Path) -> None:
    script = (
        "tracepoint:raw_syscalls:sys_enter /args.id == 3 && args.args[0] >= 1000/ { @[args.args[0]] = count(); } "
        "tracepoint:raw_syscalls:sys_exit /args.id == 3 && args.ret == -9/ { @bad = count(); }"
    )
    assert "@bad: 5000" in both(script, str(program), "plain")


@needs_gcc
def test_programs_that_ask_about_the_thread(program: Path) -> None:
    """What machine code does not know is asked of the thread that has stopped, whatever its name is meanwhile."""
    script = (
        "tracepoint:syscalls:sys_enter_close /args.fd >= 1000/ { @[comm] = count(); @uid[uid] = count(); }"
    )
    found = both(script, str(program), "name")
    assert all(f"@[name{number}]: 60" in found for number in range(20))


def test_memory_of_the_target_is_read_at_the_stop() -> None:
    script = (
        'tracepoint:syscalls:sys_enter_write /args.fd == 9/ { printf("%s\\n", buf(args.buf, args.count)); }'
    )
    worker = "import os; [os.write(9, b'line %d' % n) for n in range(3000)]"
    found = output(EARLY, script, "sh", "-c", f'"exec 9>/dev/null; exec {sys.executable} -c \\"{worker}\\""')
    assert found.split("\n")[:-1] == [f"line {number}" for number in range(3000)] or re.findall(
        r"line \d+", found
    ) == [f"line {number}" for number in range(3000)]


@needs_gcc
def test_exit_in_the_script_ends_it(program: Path) -> None:
    script = "tracepoint:syscalls:sys_enter_close { @ = count(); if (args.fd == 3000) { exit(); } }"
    for hurry in (NEVER, EARLY):
        process = start(hurry, "-e", script, "-c", f"{program} plain")
        out, _ = process.communicate(timeout=20)
        count = re.search(r"@: (\d+)", out)
        assert count is not None
        assert 2001 <= int(count[1]) < 2100  # the calls of the loader are there too


@needs_gcc
def test_a_pause_keeps_nothing_back(program: Path, tmp_path: Path) -> None:
    """What has happened is printed while the target sleeps."""
    mark = tmp_path / "mark"
    script = 'tracepoint:syscalls:sys_enter_close /args.fd >= 1000/ { printf("%d\\n", args.fd); }'
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tracebee", "--backend", "user", "-B", "none"),
            *("-e", script, "-c", f"{program} pause {mark}"),
        ],
        stdout=subprocess.PIPE,
        env=environment(EARLY),
    )
    assert process.stdout is not None
    try:
        lines = []
        while len(lines) < 2000:
            line = process.stdout.readline()
            assert line, "the session has ended early"
            if line.strip().isdigit():
                lines.append(int(line))
        assert lines == list(range(1000, 3000))
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


@needs_gcc
def test_a_target_that_is_killed(program: Path) -> None:
    for hurry in (NEVER, EARLY):
        process = start(
            hurry, "-e", "tracepoint:syscalls:sys_exit_close { @ = count(); }", "-c", f"{program} die"
        )
        out, err = process.communicate(timeout=20)
        count = re.search(r"@: (\d+)", out)
        assert count is not None and int(count[1]) >= 3000, err
        assert "Traceback" not in err


@needs_gcc
def test_a_session_that_is_killed(program: Path, tmp_path: Path) -> None:
    """The target goes on with all its calls, and ends as it would."""
    mark = tmp_path / "mark"
    worker = (
        "import os,time,sys\n"
        "end = time.monotonic() + 1.5\n"
        "while time.monotonic() < end:\n"
        "    try: os.close(5555)\n"
        "    except OSError as error: assert error.errno == 9, error\n"
        f"open({str(mark)!r}, 'w').write('well')\n"
    )
    path = tmp_path / "worker.py"
    path.write_text(worker)
    process = start(
        EARLY, "-e", "tracepoint:syscalls:sys_exit_close { @ = count(); }", "-c", f"{sys.executable} {path}"
    )
    time.sleep(1)
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    end = time.monotonic() + 20
    while not mark.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert mark.read_text() == "well"


@needs_gcc
def test_without_a_compiler_all_goes_on(program: Path, tmp_path: Path) -> None:
    (tmp_path / "llvmlite.py").write_text("raise ImportError('not here')")
    script = "tracepoint:syscalls:sys_enter_close /args.fd >= 1000/ { @ = count(); }"
    done = subprocess.run(
        [sys.executable, "-m", "tracebee", "--backend", "user", "-e", script, "-c", f"{program} plain"],
        env=environment(EARLY) | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "@: 5000" in done.stdout
    assert "llvm" not in done.stderr
