"""Objects loaded and attached: a program of every kind at its place, in namespaces and control groups of the test's.

The programs are those of tests/data/objects/kinds.bpf.c, each of which counts its runs.  Which kernel has a kind is
known here, so that a kind that is not taken where it has to be is no skip.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tracebee.btf import Btf
from tracebee.btf.sanitize import MISSING, sanitize
from tracebee.btf.values import value_codec
from tracebee.errors import (
    AttachError,
    NotSupportedError,
    SyscallError,
    TargetError,
    TracebeeError,
    UsageError,
    VerifierError,
)
from tracebee.kernel.features import BTF_KINDS
from tracebee.kernel.links.clsact import add_filter, ask, attribute
from tracebee.kernel.probing import probe_helper, probe_map_type, probe_program_type
from tracebee.object import read_object
from tracebee.session.kernel import KernelBackend
from tracebee.session.machine import LiveMachine
from tracebee.session.places import abilities
from tracebee.spec.objects import (
    Cgroup,
    FunctionUprobe,
    Iterator,
    KprobePattern,
    Netfilter,
    Netkit,
    NetworkNamespace,
    PerfEvent,
    ProbeSpec,
    SocketFilter,
    SockMap,
    SystemCall,
    Tcx,
    Uprobe,
    UsdtProbe,
    Xdp,
)
from tracebee.syscalls import _uapi, bpf
from tracebee.syscalls.mounts import mount_detached

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator as Iterable

    from tracebee.spec.objects import Attach, ObjectSpec

FOLDER = Path(__file__).parents[1] / "data" / "objects"
PROBED = str(FOLDER / "probed.so")
CLONE_NEWNET = 0x40000000
KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("BPF needs root")
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        pytest.skip(f"bpf(2) is refused here: {error}")


@pytest.fixture(scope="module")
def machine() -> Iterable[LiveMachine]:
    made = LiveMachine()
    yield made
    made.close()


def load(machine: LiveMachine, name: str) -> ObjectSpec:
    data = (FOLDER / f"{name}.bpf.o").read_bytes()
    return read_object(data, f"{name}.bpf.o", machine.btf(), kconfig=abilities(machine))


@pytest.fixture(scope="module")
def kinds(machine: LiveMachine) -> ObjectSpec:
    return load(machine, "kinds")


@pytest.fixture(scope="module")
def places() -> dict[str, int]:
    """The entry of each program in the map of runs, by its name in lower case: what enum place says."""
    source = (FOLDER / "kinds.bpf.c").read_text()
    names = re.findall(r"\w+", source.partition("enum place {")[2].partition("}")[0])
    return {name.lower(): number for number, name in enumerate(names)}


# ------------------------------------------------------------------ what is done


def read_file() -> None:
    with open("/dev/zero", "rb", buffering=0) as file:
        file.read(1)


def send_packet() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
        socket.socket(type=socket.SOCK_DGRAM) as here,
    ):
        there.bind(("127.0.0.1", 0))
        there.settimeout(5)
        here.sendto(b"x" * 64, there.getsockname())
        assert len(there.recv(100)) == 64


def connect() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), 5) as here,
    ):
        here.getsockname()
        server.accept()[0].close()


def options() -> None:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def connect_unix() -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as here:
        server.bind("")
        server.listen()
        here.connect(server.getsockname())


def spin() -> None:
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass


def look_at_settings() -> None:
    Path("/proc/sys/kernel/ostype").read_text()


def dissect() -> None:
    """Packets to a group of raw sockets are shared out by a hash of their headers."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
        raw.bind(("lo", 3))
        raw.setsockopt(263, 18, 4711)  # SOL_PACKET, PACKET_FANOUT: PACKET_FANOUT_HASH
        send_packet()


PROBED_LIBRARY: list[ctypes.CDLL] = []


def work() -> None:
    if not PROBED_LIBRARY:
        PROBED_LIBRARY.append(ctypes.CDLL(PROBED))
    assert PROBED_LIBRARY[0].work(-5) == -4


def run_on_request(fd: int, data: bytes = b"") -> int:
    """BPF_PROG_TEST_RUN; the program's result."""
    attr = bpf.Attr(_uapi.ATTR_TEST_RUN).set(prog_fd=fd)
    if data:
        attr.set(data_size_in=len(data))
        attr.memory("data_in", data)
    assert attr.call("PROG_TEST_RUN") == 0
    return attr.get("retval")


# ------------------------------------------------------------------ where


class Kind(NamedTuple):
    """A program, its place if its section does not say it, what makes it run, and how often that is at least.

    `since` is the release of Linux that has it.  `within` are what of the test's own it needs: "network", "group",
    "packets" (which tell of sending packets inside a group).  `config` is what else a kernel may be without.
    """

    program: str
    act: Callable[[], object]
    place: Callable[[Environment], Attach] | None = None
    since: tuple[int, int] = (5, 10)
    within: str = ""
    config: str = ""
    runs: int = 1


class Environment:
    """What a test has made for itself."""

    def __init__(self, backend: KernelBackend) -> None:
        self.backend = backend
        self.group = ""
        self.socket = -1


def group_of(test: Environment) -> Attach:
    return Cgroup(test.group)


KINDS = (
    Kind("tp", os.getppid, config="perf"),
    Kind("raw_tp", os.getppid),
    Kind("tp_btf", os.getppid, config="tp_btf"),
    Kind("kprobe", read_file, config="kprobe"),
    Kind("kretprobe", read_file, config="kprobe"),
    Kind("kprobe_multi", read_file, None, (5, 18), config="kprobe_multi"),
    Kind("kretprobe_multi", read_file, None, (5, 18), config="kprobe_multi"),
    Kind("kprobe_session", read_file, None, (6, 10), config="kprobe_multi", runs=2),
    Kind("ksyscall", os.getppid, config="kprobe"),
    Kind("kretsyscall", os.getppid, config="kprobe"),
    Kind("uprobe", os.getppid, config="uprobe"),
    Kind("uretprobe", os.getppid, config="uprobe"),
    Kind("uprobe_offset", work, lambda test: FunctionUprobe(PROBED, "work", 1), config="uprobe x86_64"),
    Kind("uprobe_multi", os.getppid, None, (6, 6), config="uprobe"),
    Kind("uretprobe_multi", os.getppid, None, (6, 6), config="uprobe"),
    Kind("uprobe_session", os.getppid, None, (6, 13), config="uprobe", runs=2),
    Kind("usdt", work, lambda test: UsdtProbe(PROBED, "tracebee", "work"), config="uprobe x86_64 loaded"),
    Kind("fentry", read_file, config="fentry"),
    Kind("fexit", read_file, config="fentry"),
    Kind("fmod_ret", read_file, config="fentry"),
    Kind("lsm", read_file, config="fentry lsm"),
    Kind("lsm_cgroup", socket.socket, group_of, (6, 0), "group", "fentry lsm"),
    Kind("iter_task", lambda: None, runs=2),
    Kind("iter_task", lambda: None, lambda test: Iterator("task", tid=os.getpid()), (6, 1)),
    Kind("iter_task", lambda: None, lambda test: Iterator("task", pid=os.getpid()), (6, 1)),
    Kind("iter_map", lambda: None, lambda test: Iterator("bpf_map_elem", map="elements"), runs=2),
    Kind(
        "iter_cgroup",
        lambda: None,
        lambda test: Iterator("cgroup", cgroup=test.group, order="self_only"),
        (6, 1),
        "group",
    ),
    Kind("perf_event", spin, lambda test: PerfEvent(1, 0, 1_000_000), config="perf"),
    Kind("socket", lambda: None, lambda test: SocketFilter(test.socket), config="pair"),
    Kind(
        "sk_reuseport", lambda: None, lambda test: SocketFilter(test.socket), within="network", config="reuse"
    ),
    Kind("xdp", send_packet, lambda test: Xdp("lo", "generic"), within="network"),
    Kind("xdp_frags", send_packet, lambda test: Xdp("lo"), (5, 18), "network"),
    Kind("tc", send_packet, lambda test: Tcx("lo"), within="network", config="tc"),
    Kind("tc_ingress", send_packet, lambda test: Tcx("lo"), within="network", config="tc"),
    Kind("tcx_egress", send_packet, lambda test: Tcx("lo", egress=True), within="network", config="tc"),
    Kind("netkit", lambda: None, lambda test: Netkit("primary"), (6, 7), "network", "netkit"),
    Kind(
        "netfilter", send_packet, lambda test: Netfilter("ipv4", "input", 5), (6, 4), "network", "NETFILTER"
    ),
    Kind("flow_dissector", dissect, lambda test: NetworkNamespace(), within="network"),
    Kind("sk_lookup", send_packet, lambda test: NetworkNamespace("/proc/self/ns/net"), within="network"),
    # Linux 5.10 of Debian 11 stands still when data come to a socket whose parser takes everything.
    Kind("sk_skb_verdict", lambda: None, lambda test: SockMap("sockets"), (5, 11), "network", "sockets"),
    Kind("sk_msg", lambda: None, lambda test: SockMap("sockets"), within="network", config="sockets"),
    Kind("sockops", connect, group_of, within="network group"),
    Kind("cg_ingress", send_packet, group_of, within="network group"),
    Kind("cg_egress", send_packet, group_of, within="network group"),
    Kind(
        "cg_skb", send_packet, lambda test: Cgroup(test.group, "CGROUP_INET_EGRESS"), within="network group"
    ),
    Kind("cg_sock", options, group_of, within="group"),
    Kind("cg_release", options, group_of, within="group"),
    Kind("cg_post_bind", send_packet, group_of, within="network group"),
    Kind("cg_bind", send_packet, group_of, within="network group"),
    Kind("cg_connect", connect, group_of, within="network group"),
    Kind("cg_unix", connect_unix, group_of, (6, 7), "group"),
    Kind("cg_sendmsg", send_packet, group_of, within="network group"),
    Kind("cg_getname", connect, group_of, within="network group"),
    Kind("cg_sysctl", look_at_settings, group_of, within="group"),
    Kind("cg_getsockopt", options, group_of, within="group"),
    Kind("cg_setsockopt", options, group_of, within="group"),
    Kind("cg_device", read_file, group_of, within="group"),
)
"""All but freplace and what is run on request, which have tests of their own."""

ENTRY = {"sk_reuseport": "reuseport", "xdp": "xdp_in", "tc": "tc_plain", "flow_dissector": "dissector"}
"""Where a program's entry is not called as the program."""


def why_not(kind: Kind, machine: LiveMachine, spec: ObjectSpec) -> str:
    """What this kernel is without, that it may be without."""
    if kind.since > KERNEL:
        return f"it is there since Linux {kind.since[0]}.{kind.since[1]}"
    words = kind.config.split()
    for word in words:
        if word in ("kprobe", "uprobe", "fentry", "tp_btf", "kprobe_multi") and not machine.feature(word):
            return f"this kernel has no {word}"
    if "x86_64" in words and os.uname().machine != "x86_64":
        return "its instructions are those of x86_64"
    if "lsm" in words:
        try:
            active = Path("/sys/kernel/security/lsm").read_text()
        except OSError:
            active = lsm_list()
        if "bpf" not in active.strip().split(","):
            return f"the security modules of this kernel are {active.strip() or 'not known'}"
    if "NETFILTER" in words and not probe_program_type("NETFILTER"):
        return "this kernel has no programs in netfilter"
    return ""


def lsm_list() -> str:
    try:
        root = mount_detached("securityfs")
    except SyscallError:
        return ""
    try:
        with open(os.open("lsm", os.O_RDONLY, dir_fd=root)) as file:
            return file.read()
    finally:
        os.close(root)


@contextmanager
def own_network() -> Iterable[None]:
    """In a network namespace of our own, with a loopback that is up."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        os.close(before)
        pytest.skip("a network namespace cannot be made here")
    try:
        set_up("lo")
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0
        os.close(before)


def set_up(interface: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
        fcntl.ioctl(one, 0x8914, struct.pack("16sH14x", interface.encode(), 0x41))


@contextmanager
def own_group() -> Iterable[str]:
    """A control group of our own."""
    root, opened = cgroup2_root()
    path = os.path.join(root, f"tracebee-test-{os.getpid()}")
    try:
        try:
            os.mkdir(path)
        except OSError as error:
            pytest.skip(f"a control group cannot be made here: {error}")
        try:
            yield path
        finally:
            os.rmdir(path)
    finally:
        if opened >= 0:
            os.close(opened)


def cgroup2_root() -> tuple[str, int]:
    for line in Path("/proc/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return fields[1], -1
    try:
        opened = mount_detached("cgroup2")
    except SyscallError as error:
        pytest.skip(f"there is no cgroup2 here: {error}")
    return f"/proc/self/fd/{opened}", opened


def in_group(path: str, act: Callable[[], object]) -> None:
    """Do something in a child that is in a control group."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            Path(path, "cgroup.procs").write_text(str(os.getpid()))
            act()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def runs_of(backend: KernelBackend, entry: int) -> int:
    value = backend.maps["runs"].get(struct.pack("=I", entry))
    assert value is not None
    return int.from_bytes(value, "little")


def variables(backend: KernelBackend, **changes: int) -> dict[str, Any]:
    """The object's variables, some of them set."""
    table = backend.maps[".bss"]
    codec = value_codec(Btf.from_bytes(backend.spec.btf), table.spec.value_type, table.spec.value_size)
    found: dict[str, Any] = codec.decode(table.get(bytes(4)) or b"")
    found |= changes
    table.put(bytes(4), codec.encode(found))
    return found


def only(spec: ObjectSpec, *names: str) -> ObjectSpec:
    """The object with some of its programs."""
    return spec.replaced(
        programs=tuple(one for one in spec.programs if one.name in names),
        probes=tuple(one for one in spec.probes if one.program in names),
    )


@pytest.mark.parametrize(
    "number", range(len(KINDS)), ids=[f"{one.program}-{n}" for n, one in enumerate(KINDS)]
)
def test_it_runs_where_it_is_attached(
    number: int, machine: LiveMachine, kinds: ObjectSpec, places: dict[str, int]
) -> None:
    """And no longer when it is detached."""
    kind = KINDS[number]
    lacking = why_not(kind, machine, kinds)
    if lacking:
        pytest.skip(lacking)
    entry = places[ENTRY.get(kind.program, kind.program)]
    with ExitStack() as stack:
        if "network" in kind.within:
            stack.enter_context(own_network())
        group = stack.enter_context(own_group()) if "group" in kind.within else ""
        names = [f"on_{kind.program}"]
        if kind.program == "sk_skb_verdict":
            names.append("on_sk_skb_parser")
        spec = only(kinds, *names)
        if "loaded" in kind.config:
            kind.act()
        backend = KernelBackend(
            spec, machine, pid=os.getpid() if kind.program in ("perf_event", "usdt") else 0
        )
        stack.callback(backend.close)
        variables(backend, target=os.getpid())
        test = Environment(backend)
        test.group = group
        act = prepare(kind, test, stack)
        probe = next((one for one in spec.probes if one.program == names[0]), None)
        if kind.place is not None:
            probe = ProbeSpec(spec.programs[0].section, names[0], kind.place(test))
        assert probe is not None
        for extra in names[1:]:
            backend.attach(ProbeSpec(extra, extra, kind.place(test)))  # type: ignore[misc]
        try:
            assert not list(backend.attach(probe))
        except AttachError as error:
            if (
                kind.config == "tc"
                and KERNEL < (6, 6)
                and getattr(error.__cause__, "errno", 0) == errno.ENOENT
            ):
                pytest.skip("before tcx there has to be the module sch_ingress")
            raise
        link = backend.links[-1][1]
        if link.links:
            assert link.id > 0
        after_attaching(kind, test, stack)
        act()
        backend.run_iterators()
        assert runs_of(backend, entry) >= kind.runs
        if kind.program == "usdt":
            assert variables(backend)["argument"] == -5 & 0xFFFF_FFFF_FFFF_FFFF
            assert PROBED_LIBRARY[0].watched() == 1
        backend.detach()
        before = runs_of(backend, entry)
        if "sockets" not in kind.config:
            act()
        assert runs_of(backend, entry) == before


def prepare(kind: Kind, test: Environment, stack: ExitStack) -> Callable[[], object]:
    """What a kind needs beside its place; what makes it run."""
    act: Callable[[], object] = kind.act
    words = kind.config.split()
    if kind.program == "iter_map":
        for number in (1, 2):
            test.backend.maps["elements"].put(struct.pack("=I", number), bytes(4))
    if "pair" in words:
        pair = [stack.enter_context(one) for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)]
        test.socket = pair[1].fileno()

        def act() -> None:
            pair[0].send(b"12345678")
            assert len(pair[1].recv(100)) == (4 if test.backend.links else 8)

    if "reuse" in words:
        there = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        there.bind(("127.0.0.1", 0))
        there.settimeout(5)
        test.socket = there.fileno()

        def act() -> None:
            with socket.socket(type=socket.SOCK_DGRAM) as here:
                here.sendto(b"1", there.getsockname())
            there.recv(1)

    if "netkit" in words:
        # struct ifinfomsg; IFLA_IFNAME, IFLA_LINKINFO with IFLA_INFO_KIND
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(3, b"primary\0")
        try:
            ask(16, 0x400 | 0x200, body + attribute(18, attribute(1, b"netkit\0")))
        except SyscallError as error:
            pytest.skip(f"this kernel makes no netkit devices: {error}")
        names = [name for _, name in socket.if_nameindex() if name != "lo"]
        for name in names:
            set_up(name)

        def act() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
                raw.sendto(b"x" * 40, ("primary", 0x800, 0, 1, bytes(6)))

    if kind.within.endswith("group") and kind.program != "iter_cgroup":
        inside = act
        act = lambda: in_group(test.group, inside)  # noqa: E731
    return act


def after_attaching(kind: Kind, test: Environment, stack: ExitStack) -> None:
    """Sockets go into their map when its programs are there; then something is sent."""
    if "sockets" not in kind.config:
        return
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    here = stack.enter_context(socket.create_connection(server.getsockname(), 5))
    there = stack.enter_context(server.accept()[0])
    there.settimeout(5)
    for number, one in enumerate((here, there)):
        test.backend.maps["sockets"].put(struct.pack("=I", number), struct.pack("=I", one.fileno()))
    here.send(b"hello")
    assert there.recv(5) == b"hello"


def test_a_filter_of_traffic_control(machine: LiveMachine, kinds: ObjectSpec, places: dict[str, int]) -> None:
    """What stands in for tcx before Linux 6.6, on any kernel that has it."""
    backend = KernelBackend(only(kinds, "on_tc"), machine)
    program, entry = backend.programs["on_tc"], places["tc_plain"]
    try:
        with own_network():
            index = socket.if_nametoindex("lo")
            try:
                inside = add_filter(program, index, egress=False)
            except SyscallError as error:
                if error.errno == errno.ENOENT:
                    pytest.skip("the module sch_ingress is not there")
                raise
            outside = add_filter(program, index, egress=True)
            send_packet()
            assert runs_of(backend, entry) == 2
            inside.close()
            send_packet()
            assert runs_of(backend, entry) == 3
            outside.close()
            send_packet()
            assert runs_of(backend, entry) == 3
    finally:
        backend.close()


# ------------------------------------------------------------------ on request, and in the place of functions


def test_a_program_that_is_run_on_request(
    machine: LiveMachine, kinds: ObjectSpec, places: dict[str, int]
) -> None:
    if KERNEL < (5, 14):
        pytest.skip("there are programs of the type SYSCALL since Linux 5.14")
    backend = KernelBackend(only(kinds, "on_request"), machine)
    try:
        found = run_on_request(backend.programs["on_request"].fd)
        assert (found, runs_of(backend, places["on_request"])) == (7, 1)
    finally:
        backend.close()


def test_a_function_of_a_program_is_replaced(
    machine: LiveMachine, kinds: ObjectSpec, places: dict[str, int]
) -> None:
    if not probe_program_type("EXT"):
        pytest.skip("this kernel has no freplace")

    def result(old: KernelBackend) -> int:
        return run_on_request(old.programs["asks_verdict"].fd, bytes(64))

    old = KernelBackend(only(kinds, "asks_verdict"), machine)
    try:
        assert result(old) == 41
        target = {"on_freplace": old.programs["asks_verdict"].fd}
        new = KernelBackend(only(kinds, "on_freplace"), machine, targets=target)
        try:
            new.attach(new.spec.probes[0])
            assert (result(old), runs_of(new, places["changed"])) == (7, 1)
            new.detach()
            assert result(old) == 41
        finally:
            new.close()
    finally:
        old.close()


def test_what_it_is_to_replace_has_to_be_said(machine: LiveMachine, kinds: ObjectSpec) -> None:
    with pytest.raises(NotSupportedError, match="whose function verdict it replaces"):
        KernelBackend(only(kinds, "on_freplace"), machine)


def test_the_program_has_to_have_the_function(machine: LiveMachine, kinds: ObjectSpec) -> None:
    with own_bpffs() as root:
        old = KernelBackend(only(load(machine, "shared"), "after"), machine, pin_root=root)
    try:
        with pytest.raises(NotSupportedError, match="the function verdict, which the program"):
            KernelBackend(
                only(kinds, "on_freplace"), machine, targets={"on_freplace": old.programs["after"].fd}
            )
    finally:
        old.close()


def test_struct_ops_are_refused_with_a_way_out(machine: LiveMachine, kinds: ObjectSpec) -> None:
    with pytest.raises(NotSupportedError, match="struct_ops") as caught:
        KernelBackend(only(kinds, "on_struct_ops"), machine)
    assert "?struct_ops" in caught.value.hint


# ------------------------------------------------------------------ links


def test_a_link_is_updated_pinned_and_detached(
    machine: LiveMachine, kinds: ObjectSpec, places: dict[str, int]
) -> None:
    with ExitStack() as stack:
        group = stack.enter_context(own_group())
        root = stack.enter_context(own_bpffs())
        spec = only(kinds, "on_cg_getsockopt")
        backend, other = KernelBackend(spec, machine), KernelBackend(spec, machine)
        stack.callback(backend.close)
        stack.callback(other.close)
        backend.attach(ProbeSpec("options", "on_cg_getsockopt", Cgroup(group)))
        link = backend.links[-1][1]
        link.update(other.programs["on_cg_getsockopt"])
        in_group(group, options)
        entry = places["cg_getsockopt"]
        assert (runs_of(backend, entry), runs_of(other, entry)) == (0, 1)
        pins = link.pin(f"{root}/link")
        assert pins == (f"{root}/link",)
        link.close()
        in_group(group, options)
        assert runs_of(other, entry) == 2
        os.unlink(pins[0])
        in_group(group, options)
        assert runs_of(other, entry) == 2
        other.attach(ProbeSpec("options", "on_cg_getsockopt", Cgroup(group)))
        held = os.dup(other.links[-1][1].fds[0])
        other.links[-1][1].detach()
        in_group(group, options)
        os.close(held)
        assert runs_of(other, entry) == 2


@contextmanager
def own_bpffs() -> Iterable[str]:
    try:
        root = mount_detached("bpf")
    except SyscallError as error:
        pytest.skip(f"a BPF file system cannot be mounted: {error}")
    try:
        yield f"/proc/self/fd/{root}"
    finally:
        os.close(root)


def test_an_attachment_that_is_no_link(machine: LiveMachine, kinds: ObjectSpec) -> None:
    backend = KernelBackend(only(kinds, "on_socket"), machine)
    pair = socket.socketpair()
    try:
        backend.attach(ProbeSpec("socket", "on_socket", SocketFilter(pair[0].fileno())))
        link = backend.links[-1][1]
        assert (link.id, link.ids) == (0, ())
        with pytest.raises(NotSupportedError):
            link.pin("/sys/fs/bpf/nothing")
    finally:
        backend.close()
        for one in pair:
            one.close()


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("program", "place", "error", "words"),
    [
        ("on_xdp", Xdp("lp"), TargetError, "no such network interface"),
        ("on_xdp", Xdp("lo", "fast"), UsageError, "no mode of XDP"),
        ("on_cg_skb", Cgroup("/"), UsageError, "does not say what it is to be attached as"),
        ("on_cg_egress", Cgroup("/proc"), AttachError, "EBADF"),
        ("on_cg_egress", Cgroup("/no/group"), TargetError, "No such file"),
        ("on_sk_msg", SockMap("runs"), UsageError, "no map of sockets runs"),
        ("on_socket", SocketFilter(0), AttachError, "no socket"),
        ("on_sk_lookup", NetworkNamespace("/proc/self/status"), AttachError, "EINVAL"),
        ("on_iter_map", Iterator("bpf_map_elem"), AttachError, "EBADF"),
        ("on_iter_map", Iterator("bpf_map_elem", map="none"), UsageError, "no map none"),
        ("on_uprobe", FunctionUprobe("libc.so.6", "getpppid"), AttachError, "no function getpppid"),
        ("on_uprobe", FunctionUprobe("libnone.so", "f"), TargetError, "no such library"),
        ("on_uprobe", FunctionUprobe("/etc/passwd", "f"), TargetError, "no ELF file"),
        ("on_uprobe", FunctionUprobe("libc.so.6", "getppid", 99), AttachError, "99 is not one of them"),
        ("on_uprobe", UsdtProbe(PROBED, "tracebee", "wrok"), AttachError, "no static probe tracebee:wrok"),
        ("on_kprobe", SystemCall("getpppid"), AttachError, "no system call getpppid"),
        ("on_kprobe", KprobePattern("vsf_re?d"), AttachError, "no function of the kernel fits"),
        ("on_uprobe", Uprobe("/no/file", 0), AttachError, "ENOENT"),
    ],
)
def test_a_place_that_is_not_there(
    program: str,
    place: Attach,
    error: type[TracebeeError],
    words: str,
    machine: LiveMachine,
    kinds: ObjectSpec,
) -> None:
    backend = KernelBackend(only(kinds, program), machine)
    try:
        if program == "on_uprobe" and not machine.feature("uprobe"):
            pytest.skip("this kernel has no uprobes")
        if isinstance(place, SocketFilter):
            place = SocketFilter(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        with pytest.raises(error, match=words) as caught:
            backend.attach(ProbeSpec(program, program, place))
        if isinstance(place, FunctionUprobe | SystemCall) and place != FunctionUprobe("/etc/passwd", "f"):
            name = place.name if isinstance(place, SystemCall) else place.function
            if name == "getpppid":
                assert "getppid" in caught.value.hint
        assert backend.links == []
    finally:
        if isinstance(place, SocketFilter):
            os.close(place.fd)
        backend.close()


# ------------------------------------------------------------------ maps, and what the kernel may lack


def test_maps_with_more_to_them(machine: LiveMachine) -> None:
    spec = only(load(machine, "shared"), "names", "after")
    with own_bpffs() as root:
        backend = KernelBackend(spec, machine, pin_root=root)
        try:
            assert backend.ring is None  # the buffer "events" is the object's
            assert set(backend.maps) == {one.name for one in spec.maps}
            assert backend.maps["samples"].spec.max_entries == machine.possible_cpus
            assert {key for key, _ in backend.maps["outer"].items()} == {struct.pack("=I", n) for n in (1, 3)}
            probe = next(one for one in spec.probes if one.program == "names")
            backend.attach(probe)
            os.getppid()
            backend.detach()
            found = variables(backend)
            assert (found["found"], found["jumped"]) == (0, 1)
            assert found["address"] == machine.kernel_address("vfs_read")
            assert backend.maps["first"].get(bytes(4)) == struct.pack("=Q", 1)
            assert backend.maps["second"].get(bytes(4)) == bytes(8)
            pinned = backend.maps["pinned"].get(struct.pack("=I", 1))
            assert pinned == struct.pack("=Q", 1)
        finally:
            backend.close()
        again = KernelBackend(spec, machine, pin_root=root)
        try:
            assert again.maps["pinned"].get(struct.pack("=I", 1)) == pinned
            given = KernelBackend(spec, machine, pin_root=root, reuse={"first": again.maps["first"].fd})
            again.maps["first"].put(bytes(4), struct.pack("=Q", 9))
            assert given.maps["first"].get(bytes(4)) == struct.pack("=Q", 9)
            given.close()
            assert again.maps["first"].get(bytes(4)) == struct.pack("=Q", 9)
        finally:
            again.close()


def test_a_pinned_map_that_differs(machine: LiveMachine) -> None:
    spec = only(load(machine, "shared"), "after")
    with own_bpffs() as root:
        KernelBackend(spec, machine, pin_root=root).close()
        changed = tuple(
            one.replaced(max_entries=9, value_size=4, value_type=0, key_type=0) if one.pinned else one
            for one in spec.maps
        )
        with pytest.raises(UsageError) as caught:
            KernelBackend(spec.replaced(maps=changed), machine, pin_root=root)
        assert f"{root}/pinned" in str(caught.value)
        assert "values of 8 bytes, not 4" in str(caught.value)
        assert "8 entries at most, not 9" in str(caught.value)
        assert "keys" not in str(caught.value)


def test_a_weak_function_that_is_called_all_the_same(machine: LiveMachine) -> None:
    with own_bpffs() as root, pytest.raises(VerifierError) as caught:
        KernelBackend(only(load(machine, "shared"), "calls"), machine, pin_root=root)
    assert "no_such_function" in caught.value.hint
    assert caught.value.errno == errno.EINVAL


def test_types_that_are_made_simpler(machine: LiveMachine, kinds: ObjectSpec) -> None:
    """What is made for older kernels this one takes as well."""
    for missing in (*((word,) for word in MISSING if word not in ("func", "datasec")), MISSING):
        os.close(bpf.btf_load(sanitize(kinds.btf, missing)))


def test_kinds_of_types_as_kernels_have_them(machine: LiveMachine) -> None:
    since = {f"btf_{word}": release for word, (release, _, _) in BTF_KINDS.items()}
    for name, release in since.items():
        wanted = tuple(int(part) for part in release.split(".")) <= KERNEL
        assert machine.feature(name) or not wanted, name
        if KERNEL < (5, 13):
            assert machine.feature(name) == wanted, name


def test_what_bpftool_finds(machine: LiveMachine) -> None:
    """The same types of programs and maps."""
    if shutil.which("bpftool") is None:
        pytest.skip("bpftool is not installed")
    done = subprocess.run(
        ["bpftool", "-j", "feature", "probe", "kernel"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"bpftool cannot probe: {done.stderr[:200]}")
    told = json.loads(done.stdout)
    programs = {name[5:-10].upper(): there for name, there in told["program_types"].items()}
    maps = {name[5:-9].upper(): there for name, there in told["map_types"].items()}
    # What bpftool 7.1 asks of these two says whether functions can be traced.
    ours = {name: probe_program_type(name) for name in programs if name not in ("TRACING", "LSM", "EXT")}
    assert ours == {name: programs[name] for name in ours}
    assert {name: probe_map_type(name) for name in maps} == maps


def test_which_helpers_a_type_may_call() -> None:
    assert probe_helper("XDP", "redirect_map")
    assert probe_helper("SK_LOOKUP", "sk_assign")
    assert probe_helper("CGROUP_SOCK_ADDR", "bind")
    assert not probe_helper("KPROBE", "redirect_map")
    assert not probe_helper("SOCKET_FILTER", "skb_store_bytes")
