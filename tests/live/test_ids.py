"""What is loaded, as tracebee and as bpftool tell it: same ids, same members, same values."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.btf import Btf
from tracebee.btf import types as kinds
from tracebee.cli.link.detach import run_detach as link_detach
from tracebee.errors import SyscallError, TargetError, TracebeeError
from tracebee.host.identity import read_cgroup_mounts
from tracebee.kernel.ids import KINDS, find, find_one, open_id, walk, walk_ids
from tracebee.kernel.info import btf_by_id, btf_info, id_of, link_info, map_info, program_info
from tracebee.kernel.info.link import KprobeMultiTarget
from tracebee.kernel.inventory import read_inventory
from tracebee.kernel.pinned import pin_object, read_pins
from tracebee.syscalls import bpf, bpfids, bpflinks, perf
from tracebee.syscalls.mounts import mount_detached

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "data" / "objects"
VMLINUX = "/sys/kernel/btf/vmlinux"
BASH = "/usr/bin/bash"


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("BPF needs root")
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        pytest.skip(f"bpf(2) is refused here: {error}")


def ours(*words: str) -> Any:
    """What tracebee prints as JSON; it runs on its own, so that what this process holds is somebody else's."""
    done = subprocess.run(
        [sys.executable, "-m", "tracebee", "-j", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text_of(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tracebee", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def bpftool(*words: str) -> Any:
    """What bpftool prints as JSON."""
    if shutil.which("bpftool") is None:
        pytest.skip("bpftool is not installed")
    done = subprocess.run(["bpftool", "-j", *words], capture_output=True, text=True, timeout=60, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    return found


class Made:
    """Descriptors of what a test has loaded, closed at its end."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def keep(self, fd: int) -> int:
        self.fds.append(fd)
        return fd

    def program(self, kind: str, name: str = "tb_nothing", result: int = 0, **options: Any) -> int:
        """A program that returns a number."""
        code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, result, 0x95, 0, 0, 0)
        return self.keep(bpf.prog_load(kind, code, name=name, **options)[0])

    def map(self, kind: str, key: int = 4, value: int = 8, entries: int = 4, **options: Any) -> int:
        return self.keep(bpf.map_create(kind, key, value, entries, **{"name": "tb_ids", **options}))

    def link(self, *arguments: Any, **fields: Any) -> int:
        return self.keep(bpf.link_create(*arguments, **fields))

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


@pytest.fixture
def made() -> Iterator[Made]:
    found = Made()
    yield found
    found.close()


@pytest.fixture(scope="module")
def vmlinux() -> Btf:
    if not os.access(VMLINUX, os.R_OK):
        pytest.skip("this kernel has no BTF")
    return Btf.from_file(VMLINUX)


def type_id(btf: Btf, name: str, kind: type) -> int:
    found = btf.find(name, kind)
    if found is None:
        pytest.skip(f"this kernel has no {name}")
    return found


@pytest.fixture
def group() -> Iterator[str]:
    """A control group of our own, with nobody in it."""
    mount = next((one.path for one in read_cgroup_mounts() if one.version == 2), None)
    if mount is None:
        pytest.skip("cgroup2 is not mounted")
    path = f"{mount}/tb-ids-{uuid.uuid4().hex[:8]}"
    try:
        os.mkdir(path)
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield path
    os.rmdir(path)


def same_as_bpftool(kind: str, number: int) -> dict[str, Any]:
    """Our record of an object; every member that bpftool has is in it, with the same value, in the same order."""
    if kind == "btf":
        theirs = next(one for one in bpftool("btf", "list") if one["id"] == number)
        # Those come in the order of a hash table.
        theirs |= {name: sorted(theirs[name]) for name in ("prog_ids", "map_ids")}
    else:
        theirs = bpftool(kind, "show", "id", str(number))
    record = ours(kind, "show", "id", str(number))
    assert isinstance(record, dict)
    for name, value in theirs.items():
        if name == "type" and isinstance(value, int):
            continue  # a kind that this bpftool does not know by name
        if name == "loaded_at":
            # The clocks are read at two moments, and both round.
            assert abs(record[name] - value) <= 1
        else:
            assert record[name] == value, name
    shared = [name for name in record if name in theirs]
    assert shared == list(theirs)
    return record


# ---------------------------------------------------------------------- ids


def test_ids_are_those_of_the_kernel(made: Made) -> None:
    fd = made.map("HASH")
    number = id_of("map", fd)
    assert number in list(walk_ids("map"))
    assert number in [one for one, _ in walk("map")]
    with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8") as stream:
        assert f"map_id:\t{number}\n" in stream.read()
    again = open_id("map", number)
    assert id_of("map", again) == number
    os.close(again)


def test_lists_have_the_ids_that_bpftool_lists(made: Made) -> None:
    """Others load and unload meanwhile, so what all of three looks see has to be in ours."""
    made.program("SOCKET_FILTER")
    made.map("ARRAY")
    made.keep(bpf.raw_tracepoint_open(made.program("RAW_TRACEPOINT"), "sched_process_fork"))
    for kind in KINDS:
        before = {one["id"] for one in bpftool(kind, "list")}
        found = {one["id"] for one in ours(kind, "list", "-a")}
        after = {one["id"] for one in bpftool(kind, "list")}
        assert before & after <= found <= before | after | found & set(walk_ids(kind)), kind


def test_an_id_that_is_gone(made: Made) -> None:
    fd = bpf.map_create("ARRAY", 4, 8, 1)
    number = id_of("map", fd)
    os.close(fd)
    # Freed a little after the last descriptor is closed.
    for _ in range(100):
        try:
            os.close(open_id("map", number))
        except TargetError as error:
            assert f"there is no map with id {number}" in str(error)
            break
        list(walk_ids("map"))
    else:
        pytest.fail("the map is still there")


def test_objects_that_vanish_while_they_are_walked_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the id and the descriptor: the map is closed when its id has been read."""
    fds = [bpf.map_create("ARRAY", 4, 8, 1, name="tb_vanish") for _ in range(3)]
    numbers = [id_of("map", fd) for fd in fds]
    next_id, fd_by_id = bpfids.next_id, bpfids.fd_by_id

    def closing(kind: str, after: int) -> int | None:
        number = next_id(kind, after)
        if number == numbers[1] and fds[1] >= 0:
            os.close(fds[1])
            fds[1] = -1
        return number

    def waiting(kind: str, number: int, flags: int = 0) -> int:
        for _ in range(10_000 if number == numbers[1] else 1):
            fd = fd_by_id(kind, number, flags)
            if number != numbers[1]:
                return fd
            os.close(fd)
        raise AssertionError("the kernel keeps the map")

    monkeypatch.setattr(bpfids, "next_id", closing)
    monkeypatch.setattr(bpfids, "fd_by_id", waiting)
    found = [number for number, _ in walk("map")]
    for fd in fds:
        if fd >= 0:
            os.close(fd)
    assert numbers[0] in found
    assert numbers[1] not in found
    assert numbers[2] in found


def test_a_walk_leaves_nothing_open() -> None:
    before = os.listdir("/proc/self/fd")
    for kind in KINDS:
        for _ in walk(kind):
            pass
    read_inventory()
    assert os.listdir("/proc/self/fd") == before


def test_selectors(made: Made) -> None:
    name = f"tb_{uuid.uuid4().hex[:10]}"
    fd = made.program("SOCKET_FILTER", name, 77)
    info = program_info(fd)
    for words in (["id", str(info.id)], [str(info.id)], [hex(info.id)], ["name", name], [name]):
        number, found = find_one("prog", words)
        made.keep(found)
        assert number == info.id
    tagged = find("prog", ["tag", info.tag])
    for _, found in tagged:
        made.keep(found)
    assert info.id in [number for number, _ in tagged]
    assert ours("prog", "show", name)["id"] == info.id


# ---------------------------------------------------------------------- programs and maps


def test_programs_are_what_bpftool_says(made: Made) -> None:
    plain = made.program("SOCKET_FILTER", "tb_plain", 5, license="MIT")
    record = same_as_bpftool("prog", id_of("prog", plain))
    assert record["gpl_compatible"] is False
    assert record["pids"] == [{"pid": os.getpid(), "comm": Path("/proc/self/comm").read_text().rstrip("\n")}]
    assert (record["type"], record["bytes_xlated"]) == ("socket_filter", 16)


@pytest.mark.parametrize(
    ("kind", "sizes", "options"),
    [
        ("HASH", (4, 8, 10), {"flags": 1}),
        ("ARRAY", (4, 12, 3), {"flags": 1 << 7}),
        ("PERCPU_ARRAY", (4, 8, 2), {}),
        ("RINGBUF", (0, 0, 4096), {}),
        ("PROG_ARRAY", (4, 4, 4), {}),
        ("LPM_TRIE", (8, 4, 4), {"flags": 1}),
        ("QUEUE", (0, 4, 4), {}),
    ],
)
def test_maps_are_what_bpftool_says(
    made: Made, kind: str, sizes: tuple[int, int, int], options: dict[str, Any]
) -> None:
    fd = made.map(kind, *sizes, **options)
    record = same_as_bpftool("map", id_of("map", fd))
    assert (record["type"], record["bytes_key"], record["max_entries"]) == (kind.lower(), sizes[0], sizes[2])
    if options:
        assert record["flag_names"] == [{1: "BPF_F_NO_PREALLOC", 128: "BPF_F_RDONLY_PROG"}[options["flags"]]]


def test_a_frozen_map(made: Made) -> None:
    fd = made.map("ARRAY")
    assert map_info(fd).frozen is False
    bpf.map_freeze(fd)
    assert map_info(fd).frozen is True
    assert same_as_bpftool("map", id_of("map", fd))["frozen"] == 1


def test_an_object_with_types(made: Made, vmlinux: Btf) -> None:
    """Whole names and cross references, of an object that a compiler has made."""
    from tracebee.object import read_object
    from tracebee.session.kernel import KernelBackend
    from tracebee.session.machine import LiveMachine

    machine = LiveMachine()
    spec = read_object((FOLDER / "openers.bpf.o").read_bytes(), "openers", vmlinux)
    backend = KernelBackend(spec, machine)
    try:
        programs = {name: program_info(one.fd) for name, one in backend.programs.items()}
        assert {info.name for info in programs.values()} == {"enter_openat", "exit_openat"}
        opens = map_info(backend.maps["opens"].fd)
        record = same_as_bpftool("map", opens.id)
        assert record["prog_ids"] == sorted(info.id for info in programs.values())
        for info in programs.values():
            assert opens.id in same_as_bpftool("prog", info.id)["map_ids"]
        entry = next(one for one in ours("btf", "list") if one["id"] == opens.btf_id)
        assert entry["prog_ids"] == record["prog_ids"]
        assert opens.id in entry["map_ids"]
        same_as_bpftool("btf", opens.btf_id)
        types = btf_by_id(opens.btf_id)
        assert types.find("enter_openat", kinds.Func) is not None
        shown = text_of("map", "show", str(opens.id))
        assert re.search(r"^    key +4 bytes, \w", shown, re.MULTILINE)
    finally:
        backend.close()
        machine.close()


def test_a_name_that_the_kernel_cuts(made: Made) -> None:
    from tracebee.btf.ext import FuncInfo, encode_func_info
    from tracebee.btf.writer import BtfBuilder

    name = "a_program_whose_name_is_long"
    builder = BtfBuilder()
    number = builder.add_int("int", 4, kinds.INT_SIGNED)
    proto = builder.add(kinds.FuncProto(number, ()))
    function = builder.add(kinds.Func(name, proto, 1))
    btf_fd = made.keep(bpf.btf_load(builder.to_bytes()))
    fd = made.program(
        "SOCKET_FILTER", name, btf_fd=btf_fd, func_info=encode_func_info([FuncInfo(0, function)])
    )
    info = program_info(fd)
    assert (info.name, info.kernel_name) == (name, name[:15])
    assert same_as_bpftool("prog", info.id)["name"] == name
    for word in (name, name[:15]):
        number, found = find_one("prog", ["name", word])
        made.keep(found)
        assert number == info.id


def test_what_a_program_says_of_itself(made: Made) -> None:
    """Constants in .rodata whose names begin with bpf_metadata_."""
    from tracebee.btf.writer import BtfBuilder

    builder = BtfBuilder()
    number, letter = builder.add_int("int", 4), builder.add_int("char", 1)
    text = builder.add_array(letter, 8, number)
    variables = [
        kinds.VarSecinfo(builder.add(kinds.Var(name, builder.add_const(target), 1)), offset, size)
        for name, target, offset, size in (
            ("bpf_metadata_version", number, 0, 4),
            ("other", number, 4, 4),
            ("bpf_metadata_author", text, 8, 8),
        )
    ]
    section = builder.add(kinds.Datasec(".rodata", 16, tuple(variables)))
    btf_fd = made.keep(bpf.btf_load(builder.to_bytes()))
    table = made.map("ARRAY", 4, 16, 1, name="tb.rodata", flags=1 << 7, btf_fd=btf_fd, value_type=section)
    bpf.map_update(table, bytes(4), struct.pack("=ii8s", 12, 13, b"bee"))
    bpf.map_freeze(table)
    program = made.program("SOCKET_FILTER", "tb_says")
    attr = bpf.Attr(bpf.uapi.ATTR_PROG_BIND_MAP).set(prog_fd=program, map_fd=table)
    attr.size = 12
    if attr.call("PROG_BIND_MAP") < 0:
        pytest.skip("this kernel binds no maps to programs")
    record = same_as_bpftool("prog", id_of("prog", program))
    assert record["metadata"] == {"version": 12, "author": "bee"}
    assert re.search(
        r"^    metadata +version = 12$", text_of("prog", "show", str(record["id"])), re.MULTILINE
    )


def test_run_times(made: Made) -> None:
    fd = made.program("SOCKET_FILTER", "tb_counted")
    stats = made.keep(bpf.enable_stats())
    bpf_before = program_info(fd).run_cnt
    data = bpf.buffer(bytes(64))
    attr = bpf.Attr(bpf.uapi.ATTR_TEST_RUN).set(prog_fd=fd, repeat=10, data_size_in=64)
    attr.memory("data_in", data)
    assert attr.call("PROG_TEST_RUN") >= 0
    assert stats >= 0
    info = program_info(fd)
    if info.run_cnt == bpf_before:
        pytest.skip("this kernel does not count test runs")
    record = same_as_bpftool("prog", info.id)
    assert record["run_cnt"] == 10
    assert "10 times, " in text_of("prog", "show", str(info.id))


def test_maps_in_maps_and_tail_calls(made: Made) -> None:
    inner = made.map("ARRAY")
    outer = made.map("ARRAY_OF_MAPS", 4, 4, 3, inner_map_fd=inner)
    bpf.map_update(outer, struct.pack("=I", 2), struct.pack("=I", inner))
    tails = made.map("PROG_ARRAY", 4, 4, 4)
    program = made.program("SOCKET_FILTER")
    bpf.map_update(tails, struct.pack("=I", 1), struct.pack("=I", program))
    numbers = {name: id_of("map", fd) for name, fd in (("inner", inner), ("outer", outer), ("tails", tails))}
    assert ours("map", "show", str(numbers["outer"]))["inner_map_ids"] == [numbers["inner"]]
    assert ours("map", "show", str(numbers["inner"]))["outer_map_ids"] == [numbers["outer"]]
    record = same_as_bpftool("map", numbers["tails"])
    assert record["inner_prog_ids"] == [id_of("prog", program)]
    assert (record["owner_prog_type"], record["owner_jited"]) == ("socket_filter", True)
    assert ours("prog", "show", str(id_of("prog", program)))["prog_array_ids"] == [numbers["tails"]]
    lines = text_of("tree").splitlines()
    at = next(index for index, line in enumerate(lines) if f" map {numbers['outer']} " in line)
    assert f"[2] map {numbers['inner']} tb_ids (array" in lines[at + 1]


# ---------------------------------------------------------------------- links


def test_raw_tracepoints(made: Made) -> None:
    link = made.keep(bpf.raw_tracepoint_open(made.program("RAW_TRACEPOINT"), "sched_process_fork"))
    record = same_as_bpftool("link", id_of("link", link))
    assert (record["tp_name"], record["place"]) == ("sched_process_fork", "raw tracepoint sched_process_fork")


def test_typed_raw_tracepoints(made: Made, vmlinux: Btf) -> None:
    number = type_id(vmlinux, "btf_trace_sched_process_fork", kinds.Typedef)
    program = made.program("TRACING", expected_attach_type="TRACE_RAW_TP", attach_btf_id=number)
    link = made.keep(bpf.raw_tracepoint_open(program))
    record = same_as_bpftool("link", id_of("link", link))
    assert record["place"] == "tp_btf sched_process_fork"
    record = same_as_bpftool("prog", id_of("prog", program))
    if "attach_btf_id" in record:  # not before Linux 6.0
        assert (record["attach_btf_id"], record["attach_to"]) == (number, "sched_process_fork")
    assert record["link_ids"] == [id_of("link", link)]


def test_iterators(made: Made, vmlinux: Btf) -> None:
    def iterate(name: str, *arguments: Any, **fields: Any) -> dict[str, Any]:
        number = type_id(vmlinux, f"bpf_iter_{name}", kinds.Func)
        program = made.program("TRACING", expected_attach_type="TRACE_ITER", attach_btf_id=number)
        return same_as_bpftool(
            "link", id_of("link", made.link(program, 0, "TRACE_ITER", *arguments, **fields))
        )

    assert iterate("task")["place"] == "iterator over task"
    table = made.map("HASH")
    info = {"iter_info": struct.pack("=I", table).ljust(16, b"\0")}
    try:
        record = iterate("bpf_map_elem", info, iter_info_len=16)
    except SyscallError as error:
        pytest.skip(f"this kernel has no iterators with parameters of this size: {error}")
    assert record["map_id"] == id_of("map", table)
    assert ours("map", "show", str(record["map_id"]))["link_ids"] == [record["id"]]
    info = {"iter_info": struct.pack("=IIII", 0, os.getpid(), 0, 0)}
    try:
        record = iterate("task", info, iter_info_len=16)
    except SyscallError as error:
        pytest.skip(f"this kernel has no iterators over the tasks of one process: {error}")
    assert record["pid"] == os.getpid()


def test_control_groups(made: Made, group: str) -> None:
    folder = made.keep(os.open(group, os.O_RDONLY))
    linked = made.program("CGROUP_SKB", result=1, expected_attach_type="CGROUP_INET_INGRESS")
    link = made.link(linked, folder, "CGROUP_INET_INGRESS")
    record = same_as_bpftool("link", id_of("link", link))
    path = "/" + os.path.basename(group)
    assert record["cgroup_id"] == os.stat(group).st_ino
    assert record["place"] == f"cgroup {path} inet_ingress"
    # The way without a link: the program stays when its descriptor is closed.
    program = made.program("CGROUP_SKB", result=1, expected_attach_type="CGROUP_INET_EGRESS")
    number = id_of("prog", program)
    bpflinks.prog_attach(folder, program, "CGROUP_INET_EGRESS")
    try:
        assert bpfids.prog_query(folder, "CGROUP_INET_EGRESS") == (number,)
        record = same_as_bpftool("prog", number)
        assert record["cgroups"] == [{"path": path, "attach_type": "cgroup_inet_egress"}]
        assert f"cgroup {path}" in text_of("tree").splitlines()
    finally:
        bpflinks.prog_detach(folder, program, "CGROUP_INET_EGRESS")
    assert text_of("link", "detach", str(id_of("link", link))).startswith("link ")
    assert bpfids.prog_query(folder, "CGROUP_INET_INGRESS") == ()


def test_perf_events(made: Made) -> None:
    event = made.keep(perf.perf_event_open(1, 2, pid=os.getpid(), period=1_000_000))
    try:
        link = made.link(made.program("PERF_EVENT"), event, "PERF_EVENT", perf_event_bpf_cookie=7)
    except SyscallError as error:
        pytest.skip(f"this kernel has no links of perf events: {error}")
    info = link_info(link)
    assert info.type == "PERF_EVENT"
    record = same_as_bpftool("link", info.id)
    if "event_type" not in record:
        pytest.skip("this kernel does not tell what a perf event link hangs on")
    assert (record["event_type"], record["event_config"], record["cookie"]) == ("software", "page-faults", 7)
    assert record["place"] == "perf event software:page-faults"


def test_perf_events_without_a_link(made: Made) -> None:
    """A tracepoint for this process alone, attached as before Linux 5.15; only the descriptor tells of it."""
    folder = made.keep(mount_detached("tracefs"))
    with open(
        os.open("events/sched/sched_process_fork/id", os.O_RDONLY, dir_fd=folder), encoding="ascii"
    ) as stream:
        number = int(stream.read())
    event = made.keep(perf.perf_event_open(2, number, pid=os.getpid(), period=1))
    program = made.program("TRACEPOINT", "tb_old_style")
    perf.attach_bpf(event, program)
    found = bpfids.task_fd_query(os.getpid(), event)
    assert found == bpfids.TaskFd(id_of("prog", program), "TRACEPOINT", "sched_process_fork", 0, 0)
    record = ours("prog", "show", str(found.prog_id))
    assert record["perf_events"][0]["name"] == "sched_process_fork"
    assert "perf event tracepoint sched_process_fork, without a link" in text_of("tree")
    theirs = [one for one in bpftool("perf", "list") if (one["pid"], one["fd"]) == (os.getpid(), event)]
    assert [one["prog_id"] for one in theirs] == [found.prog_id]


FUNCTIONS = ("vfs_fsync", "vfs_fallocate")
"""Functions that nothing calls while a test runs."""


def test_kernel_functions(made: Made) -> None:
    try:
        program = made.program("KPROBE", expected_attach_type="TRACE_KPROBE_MULTI")
        link = made.keep(bpf.link_kprobes(program, [7, 8], names=FUNCTIONS))
    except SyscallError as error:
        pytest.skip(f"this kernel refuses links to many functions: {error}")
    record = same_as_bpftool("link", id_of("link", link))
    info = link_info(link, places=True)
    assert isinstance(info.target, KprobeMultiTarget)
    if not info.target.count:
        pytest.skip("this kernel does not tell which functions a link has")
    assert record["func_count"] == 2
    found = {one["func"]: one for one in record["funcs"]}
    assert set(found) == set(FUNCTIONS)
    assert all(one["module"] is None for one in record["funcs"])
    if any(info.target.cookies):
        assert {name: one["cookie"] for name, one in found.items()} == dict(
            zip(FUNCTIONS, (7, 8), strict=True)
        )
        assert "vfs_fsync, cookie 7" in text_of("link", "show", str(record["id"]))
    assert record["place"] == "kprobe of 2 functions"


def test_entries_of_functions(made: Made, vmlinux: Btf) -> None:
    number = type_id(vmlinux, FUNCTIONS[0], kinds.Func)
    try:
        program = made.program("TRACING", expected_attach_type="TRACE_FENTRY", attach_btf_id=number)
        link = made.keep(bpf.raw_tracepoint_open(program))
    except SyscallError as error:
        pytest.skip(f"this kernel refuses fentry: {error}")
    record = same_as_bpftool("link", id_of("link", link))
    if record.get("target_btf_id"):
        assert record["target_btf_id"] == number
        assert record["place"] == f"fentry {FUNCTIONS[0]}"
    with pytest.raises(TracebeeError) as caught:
        link_detach(["id", str(record["id"])])
    assert "detaching a link of type tracing" in str(caught.value)
    assert str(os.getpid()) in caught.value.hint


def test_places_in_a_file(made: Made) -> None:
    program = made.program("KPROBE", expected_attach_type="TRACE_UPROBE_MULTI")
    memory = {
        "uprobe_multi_path": f"{BASH}\0".encode(),
        "uprobe_multi_offsets": struct.pack("=2Q", 0x30000, 0x30010),
        "uprobe_multi_cookies": struct.pack("=2Q", 7, 8),
    }
    try:
        link = made.link(
            program, 0, "TRACE_UPROBE_MULTI", memory, uprobe_multi_cnt=2, uprobe_multi_pid=os.getpid()
        )
    except SyscallError as error:
        if error.errno != errno.EINVAL:
            raise
        pytest.skip("this kernel has no uprobe_multi links")
    record = same_as_bpftool("link", id_of("link", link))
    assert (record["path"], record["func_count"], record["pid"]) == (os.path.realpath(BASH), 2, os.getpid())
    assert record["funcs"] == [
        {"offset": 0x30000, "ref_ctr_offset": 0, "cookie": 7},
        {"offset": 0x30010, "ref_ctr_offset": 0, "cookie": 8},
    ]


NETWORK = """
import os, struct, subprocess, sys
from tracebee.errors import SyscallError
from tracebee.syscalls import bpf

def program(kind, result, **options):
    code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, result, 0x95, 0, 0, 0)
    return bpf.prog_load(kind, code, name="tb_net", **options)[0]

made = []
def link(kind, result, target, attach_type, load={}, **fields):
    try:
        made.append(bpf.link_create(program(kind, result, **load), target, attach_type, **fields))
    except SyscallError as error:
        print("refused:", attach_type, error, file=sys.stderr)

namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
link("XDP", 2, 1, "XDP", flags=2)
link("SCHED_CLS", -1, 1, "TCX_INGRESS")
link("NETFILTER", 1, 0, "NETFILTER", {"expected_attach_type": "NETFILTER"}, netfilter_pf=2,
     netfilter_hooknum=1, netfilter_priority=-128 & 0xFFFFFFFF)
link("SK_LOOKUP", 1, namespace, "SK_LOOKUP", {"expected_attach_type": "SK_LOOKUP"})
print(os.stat("/proc/self/ns/net").st_ino)
sys.stdout.flush()
subprocess.run([sys.executable, "-m", "tracebee", "-j", "link", "list"])
"""


def test_links_of_a_network_namespace() -> None:
    """In one of its own, where there is nothing but a loopback interface that is down."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", textwrap.dedent(NETWORK)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, listed = done.stdout.split("\n", 1)
    number = int(first)
    records = {one["type"]: one for one in json.loads(listed) if one.get("prog_name") == "tb_net"}
    missing = {"xdp", "tcx", "netfilter", "netns"} - set(records)
    refused = done.stderr.count("refused:")
    assert len(missing) == refused, done.stderr
    places = {kind: one["place"] for kind, one in records.items()}
    expected = {
        "xdp": "xdp of lo(1)",
        "tcx": "tcx ingress of lo(1)",
        "netfilter": "netfilter ip input, priority -128",
        "netns": f"network namespace {number} sk_lookup",
    }
    assert places == {kind: place for kind, place in expected.items() if kind not in missing}
    assert "xdp" in records
    assert records["xdp"]["devname"] == "lo"


# ---------------------------------------------------------------------- pins


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A bpf file system of our own."""
    folder = tmp_path / "a bpffs"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "bpf", "bpf", str(folder)], capture_output=True, text=True, timeout=20, check=False
    )
    if done.returncode:
        pytest.skip(f"no bpf file system can be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], timeout=20, check=True)


def test_pins(made: Made, bpffs: Path) -> None:
    program = made.program("SOCKET_FILTER", "tb_pinned")
    table = made.map("HASH")
    link = made.keep(bpf.raw_tracepoint_open(made.program("RAW_TRACEPOINT"), "sched_process_fork"))
    paths = {}
    (bpffs / "deep").mkdir()
    for kind, fd, name in (("prog", program, "p"), ("map", table, "deep/m"), ("link", link, "l")):
        paths[kind] = str(bpffs / name)
        pin_object(fd, paths[kind])
    pins = read_pins()
    for kind, fd in (("prog", program), ("map", table), ("link", link)):
        number = id_of(kind, fd)
        assert pins[kind, number] == (paths[kind],)
        assert ours(kind, "show", "pinned", paths[kind])["id"] == number
        record = ours(kind, "show", paths[kind])
        assert record["pinned"] == [paths[kind]]
        found_id, found = find_one(kind, ["pinned", paths[kind]])
        made.keep(found)
        assert found_id == number
    with pytest.raises(TargetError, match="a program is pinned there, no map"):
        find_one("map", [paths["prog"]])
    # With nobody but the file to hold it.
    number = id_of("prog", program)
    made.close()
    lines = text_of("tree").splitlines()
    at = lines.index(paths["prog"])
    assert lines[at + 1] == f"└─ program {number} tb_pinned (socket_filter)"
    assert [one["pinned"] for one in ours("prog", "list") if one["id"] == number] == [[paths["prog"]]]


def test_pins_as_bpftool_tells_them(made: Made, bpffs: Path) -> None:
    table = made.map("HASH")
    number = id_of("map", table)
    for name in ("one", "two"):
        bpf.object_pin(table, str(bpffs / name))
    theirs = next(one for one in bpftool("-f", "map", "list") if one["id"] == number)
    found = next(one for one in ours("map", "list", "-f") if one["id"] == number)
    assert sorted(found["pinned"]) == sorted(theirs["pinned"]) == [str(bpffs / "one"), str(bpffs / "two")]


def test_pinning_a_link(made: Made, bpffs: Path) -> None:
    link = made.keep(bpf.raw_tracepoint_open(made.program("RAW_TRACEPOINT"), "sched_process_fork"))
    number = id_of("link", link)
    path = str(bpffs / "kept")
    assert text_of("link", "pin", "id", str(number), path).startswith(f"link {number} is pinned at")
    made.close()
    assert ours("link", "show", path)["id"] == number
    os.unlink(path)
    # The kernel frees links a moment later.
    for _ in range(1000):
        if number not in set(walk_ids("link")):
            break
    else:
        pytest.fail("the link is still there")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("taken", "there is such a file already"),
        ("none/x", "the directory does not exist"),
        ("a.b", "cannot be a name in a bpf file system"),
        ("/tmp/tb-no-bpffs", "not in a bpf file system"),
    ],
)
def test_pins_that_cannot_be(made: Made, bpffs: Path, path: str, complaint: str) -> None:
    table = made.map("HASH")
    pin_object(table, str(bpffs / "taken"))
    with pytest.raises(TargetError, match=complaint):
        pin_object(table, str(bpffs / path))


# ---------------------------------------------------------------------- BTF, rights


def test_btf_of_the_kernel(vmlinux: Btf) -> None:
    entry = next((one for one in ours("btf", "list") if one.get("name") == "vmlinux"), None)
    if entry is None:
        pytest.skip("this kernel gives its own BTF no id")
    assert entry["kernel"] is True
    assert entry["size"] == os.path.getsize(VMLINUX)
    same_as_bpftool("btf", entry["id"])
    assert len(btf_by_id(entry["id"])) == len(vmlinux)
    number, fd = find_one("btf", ["vmlinux"])
    try:
        assert btf_info(fd).id == number == entry["id"]
    finally:
        os.close(fd)


def test_without_rights() -> None:
    """Root without capabilities: one message, and nothing on standard output."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    for words in (["prog", "list"], ["map", "show"], ["link"], ["btf", "-j"], ["tree"]):
        done = subprocess.run(
            ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "tracebee", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert "by id needs CAP_SYS_ADMIN" in done.stderr
        assert done.stderr.count("\n") == 2


def test_owners_are_whoever_holds_a_descriptor(made: Made) -> None:
    table = made.map("HASH")
    number = id_of("map", table)
    holder = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[table],
        text=True,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        pids = [one["pid"] for one in ours("map", "show", str(number))["pids"]]
        assert pids == sorted([os.getpid(), holder.pid])
        made.close()
        assert [one["pid"] for one in ours("map", "show", str(number))["pids"]] == [holder.pid]
    finally:
        holder.communicate("\n", timeout=20)
