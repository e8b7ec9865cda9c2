"""Pass: mistakes that compile, load and attach, and then show wrong values or none.

It looks at the tree after types are known, and changes nothing.  Each complaint has a stable id; a complaint
rests on what the script says and on tables of the kernel's interfaces, never on what a machine happens to have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tracebee.language import tree
from tracebee.language.filled import FILLED_BY_CALL, KERNEL_FUNCTIONS, USER_FUNCTIONS, UserArgument
from tracebee.spec.printf import BadFormat, parse_format
from tracebee.spec.types import Array, Int, Pointer, Str, Type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.language.compile import Compilation
    from tracebee.language.probes.base import Point, Unit
    from tracebee.language.source import Span

WRAPPER = re.compile(r"__(?:x64|ia32|x32|arm64|s390x?|riscv|loongarch)_(?:compat_)?sys_(\w+)")
"""Names of the kernel's functions for system calls; since Linux 4.17 their one parameter is a struct pt_regs."""

FORMATTERS = {
    "printf": 0,
    "sprintf": 0,
    "errorf": 0,
    "warnf": 0,
    "system": 0,
    "cat": 0,
    "strftime": -1,
    "debugf": 0,
}
"""Calls with a format, and which argument that is; -1 for a format of another kind."""

READERS = ("str", "buf", "kstr", "ustr")
"""Calls that read the memory behind their first argument."""

ENTRY = ("kprobe", "fentry", "uprobe", "usdt")

SMALL_BUILTINS = ("pid", "tid", "uid", "gid", "cpu", "ncpus", "numaid", "usermode", "rand")
"""Built-in values whose type may have 64 bits and which never need more than 32."""

WIDE_RESULTS = frozenset(
    (
        *("brk", "mmap", "mmap2", "mremap", "shmat", "map_shadow_stack"),
        *("lseek", "llseek", "time", "times", "ptrace", "rt_sigreturn", "sigreturn"),
        *("sendfile", "sendfile64", "copy_file_range", "splice", "tee", "vmsplice"),
        *("process_vm_readv", "process_vm_writev"),
    )
)
"""System calls that return an address, an offset, a time or a size without limit.

The results of all others are declared as long too, and are descriptors, numbers of processes, counts that end at
MAX_RW_COUNT (include/linux/fs.h: below 2 GiB), 0, or a negative errno.
"""


class Finding(NamedTuple):
    """A complaint: its id, what is wrong, where, and what to write instead."""

    id: str
    message: str
    span: Span
    hint: str = ""


class Origin(NamedTuple):
    """Where an address comes from: argument `number` (or -1) called `name` (or ""), and through which space."""

    number: int
    name: str
    space: str = ""


def lint(compilation: Compilation) -> list[Finding]:
    """All complaints about a script that has been analysed, in the order of their places; each place once."""
    found: dict[tuple[str, int, int], Finding] = {}
    for unit in compilation.units:
        for finding in _unit(unit):
            found.setdefault((finding.id, finding.span.start, finding.span.end), finding)
    return sorted(found.values(), key=lambda one: (one.span.start, one.span.end, one.id))


def _unit(unit: Unit) -> Iterator[Finding]:
    origins = _Origins(unit)
    values = _Values(unit)
    parents = {id(child): node for node in tree.walk(unit.probe) for child in tree.children(node)}
    for node in tree.walk(unit.probe):
        if isinstance(node, tree.Call):
            yield from _formats(node, values)
            yield from _printed(node)
            yield from _wrapper(unit, node, parents)
        if isinstance(node, tree.MapAccess):
            yield from _keys(node)
        address = _read_behind(node)
        if address is not None:
            yield from _memory(unit, node, address, origins)
        yield from _record(unit, node)


# ---------------------------------------------------------------------- what is printed


def _formats(call: tree.Call, values: _Values) -> Iterator[Finding]:
    """Conversions that cut a value, or print an address in the place of what it points to."""
    if (
        FORMATTERS.get(call.name, -1) != 0
        or not call.arguments
        or not isinstance(call.arguments[0], tree.Text)
    ):
        return
    try:
        conversions = parse_format(call.arguments[0].text).conversions
    except BadFormat:
        return
    for conversion, argument in zip(conversions, call.arguments[1:], strict=False):
        shown = f"%{conversion.length}{conversion.letter}"
        if conversion.letter == "s" and isinstance(argument.type, Pointer):
            yield _pointer(argument, f"{shown} prints the address, not what is there")
        elif conversion.letter in "diu" and isinstance(argument.type, Pointer) and not _is_computed(argument):
            yield _pointer(argument, f"{shown} prints the address as a number")
        elif conversion.letter in "diuoxX" and (bits := values.bits(argument)) > conversion.bits:
            wide = f"%l{conversion.letter}" if conversion.letter != "i" else "%ld"
            what = "an address" if isinstance(argument.type, Pointer) else f"a value of {argument.type}"
            yield Finding(
                "value-cut",
                f"{shown} prints {conversion.bits} bits of {what}, which has {bits}",
                argument.span,
                f"write {wide}" + (" or %p" if isinstance(argument.type, Pointer) else ""),
            )


def _printed(call: tree.Call) -> Iterator[Finding]:
    """print() of a pointer to characters."""
    if call.name != "print" or not call.arguments:
        return
    if _is_text_pointer(call.arguments[0].type):
        yield _pointer(call.arguments[0], "print() shows the address, not the text there")


def _keys(access: tree.MapAccess) -> Iterator[Finding]:
    """A key that is a pointer to characters: equal texts at other places are other keys."""
    key = access.key
    elements = key.elements if isinstance(key, tree.TupleLiteral) else [key] if key is not None else []
    for element in elements:
        if _is_text_pointer(element.type) and not _is_identity(access):
            yield _pointer(element, "the key is the address, not the text there")


def _is_identity(access: tree.MapAccess) -> bool:
    return access.key is None


def _pointer(node: tree.Expression, message: str) -> Finding:
    type_ = node.type
    hint = (
        "write str(...) around it" if _is_text_pointer(type_) else "read it with * or ->, or print it with %p"
    )
    return Finding("pointer-printed", f"{message} ({type_})", node.span, hint)


def _is_text_pointer(type_: Type) -> bool:
    return isinstance(type_, Pointer) and isinstance(type_.target, Int) and type_.target.width == 1


def _is_computed(node: tree.Expression) -> bool:
    """Whether the value is a number made from addresses, such as a difference."""
    return isinstance(node, tree.Binary)


class _Values:
    """How many bits the values of a probe can have, as far as the script tells: sums of small values are small."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.assigned: dict[str, list[tree.Expression | None]] = {}
        for node in tree.walk(unit.probe):
            match node:
                case tree.Assign(target=tree.Variable(name=name), operator=operator, value=value):
                    self.assigned.setdefault(name, []).append(value if operator == "=" else None)
                case tree.Let(variable=variable, value=tree.Expression() as value):
                    self.assigned.setdefault(variable.name, []).append(value)
                case tree.Unary(operator="++" | "--", operand=tree.Variable(name=name)):
                    self.assigned.setdefault(name, []).append(None)
                case tree.ForMap(variable=variable) | tree.ForRange(variable=variable):
                    self.assigned.setdefault(variable.name, []).append(None)
                case _:
                    pass

    def bits(self, node: tree.Expression, depth: int = 8) -> int:
        """The most bits that a value takes, 64 where nothing says less."""
        if depth <= 0:
            return _type_bits(node.type)
        match node:
            case tree.Number():
                return 32 if -(1 << 31) <= node.value < 1 << 32 else 64
            case tree.Binary(operator=operator, left=left, right=right):
                return self._of_two(node, operator, left, right, depth)
            case tree.Ternary(then=then, otherwise=otherwise):
                first = self.bits(then, depth - 1) if then is not None else 0
                return max(self.bits(otherwise, depth - 1), first)
            case tree.Unary(operator="-" | "+", operand=operand):
                return min(self.bits(operand, depth - 1), _type_bits(node.type))
            case tree.Unary(operator="!"):
                return 1
            case tree.Call(name=name, arguments=[]) if name in SMALL_BUILTINS:
                return min(32, _type_bits(node.type))
            case tree.Member(operand=tree.Call(name="args"), name="ret") if self._returns_little():
                return min(32, _type_bits(node.type))
            case tree.Variable(name=name) if self.assigned.get(name):
                found = [
                    _type_bits(node.type) if value is None else self.bits(value, depth - 1)
                    for value in self.assigned[name]
                ]
                return min(max(found), _type_bits(node.type))
            case _:
                return _type_bits(node.type)

    def _of_two(
        self, node: tree.Binary, operator: str, left: tree.Expression, right: tree.Expression, depth: int
    ) -> int:
        if operator in ("==", "!=", "<", ">", "<=", ">=", "&&", "||"):
            return 1
        first, second = self.bits(left, depth - 1), self.bits(right, depth - 1)
        if operator in ("+", "-", "|", "^"):
            return max(first, second)
        if operator == "&":
            return min(first, second)
        if operator == "%":
            return second
        if operator in ("/", ">>") and isinstance(right, tree.Number) and first <= 32:
            return 32
        if operator == ">>" and isinstance(right, tree.Number):
            return max(first - right.value, 1)
        return _type_bits(node.type)

    def _returns_little(self) -> bool:
        """Whether the probe is at the end of system calls whose results fit into an int."""
        events = [_event(point) for point in self.unit.points]
        return bool(events) and all(
            category == "syscalls"
            and event.startswith("sys_exit_")
            and event.removeprefix("sys_exit_") not in WIDE_RESULTS
            for category, event in events
        )


def _type_bits(type_: Type) -> int:
    if isinstance(type_, Pointer):
        return 64
    return type_.bits if isinstance(type_, Int) else 0


# ---------------------------------------------------------------------- what is read


def _read_behind(node: tree.Node) -> tree.Expression | None:
    """The address that a node reads memory at, or None."""
    match node:
        case tree.Call(name=name, arguments=arguments) if name in READERS and arguments:
            return arguments[0]
        case tree.Unary(operator="*", operand=operand, postfix=False):
            return operand
        case tree.Member(operand=operand) | tree.Index(operand=operand) if isinstance(operand.type, Pointer):
            return operand
        case _:
            return None


def _memory(unit: Unit, node: tree.Node, address: tree.Expression, origins: _Origins) -> Iterator[Finding]:
    """Memory that is not right yet, or read through the wrong address space."""
    origin = origins.of(address)
    if origin is None:
        return
    for point in unit.points:
        argument, where = _user_argument(unit, point, origin)
        if argument is None:
            continue
        name = argument.name or f"arg{argument.number}"
        if argument.filled:
            call = where.removeprefix("sys_enter_")
            later = _return_of(unit, point.name, point.function, where)
            yield Finding(
                "read-at-entry",
                f"{name} is filled by {call} as it returns: at its entry the memory holds what was there before",
                node.span,
                f"keep the address, @{name}[tid] = ..., and read it in {later}",
            )
        if _as_kernel(node, address, origin):
            yield Finding(
                "user-as-kernel",
                f"{name} of {where} is an address in user space, and is read as one of the kernel: that fails, or "
                "reads something else",
                node.span,
                f"write uptr(...) around it, or str(uptr({name})) for text",
            )
        return


def _as_kernel(node: tree.Node, address: tree.Expression, origin: Origin) -> bool:
    """Whether the read goes to kernel memory; str() and buf() of a plain number find the space by the address."""
    if origin.space:
        return origin.space == "kernel"
    if isinstance(node, tree.Call):
        return isinstance(address.type, Pointer) and _space_of(address) == "kernel"
    return _space_of(address) != "user"


def _space_of(node: tree.Expression) -> str:
    """The space that a pointer's target is taken to be in."""
    return node.type.space if isinstance(node.type, Pointer) else ""


def _event(point: Point) -> tuple[str, str]:
    """Category and name of a tracepoint's event, also where a raw tracepoint does its work; else empty."""
    kind, _, rest = point.name.partition(":")
    if kind != "tracepoint":
        return "", ""
    category, _, event = rest.partition(":")
    return category, event


def _user_argument(unit: Unit, point: Point, origin: Origin) -> tuple[UserArgument | None, str]:
    """The argument of a probe's place that an address is, if it is one of user space; and the place's name."""
    kind = unit.kind.name
    category, event = _event(point)
    if event:
        call = event.removeprefix("sys_enter_")
        if category != "syscalls" or call == event:
            return None, ""
        filled = origin.name in FILLED_BY_CALL.get(call, ())
        if not filled and origin.space != "kernel":
            return None, ""
        return UserArgument(origin.number, origin.name, filled), event
    if kind not in ENTRY:
        return None, ""
    if kind == "uprobe":
        name = point.function.rpartition(":")[2] or point.name.rpartition(":")[2]
        table = USER_FUNCTIONS
    else:
        name = point.function
        table = KERNEL_FUNCTIONS
    for argument in table.get(name, ()):
        if argument.number == origin.number or (origin.name and argument.name == origin.name):
            return argument, name
    return None, ""


def _return_of(unit: Unit, probe: str, function: str, where: str) -> str:
    """The probe that fires when the call is over."""
    if where.startswith("sys_enter_"):
        return f"tracepoint:syscalls:{where.replace('sys_enter_', 'sys_exit_', 1)}"
    other = {"kprobe": "kretprobe", "fentry": "fexit", "uprobe": "uretprobe"}.get(
        unit.kind.name, "the return probe"
    )
    return probe.replace(f"{unit.kind.name}:", f"{other}:", 1) if probe.startswith(unit.kind.name) else other


class _Origins:
    """Which argument of the probe an expression is, through casts, offsets and variables of one assignment."""

    def __init__(self, unit: Unit) -> None:
        self.assigned: dict[str, list[tree.Expression]] = {}
        for node in tree.walk(unit.probe):
            match node:
                case tree.Assign(target=tree.Variable(name=name), operator="=", value=value):
                    self.assigned.setdefault(name, []).append(value)
                case tree.Let(variable=variable, value=tree.Expression() as value):
                    self.assigned.setdefault(variable.name, []).append(value)

    def of(self, node: tree.Expression, depth: int = 8) -> Origin | None:
        if depth <= 0:
            return None
        match node:
            case tree.Call(name="arg", arguments=[tree.Number(value=index)]):
                return Origin(index, "")
            case tree.Member(operand=tree.Call(name="args"), name=name):
                return Origin(-1, name)
            case tree.Call(name="kptr" | "uptr" as name, arguments=[inner]):
                found = self.of(inner, depth - 1)
                return (
                    found._replace(space="user" if name == "uptr" else "kernel")
                    if found is not None
                    else None
                )
            case tree.Cast(operand=inner):
                return self.of(inner, depth - 1)
            case tree.Binary(operator="+" | "-", left=left):
                return self.of(left, depth - 1)
            case tree.Variable(name=name) if len(self.assigned.get(name, ())) == 1:
                return self.of(self.assigned[name][0], depth - 1)
            case _:
                return None


# ---------------------------------------------------------------------- wrappers and records


def _wrapper(unit: Unit, call: tree.Call, parents: dict[int, tree.Node]) -> Iterator[Finding]:
    """Arguments of a system call taken from the registers of its wrapper, which has one: a struct pt_regs."""
    if call.name != "arg" or unit.kind.name != "kprobe":
        return
    index = call.arguments[0].value if call.arguments and isinstance(call.arguments[0], tree.Number) else -1
    for point in unit.points:
        found = WRAPPER.fullmatch(point.function)
        if found is None:
            continue
        parent = parents.get(id(call))
        if index == 0 and isinstance(parent, tree.Cast) and "pt_regs" in parent.target.base:
            continue
        if index == 0 and isinstance(parent, tree.Assign):
            continue
        yield Finding(
            "wrapper-arguments",
            f"{point.function} is a wrapper: its only parameter, arg0, is a struct pt_regs with the arguments of the "
            f"call, and arg{max(index, 0)} is not what the program passed",
            call.span,
            f"use tracepoint:syscalls:sys_enter_{found[1]} and its args, or ((struct pt_regs *)arg0)->di, ->si, ->dx",
        )
        return


def _record(unit: Unit, node: tree.Node) -> Iterator[Finding]:
    """Reads behind the end of an array in the record."""
    match node:
        case tree.Index(operand=operand, index=tree.Number(value=position)) if _is_argument(operand):
            wanted = position + 1
        case tree.Call(name="buf", arguments=[operand, tree.Number(value=wanted)]) if _is_argument(operand):
            pass
        case _:
            return
    room = _room(operand.type)
    if room and wanted > room:
        yield Finding(
            "past-the-record",
            f"{operand.name if isinstance(operand, tree.Member) else 'the field'} has room for {room}, and element "
            f"{wanted - 1} is read: what lies behind the field, or behind the record",
            node.span,
            f"stay below {room}",
        )


def _is_argument(node: tree.Expression) -> bool:
    return (
        isinstance(node, tree.Member) and isinstance(node.operand, tree.Call) and node.operand.name == "args"
    )


def _room(type_: Type) -> int:
    if isinstance(type_, Str):
        return type_.capacity
    return type_.count if isinstance(type_, Array) else 0
