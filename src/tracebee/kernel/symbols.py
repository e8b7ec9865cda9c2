"""What programs name in the kernel: types, functions and variables by BTF, addresses by its symbol table.

Names are looked for in the kernel itself first, then in its modules, as far as these have BTF.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import NotSupportedError
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from tracebee.btf.reader import Btf, Kinds

PREFIXES = {
    "btf_trace_": "the raw tracepoint",
    "bpf_lsm_": "the security hook",
    "bpf_iter_": "the iterator",
}
"""How the kernel calls the functions and types that stand for what programs can be attached to."""

NEAREST = 3

MANY = 4
"""From so many names on one pass for all is faster than one each."""


class Found(NamedTuple):
    """A type: its id, and the module whose BTF has it, empty for the kernel itself."""

    type_id: int
    module: str = ""


class KernelNames:
    """Names of the running kernel.

    `btf` gives its types, `module_btf` those of a module, `modules` the names of those that have some,
    `address` where a symbol lies: 0 where that is hidden, None if there is none.  Descriptors of modules' BTF stay
    open until `close`.
    """

    def __init__(
        self,
        btf: Callable[[], Btf | None] = lambda: None,
        module_btf: Callable[[str], Btf | None] = lambda module: None,
        modules: Callable[[], Iterable[str]] = tuple,
        address: Callable[[str], int | None] = lambda name: None,
    ) -> None:
        self._btf = btf
        self._module_btf = module_btf
        self._modules = modules
        self._address = address
        self._found: dict[tuple[str, str], Found | None] = {}
        self._fds: dict[str, int] = {}

    def close(self) -> None:
        """Let go of the descriptors."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def expect(self, names: Collection[str]) -> None:
        """Names that are going to be looked for: many are found faster together."""
        if len(names) >= MANY:
            btf = self._btf()
            if btf is not None:
                btf.expect(names)

    def find(self, name: str, module: str = "") -> Found | None:
        """What has a name: a function or a variable, or the typedef of a raw tracepoint (``btf_trace_…``)."""
        key = name, module
        if key not in self._found:
            self._found[key] = self._find(name, module)
        return self._found[key]

    def _find(self, name: str, module: str) -> Found | None:
        from tracebee.btf.types import Func, Typedef, Var

        kinds: Kinds = Typedef if name.startswith("btf_trace_") else (Func, Var)
        if module:
            own = self._module_btf(module)
            type_id = None if own is None else own.find(name, kinds)
            return None if type_id is None else Found(type_id, module)
        btf = self._btf()
        if btf is None:
            return None
        type_id = btf.find(name, kinds)
        if type_id is not None:
            return Found(type_id)
        for other in self._modules():
            own = self._module_btf(other)
            type_id = None if own is None else own.find(name, kinds)
            if type_id is not None:
                return Found(type_id, other)
        return None

    def get(self, name: str, module: str = "") -> Found:
        """The same; NotSupportedError, with the nearest names, where there is no such thing."""
        found = self.find(name, module)
        if found is not None:
            return found
        if self._btf() is None:
            raise NotSupportedError(
                f"{name}, as the kernel's BTF (/sys/kernel/btf/vmlinux) is not there",
                hint="a kernel built with CONFIG_DEBUG_INFO_BTF=y has it",
            )
        for prefix, words in PREFIXES.items():
            if name.startswith(prefix):
                raise NotSupportedError(
                    f"{words} {name.removeprefix(prefix)}, which this kernel has not",
                    hint=self._near(name, prefix),
                )
        where = f"the BTF of {module}" if module else "the kernel's BTF"
        raise NotSupportedError(f"{name}, which {where} has not", hint=self._near(name, ""))

    def _near(self, name: str, prefix: str) -> str:
        from tracebee.btf.types import Func, Typedef
        from tracebee.host.functions import nearest_names

        btf = self._btf()
        assert btf is not None
        kind: Kinds = Typedef if prefix == "btf_trace_" else Func
        known = [
            other.removeprefix(prefix) for _, other in btf.names_of_kind(kind) if other.startswith(prefix)
        ]
        near = nearest_names(name.removeprefix(prefix), known, NEAREST)
        return f"did you mean {' or '.join(near)}?" if near else ""

    def address(self, name: str) -> int | None:
        """Where a symbol lies, or None; NotSupportedError if that is hidden from us."""
        found = self._address(name)
        if found == 0:
            raise NotSupportedError(
                f"the address of {name}, which the kernel hides",
                hint="addresses are shown to root with sysctl kernel.kptr_restrict=1 or 0",
            )
        return found

    def module_fd(self, module: str) -> int:
        """The descriptor of a module's BTF, which stays open; NotSupportedError if the kernel has none."""
        fd = self._fds.get(module)
        if fd is None:
            fd = bpf.module_btf_fd(module)
            if fd < 0:
                raise NotSupportedError(f"the BTF of the module {module}", "5.11")
            self._fds[module] = fd
        return fd
