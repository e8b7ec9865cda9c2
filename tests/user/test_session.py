"""Whole commands by the user backend: what they print, what the traced processes get to feel, what is refused."""

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

ROOT = Path(__file__).parents[2]
KEPT = ("PATH", "HOME", "LANG", "USER")
WITHOUT = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
OPENED = "tracepoint:syscalls:sys_enter_openat { @[str(args.filename)] = count(); }"

needs_setpriv = pytest.mark.skipif(
    shutil.which("setpriv") is None or os.geteuid() != 0, reason="needs root and setpriv, to drop rights"
)
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def environment() -> dict[str, str]:
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    return found | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def start(
    *words: str, before: tuple[str, ...] = (), backend: str = "user", **options: object
) -> subprocess.Popen[str]:
    chosen = ("--backend", backend) if backend else ()
    return subprocess.Popen(
        [*before, sys.executable, "-m", "tracebee", *chosen, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment(),
    )


def tracebee(
    *words: str, before: tuple[str, ...] = (), backend: str = "user"
) -> subprocess.CompletedProcess[str]:
    process = start(*words, before=before, backend=backend)
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def wait_for(path: Path, seconds: float = 20) -> str:
    """The text of a file once it has any."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.01)
    raise AssertionError(f"{path} stays empty")


def kill(session: subprocess.Popen[str]) -> None:
    """End it the hard way; its child has the other ends of the pipes, so nobody waits for these."""
    session.kill()
    session.wait()
    for stream in (session.stdout, session.stderr):
        assert stream is not None
        stream.close()


def tracer_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.split()[1])
    raise AssertionError("no TracerPid")


# ---------------------------------------------------------------------- what it shows


def test_hello() -> None:
    done = tracebee("-e", 'BEGIN { printf("hello, World!\\n"); exit(); }')
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (
        0,
        "hello, World!",
        "Attached 1 probe",
    )


def test_a_script_with_arguments_strings_and_stacks(tmp_path: Path) -> None:
    script = tmp_path / "foo"
    script.write_text(f"#!/bin/sh\necho hello >{tmp_path}/f\ncat {tmp_path}/f\n")
    script.chmod(0o755)
    done = tracebee(
        "-e",
        'tracepoint:syscalls:sys_enter_read /comm=="foo"/ { printf("hello read(%d, %s, %zu) %s/%d [%s] [%s]\\n", '
        "args->fd, str(args->buf), args->count, comm, pid, kstack, ustack); }",
        "-c",
        str(script),
    )
    assert done.returncode == 0
    calls = re.findall(
        r"hello read\((\d+), (.*?), (\d+)\) foo/(\d+) \[\n?\] \[(.*?)\n\]", done.stdout, re.DOTALL
    )
    assert len(calls) >= 2
    assert len({pid for *_, pid, _ in calls}) == 1
    # The shell reads its script, and the second time finds the first piece in its buffer.
    assert any(text.startswith("#!/bin/sh\necho hello") for _, text, *_ in calls)
    frames = [line.strip() for *_, stack in calls for line in stack.strip().split("\n")]
    assert any(re.fullmatch(r"[\w.]+\+\d+", frame) for frame in frames)
    assert all(re.fullmatch(r"[\w.@]+\+\d+|0x[0-9a-f]+", frame) for frame in frames)
    assert done.stderr.count("kstack is empty") == 1


def test_every_process_of_a_tree_in_order() -> None:
    done = tracebee(
        "-e",
        'tracepoint:sched:sched_process_fork { printf("fork\\n"); } '
        'tracepoint:sched:sched_process_exec { printf("exec %s\\n", str(args.filename)); } '
        'tracepoint:sched:sched_process_exit { printf("exit %s %d\\n", args.comm, args.pid == tid); }',
        "-c",
        "sh -c '/bin/true; /bin/false; :'",
    )
    lines = [line for line in done.stdout.split("\n") if line]
    assert lines[0].startswith("exec ") and lines[0].endswith("sh")
    assert lines[1:] == [
        *("fork", "exec /bin/true", "exit true 1"),
        *("fork", "exec /bin/false", "exit false 1"),
        "exit sh 1",
    ]


def test_wildcards_of_system_calls() -> None:
    done = tracebee(
        "-e",
        "tracepoint:syscalls:sys_enter_* { @[probe] = count(); } tracepoint:raw_syscalls:sys_exit { @n = count(); }",
        "-c",
        "/bin/true",
    )
    assert re.search(r"Attached [3-9]\d\d probes", done.stderr)
    assert "@[tracepoint:syscalls:sys_enter_execve]: 1" in done.stdout
    assert "@[tracepoint:syscalls:sys_enter_exit_group]: 1" in done.stdout
    assert re.search(r"@n: \d\d", done.stdout)


def test_signals_that_are_delivered() -> None:
    done = tracebee(
        "-e",
        'tracepoint:signal:signal_deliver { printf("%d %s\\n", args.sig, comm); }',
        "-c",
        """sh -c 'trap "echo caught >&2" USR1; kill -USR1 $$; kill -WINCH $$; kill -TERM $$'""",
    )
    assert [line for line in done.stdout.split("\n") if line] == ["10 sh", "15 sh"]
    assert "caught" in done.stderr
    assert done.returncode == 128 + signal.SIGTERM


def test_timers_and_samples() -> None:
    done = tracebee(
        "-e",
        'profile:hz:99 { @samples = count(); @ip[reg("ip") != 0] = count(); } interval:ms:100 { @ticks = count(); }',
        "-c",
        f"{sys.executable} -c 'import time; e = time.monotonic() + 0.6\nwhile time.monotonic() < e: pass'",
    )
    samples = re.search(r"@samples: (\d+)", done.stdout)
    ticks = re.search(r"@ticks: (\d+)", done.stdout)
    assert samples and int(samples[1]) >= 10
    assert ticks and int(ticks[1]) >= 3
    assert "@ip[true]" in done.stdout and "@ip[false]" not in done.stdout


def test_a_running_process_by_its_id(tmp_path: Path) -> None:
    target = subprocess.Popen(["sh", "-c", "while :; do cat /etc/hostname >/dev/null; sleep 0.02; done"])
    try:
        done = tracebee(
            "-e",
            "tracepoint:syscalls:sys_enter_* { @ = count(); } interval:ms:600 { exit(); }",
            "-p",
            str(target.pid),
        )
        assert done.returncode == 0
        assert re.search(r"@: \d\d", done.stdout)
        assert "every system call" in done.stderr
        assert target.poll() is None
        assert tracer_of(target.pid) == 0
    finally:
        target.kill()
        target.wait()


def test_the_tests_of_a_script() -> None:
    done = tracebee("--test", "-e", "test:good { return 0; } test:bad { return 1; }")
    assert done.returncode == 1
    assert "OK ] good" in done.stdout
    assert "FAILED  ] bad" in done.stdout


@needs_gcc
def test_a_guarded_probe_in_a_library(tmp_path: Path) -> None:
    """Its semaphore is in data that the loader maps after the code."""
    source = ROOT / "tests" / "cases" / "targets" / "usdt.c"
    library, program = tmp_path / "libprobes.so", tmp_path / "program"
    main = "int probes(void); int main(void) { return probes(); }"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Dmain=probes", source, "-o", library], check=True)
    subprocess.run(
        ["gcc", "-x", "c", "-", "-o", program, f"-L{tmp_path}", "-lprobes", f"-Wl,-rpath,{tmp_path}"],
        input=main.encode(),
        check=True,
    )
    done = tracebee("-e", f"usdt:{library}:bee:guarded {{ print(arg0); }}", "-c", str(program))
    assert "33" in done.stdout.split("\n")
    untraced = subprocess.run([program], check=False)
    assert done.returncode == untraced.returncode


# ---------------------------------------------------------------------- what the traced process feels


@pytest.mark.parametrize(
    ("command", "status"),
    [("/bin/true", 0), ("sh -c 'exit 3'", 3), ("sh -c 'kill -KILL $$'", 128 + signal.SIGKILL)],
)
def test_the_status_is_passed_on(command: str, status: int) -> None:
    assert tracebee("-e", OPENED, "-c", command).returncode == status


def test_exit_of_the_script_comes_first() -> None:
    done = tracebee(
        "-e", "tracepoint:syscalls:sys_enter_openat { exit(5); }", "-c", "sh -c 'sleep 5; exit 3'"
    )
    assert done.returncode == 5


def test_a_killed_session_harms_nobody(tmp_path: Path) -> None:
    """Also calls that are watched go on to work, after the tracer has nobody to tell."""
    ready, result = tmp_path / "ready", tmp_path / "result"
    code = (
        "import os, time\n"
        f"open({str(ready)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(1)\n"
        "for _ in range(100): open('/etc/hostname').close()\n"
        f"open({str(result)!r}, 'w').write(str(os.system('exit 7') >> 8))\n"
    )
    session = start("-e", OPENED, "-c", f'{sys.executable} -c "{code}"')
    pid = int(wait_for(ready))
    assert tracer_of(pid) != 0
    kill(session)
    assert wait_for(result) == "7"


def test_a_killed_session_takes_breakpoints_along(tmp_path: Path) -> None:
    ready, result = tmp_path / "ready", tmp_path / "result"
    code = (
        "import os, time\n"
        f"open({str(ready)!r}, 'w').write('x')\n"
        "time.sleep(1)\n"
        "[os.getppid() for _ in range(100)]\n"
        f"open({str(result)!r}, 'w').write('done')\n"
    )
    session = start("-e", "uprobe:libc:getppid { @ = count(); }", "-c", f'{sys.executable} -c "{code}"')
    wait_for(ready)
    kill(session)
    assert wait_for(result) == "done"


def test_ctrl_c_ends_the_session_in_order() -> None:
    session = start(
        "-e", OPENED + ' END { printf("the end\\n"); }', "-c", "sh -c 'echo ready; exec sleep 30'"
    )
    assert session.stdout is not None
    assert session.stdout.readline() == "ready\n"
    session.send_signal(signal.SIGINT)
    out, err = session.communicate(timeout=20)
    assert "the end" in out
    assert "@[" in out
    assert "Traceback" not in err


def test_no_tracer_stays_behind() -> None:
    """Not when the session has ended, and not when it was killed and its last target has ended."""
    for is_killed in (False, True):
        session = start("-e", OPENED, "-c", "sh -c 'echo $$; sleep 0.5'")
        assert session.stdout is not None
        tracer = tracer_of(int(session.stdout.readline()))
        assert Path(f"/proc/{tracer}/comm").read_text() == "tracebee-tracer\n"
        if is_killed:
            kill(session)
        else:
            session.communicate(timeout=20)
        end = time.monotonic() + 20
        while time.monotonic() < end and is_running(tracer):
            time.sleep(0.05)
        assert not is_running(tracer)


def is_running(pid: int) -> bool:
    """Whether a process is there that is not only waiting for its parent to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---------------------------------------------------------------------- without rights


@needs_setpriv
def test_auto_says_why_it_took_ptrace() -> None:
    done = tracebee("-e", OPENED, "-c", "cat /etc/hostname", before=WITHOUT, backend="")
    assert done.returncode == 0
    assert "@[/etc/hostname]: 1" in done.stdout
    first = done.stderr.split("\n")[0]
    assert first.startswith("NOTE: using the user backend (ptrace), as the kernel cannot be used: CAP_BPF")


@needs_setpriv
def test_listing_without_rights() -> None:
    done = tracebee("-l", "tracepoint:syscalls:sys_enter_open*", before=WITHOUT, backend="")
    names = done.stdout.split()
    assert "tracepoint:syscalls:sys_enter_openat" in names
    assert "tracepoint:syscalls:sys_enter_openat2" in names
    done = tracebee("-lv", "tracepoint:syscalls:sys_enter_openat", before=WITHOUT, backend="")
    assert "    const char * filename" in done.stdout


def python_for_everybody() -> str:
    """An interpreter that is new enough, where every user can start it; empty where there is none."""
    found = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if found is None:
        return ""
    enough = subprocess.run([found, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False)
    return "" if enough.returncode else found


@needs_setpriv
def test_an_ordinary_user() -> None:
    """The sources are copied to where everybody can read them."""
    import elftools

    python = python_for_everybody()
    if not python:
        pytest.skip("there is no Python 3.11 that every user can start")
    folder = Path("/tmp") / f"tracebee-user-{os.getpid()}"
    try:
        for source in (ROOT / "src" / "tracebee", Path(elftools.__file__).parent):
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        script = "tracepoint:syscalls:sys_enter_read { @[uid, ustack(3) != ustack(1)] = count(); }"
        done = subprocess.run(
            [*user, python, "-m", "tracebee", "-e", script, "-c", "cat /etc/hostname"],
            env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    assert "using the user backend (ptrace)" in done.stderr
    assert "@[65534, " in done.stdout


# ---------------------------------------------------------------------- what is refused


def refused(*words: str, before: tuple[str, ...] = (), backend: str = "user") -> str:
    """What a command says that ends with status 1, nothing on standard output, and no traceback."""
    done = tracebee(*words, before=before, backend=backend)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("probe", "what"),
    [
        ("kprobe:vfs_read", "functions of the kernel"),
        ("fentry:vfs_read", "functions of the kernel"),
        ("rawtracepoint:sched_switch", "raw tracepoints"),
        ("iter:task", "the kernel's objects"),
        ("software:page-faults:1", "perf's counters"),
        ("hardware:cycles:1000000", "perf's counters"),
        ("watchpoint:0x1000:8:w", "accesses to memory"),
        ("tracepoint:sched:sched_switch", "sched:sched_process_fork"),
        ("tracepoint:block:block_rq_issue", "syscalls:*"),
    ],
)
def test_what_ptrace_cannot_see(probe: str, what: str) -> None:
    said = refused("-e", f"{probe} {{ @ = count(); }}", "-c", "/bin/true")
    assert what in said
    assert "user backend (ptrace)" in said
    assert "--backend kernel" in said
    assert "vm:" in said
    assert said.startswith("stdin:1:1-")


def test_members_of_a_task() -> None:
    done = tracebee(
        "-e",
        'tracepoint:syscalls:sys_enter_exit_group { printf("%d %s %d\\n", curtask.tgid == pid, curtask.comm, ppid); '
        "print(curtask.nvcsw); print(curtask.nvcsw); }",
        "-c",
        "/bin/true",
    )
    assert re.match(r"1 true \d+\n0\n0\n", done.stdout)
    assert done.stderr.count("knows only pid, tgid, comm") == 1


def test_an_unknown_system_call_is_a_mistake_not_a_limit() -> None:
    said = refused("-e", "tracepoint:syscalls:sys_enter_opeat { }", "-c", "/bin/true")
    assert "No matches for tracepoint syscalls:sys_enter_opeat" in said


def test_nothing_to_trace() -> None:
    said = refused("-e", OPENED)
    assert "nothing to trace" in said
    assert "-c 'COMMAND' or -p PID" in said


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("/nonexistent/tool", "no such file"),
        ("/etc/passwd", "is not executable"),
        ("echo 'a", "No closing quotation"),
    ],
)
def test_a_child_that_cannot_start(command: str, what: str) -> None:
    assert what in refused("-e", OPENED, "-c", command)


def test_a_child_with_a_bad_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)
    said = refused("-q", "-e", OPENED, "-c", str(script))
    assert "interpreter" in said


@needs_setpriv
def test_a_setuid_child(tmp_path: Path) -> None:
    program = Path("/tmp") / f"tracebee-setuid-{os.getpid()}"
    shutil.copy("/bin/true", program)
    program.chmod(0o4755)
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    assert python is not None
    try:
        code = (
            f"import sys, os, shlex; sys.path[:0] = {sys.path!r}\n"
            "from tracebee.session.user.launch import check_command\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"try: check_command({str(program)!r})\n"
            "except Exception as e: print(e, e.hint)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
        )
        assert "is a setuid or setgid program" in done.stdout, done.stderr
        assert "--backend kernel" in done.stdout
    finally:
        program.unlink()


def test_a_process_that_is_not_there() -> None:
    assert "there is no such process" in refused("-e", OPENED, "-p", "4194303")


@needs_setpriv
def test_a_process_that_is_not_ours() -> None:
    target = subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "30"])
    try:
        time.sleep(0.2)
        said = refused("-e", OPENED, "-p", str(target.pid), before=WITHOUT)
        assert "ptrace" in said
        assert "HINT: " in said
        assert target.poll() is None
        assert tracer_of(target.pid) == 0
    finally:
        target.kill()
        target.wait()


def test_a_process_that_somebody_else_traces() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    target = subprocess.Popen(["strace", "-o", "/dev/null", "sleep", "30"])
    try:
        end = time.monotonic() + 10
        children: list[str] = []
        while not children and time.monotonic() < end:
            children = Path(f"/proc/{target.pid}/task/{target.pid}/children").read_text().split()
            time.sleep(0.05)
        said = refused("-e", OPENED, "-p", children[0])
        assert str(target.pid) in said
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        target.wait()


def test_a_kind_that_cannot_be_listed() -> None:
    done = tracebee("-l", "kprobe:vfs_*")
    assert done.stdout == ""
    assert "kprobe: the user backend (ptrace) cannot see functions of the kernel" in done.stderr
    done = tracebee("-l", "*:*:sched_process_exit")
    assert (done.stdout, done.stderr) == ("tracepoint:sched:sched_process_exit\n", "")
