"""Pass: mistakes that compile, load and attach, and then show wrong values or none.

It looks at the tree after types are known, and changes nothing.  Each complaint has a stable id; a complaint
rests on what the script says and on tables of the kernel's interfaces, never on what a machine happens to have.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tracebee.language import tree
from tracebee.language.filled import FILLED_BY_CALL, KERNEL_FUNCTIONS, USER_FUNCTIONS, UserArgument
from tracebee.spec.objects import Tracepoint
from tracebee.spec.printf import BadFormat, parse_format
from tracebee.spec.types import Array, Int, Pointer, Str, Type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.language.compile import Compilation
    from tracebee.language.probes.base import Unit
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
    parents = {id(child): node for node in tree.walk(unit.probe) for child in tree.children(node)}
    for node in tree.walk(unit.probe):
        if isinstance(node, tree.Call):
            yield from _formats(node)
            yield from _printed(node)
            yield from _wrapper(unit, node, parents)
        if isinstance(node, tree.MapAccess):
            yield from _keys(node)
        address = _read_behind(node)
        if address is not None:
            yield from _memory(unit, node, address, origins)
        yield from _record(unit, node)


# ---------------------------------------------------------------------- what is printed


def _formats(call: tree.Call) -> Iterator[Finding]:
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
        elif (
            conversion.letter in "diuoxX"
            and conversion.bits < 64
            and effective_bits(argument) > conversion.bits
        ):
            wide = f"%l{conversion.letter}" if conversion.letter != "i" else "%ld"
            what = "an address" if isinstance(argument.type, Pointer) else f"a value of {argument.type}"
            yield Finding(
                "value-cut",
                f"{shown} prints {conversion.bits} bits of {what}, which has {effective_bits(argument)}",
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


def effective_bits(node: tree.Expression) -> int:
    """How many bits a value can have, as far as the expression tells: sums of small values are small."""
    match node:
        case tree.Number():
            return 32 if -(1 << 31) <= node.value < 1 << 32 else 64
        case tree.Binary(operator=operator, left=left, right=right):
            if operator in ("==", "!=", "<", ">", "<=", ">=", "&&", "||"):
                return 1
            if operator in ("+", "-", "|", "^"):
                return max(effective_bits(left), effective_bits(right))
            if operator == "&":
                return min(effective_bits(left), effective_bits(right))
            if operator == "%":
                return effective_bits(right)
            if operator in ("/", ">>") and isinstance(right, tree.Number) and effective_bits(left) <= 32:
                return 32
            if operator == ">>" and isinstance(right, tree.Number):
                return max(effective_bits(left) - right.value, 1)
            return _type_bits(node.type)
        case tree.Ternary(then=then, otherwise=otherwise):
            return max(effective_bits(otherwise), effective_bits(then) if then is not None else 0)
        case _:
            return _type_bits(node.type)


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
        argument, where = _user_argument(unit, point.name, point.function, point.attach, origin)
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


def _user_argument(
    unit: Unit, probe: str, function: str, attach: object, origin: Origin
) -> tuple[UserArgument | None, str]:
    """The argument of a probe's place that an address is, if it is one of user space; and the place's name."""
    kind = unit.kind.name
    if isinstance(attach, Tracepoint):
        call = attach.event.removeprefix("sys_enter_")
        if attach.category != "syscalls" or call == attach.event:
            return None, ""
        filled = origin.name in FILLED_BY_CALL.get(call, ())
        if not filled and origin.space != "kernel":
            return None, ""
        return UserArgument(origin.number, origin.name, filled), attach.event
    if kind not in ENTRY:
        return None, ""
    if kind == "uprobe":
        name = function.rpartition(":")[2] or probe.rpartition(":")[2]
        table = USER_FUNCTIONS
    else:
        name = function
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
