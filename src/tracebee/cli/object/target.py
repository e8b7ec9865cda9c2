"""Which kernel an object's questions are answered by: the running one, or types out of a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import FormatError, SyscallError
from tracebee.session.objects.btffile import KERNEL_BTF, types_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.btf.reader import Btf
    from tracebee.object.describe import Kernel


def kernel_of(btf: str) -> Kernel:
    """What `--btf` names: a file, ``none``, or without a name the running kernel.

    Raises UsageError, FormatError.
    """
    from tracebee.object.describe import Kernel

    if btf == "none":
        return Kernel("")
    if btf:
        found = types_of(btf)
        return Kernel(btf, found, find=lambda name, kind: _find(found, name, kind))
    return _running()


def _running() -> Kernel:
    from tracebee.btf.reader import Btf
    from tracebee.host.kconfig import kernel_version, read_kconfig
    from tracebee.object.describe import Kernel

    try:
        found = Btf.from_file(f"{KERNEL_BTF}/vmlinux")
    except SyscallError:
        found = None
    kconfig = read_kconfig()
    if kconfig:
        # What every kernel of today has; see tracebee.object.externs.
        kconfig |= {"LINUX_HAS_BPF_COOKIE": "y", "LINUX_HAS_SYSCALL_WRAPPER": "y"}
    modules = _Modules(found)
    return Kernel(
        f"Linux {os.uname().release}",
        found,
        kconfig or None,
        kernel_version(),
        modules.find if found is not None else None,
        _has_symbol,
        modules.all,
    )


class _Modules:
    """A kernel's types and those of its modules, which are read when they are asked for."""

    def __init__(self, btf: Btf | None) -> None:
        self.btf = btf
        self._read: dict[str, Btf] | None = None

    def all(self) -> Mapping[str, Btf]:
        """The types of each module that is loaded, by its name."""
        if self._read is None:
            from tracebee.btf.reader import Btf

            self._read = {}
            names = (
                sorted(os.listdir(KERNEL_BTF)) if self.btf is not None and os.path.isdir(KERNEL_BTF) else []
            )
            for name in names:
                if name != "vmlinux":
                    try:
                        self._read[name] = Btf.from_file(f"{KERNEL_BTF}/{name}", self.btf)
                    except (SyscallError, FormatError):
                        continue  # unloaded meanwhile
        return self._read

    def find(self, name: str, kind: str) -> str | None:
        """Which module has a function or a variable, empty for the kernel itself; None if none has."""
        if self.btf is not None and _find(self.btf, name, kind) is not None:
            return ""
        return next(
            (module for module, btf in self.all().items() if _find(btf, name, kind) is not None), None
        )


def _find(btf: Btf, name: str, kind: str) -> str | None:
    """Empty if types have a function or a variable of this name, else None."""
    from tracebee.btf.types import Func, Var

    return "" if btf.find(name, Func if kind == "function" else Var) is not None else None


def _has_symbol(name: str) -> bool | None:
    """Whether the running kernel has a symbol; None where it does not tell."""
    from tracebee.host.kallsyms import KernelSymbols

    try:
        return KernelSymbols.read().has(name)
    except (OSError, FormatError):
        return None
