"""The waist: plain values between whatever makes programs and whatever runs them.

Nothing here looks at a machine.  A script, an ELF object or assembler text ends in one ObjectSpec; the
kernel, the user-space engine and the printers start from one.
"""

from __future__ import annotations

from tracebee.insn import Insn
from tracebee.records import Frozen
from tracebee.spec.events import Event
from tracebee.spec.types import Type

RING_MAP = "events"
"""Name of the ring buffer that carries the records of a script."""

GLOBALS_MAP = "globals"
"""Name of the one-entry array with the script's run-time state; see `Globals`."""

STACKS_MAP = "stacks"
"""Name of the map from a stack's id to its frames: u64 → frames of u64, as many as the largest limit."""


class Globals:
    """Byte offsets in the value of GLOBALS_MAP, an array of one entry."""

    EXITING = 0  # u32: exit() was called; probes that see it do nothing more
    EXIT_CODE = 4  # u32
    LOST = 8  # u64: records that did not fit the ring buffer
    STACKS_LOST = 16  # u64: stacks that did not fit STACKS_MAP
    START = 24  # u64: ns since boot when tracing started, for `elapsed`
    CHILD_PID = 32  # u64: process id of the command that -c started
    WALL_OFFSET = 40  # u64: ns from the clock of boot time to Unix time
    ZERO = 48  # u64: always 0, which the verifier does not know
    SIZE = 56


class FuncInfo(Frozen):
    """Start of a function: instruction offset in 8-byte slots, BTF id of its FUNC (struct bpf_func_info)."""

    insn_offset: int
    type_id: int


class LineInfo(Frozen):
    """Source of the instructions from `insn_offset` on (struct bpf_line_info).

    `file` and `text` are offsets into the BTF string section; `line` and `column` count from 1.
    """

    insn_offset: int
    file: int
    text: int
    line: int
    column: int


class ProgramSpec(Frozen):
    """A program before it is loaded.

    `type` and `expected_attach_type` are names of the uapi enums without prefix, such as "RAW_TRACEPOINT"
    and "TRACE_ITER".  `attach_to` is the kernel function or type whose BTF id the load needs, and
    `attach_module` the module that has it, empty for the kernel itself.  Instructions name maps and programs by
    symbol; the backend binds them.  `section` is where an object file has the program, and `frags` says that one
    for XDP can take packets in pieces.
    """

    name: str
    type: str
    insns: tuple[Insn, ...]
    license: str = "GPL"
    expected_attach_type: str = ""
    attach_to: str = ""
    attach_module: str = ""
    sleepable: bool = False
    func_info: tuple[FuncInfo, ...] = ()
    line_info: tuple[LineInfo, ...] = ()
    section: str = ""
    frags: bool = False


class MapSpec(Frozen):
    """A map before it is made.

    `type` is a name of enum bpf_map_type without prefix, such as "PERCPU_HASH"; sizes are bytes; `flags` are
    BPF_F_*.  `contents` is the initial value of entry 0 of an array, and makes it read-only for programs and
    frozen for user space when `frozen`.  `key_type` and `value_type` are ids in the object's BTF, 0 for none.

    `inner` is what the maps in a map of maps are like, and `entries` what such a map, or an array of programs,
    holds from the start: names of maps or programs by key.  `extra` is map_extra of BPF_MAP_CREATE.  A `pinned`
    map is to be shared under its name in the BPF file system.
    """

    name: str
    type: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    contents: bytes = b""
    frozen: bool = False
    key_type: int = 0
    value_type: int = 0
    inner: MapSpec | None = None
    entries: tuple[tuple[int, str], ...] = ()
    extra: int = 0
    pinned: bool = False


class MapInfo(Frozen):
    """What a script's map holds, for whoever reads or prints it.

    `name` starts with ``@`` and `map` names the MapSpec.  `key` is None for a scalar map.  The values of a
    `per_cpu` map are one for each possible CPU.
    """

    name: str
    map: str
    key: Type | None
    value: Type
    per_cpu: bool


class Attach(Frozen):
    """Base of the places that a program can be attached to; one class a kind."""

    __slots__ = ()


class RunOnce(Attach):
    """Run by BPF_PROG_TEST_RUN at a `moment`: "begin", "end", "signal:SIGUSR1", "test:name", "bench:name"."""

    moment: str


class RawTracepoint(Attach):
    """BPF_RAW_TRACEPOINT_OPEN on `event`."""

    event: str


class Tracepoint(Attach):
    """A perf event of the tracepoint `category`:`event`."""

    category: str
    event: str


class PerfEvent(Attach):
    """A perf counter of enum perf_type_id `type` and its `config`, on every CPU or on one.

    It fires every `period` counts or, if `frequency` is not 0, so many times a second.
    """

    type: int
    config: int
    period: int
    frequency: int = 0
    every_cpu: bool = True


class Breakpoint(Attach):
    """A hardware breakpoint on `length` bytes at `address`; `mode` is of the letters r, w and x."""

    address: int
    length: int
    mode: str


class Uprobe(Attach):
    """The instruction at file offset `offset` of `path`, or the return of the function that starts there.

    `reference_counter` is the file offset of a USDT semaphore, or 0.
    """

    path: str
    offset: int
    returns: bool = False
    reference_counter: int = 0


class Iterator(Attach):
    """A BPF iterator over `target`, such as "task"; pinned at `pin` rather than read if that is given.

    What it goes over can be less than everything: the elements of `map`, a map of the object, for "bpf_map_elem"
    and "bpf_sk_storage_map"; for "cgroup" those around the one at the path `cgroup`, in `order` ("self_only",
    "descendants_pre", "descendants_post", "ancestors_up"); for "task" and the like the threads of the process
    `pid`, or the thread `tid`.
    """

    target: str
    pin: str = ""
    map: str = ""
    cgroup: str = ""
    order: str = ""
    pid: int = 0
    tid: int = 0


class UprobeMulti(Attach):
    """Many instructions of `path` at once, by file offset; each gets its position as the cookie, or its own.

    A `session` runs at the starts of functions and at their returns.
    """

    path: str
    offsets: tuple[int, ...]
    returns: bool = False
    reference_counters: tuple[int, ...] = ()
    cookies: tuple[int, ...] = ()
    session: bool = False


class Kprobe(Attach):
    """A kernel function plus `offset`, or its return.

    `module` is empty for whatever has the name.  Where `copies` functions share it, it means all of them.
    """

    function: str
    offset: int = 0
    returns: bool = False
    module: str = ""
    copies: int = 1


class KprobeMulti(Attach):
    """Many kernel functions at once, or their returns, or both in a `session`; each gets its position as the cookie.

    `functions` are places of one function each, without an offset.
    """

    functions: tuple[Kprobe, ...]
    returns: bool = False
    session: bool = False


class KprobePattern(Attach):
    """All kernel functions whose names fit a `pattern` with ``*`` and ``?``, or their returns.

    With `session` it is both.  To be found: see tracebee.session.places.
    """

    pattern: str
    returns: bool = False
    session: bool = False


class SystemCall(Attach):
    """The kernel's function for a system call, whatever it is called on the machine, or its return.  To be found."""

    name: str
    returns: bool = False


class FunctionUprobe(Attach):
    """`offset` bytes behind the start of `function` of a file, or its return; of all whose names fit if `many`.

    `path` may be the name of a library, to be looked for where the loader does.  With `session` it is the start and
    the return.  To be found.
    """

    path: str
    function: str
    offset: int = 0
    returns: bool = False
    many: bool = False
    session: bool = False


class UsdtProbe(Attach):
    """A static probe (USDT) of a file, by provider and name.  To be found."""

    path: str
    provider: str
    name: str


class UsdtSites(Attach):
    """The places of a static probe in the file `path`: file offset, semaphore's file offset or 0, arguments' text."""

    path: str
    sites: tuple[tuple[int, int, str], ...]


class Trampoline(Attach):
    """What the program is for is said when it is loaded, by `attach_to`: fentry, fexit, fmod_ret, lsm, freplace."""

    __slots__ = ()


class Cgroup(Attach):
    """A control group (version 2), by its directory.

    `attach_type` is for programs whose section leaves it open, such as SEC("cgroup/skb").  `flags` of
    BPF_F_ALLOW_OVERRIDE and BPF_F_ALLOW_MULTI count where the kernel has no links for it.
    """

    path: str
    attach_type: str = ""
    flags: int = 2


class Xdp(Attach):
    """A network interface, by name; `mode` is "native", "generic", "offload", or empty for what the driver can."""

    interface: str
    mode: str = ""


class Tcx(Attach):
    """Packets that come in by a network interface, or that go out by it if `egress` (Linux 6.6)."""

    interface: str
    egress: bool = False


class Netkit(Attach):
    """A netkit device, by the name of its primary end (Linux 6.7); the program's attach type says which end."""

    interface: str


class Netfilter(Attach):
    """A hook of netfilter (Linux 6.4).

    `family` is "ipv4" or "ipv6", `hook` one of "prerouting", "input", "forward", "output", "postrouting";
    programs of lower `priority` run first.  With `defragment` they see whole packets.
    """

    family: str
    hook: str
    priority: int = 0
    defragment: bool = False


class NetworkNamespace(Attach):
    """A network namespace, by a file such as /proc/PID/ns/net; empty for the one we are in."""

    path: str = ""


class SockMap(Attach):
    """The sockets in a map of sockets of the object; `attach_type` is for SEC("sk_skb"), which leaves it open."""

    map: str
    attach_type: str = ""


class SocketFilter(Attach):
    """The packets of the socket `fd`, or the choice between those that share its port, by the program's type."""

    fd: int


class Lirc(Attach):
    """An infrared receiver, by its device, such as /dev/lirc0."""

    path: str


class ProbeSpec(Frozen):
    """A program and where it is to be attached.

    `name` is the attach point as the script's `probe` builtin gives it.  `cookie` is what the program reads
    by bpf_get_attach_cookie.  `covers` is how many attach points of the script this one attachment stands
    for.  An `optional` one came from a wildcard: where it cannot be attached to, that is told and no more.
    """

    name: str
    program: str
    attach: Attach
    cookie: int = 0
    covers: int = 1
    optional: bool = False


class Schema(Frozen):
    """How to read what the programs of a script write.

    `probes` are the attach points by number, `functions` what `func` gives at each of them.
    `names_users` says that addresses of processes are to be named, which has to be prepared for while the
    processes live; with `demangles` C++ names are made readable.
    """

    events: tuple[Event, ...] = ()
    maps: tuple[MapInfo, ...] = ()
    strings: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    names_users: bool = False
    demangles: bool = True


class ObjectSpec(Frozen):
    """Everything that a backend needs.  `name` is that of the object, for its maps of variables."""

    programs: tuple[ProgramSpec, ...]
    maps: tuple[MapSpec, ...]
    probes: tuple[ProbeSpec, ...]
    schema: Schema
    btf: bytes = b""
    name: str = ""
