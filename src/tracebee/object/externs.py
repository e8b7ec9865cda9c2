"""What an object takes from the kernel: variables and functions (.ksyms), and its configuration (.kconfig)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.types import Array, Datasec, Enumeration, Func, Int, Type, Var, Void
from tracebee.errors import FormatError
from tracebee.object.elf import SHN_UNDEF, STB_WEAK, shown
from tracebee.spec.objects import MapSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.btf.reader import Btf
    from tracebee.object.elf import Elf

KCONFIG = ".kconfig"
KERNEL_VERSION = "LINUX_KERNEL_VERSION"
LARGEST_KCONFIG = 1 << 20


class Extern(NamedTuple):
    """Something that the object only declares.

    `kind` is "function" (a kfunc), "variable" (with a type, found by BTF), "address" (of a symbol, without a
    type) or "config" (at `offset` of the map .kconfig).  The kernel may lack what `is_weak`.
    """

    name: str
    kind: str
    is_weak: bool
    offset: int = 0


def read_externs(
    elf: Elf, btf: Btf | None, kconfig: Mapping[str, str], version: int
) -> tuple[dict[str, Extern], MapSpec | None]:
    """The externs by name, and the map of the configuration.

    `kconfig` are the settings of the kernel, as its configuration writes them (``y``, ``100``, ``"text"``), and
    `version` is its LINUX_VERSION_CODE.  What is not there and has to be raises FormatError.
    """
    weak = {symbol.name: symbol.binding == STB_WEAK for symbol in elf.symbols if symbol.section == SHN_UNDEF}
    found: dict[str, Extern] = {}
    spec = None
    for name, section in _sections(btf):
        if btf is None:
            break
        if name == ".ksyms":
            for one in section.variables:
                declared = btf.type(one.type_id)
                found[declared.name] = Extern(
                    declared.name, _ksym_kind(declared, btf), weak.get(declared.name, False)
                )
        elif name == KCONFIG:
            spec = _config_map(section, btf, weak, kconfig, version, found)
    return found, spec


def _sections(btf: Btf | None) -> list[tuple[str, Datasec]]:
    if btf is None:
        return []
    found = [btf.type(type_id) for type_id in btf.ids_of_kind(Datasec)]
    return [(section.name, section) for section in found if isinstance(section, Datasec)]


def _ksym_kind(declared: Type, btf: Btf) -> str:
    if isinstance(declared, Func):
        return "function"
    if not isinstance(declared, Var):
        raise FormatError(f"{shown(declared.name)} in .ksyms is neither a function nor a variable")
    return "address" if isinstance(btf.type(btf.resolve(declared.type_id)), Void) else "variable"


def _config_map(
    section: Datasec,
    btf: Btf,
    weak: Mapping[str, bool],
    kconfig: Mapping[str, str],
    version: int,
    found: dict[str, Extern],
) -> MapSpec | None:
    data = bytearray()
    for one in section.variables:
        var = btf.type(one.type_id)
        if not isinstance(var, Var):
            raise FormatError("there is something in .kconfig that is no variable")
        size = btf.size_of(var.type_id)
        if not 0 < size <= LARGEST_KCONFIG or len(data) > LARGEST_KCONFIG:
            raise FormatError(f"{shown(var.name)} in .kconfig has an impossible size")
        alignment = btf.align_of(var.type_id)
        data += bytes(-len(data) % alignment)
        text = str(version) if var.name == KERNEL_VERSION and version else kconfig.get(var.name)
        is_weak = weak.get(var.name, False)
        if text is None and not is_weak:
            raise FormatError(f"the kernel's configuration has no {shown(var.name)}, which the object needs")
        found[var.name] = Extern(var.name, "config", is_weak, len(data))
        data += bytes(size) if text is None else _config_value(var, btf, size, text)
    if not data:
        return None
    return MapSpec(KCONFIG, "ARRAY", 4, len(data), 1, 1 << 7, contents=bytes(data), frozen=True)


def _config_value(var: Var, btf: Btf, size: int, text: str) -> bytes:
    """A setting as the variable wants it: y, n and m as bool, char or enum libbpf_tristate; numbers; strings."""
    found = btf.type(btf.resolve(var.type_id))
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
    elif isinstance(found, Int) and re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|[0-9]+)", text):
        number = int(text, 16) if "x" in text.lower() else int(text)
        if -(1 << 8 * size - 1) <= number < 1 << 8 * size:
            return (number & (1 << 8 * size) - 1).to_bytes(size, btf.byteorder)
    raise FormatError(
        f"{shown(var.name)} is {text} in the kernel's configuration, which its type cannot hold"
    )
