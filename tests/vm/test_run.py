"""``vm run``, ``--backend vm:`` and ``check`` with a real guest; a boot takes seconds, so each test looks at much."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tracebee.errors import TracebeeError
from tracebee.microvm.kernels import find_kernel
from tracebee.microvm.qemu import find_qemu

from .guests import KERNELS

KERNEL = KERNELS[0]


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    try:
        find_qemu()
        find_kernel(KERNEL)
    except TracebeeError as error:
        pytest.skip(f"no guest with Linux {KERNEL}: {error}")


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "tracebee", *words],
        cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True,
    )  # fmt: skip


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    with start(folder, *words) as process:
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def vm_run(folder: Path, *words: str) -> tuple[int, str, str]:
    return run(folder, "vm", "run", "--kernel", KERNEL, *words)


def test_a_command_and_what_it_finds(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the folder\n")
    outside = tmp_path.parent / f"{tmp_path.name}.shared"
    outside.write_text("shared\n")
    (tmp_path / "look.py").write_text(
        "import os, sys, tracebee, elftools\n"
        "print(os.uname().release, os.getcwd(), sys.version)\n"
        "print(open('file').read(), open(sys.argv[1]).read(), os.environ['GIVEN'])\n"
        "print(sorted(os.listdir('/sys/kernel/tracing'))[:1], os.path.exists('/sys/kernel/btf/vmlinux'))\n"
        "print('e' * 3, file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    os.environ["GIVEN"] = "by the environment"
    try:
        words = ["--share", str(outside), "--", "python3", "look.py", str(outside)]
        status, out, err = vm_run(tmp_path, *words)
    finally:
        del os.environ["GIVEN"]
    assert (status, err) == (7, "eee\n"), (status, out, err)
    lines = out.splitlines()
    assert lines[0] == f"{find_kernel(KERNEL).release} {tmp_path} {sys.version}"
    assert "of the folder\n shared\n by the environment\n" in out
    assert lines[-1].endswith("True")


def test_much_output_and_a_signal(tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i of many; i=$((i+1)); done; kill -TERM $$"
    status, out, err = vm_run(tmp_path, "--no-folder", "--", "sh", "-c", script)
    assert out.splitlines() == [f"line {number} of many" for number in range(3000)]
    assert (status, err) == (128 + signal.SIGTERM, "")


def test_ctrl_c_goes_to_the_command(tmp_path: Path) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.2; done"
    with start(tmp_path, "vm", "run", "--kernel", KERNEL, "--no-folder", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert (out, process.returncode) == ("caught\n", 5)


def test_a_kernel_that_panics(tmp_path: Path) -> None:
    status, out, err = vm_run(
        tmp_path, "--no-folder", "--", "sh", "-c", "echo before; echo c >/proc/sysrq-trigger"
    )
    assert (status, out) == (125, "before\n")
    assert "Kernel panic - not syncing: sysrq triggered crash" in err
    assert "sysrq_handle_crash" in err


def test_a_command_that_runs_past_its_time(tmp_path: Path) -> None:
    status, out, err = vm_run(tmp_path, "--no-folder", "--timeout", "1", "--", "sleep", "100")
    assert (status, out) == (124, "")
    assert err == "ERROR: the command was ended: it ran longer than 1 seconds\n"


def test_a_script_there_with_its_output_here(tmp_path: Path) -> None:
    (tmp_path / "script.bt").write_text(
        'kprobe:vfs_read /pid == cpid/ { @reads = count(); }\nEND { printf("%s\\n", str($1)); }\n'
    )
    words = ["-B", "none", "-o", "result", "script.bt", "parameter", "-c", "/bin/cat script.bt"]
    status, out, err = run(tmp_path, "--backend", f"vm:{KERNEL}", *words)
    assert status == 0, err
    result = (tmp_path / "result").read_text()
    # The command's own output is on the same stream as the script's in the guest.
    assert "parameter\n" in result
    assert "@reads: " in result
    assert out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend", f"vm:{KERNEL}", "-e", "begin { nonsense("], "syntax"),
        (["--backend", "vm:", "-e", "begin { }"], "names no kernel"),
        (["--backend", "vm:77.7", "-e", "begin { }"], "no kernel 77.7"),
        (
            ["--backend", f"vm:{KERNEL}", "-o", "/no/such/folder/file", "-e", "begin { }"],
            "Failed to open output file",
        ),
        (["vm", "run", "--", "true"], "which kernel"),
        (["vm", "run", "--kernel", KERNEL], "no command given"),
        (["vm", "run", "--kernel", KERNEL, "--timeout", "never", "--", "true"], "a positive number"),
        (["vm", "run", "--kernel", KERNEL, "--share", "/no/such", "--", "true"], "no such file"),
        (["vm", "run", "--kernel", "/etc/passwd", "--", "true"], "is not a bzImage"),
        (["check", "--kernel", KERNEL, "no-such-file"], "failed to open file"),
        (["check", "no-such-file"], "failed to open file"),
    ],
)
def test_mistakes_are_told_without_a_boot(tmp_path: Path, words: list[str], message: str) -> None:
    status, out, err = run(tmp_path, *words)
    assert (status, out) == (1, "")
    assert message in err and "Traceback" not in err
    assert err.count("ERROR") == 1


def test_check_says_which_kernels_take_a_script(tmp_path: Path) -> None:
    script = "kprobe:vfs_read { @ = count(); } kprobe:no_such_function_at_all { @ = count(); }"
    status, out, err = run(tmp_path, "check", "--kernel", KERNEL, "-f", "json", "-e", script)
    assert status == 1, err
    answer = json.loads(out)
    assert (answer["kernel"], answer["takes"]) == (KERNEL, "no")
    assert answer["release"] == find_kernel(KERNEL).release
    assert "no_such_function_at_all" in answer["reason"]
    status, out, _ = run(tmp_path, "check", "--kernel", KERNEL, "-e", "kprobe:vfs_read { @ = count(); }")
    assert status == 0
    assert out.splitlines()[1].split() == [KERNEL, find_kernel(KERNEL).release, "yes"]
