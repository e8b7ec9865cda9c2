"""What kprobes and trampolines share: functions of the kernel, their prototypes, and where arguments lie.

A wrapper of a system call is a function of its own kind.  What SYSCALL_DEFINE makes, such as __x64_sys_read,
has one parameter, a pointer to the struct pt_regs of the process; the call's own arguments are the registers
in there (arch/x86/include/asm/syscall_wrapper.h, arch/arm64/include/asm/syscall_wrapper.h).
"""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import translate
from typing import TYPE_CHECKING

from tracebee.errors import PermissionRefused
from tracebee.language import tree
from tracebee.language.probes.base import no_match
from tracebee.language.probes.tracepoint import field_type, is_pattern
from tracebee.records import Frozen
from tracebee.spec.types import UINT64, Bool, Pointer, Type, Void

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.btf import Btf
    from tracebee.btf.types import FuncProto
    from tracebee.language.ir import Operand, Reg
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.machine import Arch
    from tracebee.language.probes.base import Expansion, ProbeKind, Unit
    from tracebee.language.source import Span
    from tracebee.language.typetable import TypeTable

CORE = "vmlinux"
"""How the kernel itself is called where a module could stand."""


class Function(Frozen):
    """A function of the kernel: `module` is CORE or a module's name, `copies` how many share both names."""

    module: str
    name: str
    copies: int = 1


def find_functions(kind: ProbeKind, parts: Sequence[str], span: Span, context: Expansion) -> list[Function]:
    """The functions that ``function`` or ``module:function`` means, sorted by name.

    If there is none that is told, as the configuration wants it told.
    """
    module = parts[0] if len(parts) == 2 else "*"
    wanted = parts[-1]
    found: Counter[tuple[str, str]] = Counter()
    if is_pattern(wanted):
        matches = re.compile(translate(wanted)).match
        owns = re.compile(translate(module)).match
        for owner, name in context.machine.kernel_functions():
            if matches(name) and owns(owner) and is_safe(name):
                found[name, owner] += 1
    else:
        owns = re.compile(translate(module)).match
        owners = context.machine.function_modules(wanted, kind.has_registers)
        found.update((wanted, owner) for owner in owners if owns(owner))
    if not found:
        report_missing(kind, parts, span, context)
    return [Function(owner, name, count) for (name, owner), count in sorted(found.items())]


def report_missing(kind: ProbeKind, parts: Sequence[str], span: Span, context: Expansion) -> None:
    """Say that there is no such function, and for a plain name why."""
    target = ":".join(parts)
    if is_pattern(target):
        no_match(kind, target, span, context)
        return
    elsewhere = context.machine.function_modules(parts[-1]) if len(parts) == 2 else ()
    if elsewhere:
        reason = f"{parts[-1]} is not in {parts[0]}, but in {', '.join(sorted(set(elsewhere)))}"
        hint = f"write {kind.name}:{elsewhere[0]}:{parts[-1]}"
    else:
        reason, hint = context.machine.why_no_function(parts[-1])
    mode = context.config.text("missing_probes")
    if mode == "error":
        if not hint:
            hint = (
                "if this is expected, set the 'missing_probes' config variable to 'warn' or 'ignore'; "
                f"tracebee -l '{kind.name}:*{parts[-1].strip('_')}*' lists names that hold this one"
            )
        context.diagnostics.error(f"No matches for {kind.name} {target}: {reason}", span, hint)
    elif mode == "warn":
        context.diagnostics.warning(f"No matches for {kind.name} {target}: {reason}. Skipping.", span, hint)


def is_safe(name: str) -> bool:
    """Whether a function may be probed by a wildcard: RCU's own must not be, they run inside every probe."""
    return not name.startswith(("rcu_", "__rcu_"))


def listed_functions(kind: str, pattern: str, context: Expansion) -> Iterable[str]:
    """``kind:function`` of every function that matches, with the module if the pattern speaks of one."""
    with_module = pattern.count(":") > 1
    matches = re.compile(translate(pattern)).match
    for module, name in context.machine.kernel_functions():
        full = f"{kind}:{module}:{name}" if with_module else f"{kind}:{name}"
        if matches(full):
            yield full


# --- prototypes


class Parameter(Frozen):
    """A parameter: `slot` is the number of the first eight bytes it takes, in registers or on the stack.

    `is_direct` says that the verifier lets tracing programs load it from their context.
    """

    name: str
    type: Type
    slot: int
    is_direct: bool = True


class Prototype(Frozen):
    """A function's parameters and result by BTF; `slots` is how many times eight bytes the parameters take.

    `is_wide` says that a parameter is too large for registers, and `is_result_direct` is about the result what
    `Parameter.is_direct` is.
    """

    parameters: tuple[Parameter, ...]
    result: Type
    slots: int
    is_result_direct: bool = True
    is_variadic: bool = False
    is_wide: bool = False


def module_types(module: str, context: Expansion) -> TypeTable | None:
    """The types that the functions of a module speak of; None where it has no BTF."""
    if module in ("", CORE):
        return context.types if context.types.btf is not None else None
    return context.types.of_module(module, lambda: context.machine.module_btf(module))


def function_id(btf: Btf, name: str) -> int | None:
    from tracebee.btf.types import Func

    return btf.find(name, Func)


def prototype_of(function: Function, context: Expansion) -> Prototype | None:
    """What BTF says of a function, or None."""
    types = module_types(function.module, context)
    btf = types.btf if types is not None else None
    if types is None or btf is None:
        return None
    found = function_id(btf, function.name)
    if found is None:
        return None
    from tracebee.btf.types import Func, FuncProto

    one = btf.type(found)
    assert isinstance(one, Func)
    prototype = btf.type(btf.resolve(one.type_id))
    if not isinstance(prototype, FuncProto):
        return None
    return _prototype(prototype, types, btf)


def _prototype(prototype: FuncProto, types: TypeTable, btf: Btf) -> Prototype:
    parameters = []
    slot = 0
    is_wide = False
    for parameter in prototype.params:
        if not parameter.type_id:
            break
        size = btf.size_of(parameter.type_id)
        type_ = types.from_btf(parameter.type_id)
        parameters.append(Parameter(parameter.name, type_, slot, _is_direct(parameter.type_id, btf)))
        is_wide |= size > 16
        slot += max(1, -(-size // 8))
    variadic = any(not parameter.type_id for parameter in prototype.params)
    result = prototype.return_type_id
    return Prototype(
        tuple(parameters), types.from_btf(result), slot, _is_direct(result, btf), variadic, is_wide
    )


def _is_direct(type_id: int, btf: Btf) -> bool:
    """Whether btf_ctx_access() in the kernel's kernel/bpf/btf.c takes a load of an argument, since Linux 5.10.

    Pointers to numbers came later (5.17, bb6728d75611), those to functions and pointers later or never.
    """
    from tracebee.btf.types import Composite, Int, Ptr

    found = btf.type(btf.resolve(type_id))
    if not isinstance(found, Ptr):
        return True
    target = btf.resolve(found.type_id)
    behind = btf.type(target)
    return target == 0 or isinstance(behind, Composite) or (isinstance(behind, Int) and behind.name == "char")


def describe_prototype(
    module: str, name: str, context: Expansion, with_result: bool = False
) -> Iterable[tuple[str, str]]:
    """C type and name of each parameter, and of the result, for ``-lv``."""
    types = module_types(module, context)
    btf = types.btf if types is not None else None
    found = function_id(btf, name) if btf is not None else None
    if btf is None or found is None:
        return
    from tracebee.btf.format import function_params, return_type

    yield from function_params(btf, found)
    if with_result:
        yield return_type(btf, found), "retval"


# --- wrappers of system calls


class Wrapper(Frozen):
    """A wrapper of the system call `name`: the registers of struct pt_regs that carry the arguments.

    Of a 32-bit caller the lower half of each counts.
    """

    function: str
    name: str
    registers: tuple[str, ...]
    narrow: bool = False


IA32_ARGUMENTS = ("bx", "cx", "dx", "si", "di", "bp")
"""SC_IA32_REGS_TO_ARGS in arch/x86/include/asm/syscall_wrapper.h."""

PREFIXES: dict[str, dict[str, tuple[tuple[str, ...], bool]]] = {
    "x86_64": {
        "__x64_sys_": (("di", "si", "dx", "r10", "r8", "r9"), False),
        "__ia32_sys_": (IA32_ARGUMENTS, True),
        "__ia32_compat_sys_": (IA32_ARGUMENTS, True),
        "__x64_compat_sys_": (("di", "si", "dx", "r10", "r8", "r9"), False),
    },
    "aarch64": {
        "__arm64_sys_": (tuple(f"x{number}" for number in range(6)), False),
        "__arm64_compat_sys_": (tuple(f"x{number}" for number in range(6)), True),
    },
}


def wrapper_of(function: str, arch: Arch) -> Wrapper | None:
    """What a function wraps, if it is a system call's wrapper."""
    for prefix, (registers, narrow) in PREFIXES.get(arch.name, {}).items():
        if function.startswith(prefix) and "." not in function:
            return Wrapper(function, function.removeprefix(prefix), registers, narrow)
    return None


class SyscallArgument(Frozen):
    """An argument of a system call: its C type as the kernel writes it, and the register that carries it."""

    name: str
    c_type: str
    type: Type
    register: str
    narrow: bool = False


def syscall_arguments(wrapper: Wrapper, context: Expansion) -> tuple[SyscallArgument, ...]:
    """What a system call takes: by its tracepoint, or else by the BTF of the function behind the wrapper."""
    found = _by_tracepoint(wrapper, context) or _by_function(wrapper, context)
    return tuple(
        SyscallArgument(name, c_type, type_, register, wrapper.narrow)
        for (name, c_type, type_), register in zip(found, wrapper.registers, strict=False)
    )


def _by_tracepoint(wrapper: Wrapper, context: Expansion) -> list[tuple[str, str, Type]]:
    try:
        event = context.machine.tracepoint_format("syscalls", f"sys_enter_{wrapper.name}")
    except (OSError, PermissionRefused):
        return []
    # The first field is the number; strings that newer kernels copy out of the process come behind.
    return [
        (field.name, field.c_type, field_type(field, context.types, True))
        for field in (event.fields if event is not None else ())
        if not field.is_common and field.name != "__syscall_nr" and not field.data_loc
    ]


def _by_function(wrapper: Wrapper, context: Expansion) -> list[tuple[str, str, Type]]:
    btf = context.types.btf
    if btf is None:
        return []
    for prefix in ("__do_sys_", "__do_compat_sys_", "__se_sys_", "ksys_"):
        function = Function(CORE, f"{prefix}{wrapper.name}")
        prototype = prototype_of(function, context)
        if prototype is None:
            continue
        texts = [text for text, _ in describe_prototype(CORE, function.name, context)]
        return [
            (parameter.name, text, _in_user_space(parameter.type))
            for parameter, text in zip(prototype.parameters, texts, strict=True)
        ]
    return []


def _in_user_space(type_: Type) -> Type:
    return Pointer(type_.target, "user") if isinstance(type_, Pointer) else type_


def from_register(low: Lowering, value: Operand, type_: Type) -> Operand:
    """What a register says of a value of a C type: only as many of its bits count as the type has."""
    from tracebee.language.lower.expressions import narrowed

    if isinstance(type_, Bool):
        value = low.alu("&", value, 0xFF)
    return narrowed(low, value, UINT64, type_)


def load_wrapped(low: Lowering, regs: Reg, argument: SyscallArgument, is_direct: bool) -> Operand:
    """An argument of a system call, from the struct pt_regs at `regs`, by a plain load or by a helper."""
    from tracebee.language.ir import Address
    from tracebee.language.lower import memory

    place = Address(regs, low.machine.arch.registers[argument.register])
    size = 4 if argument.narrow else 8
    return low.load(place, size) if is_direct else memory.read_scalar(low, "kernel", place, size, False)


def warn_of_wrapper(unit: Unit, wrapper: Wrapper, context: Expansion) -> None:
    """``argN`` of a wrapper is not what it looks like, unless it is taken for the registers that it is."""
    for part in (unit.probe.predicate, unit.probe.body):
        if part is None:
            continue
        parents = {id(child): node for node in tree.walk(part) for child in tree.children(node)}
        for node in tree.walk(part):
            if isinstance(node, tree.Call) and node.name == "arg":
                parent = parents.get(id(node))
                if not (isinstance(parent, tree.Cast) and "pt_regs" in parent.span.text):
                    _warn_of_argument(node, wrapper, context)


def _warn_of_argument(node: tree.Call, wrapper: Wrapper, context: Expansion) -> None:
    number = node.arguments[0]
    assert isinstance(number, tree.Number)
    names = [f"args.{one.name}" for one in syscall_arguments(wrapper, context)]
    if number.value == 0:
        what = (
            f"arg0 of {wrapper.function} is a pointer to the struct pt_regs in which the arguments of "
            f"{wrapper.name}() are, not the first of them"
        )
    else:
        what = (
            f"arg{number.value} of {wrapper.function} is whatever its register held: the wrapper of a system call "
            "has one argument, a pointer to struct pt_regs"
        )
    context.diagnostics.warning(what, node.span, f"use {', '.join(names)}" if names else "")


def merged_result(results: Iterable[Type | None]) -> Type:
    """What `retval` is where a program serves several functions: their type if all agree, else a plain number."""
    first: Type | None = None
    for result in results:
        if result is None or isinstance(result, Void) or not result.is_scalar:
            return UINT64
        if first is not None and result != first:
            return UINT64
        first = result
    return UINT64 if first is None else first
