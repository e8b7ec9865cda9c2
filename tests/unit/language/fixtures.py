"""A machine made of values, and what the tests of the language say about trees and programs.

Nothing here looks at the machine that the tests run on: the kernel's types are a small BTF made by the
writer, tracepoints have the formats below, and features are a set of names.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.btf import Btf, Member, Struct
from tracebee.btf.types import INT_BOOL, INT_CHAR, INT_SIGNED
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import SourceError
from tracebee.insn import LDDW, decode, encode
from tracebee.insn import opcodes as op
from tracebee.insn.codec import reach
from tracebee.insn.helpers import helper_name
from tracebee.language import tree
from tracebee.language.compile import Compilation, Options, analyze, compile_script
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.machine import ARM64, X86_64, Arch, FunctionArgument
from tracebee.language.parser import Parser, deep_recursion, parse
from tracebee.language.source import Source
from tracebee.spec.types import INT8, INT32, INT64, Void

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.insn import Insn
    from tracebee.insn.codec import Ref
    from tracebee.language.diagnostics import Diagnostic
    from tracebee.spec.objects import ObjectSpec, ProgramSpec

NEW = frozenset(
    (
        "atomic_fetch",
        "fentry",
        "for_each_map_elem",
        "get_attach_cookie",
        "hash_on_demand",
        "isa_v4",
        "kprobe",
        "kprobe_multi",
        "loop",
        "large_keys",
        "ktime_get_boot_ns",
        "ktime_get_tai_ns",
        "map_lookup_percpu_elem",
        "may_goto",
        "override_return",
        "perf_link",
        "tp_btf",
        "uprobe",
        "uprobe_multi",
    )
)
"""What a kernel of today has."""

OLD = frozenset(("fentry", "hash_on_demand", "kprobe", "ktime_get_boot_ns", "tp_btf", "uprobe"))
"""About what Linux 5.10 has."""


# --- the kernel's types


def small_btf() -> Btf:
    """A handful of the kernel's types, with every kind that a script can meet."""
    b = BtfBuilder()
    int_ = b.add_int("int", 4, INT_SIGNED)
    char = b.add_int("char", 1, INT_SIGNED | INT_CHAR)
    bool_ = b.add_int("_Bool", 1, INT_BOOL)
    u8 = b.add_int("unsigned char", 1)
    u32 = b.add_int("unsigned int", 4)
    u64 = b.add_int("long unsigned int", 8)
    s64 = b.add_int("long int", 8, INT_SIGNED)
    b.add_typedef("u32", u32)
    b.add_typedef("my_size", b.add_const(u64))
    state = b.add_enum("task_state", [("TASK_RUNNING", 0), ("TASK_DEAD", 128)])
    b.add_enum("negatives", [("BELOW", -1), ("ABOVE", 1)])
    void_pointer = b.add_ptr(0)
    list_head = b.reserve()
    b.define(
        list_head,
        _struct("list_head", 16, [("next", b.add_ptr(list_head), 0), ("prev", b.add_ptr(list_head), 8)]),
    )
    task = b.reserve()
    task_pointer = b.add_ptr(task)
    inner = b.add_union("", 8, [Member("low", u32, 0), Member("whole", u64, 0)])
    b.define(
        task,
        _struct(
            "task_struct",
            128,
            [
                ("pid", int_, 0),
                ("tgid", int_, 4),
                ("comm", b.add_array(char, 16), 8),
                ("real_parent", task_pointer, 24),
                ("group_leader", task_pointer, 32),
                ("state", state, 40),
                ("started", u64, 48),
                ("flag", bool_, 56),
                ("", inner, 64),
                ("tasks", list_head, 72),
                ("numbers", b.add_array(s64, 3), 88),
                ("stack", void_pointer, 112),
            ],
            [("narrow", u32, 8 * 120, 3), ("wide", u32, 8 * 120 + 3, 13), ("byte", u8, 8 * 122, 8)],
        ),
    )
    for event in ("sys_enter", "sys_exit"):
        params = [("", void_pointer), ("regs", void_pointer), ("number", s64)]
        b.add_typedef(f"btf_trace_{event}", b.add_ptr(b.add_func_proto(0, params)))
    switch = [("", void_pointer), ("preempt", bool_), ("prev", task_pointer), ("next", task_pointer)]
    b.add_typedef("btf_trace_sched_switch", b.add_ptr(b.add_func_proto(0, switch)))
    b.add_func("vfs_read", b.add_func_proto(s64, [("task", task_pointer), ("count", u64)]))
    b.add_struct("bpf_iter__task", 16, [Member("meta", void_pointer, 0), Member("task", task_pointer, 64)])
    return Btf.from_bytes(b.to_bytes())


def _struct(
    name: str,
    size: int,
    members: Sequence[tuple[str, int, int]],
    bitfields: Sequence[tuple[str, int, int, int]] = (),
) -> Struct:
    """A BTF structure from (name, type id, byte) and (name, type id, bit, width)."""
    plain = [Member(member, type_id, 8 * byte) for member, type_id, byte in members]
    narrow = [Member(member, type_id, bit, width) for member, type_id, bit, width in bitfields]
    return Struct(name, size, (*plain, *narrow))


# --- tracepoints


class Field(NamedTuple):
    """A field of a tracepoint's record (tracebee.language.machine.EventField)."""

    name: str
    c_type: str
    offset: int
    size: int
    signed: bool = False
    count: int = 0
    is_array: bool = False
    data_loc: str = ""
    is_common: bool = False


class Format(NamedTuple):
    """A record (tracebee.language.machine.EventFormat)."""

    fields: tuple[Field, ...]


COMMON = (Field("common_type", "unsigned short", 0, 2, is_common=True),)
NUMBER = Field("__syscall_nr", "int", 8, 4, True)


def _format(*fields: Field) -> Format:
    return Format((*COMMON, *fields))


FORMATS = {
    ("sched", "sched_switch"): _format(
        Field("prev_comm", "char", 8, 16, False, 16, True),
        Field("prev_pid", "pid_t", 24, 4, True),
        Field("prev_state", "long", 32, 8, True),
        Field("next_pid", "pid_t", 40, 4, True),
    ),
    ("sched", "sched_process_exec"): _format(
        Field("filename", "char", 8, 4, False, 0, True, "data_loc"), Field("pid", "pid_t", 12, 4, True)
    ),
    ("irq", "softirq_entry"): _format(Field("vec", "unsigned int", 8, 4)),
    ("syscalls", "sys_enter_openat"): _format(
        NUMBER,
        Field("dfd", "int", 16, 8),
        Field("filename", "const char *", 24, 8),
        Field("flags", "int", 32, 8),
    ),
    ("syscalls", "sys_exit_openat"): _format(NUMBER, Field("ret", "long", 16, 8, True)),
    ("syscalls", "sys_enter_read"): _format(
        NUMBER, Field("fd", "unsigned int", 16, 8), Field("count", "size_t", 32, 8)
    ),
    ("syscalls", "sys_enter_write"): _format(
        NUMBER, Field("fd", "unsigned int", 16, 8), Field("count", "size_t", 32, 8)
    ),
    ("syscalls", "sys_exit_read"): _format(NUMBER, Field("ret", "long", 16, 8, True)),
}
NUMBERS = {"read": 0, "write": 1, "openat": 257}


# --- programs


class Symbol(NamedTuple):
    name: str
    address: int
    size: int


class Program(NamedTuple):
    """A user program (tracebee.language.machine.UserFile)."""

    path: str
    is_relocated: bool = True

    def functions(self) -> list[Symbol]:
        return [Symbol("main", 0x1100, 64), Symbol("work", 0x1140, 32), Symbol("worker", 0x1180, 16)]

    def find_function(self, name: str) -> Symbol | None:
        return next((symbol for symbol in self.functions() if symbol.name == name), None)

    def find_data(self, name: str) -> Symbol | None:
        return Symbol("counter", 0x4000, 8) if name == "counter" else None

    def file_offset(self, address: int) -> int | None:
        return address - 0x1000 if 0x1000 <= address < 0x9000 else None

    def usdt_probes(self) -> list[Any]:
        return []


# --- the machine


class FakeMachine:
    """tracebee.language.machine.Machine, made of values."""

    page_size = 4096

    def __init__(
        self,
        features: Iterable[str] = NEW,
        arch: Arch = X86_64,
        btf: Btf | None = None,
        has_btf: bool = True,
        possible_cpus: int = 4,
        headers: dict[str, str] | None = None,
        imports: dict[str, list[tuple[str, str]] | str] | None = None,
        pid_namespace: tuple[int, int] | None = None,
    ) -> None:
        self.features = frozenset(features)
        self.arch = arch
        self._btf = (btf or SMALL_BTF) if has_btf else None
        self.possible_cpus = possible_cpus
        self.headers = headers or {}
        self.imports = imports or {}
        self.namespace = pid_namespace

    attaches_cheaply = False

    @property
    def cpu_count(self) -> int:
        return self.possible_cpus

    def why_unseen(self, kind: str, place: Sequence[str]) -> tuple[str, str]:
        return "", ""

    def why_no_helper(self, helper: str) -> tuple[str, str]:
        return "", ""

    def feature(self, name: str) -> bool:
        assert name in NEW, f"nothing says what the feature {name} is"
        return name in self.features

    def btf(self) -> Btf | None:
        return self._btf

    def kfunc_allowed(self, name: str, program_type: str) -> bool:
        return (name, program_type) == ("vfs_read", "TRACEPOINT")

    def tracepoints(self) -> list[tuple[str, str]]:
        return list(FORMATS)

    def has_tracepoint(self, category: str, name: str) -> bool:
        return (category, name) in FORMATS

    def tracepoint_format(self, category: str, name: str) -> Format | None:
        return FORMATS.get((category, name))

    def syscall_numbers(self) -> dict[str, int]:
        return dict(NUMBERS)

    def names_by_number(self, table: str) -> list[str]:
        return ["zero", table, "number two", "unknown"]

    def read_header(self, name: str, folders: Sequence[str]) -> tuple[str, str] | None:
        text = self.headers.get(name)
        return None if text is None else (f"/headers/{name}", text)

    def read_import(self, target: str, importer: str, folders: Sequence[str]) -> list[tuple[str, str]] | str:
        return self.imports.get(target, [])

    def pid_namespace(self) -> tuple[int, int] | None:
        return self.namespace

    def tai_offset(self) -> int:
        return 37_000_000_000

    def kernel_functions(self) -> list[tuple[str, str]]:
        return [("vmlinux", "vfs_read"), ("vmlinux", "vfs_write"), ("ext4", "ext4_sync")]

    def function_modules(self, name: str, by_kprobe: bool = True) -> list[str]:
        return [module for module, one in self.kernel_functions() if one == name]

    def why_no_function(self, name: str) -> tuple[str, str]:
        return f"there is no {name}", f"the nearest is not {name}"

    def module_btf(self, module: str) -> Btf | None:
        return None

    def kernel_address(self, symbol: str) -> int | None:
        return {"vfs_read": 0xFFFFFFFF81000000}.get(symbol)

    def cgroup_id(self, path: str) -> int | None:
        return 1 if path == "/sys/fs/cgroup" else None

    def expand_paths(self, pattern: str) -> list[str]:
        return ["/bin/tool"] if pattern in ("/bin/tool", "tool", "/bin/*") else []

    def process_files(self, pid: int) -> list[str]:
        return ["/bin/tool"]

    def user_file(self, path: str) -> Program:
        if path != "/bin/tool":
            raise FileNotFoundError(path)
        return Program(path)

    def function_arguments(self, path: str, address: int) -> list[FunctionArgument] | None:
        if (path, address) not in (("/bin/tool", 0x1140), ("/bin/tool", 0x1180)):
            return None
        return [
            FunctionArgument("flag", "char", INT8, 0),
            FunctionArgument("ratio", "double", Void(8), None),
            FunctionArgument("count", "long", INT64, 1),
            FunctionArgument("far", "int", INT32, 6),
        ]

    def usdt_arguments(self, text: str) -> tuple[Any, ...]:
        return ()


SMALL_BTF = small_btf()
MACHINES = {
    "new": FakeMachine(),
    "old": FakeMachine(OLD),
    "bare": FakeMachine((), has_btf=False),
    "arm64": FakeMachine(arch=ARM64),
    "big": FakeMachine(possible_cpus=320),
}


# --- running the front end


def parsed(text: str) -> tree.Program:
    """The tree of a script without mistakes."""
    diagnostics = Diagnostics()
    program = parse(Source("test.bt", text), diagnostics)
    assert diagnostics.all == ()
    return program


def expression(text: str) -> tree.Expression:
    """The tree of one expression."""
    diagnostics = Diagnostics()
    parser = Parser(Source("test.bt", text), diagnostics)
    with deep_recursion():
        found = parser.expression()
    assert parser.peek().kind == "end", f"{text!r} is more than an expression"
    assert not diagnostics.has_errors
    return found


def body(text: str) -> tree.Block:
    """The block of a probe with these statements."""
    return parsed(f"BEGIN {{ {text} }}").probes[0].body


def complaints(text: str, **options: Any) -> tuple[Diagnostic, ...]:
    """What is wrong with a script; it must be something."""
    try:
        build(text, **options)
    except SourceError as error:
        return error.diagnostics
    raise AssertionError(f"compiled without a complaint: {text}")


def messages(text: str, **options: Any) -> list[str]:
    """The texts of the errors in a script."""
    return [one.message for one in complaints(text, **options) if one.severity == "ERROR"]


def hint(text: str, **options: Any) -> str:
    """The hint of the first error in a script."""
    return next(one.hint for one in complaints(text, **options) if one.severity == "ERROR")


def typed(text: str, machine: FakeMachine | None = None, **options: Any) -> Compilation:
    """A script up to its types."""
    with deep_recursion():
        return analyze(Source("test.bt", text), machine or MACHINES["new"], Options(**options))


def build(text: str, machine: FakeMachine | None = None, **options: Any) -> Compilation:
    """A script up to its programs."""
    return compile_script(Source("test.bt", text), machine or MACHINES["new"], Options(**options))


def spec_of(text: str, machine: FakeMachine | None = None, **options: Any) -> ObjectSpec:
    spec = build(text, machine, **options).spec
    assert spec is not None
    return spec


def program_of(text: str, machine: FakeMachine | None = None, **options: Any) -> ProgramSpec:
    """The only program of a script."""
    (program,) = spec_of(text, machine, **options).programs
    return program


def shape(node: object) -> object:
    """A tree without its places: equal for trees that mean the same."""
    if isinstance(node, tree.Node):
        extra = (node.span.text.strip(),) if isinstance(node, tree.CText) else ()
        fields = [getattr(node, field) for field in node._fields if field != "span"]
        return (type(node).__name__, *extra, *map(shape, fields))
    if isinstance(node, list):
        return [shape(item) for item in node]
    return node


# --- programs


def helper_calls(program: ProgramSpec) -> Counter[str]:
    """How often each helper is called, by name without bpf_."""
    return Counter(call_order(program))


def call_order(program: ProgramSpec) -> list[str]:
    """The helpers called, in the order of the code."""
    return [
        helper_name(insn.imm) or f"helper {insn.imm}"
        for insn in program.insns
        if insn.code == op.BPF_JMP | op.BPF_CALL and insn.src == 0 and insn.ref is None
    ]


def bind(ref: Ref) -> int:
    """Any number for what only the kernel can bind."""
    return 7


def check_program(program: ProgramSpec) -> list[Insn]:
    """What holds for every program: it encodes, jumps land on instructions, the frame is within bounds.

    Returns the decoded instructions.
    """
    data = encode(program.insns, bind)
    insns = decode(data)
    assert encode(insns) == data
    starts: dict[int, int] = {}
    slot = 0
    for index, insn in enumerate(insns):
        starts[slot] = index
        slot += insn.slots
    end = slot
    slot = 0
    for insn in insns:
        after = slot + insn.slots
        distance = reach(insn)
        if distance is not None:
            # A function's address counts from the LDDW's own next slot, as a jump does.
            base = slot + 1 if insn.code == LDDW else after
            assert base + distance in starts, f"{program.name}: {insn} at {slot} goes to {base + distance}"
        slot = after
    assert slot == end
    last = insns[-1]
    assert last.code in (op.BPF_JMP | op.BPF_EXIT, op.BPF_JMP | op.BPF_JA), "falls off the end"
    for insn in insns:
        for register in frame_accesses(insn):
            assert -512 <= register < 0, f"{program.name}: {insn} is outside the frame"
    return insns


def frame_accesses(insn: Insn) -> list[int]:
    """The offsets from the frame pointer that a load or store touches."""
    kind = insn.code & 7
    if kind == op.BPF_LDX and insn.src == op.R10:
        return [insn.off]
    if kind in (op.BPF_ST, op.BPF_STX) and insn.dst == op.R10:
        return [insn.off]
    return []


def check_debug_info(spec: ObjectSpec, source: str) -> None:
    """func_info and line_info are in order, start at 0, and quote the script."""
    btf = Btf.from_bytes(spec.btf)
    lines = source.split("\n")
    for program in spec.programs:
        starts = set()
        slot = 0
        for insn in program.insns:
            starts.add(slot)
            slot += insn.slots
        assert program.func_info[0].insn_offset == 0
        offsets = [line.insn_offset for line in program.line_info]
        assert offsets == sorted(set(offsets))
        assert offsets[0] == 0
        for info in program.func_info:
            assert info.insn_offset in starts
            assert info.insn_offset in offsets, "the kernel wants a line for each function's start"
        for line in program.line_info:
            assert line.insn_offset in starts
            assert btf.string(line.file) == "test.bt"
            assert btf.string(line.text) == lines[line.line - 1].strip()[:500]
            assert 1 <= line.column <= 1023
