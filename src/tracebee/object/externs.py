"""What an object takes from the kernel: variables and functions (.ksyms), and its configuration (.kconfig)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.types import Array, Datasec, Enumeration, Func, Int, Var, Void
from tracebee.errors import FormatError
from tracebee.object.elf import SHN_UNDEF, STB_WEAK, shown
from tracebee.object.problems import Problems
from tracebee.spec.objects import MapSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.btf.reader import Btf
    from tracebee.object.elf import Elf

KSYMS, KCONFIG = ".ksyms", ".kconfig"
KERNEL_VERSION = "LINUX_KERNEL_VERSION"
ABILITIES = ("LINUX_HAS_BPF_COOKIE", "LINUX_HAS_SYSCALL_WRAPPER")
"""What no configuration says; whoever knows puts "y" for these into it."""
LARGEST_KCONFIG = 1 << 20


class Extern(NamedTuple):
    """Something that the object only declares.

    `kind` is "function" (a kfunc), "variable" (with a type, found by BTF), "address" (of a symbol, without a
    type) or "config" (at `offset` of the map .kconfig).  The kernel may lack what `is_weak`.  `type_id` is that
    of the function or of the variable's type.
    """

    name: str
    kind: str
    is_weak: bool
    offset: int = 0
    type_id: int = 0


def declared(elf: Elf, btf: Btf | None, problems: Problems | None = None) -> list[Extern]:
    """The externs in the order of the types; those of the configuration get their places.

    One that makes no sense goes to `problems`, as a FormatError.
    """
    problems = problems or Problems()
    weak = {symbol.name: symbol.binding == STB_WEAK for symbol in elf.symbols if symbol.section == SHN_UNDEF}
    found: list[Extern] = []
    for name, section in _sections(btf):
        if btf is None or name not in (KSYMS, KCONFIG):
            continue
        end = 0
        for one in section.variables:
            try:
                made = (_ksym if name == KSYMS else _setting)(one.type_id, btf, weak, end)
            except FormatError as error:
                problems.take(error)
                continue
            if made.kind == "config":
                end = made.offset + btf.size_of(made.type_id)
            found.append(made)
    return found


def read_externs(
    elf: Elf, btf: Btf | None, kconfig: Mapping[str, str], version: int
) -> tuple[dict[str, Extern], MapSpec | None]:
    """The externs by name, and the map of the configuration.

    `kconfig` are the settings of the kernel, as its configuration writes them (``y``, ``100``, ``"text"``), and
    `version` is its LINUX_VERSION_CODE.  What is not there and has to be raises FormatError.
    """
    found = declared(elf, btf)
    data = bytearray()
    for extern in found:
        if extern.kind == "config" and btf is not None:
            data += bytes(extern.offset - len(data))
            data += setting(extern, btf, kconfig, version)
    spec = None
    if data:
        spec = MapSpec(KCONFIG, "ARRAY", 4, len(data), 1, 1 << 7, contents=bytes(data), frozen=True)
    return {extern.name: extern for extern in found}, spec


def setting(extern: Extern, btf: Btf, kconfig: Mapping[str, str], version: int) -> bytes:
    """The value of an extern of the configuration, zeros for a weak one that is not there.

    Raises FormatError.
    """
    size = btf.size_of(extern.type_id)
    text = kconfig.get(extern.name, "n" if extern.name in ABILITIES else None)
    if extern.name == KERNEL_VERSION and version:
        text = str(version)
    if text is not None:
        return _config_value(extern, btf, size, text)
    if extern.is_weak:
        return bytes(size)
    raise FormatError(f"the kernel's configuration has no {shown(extern.name)}, which the object needs")


def _sections(btf: Btf | None) -> list[tuple[str, Datasec]]:
    if btf is None:
        return []
    found = [btf.type(type_id) for type_id in btf.ids_of_kind(Datasec)]
    return [(section.name, section) for section in found if isinstance(section, Datasec)]


def _ksym(type_id: int, btf: Btf, weak: Mapping[str, bool], end: int) -> Extern:
    found = btf.type(type_id)
    is_weak = weak.get(found.name, False)
    if isinstance(found, Func):
        return Extern(found.name, "function", is_weak, type_id=type_id)
    if not isinstance(found, Var):
        raise FormatError(f"{shown(found.name)} in .ksyms is neither a function nor a variable")
    is_typed = not isinstance(btf.type(btf.resolve(found.type_id)), Void)
    return Extern(found.name, "variable" if is_typed else "address", is_weak, type_id=found.type_id)


def _setting(type_id: int, btf: Btf, weak: Mapping[str, bool], end: int) -> Extern:
    """A variable of .kconfig, which lies behind those that take `end` bytes."""
    var = btf.type(type_id)
    if not isinstance(var, Var):
        raise FormatError("there is something in .kconfig that is no variable")
    if not 0 < btf.size_of(var.type_id) <= LARGEST_KCONFIG or end > LARGEST_KCONFIG:
        raise FormatError(f"{shown(var.name)} in .kconfig has an impossible size")
    offset = end + -end % btf.align_of(var.type_id)
    return Extern(var.name, "config", weak.get(var.name, False), offset, var.type_id)


def _config_value(extern: Extern, btf: Btf, size: int, text: str) -> bytes:
    """A setting as the variable wants it: y, n and m as bool, char or enum libbpf_tristate; numbers; strings."""
    found = btf.type(btf.resolve(extern.type_id))
    if text in ("y", "n", "m"):
        if isinstance(found, Int) and found.size == 1 and not found.is_bool:
            return text.encode()
        if isinstance(found, Enumeration) or (isinstance(found, Int) and found.is_bool):
            value = {"n": 0, "y": 1, "m": 2}[text]
            if not isinstance(found, Int) or value < 2:
                return value.to_bytes(size, btf.byteorder)
    elif text.startswith('"'):
        if isinstance(found, Array):
            return text.strip('"').encode()[: size - 1].ljust(size, b"\0")
    elif isinstance(found, Int) and not found.is_bool and re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|[0-9]+)", text):
        number = int(text, 16) if "x" in text.lower() else int(text)
        least, most = (-(1 << 8 * size - 1), 1 << 8 * size - 1) if found.is_signed else (0, 1 << 8 * size)
        # The largest can be written either way: the configuration knows no signs.
        if least <= number < most or (size == 8 and -(1 << 63) <= number < 1 << 64):
            return (number & (1 << 8 * size) - 1).to_bytes(size, btf.byteorder)
    raise FormatError(
        f"{shown(extern.name)} is {text} in the kernel's configuration, which its type cannot hold"
    )
