"""The readers of `host` on the machine at hand."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracebee.host.identity import CgroupPaths, read_cgroup_mounts
from tracebee.host.kallsyms import KernelSymbols
from tracebee.host.procmaps import read_maps
from tracebee.host.rights import read_rights
from tracebee.host.tracefs import TraceFs
from tracebee.host.usersyms import UserSymbolizer

# ---------------------------------------------------------------------- tracefs

LOOK = """
import json, os, sys
from tracebee.host.tracefs import TraceFs
fd = os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY)
tracefs = TraceFs(fd)
events = list(tracefs.events())
out = {"categories": tracefs.categories(), "events": events, "formats": [], "listed": []}
for category in out["categories"]:
    out["listed"] += [[category, name] for name in tracefs.events_of(category)]
for category, name in events:
    text = tracefs.format_text(category, name)
    found = tracefs.format(category, name)
    out["formats"].append([category, name, tracefs.event_id(category, name), text,
        [found.name, found.id], [list(field._key()) for field in found.fields]])
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[object]]]:
    """What a child sees in a tracefs that is mounted for it alone, and is gone with it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("mounting tracefs needs root and unshare(1)")
    mount_point = tmp_path_factory.mktemp("tracefs")
    script = 'mount -t tracefs none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(mount_point)]
    done = subprocess.run(
        [*command, sys.executable, LOOK],
        capture_output=True,
        text=True,
        env=child_environment(),
        check=False,
    )
    if done.returncode and "mount" in done.stderr:
        pytest.skip(f"tracefs cannot be mounted: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert os.listdir(mount_point) == []
    found: dict[str, list[list[object]]] = json.loads(done.stdout)
    return found


def child_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_events(looked: dict[str, list[list[object]]]) -> None:
    events = [tuple(event) for event in looked["events"]]
    assert ("sched", "sched_switch") in events
    assert len(events) == len(set(events)) > 100
    assert {category for category, _ in events} <= set(map(str, looked["categories"]))
    # The directories hold the pseudo events of ftrace too.
    listed = [tuple(event) for event in looked["listed"]]
    assert set(events) == {event for event in listed if event[0] != "ftrace"}


def test_every_format_of_this_kernel(looked: dict[str, list[list[object]]]) -> None:
    ids = set()
    for category, name, number, text, (format_name, format_id), fields in looked["formats"]:  # type: ignore[misc]
        where = f"{category}:{name}"
        assert format_id == number, where
        assert format_name == name, where
        ids.add(number)
        lines = [line.strip() for line in str(text).splitlines() if line.startswith("\tfield:")]
        assert len(lines) == len(fields), where
        for line, (field, c_type, offset, size, signed, _, count, is_array, data_loc) in zip(
            lines, fields, strict=True
        ):
            declaration, rest = line.removeprefix("field:").split(";", 1)
            assert rest.replace("\t", "") == f"offset:{offset};size:{size};signed:{int(signed)};", where
            spelled = f"{c_type} {field}"
            if data_loc:
                spelled = f"__{data_loc} {c_type}{'[]' if is_array else ''} {field}"
            elif is_array:
                spelled += f"[{count or ''}]"
            assert declaration == spelled, where
        assert [field[0] for field in fields if field[5]] == [
            "common_type",
            "common_flags",
            "common_preempt_count",
            "common_pid",
        ], where
    assert len(ids) == len(looked["formats"])


def test_a_tracefs_that_is_mounted() -> None:
    tracefs = TraceFs()
    if not os.path.exists("/sys/kernel/tracing/events"):
        pytest.skip("tracefs is not mounted")
    assert tracefs.has_event("sched", "sched_switch")
    assert tracefs.event_id("sched", "sched_switch") == tracefs.format("sched", "sched_switch").id


# ---------------------------------------------------------------------- kernel symbols


@pytest.fixture(scope="module")
def symbols() -> KernelSymbols:
    found = KernelSymbols.read()
    if found.hidden:
        pytest.skip("this kernel hides its addresses from us")
    return found


def test_kernel_symbols_as_the_file_has_them(symbols: KernelSymbols) -> None:
    rows = []
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, kind, name, *module = line.split()
        rows.append((int(address, 16), kind, name, module[0].strip("[]") if module else ""))
    first_at: dict[tuple[int, str], str] = {}
    places: dict[str, set[int]] = {}
    for address, _, name, module in rows:
        first_at.setdefault((address, module), name)
        places.setdefault(name, set()).add(address)
    end = symbols.find("_etext")
    assert end is not None
    text = [row for row in rows if row[1] in "tT" and row[0] < end and not row[3]]
    assert len(text) > 10_000
    for address, _, name, _ in text[:-1:97]:
        found = symbols.resolve(address)
        assert found is not None
        # Of several names at an address the first one is meant.
        assert (found.name, found.offset) == (first_at[address, ""], 0)
        assert symbols.find(name) in places[name]
    # Programs, dispatchers and trampolines come and go between two readings.
    passing = ("bpf", "__builtin__ftrace")
    lasting = [pair for pair in symbols.names() if pair[1] not in passing]
    assert lasting == [(row[2], row[3]) for row in rows if row[1] in "tT" and row[3] not in passing]


def test_addresses_outside_the_kernel(symbols: KernelSymbols) -> None:
    for address in (0, 0x1000, 0x7FFFFFFFFFFF, (1 << 64) - 1):
        assert symbols.resolve(address) is None


def test_what_others_than_root_see() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv(1)")
    rights = read_rights()
    # kallsyms_show_value() in the kernel's kernel/ksyms_common.c
    if rights.sysctl("kernel.kptr_restrict") == 0 and (rights.sysctl("kernel.perf_event_paranoid") or 0) <= 1:
        pytest.skip("this kernel shows its addresses to everybody")
    command = ["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    done = subprocess.run([*command, "cat", "/proc/kallsyms"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"setpriv failed: {done.stderr.decode()}")
    hidden = KernelSymbols.parse(done.stdout)
    assert hidden.hidden
    assert hidden.resolve(0) is None
    assert hidden.has("vfs_read")
    assert hidden.find("vfs_read") is None


# ---------------------------------------------------------------------- user symbols


def address_of(function: object) -> int:
    """Where a C function is in our own memory."""
    found = ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]
    assert found
    return found


def test_our_own_c_library() -> None:
    libc = ctypes.CDLL(None)
    with UserSymbolizer() as symbolizer:
        for name in ("malloc", "getppid", "qsort"):
            frame = symbolizer.resolve(os.getpid(), address_of(getattr(libc, name)) + 1)
            assert frame.name is not None, frame.reason
            assert frame.name.lstrip("_").removeprefix("libc_") == name
            assert frame.offset == 1


def test_our_vdso() -> None:
    for mapping in read_maps(os.getpid()):
        if mapping.path == "[vdso]":
            with UserSymbolizer() as symbolizer:
                addresses = range(mapping.start, mapping.end, 16)
                names = {frame.name for frame in symbolizer.resolve_stack(os.getpid(), addresses)}
            assert any(name and "clock_gettime" in name for name in names)
            return
    pytest.skip("this machine has no vdso")


PROGRAM = r"""
#include <stdio.h>
#include <unistd.h>
static void __attribute__((noinline)) inner(void) { pause(); }
int main(void) { printf("%p\n", (void *)inner); fflush(stdout); inner(); return 0; }
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (tmp_path / "a.c").write_text(PROGRAM)
    binary = str(tmp_path / "program")
    subprocess.run(["gcc", "-O1", "-pie", "-fPIE", "-o", binary, str(tmp_path / "a.c")], check=True)
    return binary


def run(*command: str) -> tuple[subprocess.Popen[bytes], int]:
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    return child, int(child.stdout.readline(), 16)


def end(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_a_living_process(program: str) -> None:
    child, address = run(program)
    try:
        with UserSymbolizer() as symbolizer:
            frame = symbolizer.resolve(child.pid, address + 4)
            assert (frame.name, frame.offset, frame.path) == ("inner", 4, program)
    finally:
        end(child)


def test_a_process_that_has_exited(program: str) -> None:
    child, address = run(program)
    with UserSymbolizer() as symbolizer:
        try:
            assert symbolizer.snapshot(child.pid)
        finally:
            end(child)
        assert symbolizer.resolve(child.pid, address + 4).name == "inner"
    with UserSymbolizer() as symbolizer:
        frame = symbolizer.resolve(child.pid, address + 4)
        assert (frame.name, frame.reason) == (None, "the process had exited before its mappings were read")


def test_a_program_deleted_while_it_runs(program: str) -> None:
    if not read_rights().has("CAP_SYS_ADMIN"):
        pytest.skip("only with CAP_SYS_ADMIN the kernel leads to a deleted file")
    child, address = run(program)
    try:
        os.unlink(program)
        with UserSymbolizer() as symbolizer:
            frame = symbolizer.resolve(child.pid, address)
            assert (frame.name, frame.path) == ("inner", program)
    finally:
        end(child)


def test_a_process_in_another_mount_namespace(program: str, tmp_path: Path) -> None:
    """The program is on a file system that only the process sees."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare(1)")
    (tmp_path / "hidden").mkdir()
    script = 'mount -t tmpfs none "$1" && cp "$2" "$1/copy" && exec "$1/copy"'
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    try:
        child, address = run(*unshare, f"{tmp_path}/hidden", program)
    except ValueError:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        assert os.listdir(tmp_path / "hidden") == []
        with UserSymbolizer() as symbolizer:
            frame = symbolizer.resolve(child.pid, address)
            assert (frame.name, frame.path) == ("inner", f"{tmp_path}/hidden/copy")
    finally:
        end(child)


def test_exec(program: str) -> None:
    with UserSymbolizer() as symbolizer:
        child = subprocess.Popen(["sh", "-c", 'read x; exec "$0"', program], stdin=-1, stdout=-1)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            deadline = time.monotonic() + 10
            while not symbolizer.snapshot(child.pid) and time.monotonic() < deadline:
                pass
            child.stdin.write(b"go\n")
            child.stdin.close()
            address = int(child.stdout.readline(), 16)
            assert symbolizer.resolve(child.pid, address).name == "inner"
        finally:
            end(child)


# ---------------------------------------------------------------------- cgroups


def test_cgroups() -> None:
    mounts = [mount.path for mount in read_cgroup_mounts() if mount.version == 2]
    if not mounts:
        pytest.skip("no cgroup2 is mounted")
    paths = CgroupPaths()
    (own,) = (
        line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")
    )
    number = paths.id(own)
    assert paths.path(number) == own
    assert paths.path(os.stat(mounts[0]).st_ino) == "/"


def test_a_new_cgroup() -> None:
    mounts = [mount.path for mount in read_cgroup_mounts() if mount.version == 2]
    paths = CgroupPaths()
    if not mounts or os.geteuid() != 0:
        pytest.skip("needs root and cgroup2")
    path = Path(mounts[0]) / f"tracebee-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error}")
    try:
        number = paths.id(f"/{path.name}")
        assert paths.path(number) == f"/{path.name}"
        assert paths.id(str(path)) == number
    finally:
        path.rmdir()
