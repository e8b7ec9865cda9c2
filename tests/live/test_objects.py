"""Objects in the kernel at hand, by the Python API and by tracebee load; bpftool says what the kernel has."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tracebee
from tracebee.errors import AttachError, FormatError, SyscallError, TargetError, UsageError, VerifierError
from tracebee.host.kconfig import kernel_version
from tracebee.session.machine import LiveMachine
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SNOOP = ROOT / "examples/opensnoop/opensnoop.bpf.o"
WATCH = ROOT / "tests/data/objects/watch.bpf.o"
STATIC = ROOT / "tests/data/objects/static.bpf.o"
OPENERS = ROOT / "tests/data/objects/openers.bpf.o"
BPFFS = Path("/sys/fs/bpf")

needs_bpftool = pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed")
needs_bpffs = pytest.mark.skipif(not os.path.ismount(BPFFS), reason="there is no BPF file system to pin to")


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("BPF needs root")
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        pytest.skip(f"bpf(2) is refused here: {error}")


@pytest.fixture
def folder() -> Iterator[str]:
    """A directory of the BPF file system that is not there yet; what is in it goes."""
    path = BPFFS / f"tracebee_test_{uuid.uuid4().hex}"
    yield str(path)
    shutil.rmtree(path, ignore_errors=True)


def bpftool(*words: str) -> Any:
    done = subprocess.run(["bpftool", "-j", *words], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


@pytest.fixture
def watch() -> Iterator[tracebee.Object]:
    """An object that asks for cookies."""
    if platform.machine() != "x86_64":
        pytest.skip("the object knows x86-64's registers")
    machine = LiveMachine()
    has_cookies = machine.feature("get_attach_cookie")
    machine.close()
    if not has_cookies:
        pytest.skip("this kernel has no cookies (before 5.15)")
    with tracebee.Object.from_elf(WATCH) as found:
        yield found


def snoop(**constants: object) -> tracebee.Object:
    found = tracebee.Object.from_elf(SNOOP, constants=constants)
    for name in ("enter_open", "exit_open"):
        found.programs[name].autoload = platform.machine() == "x86_64"
    return found


def command_line(*words: str) -> list[str]:
    return [sys.executable, "-m", "tracebee", "load", *words]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command_line(*words), capture_output=True, text=True, timeout=60, check=False, env=environment()
    )


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def loaded_ids() -> set[int]:
    return {one.id for one in tracebee.programs()}


# ---------------------------------------------------------------------- the API


def test_opensnoop(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("text")
    descriptors = len(os.listdir("/proc/self/fd"))
    with snoop() as found:
        found.load("kernel", command=["cat", str(there), str(tmp_path / "not")], command_pid="targ_tgid")
        events = found.events("events", "event")
        found.attach()
        seen = {event.path: event for event in events}
        assert {event.pid for event in seen.values()} == {found.pid}
        assert found.exit_code == 1
        ids = {program.id for program in found.loaded_programs}
        assert ids <= loaded_ids()
    assert seen[str(there)].ret >= 0
    assert seen[str(tmp_path / "not")].ret == -2
    assert not ids & loaded_ids()
    assert len(os.listdir("/proc/self/fd")) == descriptors


@needs_bpftool
def test_bpftool_sees_the_same() -> None:
    with snoop(targ_pid=123).load("kernel") as found:
        for program in found.loaded_programs:
            shown = bpftool("prog", "show", "id", str(program.id))
            assert (shown["name"], shown["type"]) == (program.name[:15], "tracepoint")
            assert shown["tag"] == program.info.tag
            assert shown["gpl_compatible"]
        found.maps["start"][7] = {"path": 0x1000, "flags": 2}
        dumped = bpftool("map", "dump", "id", str(found.maps["start"].id))
        assert dumped[0]["formatted"] == {"key": 7, "value": {"path": 0x1000, "flags": 2}}
        rodata = next(one for one in tracebee.maps() if one.name == "opensnoo.rodata" and one.btf_id)
        dumped = bpftool("map", "dump", "id", str(rodata.id))
        variables = {
            name: value for one in dumped[0]["formatted"]["value"][".rodata"] for name, value in one.items()
        }
        assert variables["targ_pid"] == 123


def test_variables_live(watch: tracebee.Object) -> None:
    with watch as found:
        found.load("kernel", command=["cat", "/etc/hostname"], command_pid="wanted")
        openings, calls = found.events("openings", "opened"), found.events("calls", "called")
        found.programs["enter_setlocale"].attach(cookie=7)
        found.variables["step"] = 1000
        found.attach()
        assert found.wait(30)
        opened, called = list(openings), list(calls)
        assert found.variables["seen"] == len(opened) + 1000 * len(called)
        assert found.maps["by_number"][257] == len(opened)
        with pytest.raises(
            UsageError, match=r"wanted is a constant \(\.rodata\), which the kernel has frozen"
        ):
            found.variables["wanted"] = 1
    assert "/etc/hostname" in [event.path for event in opened]
    assert {event.cookie for event in called} == {7}


@pytest.mark.usefixtures("watch")
def test_the_kernels_configuration_and_a_static_probe() -> None:
    library = str(STATIC.with_name("probed.so"))
    with tracebee.Object.from_elf(STATIC) as found:
        words = [sys.executable, "-c", f"import ctypes; ctypes.CDLL({library!r}).work(-5)"]
        found.load("kernel", command=words)
        found.variables["target"] = found.pid
        found.programs["probed"].attach(f"{library}:tracebee:work")
        found.attach()
        assert found.wait(30)
        values = dict(found.variables)
    assert (values["hits"], values["argument"], values["has_cookie"]) == (1, -5, True)
    assert values["version"] == kernel_version()


def test_a_constant_can_only_be_set_before() -> None:
    with snoop(targ_pid=5).load("kernel") as found:
        assert found.variables["targ_pid"] == 5
        with pytest.raises(UsageError, match="frozen"):
            found.variables["targ_pid"] = 6


@needs_bpftool
def test_links() -> None:
    with snoop(targ_tgid=os.getpid()).load("kernel") as found:
        links = found.attach()
        assert [link.program for link in links] == [one.name for one in found.loaded_programs]
        with_id = [link for link in links if link.id]
        if not with_id:
            pytest.skip("this kernel has no links for tracepoints (before 5.15)")
        shown = bpftool("link", "show", "id", str(with_id[0].id))
        assert shown["prog_id"] == found.programs[with_id[0].program].id
        info = with_id[0].info
        assert info is not None
        assert (info.id, info.prog_id) == (shown["id"], shown["prog_id"])
        with_id[0].detach()
        assert not any(one.id == info.id for one in tracebee.links())
        assert set(found.unattached) == {with_id[0].program}


@needs_bpffs
@needs_bpftool
def test_pins(folder: str) -> None:
    with snoop(targ_tgid=os.getpid()).load("kernel") as found:
        paths = found.pin(folder)
        assert set(map(os.path.basename, paths)) == {
            *(one.name for one in found.loaded_programs),
            *("start", "events", "opensnoop_rodata"),
        }
        program_id, map_id = found.programs["enter_openat"].id, found.maps["start"].id
    assert bpftool("prog", "show", "pinned", f"{folder}/enter_openat")["id"] == program_id
    with tracebee.Program.from_pin(f"{folder}/enter_openat") as program:
        assert (program.id, program.name) == (program_id, "enter_openat")
    with tracebee.Map.from_pin(f"{folder}/start") as table:
        assert table.id == map_id
    with tracebee.Program.from_id(program_id) as program:
        assert program.info.type == "TRACEPOINT"
    with tracebee.Object.from_elf(SNOOP) as again:
        again.load("kernel", reuse={"start": tracebee.Map.from_id(map_id)})
        assert again.maps["start"].id == map_id


@needs_bpffs
def test_nothing_stays_pinned_when_pinning_fails(folder: str) -> None:
    with snoop().load("kernel") as found:
        os.mkdir(folder)
        Path(folder, "events").mkdir()
        with pytest.raises(SyscallError):
            found.pin(folder)
        assert os.listdir(folder) == ["events"]


def test_ids_are_those_of_the_machine() -> None:
    with snoop().load("kernel") as found:
        by_id = {one.id: one for one in tracebee.programs()}
        program = found.programs["enter_openat2"]
        assert by_id[program.id].name == "enter_openat2"
        assert found.maps["start"].id in {one.id for one in tracebee.maps()}
        assert by_id[program.id].btf_id in {one.id for one in tracebee.btfs()}
    with pytest.raises(TargetError):
        tracebee.Program.from_id(0x7FFF_FFFF)


def test_a_socket_filter_runs_on_request() -> None:
    with tracebee.Object.from_elf(WATCH) as found:
        for program in found.programs.values():
            program.autoload = program.type == "SOCKET_FILTER"
        found.load("kernel")
        program = found.programs["length_of"]
        result = program.test_run(data=bytes(64), repeat=3)
        assert (result.retval, result.data) == (
            64 - 14,
            bytes(64),
        )  # it sees what is behind the Ethernet header
        assert found.unattached == {"length_of": "attach it to a socket, by its descriptor: .attach(…)"}
        with pytest.raises(UsageError, match="does not say what to attach it to"):
            program.attach()
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with left, right, program.attach(str(right.fileno())):
            left.send(b"four")
            assert right.recv(10) == b"four"
        assert found.attach() == []


def test_asyncio_with_two_streams(watch: tracebee.Object) -> None:
    async def main() -> tuple[int, int]:
        with watch as found:
            found.load("kernel", command=["cat", "/etc/hostname"], command_pid="wanted")
            streams = found.events("openings", "opened"), found.events("calls", "called")
            found.attach()

            async def count(stream: tracebee.EventStream) -> int:
                return len([event async for event in stream])

            opened, called = await asyncio.gather(*map(count, streams))
            return opened, called

    opened, called = asyncio.run(main())
    assert opened > 0
    assert called > 0


def test_a_session_in_an_event_loop() -> None:
    async def main() -> list[str]:
        script = 'tracepoint:syscalls:sys_enter_openat /pid == cpid/ { printf("%s", str(args.filename)); }'
        async with tracebee.load(script, command=["cat", "/etc/hostname"], backend="kernel") as tracer:
            return [str(result) async for result in tracer]

    assert "/etc/hostname" in asyncio.run(main())


def test_a_session_that_is_cancelled_goes_on() -> None:
    async def main() -> list[str]:
        async with tracebee.load('interval:ms:20 { printf("tick"); }', backend="kernel") as tracer:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(tracer.wait_async(), 0.05)
            return [str(result) async for result in tracer.events_async(0.3)]

    assert set(asyncio.run(main())) == {"tick"}


# ---------------------------------------------------------------------- refusals


def test_a_refusal_names_the_line_of_the_source() -> None:
    """The program adds eight bytes to a value, and the map is made with values of four."""
    with tracebee.Object.from_elf(OPENERS) as found:
        spec = found.maps["opens"].spec
        found.maps["opens"].spec = spec.replaced(value_size=4, value_type=0, key_type=0)
        before = loaded_ids()
        with pytest.raises(VerifierError) as caught:
            found.load("kernel")
        assert re.search(r"openers\.bpf\.c:\d+|; .*value", caught.value.log)
        assert not found.is_loaded
    assert not {one.id for one in tracebee.programs() if one.name in found.programs} - before


def test_a_tracepoint_that_is_not_there() -> None:
    with snoop().load("kernel") as found:
        with pytest.raises(AttachError, match="no tracepoint syscalls/sys_enter_opnat") as caught:
            found.programs["enter_openat"].attach("syscalls/sys_enter_opnat")
        assert "sys_enter_openat" in caught.value.hint
        found.programs["enter_openat"].attach("syscalls/sys_enter_openat").detach()


# ---------------------------------------------------------------------- the command


def test_load_prints_what_it_made_and_what_comes(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    done = run(
        *(str(SNOOP), "--program", "enter_openat,exit_openat", "--set", "targ_tgid=cpid"),
        *("--events", "events:event", "-c", f"cat {missing}", "--backend", "kernel"),
    )
    assert done.returncode == 0, done.stderr
    assert "2 programs and 2 maps in the kernel, license GPL" in done.stdout
    assert re.search(r"^ +enter_openat +\d+ +tracepoint/syscalls/sys_enter_openat", done.stdout, re.M)
    assert re.search(r"^ +start +\d+ +hash +u32 +struct call +10240$", done.stdout, re.M)
    assert re.search(rf"^ +\d+ +\d+ +\d+ +0 +-2 +0 cat +{missing}$", done.stdout, re.M)


def test_load_in_json() -> None:
    done = run(
        str(OPENERS), "--set", "wanted_pid=cpid", "-j", "-c", "cat /etc/hostname", "--backend", "kernel"
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    made = lines[0]["data"]
    assert made["backend"] == "kernel"
    assert all(one["id"] > 0 for one in made["programs"] + made["maps"])
    records = [bytes.fromhex(line["data"]) for line in lines[1:] if line["type"] == "event"]
    assert any(b"/etc/hostname" in record for record in records)


def test_what_an_object_prints_is_shown_if_asked_for() -> None:
    words = (str(OPENERS), "--set", "wanted_pid=cpid", "-c", "cat /etc/hostname", "--backend", "kernel")
    assert "HINT: --trace shows it here" in run(*words).stderr
    done = run(*words, "--trace", "-q", "--set", "greeting=hi-tide")
    assert "hi-tide" in done.stdout.splitlines()


@needs_bpffs
def test_what_is_pinned_stays_attached(folder: str) -> None:
    done = run(str(SNOOP), "--set", f"targ_tgid={os.getpid()}", "--pin", folder, "--backend", "kernel")
    if "no BPF link" in done.stderr:
        pytest.skip("this kernel has no links for tracepoints (before 5.15)")
    assert done.returncode == 0, done.stderr
    assert f"pinned: {folder}/enter_open" in done.stdout
    with tracebee.Program.from_pin(f"{folder}/enter_openat") as program:
        attached = [one for one in tracebee.links() if one.prog_id == program.id]
    assert len(attached) == 1
    shutil.rmtree(folder)
    assert attached[0].id not in {one.id for one in tracebee.links()}


def test_an_interrupt_ends_it_in_order() -> None:
    process = subprocess.Popen(
        command_line(str(SNOOP), "--set", f"targ_tgid={os.getpid()}", "--backend", "kernel"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        while process.stdout.readline().strip():
            pass
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (0, "")


@pytest.mark.usefixtures("watch")
def test_a_trial_loads_and_leaves() -> None:
    done = run(str(WATCH), "--dry-run", "--backend", "kernel", "--attach", "elsewhere:libc.so.6:setlocale")
    assert done.returncode == 0, done.stderr
    assert re.search(r"elsewhere +\d+ +uprobe/libc\.so\.6:setlocale", done.stdout)


def test_the_example(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    done = subprocess.run(
        [
            sys.executable,
            str(SNOOP.with_name("opensnoop.py")),
            "-x",
            "--backend",
            "kernel",
            "-c",
            f"cat {missing}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^\d+ +cat +-1 +2 {missing}$", done.stdout, re.M)


def test_an_iterator_is_read() -> None:
    if not os.access("/sys/kernel/btf/vmlinux", os.R_OK):
        pytest.skip("this kernel has no BTF")
    path = ROOT / "tests/data/objects/tasks.bpf.o"
    with tracebee.Object.from_elf(path).load("kernel") as found:
        (link,) = found.attach()
        assert [link.read(), link.read()] == [b"there are tasks\n"] * 2
    done = run(str(path), "-q", "--backend", "kernel")
    assert (done.returncode, done.stdout) == (0, "there are tasks\n")


def test_several_files_are_one_object() -> None:
    """The first calls a function of the second, and reads a map that both have."""
    folder = ROOT / "tests/data/objects"
    with tracebee.Object.from_elf(folder / "first.bpf.o", folder / "second.bpf.o") as both:
        both.load("kernel")
        both.programs["stays_here"].test_run(data=bytes(64))
        assert both.maps["counts"][1] == 7
        # 2 * 5 + 20 + (5 + 3 + 100) + 2 + 10 + 7; see first.bpf.c
        assert both.programs["calls_the_other"].test_run(data=bytes(64)).retval == 157
    with (
        tracebee.Object.from_elf(folder / "first.bpf.o") as alone,
        pytest.raises(FormatError, match="counts"),
    ):
        alone.load("kernel")
