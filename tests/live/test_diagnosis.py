"""`why`, `doctor`, `struct` and `check` on the machine at hand, as root and as nobody; nothing is attached."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tracebee
from tracebee.errors import AttachError
from tracebee.insn import Builder
from tracebee.kernel.probing import map_types, program_types
from tracebee.session.kernel import KernelBackend
from tracebee.session.machine import LiveMachine
from tracebee.spec.objects import (
    ObjectSpec,
    ProbeSpec,
    ProgramSpec,
    RawTracepoint,
    Schema,
    Tracepoint,
    Uprobe,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NOBODY = 65534


def run(*words: str, uid: int = 0, folder: str = "") -> tuple[int, str]:
    """Exit status and output of a command line; as another user with the package in a folder for everybody."""
    environment = os.environ | {"PYTHONPATH": folder or str(Path(tracebee.__file__).parent.parent)}
    python = sys.executable
    if uid:
        python = next(
            (path for path in ("/usr/bin/python3.11", "/usr/bin/python3") if os.path.exists(path)), ""
        )
        if not python:
            pytest.skip("there is no Python for everybody")
    done = subprocess.run(
        [python, "-m", "tracebee", *words],
        env=environment,
        cwd="/",
        user=uid or None,
        group=uid or None,
        extra_groups=[] if uid else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "internal error" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def for_everybody() -> Iterator[str]:
    """A copy of the package that nobody can read."""
    folder = Path("/tmp") / f"tracebee-for-everybody-{os.getpid()}"
    shutil.copytree(
        Path(tracebee.__file__).parent, folder / "tracebee", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644 | stat.S_IRUSR)
    yield str(folder)
    shutil.rmtree(folder)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_why_a_syscall_has_another_name() -> None:
    status, text = run("why", "-j", "kprobe:sys_dup3")
    (row,) = rows(text)
    assert (status, row["verdict"]) == (1, "no")
    assert row["obstacles"][0]["cause"] == "syscall-renamed"
    assert "_sys_dup3" in row["obstacles"][0]["sentence"]
    assert "tracepoint:syscalls:sys_enter_dup3" in row["instead"]


@pytest.mark.parametrize(
    ("probe", "verdict", "cause"),
    [
        ("tracepoint:sched:sched_switch", "yes", ""),
        ("tracepoint:sched:sched_swich", "no", "tracepoint-missing"),
        ("rawtracepoint:sched:sched_switch", "no", "raw-tracepoint-name"),
        ("rawtracepoint:sys_enter_dup", "no", "raw-tracepoint-name"),
        ("rawtracepoint:sched_switch", "yes", ""),
        ("uprobe:/no/such/file:main", "no", "uprobe-file"),
        ("uprobe:/usr:main", "no", "uprobe-file"),
        ("uprobe:/bin/sh:no_function_is_called_so", "no", "uprobe-symbol"),
    ],
)
def test_why(probe: str, verdict: str, cause: str) -> None:
    status, text = run("why", "-j", probe)
    (row,) = rows(text)
    assert (row["verdict"], status) == (verdict, 0 if verdict == "yes" else 1)
    assert (row["obstacles"][0]["cause"] if row["obstacles"] else "") == cause


def test_nobody_is_told_which_right_is_missing(for_everybody: str) -> None:
    status, text = run("why", "-j", "kprobe:sys_dup3", "rt:sched_switch", uid=NOBODY, folder=for_everybody)
    first, second = rows(text)
    assert status == 1
    assert {one["cause"] for one in first["obstacles"]} >= {"syscall-renamed", "no-capability"}
    assert second["obstacles"][0]["cause"] == "no-capability"
    assert any(line.startswith("available_filter_functions") for line in first["unreadable"])


def test_doctor_asks_the_kernel() -> None:
    status, text = run("doctor", "-j")
    report = json.loads(text)
    assert status == 0
    assert report["kernel"]["release"] == os.uname().release
    assert report["probes"]["rawtracepoint"]["works"] == "yes"
    assert report["program_types"] == program_types()
    assert report["map_types"] == map_types()
    assert report["map_types"]["HASH"] == "yes"
    assert report["helpers"]["RAW_TRACEPOINT"]["map_lookup_elem"] == "yes"
    assert report["helpers"]["RAW_TRACEPOINT"]["skb_store_bytes"] == "no"
    assert report["backend"]["auto"] == "kernel"


def test_doctor_for_nobody(for_everybody: str) -> None:
    status, text = run("doctor", "-j", uid=NOBODY, folder=for_everybody)
    report = json.loads(text)
    assert status == 0
    assert report["rights"]["capabilities"] == []
    assert report["probes"]["rawtracepoint"]["works"] != "yes"
    assert all(answer.startswith("unknown") for answer in report["program_types"].values())
    assert "CAP_BPF" in report["unlock"][0]["change"]
    assert run("doctor", uid=NOBODY, folder=for_everybody)[0] == 0


@pytest.mark.parametrize("form", ["c", "python", "ctypes", "numpy"])
def test_struct(form: str) -> None:
    status, text = run("struct", "sched:sched_switch", "--as", form)
    assert status == 0
    assert "prev_comm" in text


def test_struct_of_a_call_without_tracefs(for_everybody: str) -> None:
    ours = run("struct", "syscalls:sys_enter_openat")
    theirs = run("struct", "sys_enter_openat", uid=NOBODY, folder=for_everybody)
    assert ours[0] == theirs[0] == 0
    assert ours[1] == theirs[1]


def test_struct_of_nothing() -> None:
    status, text = run("struct", "sched:sched_swich")
    assert status == 1
    assert "sched:sched_switch" in text


def test_check(for_everybody: str) -> None:
    script = 'tracepoint:syscalls:sys_enter_read { printf("%d %s", nsecs, str(args.buf)); }'
    for where in ({}, {"uid": NOBODY, "folder": for_everybody}):
        status, text = run("check", "-f", "json", "-e", script, **where)  # type: ignore[arg-type]
        assert status == 1
        assert [row["id"] for row in rows(text)] == ["value-cut", "read-at-entry"]
    assert run("check", "-e", 'begin { printf("%ld", nsecs); }')[0] == 0


PACKAGE = Path(tracebee.__file__).parent
SHIPPED = [
    *sorted((PACKAGE / "scripts").glob("*.bt")),
    *sorted((PACKAGE.parent.parent / "examples").glob("*.bt")),
]
PARAMETERS = {"bashreadline.bt": ("/bin/sh",), "fsdist.bt": ("ext4",)}
"""What scripts cannot do without."""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_nothing_is_wrong_with_what_ships(path: Path) -> None:
    status, text = run("check", str(path), *PARAMETERS.get(path.name, ()))
    assert (status, text.splitlines()[-1]) == (0, "nothing to complain about"), text


# ---------------------------------------------------------------------- failed attachments


def attach(probe: ProbeSpec, program: ProgramSpec) -> AttachError:
    """The error of an attachment that cannot work."""
    backend = KernelBackend(ObjectSpec((program,), (), (probe,), Schema()), LiveMachine())
    try:
        with pytest.raises(AttachError) as caught:
            backend.attach(probe)
        return caught.value
    finally:
        backend.close()


def program(kind: str, reads: Sequence[int] = ()) -> ProgramSpec:
    builder = Builder()
    for offset in reads:
        builder.load(8, 2, 1, offset)
    builder.mov_imm(0, 0)
    builder.exit()
    return ProgramSpec("p", kind, tuple(builder.finish()))


@pytest.mark.parametrize(
    ("probe", "kind", "reads", "cause"),
    [
        (Tracepoint("sched", "sched_process_exit"), "TRACEPOINT", (512,), "tracepoint-arg-offset"),
        (Tracepoint("sched", "no_such_event"), "TRACEPOINT", (), "tracepoint-missing"),
        (RawTracepoint("no_such_event"), "RAW_TRACEPOINT", (), "tracepoint-missing"),
        (RawTracepoint("sys_enter_dup"), "RAW_TRACEPOINT", (), "raw-tracepoint-name"),
        (Uprobe("/bin/sh", 1 << 40), "KPROBE", (), "uprobe-offset"),
        (Uprobe("/no/such/file", 16), "KPROBE", (), "uprobe-file"),
    ],
)
def test_a_failed_attachment_explains_itself(probe: Any, kind: str, reads: Sequence[int], cause: str) -> None:
    found = attach(ProbeSpec("the probe", "p", probe), program(kind, reads)).explanation
    assert found is not None
    assert found.cause == cause
