"""Objects in the user backend: what the kernel would do for them, by ptrace on processes that a test starts."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tracebee
from tracebee.errors import AttachError, NotSupportedError, TargetError, UsageError
from tracebee.host.kconfig import kernel_version
from tracebee.spec.objects import Tracepoint

ROOT = Path(__file__).parents[2]
SNOOP = ROOT / "examples/opensnoop/opensnoop.bpf.o"
WATCH = ROOT / "tests/data/objects/watch.bpf.o"
STATIC = ROOT / "tests/data/objects/static.bpf.o"
OPENERS = ROOT / "tests/data/objects/openers.bpf.o"
KEPT = ("PATH", "HOME", "LANG", "USER")
WITHOUT = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")

needs_setpriv = pytest.mark.skipif(
    shutil.which("setpriv") is None or os.geteuid() != 0, reason="needs root and setpriv, to drop rights"
)
needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the object knows x86-64's registers")


def run(*words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return subprocess.run(
        [*before, sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def snoop(**constants: object) -> tracebee.Object:
    found = tracebee.Object.from_elf(SNOOP, constants=constants)
    for name in ("enter_open", "exit_open"):
        found.programs[name].autoload = platform.machine() == "x86_64"
    return found


def test_opensnoop_sees_what_its_command_opens(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("text")
    with snoop() as found:
        found.load("user", command=["cat", str(there), str(tmp_path / "not")], command_pid="targ_tgid")
        assert (found.backend, found.variables["targ_tgid"]) == ("user", found.pid)
        events = found.events("events", "event")
        assert len(found.attach()) == len(found.loaded_programs)
        seen = {event.path: event for event in events}
        assert found.exit_code == 1
        assert len(found.maps["start"]) == 0
    assert seen[str(there)].ret >= 0
    assert seen[str(tmp_path / "not")].ret == -2
    assert {event.comm for event in seen.values()} == {"cat"}


def test_constants_rule_events_out(tmp_path: Path) -> None:
    with snoop(targ_failed=True) as found:
        found.load("user", command=["cat", "/etc/hostname", str(tmp_path / "not")])
        events = found.events(type="event")
        found.attach()
        paths = [event.path for event in events]
    assert str(tmp_path / "not") in paths
    assert "/etc/hostname" not in paths


@needs_x86
def test_raw_tracepoints_uprobes_and_variables() -> None:
    """The registers of a raw tracepoint, cookies, and variables that change while programs run."""
    with tracebee.Object.from_elf(WATCH) as found:
        found.load("user", command=["cat", "/etc/hostname"], command_pid="wanted")
        openings, calls = found.events("openings", "opened"), found.events("calls", "called")
        found.programs["enter_setlocale"].attach(cookie=7)
        found.attach()
        found.variables["step"] = 1000
        assert found.wait(30)
        opened, called = list(openings), list(calls)
        assert found.maps["by_number"][257] == len(opened)
        assert found.variables["seen"] == len(opened) + 1000 * len(called)
        pid = found.pid
    assert "/etc/hostname" in [event.path for event in opened]
    assert [event.count for event in opened][:2] == [1, 2]
    assert {(event.cookie, event.pid) for event in called} == {(7, pid)}


@needs_x86
def test_a_link_is_detached_alone() -> None:
    with tracebee.Object.from_elf(WATCH) as found:
        found.load("user", command=["cat", "/etc/hostname"], command_pid="wanted")
        calls = found.events("calls", "called")
        link = found.programs["enter_setlocale"].attach()
        other = found.programs["enter_setlocale"].attach(cookie=2)
        link.detach()
        found.attach()
        assert {event.cookie for event in calls} == {2}
        assert not link.is_attached
        assert (other.id, other.info) == (0, None)
        with pytest.raises(UsageError, match="cannot be pinned"):
            other.pin("/sys/fs/bpf/nothing")


@needs_x86
def test_static_probes_and_configuration(tmp_path: Path) -> None:
    """Where the arguments of a static probe are, as libbpf tells it, and what the kernel's configuration says.

    The library's semaphore tells the program that somebody listens.
    """
    library = str(STATIC.with_name("probed.so"))
    calls = "lib.work(-5); open(sys.argv[1], 'w').write(str(lib.watched()))"
    with tracebee.Object.from_elf(STATIC) as found:
        words = [
            *(sys.executable, "-c", f"import ctypes, sys; lib = ctypes.CDLL({library!r}); {calls}"),
            str(tmp_path / "watched"),
        ]
        found.load("user", command=words)
        found.variables["target"] = found.pid
        found.programs["probed"].attach(f"{library}:tracebee:work")
        found.attach()
        assert found.wait(30)
        values = dict(found.variables)
    assert (values["hits"], values["argument"], values["has_cookie"]) == (1, -5, True)
    assert (tmp_path / "watched").read_text() == "1"
    assert values["version"] == kernel_version()


def test_maps_of_an_object_are_typed() -> None:
    with tracebee.Object.from_elf(OPENERS) as found:
        found.load("user", command=["cat", "/etc/hostname"], command_pid="wanted_pid")
        records = found.events("events")
        found.attach()
        found.maps["opens"][3] = 33
        count = len(list(records))
        assert found.maps["opens"][found.pid] == count > 0
        assert found.maps["opens"][3] == 33
        assert found.maps["results"][0][0] > 0
        assert found.variables["calls"] >= count


def test_a_process_that_runs_already() -> None:
    child = subprocess.Popen(["sh", "-c", "read line; cat /etc/hostname"], stdin=subprocess.PIPE, stdout=-3)
    try:
        with snoop() as found:
            found.load("user", pid=child.pid)
            events = found.events("events", "event", timeout=30)
            found.attach()
            assert child.stdin is not None
            child.stdin.write(b"\n")
            child.stdin.close()
            assert "/etc/hostname" in [event.path for event in events]
            assert any("stops it" in text for text in found.notices())
    finally:
        child.kill()
        child.wait()


def test_asyncio() -> None:
    async def main() -> tuple[list[str], int]:
        with snoop() as found:
            found.load("user", command=["cat", "/etc/hostname"])
            events = found.events("events", "event")
            found.attach()
            rounds = 0

            async def count() -> None:
                nonlocal rounds
                while True:
                    await asyncio.sleep(0)
                    rounds += 1

            task = asyncio.ensure_future(count())
            paths = [event.path async for event in events]
            assert await found.wait_async(5)
            task.cancel()
            return paths, rounds

    paths, rounds = asyncio.run(main())
    assert "/etc/hostname" in paths
    assert rounds > 0


def test_arrow() -> None:
    pytest.importorskip("pyarrow")
    with snoop() as found:
        found.load("user", command=["cat", "/etc/hostname"])
        events = found.events("events", "event")
        found.attach()
        table = events.to_arrow()
    assert "/etc/hostname" in table.column("path").to_pylist()
    assert str(table.schema.field("ret").type) == "int32"


def test_a_program_runs_on_request() -> None:
    with tracebee.Object.from_elf(OPENERS) as found:
        found.load("user", command=["true"])
        result = found.programs["exit_openat"].test_run(context=bytes(24))
        assert result.retval == 0
        assert found.maps["results"][0] == [1]


# ---------------------------------------------------------------------- what is refused


def test_without_a_target_there_is_nothing_to_see() -> None:
    with pytest.raises(TargetError, match="there is nothing to trace"), snoop() as found:
        found.load("user")
        found.attach()


def test_places_that_ptrace_does_not_see() -> None:
    with tracebee.Object.from_elf(ROOT / "tests/data/objects/legacy.bpf.o") as found:
        found.load("user", command=["true"])
        with pytest.raises(AttachError, match="does not see"):
            found.attach()
        with pytest.raises(NotSupportedError):
            assert found.programs[next(iter(found.programs))].fd


def test_nothing_is_left_when_attaching_fails() -> None:
    with snoop() as found:
        found.load("user", command=["true"])
        found.programs["exit_openat2"].place = Tracepoint("sched", "sched_switch")
        with pytest.raises(AttachError, match="sees only syscalls"):
            found.attach()
        assert found.links == []


# ---------------------------------------------------------------------- commands


@needs_setpriv
def test_load_without_rights(tmp_path: Path) -> None:
    """Nothing but ptrace on an own child is needed, and the engine is taken by itself."""
    missing = str(tmp_path / "missing")
    done = run(
        *("-m", "tracebee", "load", str(SNOOP), "--program", "enter_openat,exit_openat"),
        *("--set", "targ_tgid=cpid", "-c", f"cat {missing}"),
        before=WITHOUT,
    )
    assert "using the user backend (ptrace)" in done.stderr
    assert "2 programs and 2 maps in tracebee's engine" in done.stdout
    assert re.search(
        rf"^ +WHEN +PID +TID +UID +RET +FLAGS COMM +PATH$.*^.* -2 +0 cat +{missing}$",
        done.stdout,
        re.M | re.S,
    )
    assert done.returncode == 1  # cat's


@needs_setpriv
def test_the_example_without_rights(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    done = run(
        *(str(SNOOP.with_name("opensnoop.py")), "--backend", "user", "-x", "-T", "-c", f"cat {missing}"),
        before=WITHOUT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["TIME(s)", "PID", "COMM", "FD", "ERR", "PATH"]
    assert re.search(rf"^\d\.\d+ +\d+ +cat +-1 +2 {missing}$", done.stdout, re.M)
    assert "/etc/ld.so.cache" not in done.stdout


def test_load_in_json() -> None:
    done = run(
        *("-m", "tracebee", "load", str(OPENERS), "--backend", "user", "--set", "wanted_pid=cpid", "-j"),
        *("--events", "events:struct enter", "-c", "cat /etc/hostname"),
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines[0]["type"] == "loaded"
    assert [one["name"] for one in lines[0]["data"]["programs"]] == ["enter_openat", "exit_openat"]
    assert lines[0]["data"]["programs"][0]["attached"] == [{"to": "tracepoint/syscalls/sys_enter_openat"}]
    assert {line["type"] for line in lines[1:]} == {"event"}
    assert set(lines[1]["data"]) == {"common", "number", "args"}


def test_records_of_an_unknown_type_are_bytes() -> None:
    done = run(
        *("-m", "tracebee", "load", str(OPENERS), "--backend", "user", "-c", "cat /etc/hostname", "-q"),
    )
    lines = [line for line in done.stdout.splitlines() if re.fullmatch("[0-9a-f ]+", line)]
    assert any(b"/etc/hostname" in bytes.fromhex(line) for line in lines)
    done = run("-m", "tracebee", "load", str(OPENERS), "--backend", "user", "-c", "true")
    assert "HINT: it may be one of" in done.stderr
