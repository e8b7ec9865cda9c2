"""The machine that a script is compiled for when its events are made up: the same everywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.language.machine import ARCHES
from tracebee.session.user.machine import ENGINE_FEATURES, UserMachine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.btf import Btf

SEEN = frozenset(("kprobe", "kretprobe", "rawtracepoint", "software", "hardware"))
"""What can be made up beside what ptrace shows."""


class MadeUpMachine(UserMachine):
    """A machine with the tracepoints that ship with tracebee, and every function of the kernel that is named.

    `btf` are the kernel's types, if the script needs some.
    """

    def __init__(self, arch: str = "x86_64", btf: Btf | None = None) -> None:
        """Raises UsageError for an unknown processor."""
        super().__init__(environment={})
        if arch not in ARCHES:
            raise UsageError(f"there is no processor {arch!r} here", f"there are {', '.join(ARCHES)}")
        self.arch = ARCHES[arch]
        self.possible = ENGINE_FEATURES | {"kprobe"}
        self._made_up_btf = btf

    @property
    def cpu_count(self) -> int:
        return 1

    def btf(self) -> Btf | None:
        return self._made_up_btf

    def module_btf(self, module: str) -> Btf | None:
        return None

    def why_unseen(self, kind: str, place: Sequence[str]) -> tuple[str, str]:
        if kind in SEEN:
            return "", ""
        message, _ = super().why_unseen(kind, place)
        return message.replace("the user backend (ptrace)", "a test"), ""

    def why_no_helper(self, helper: str) -> tuple[str, str]:
        message, _ = super().why_no_helper(helper)
        return message.replace("the user backend (ptrace)", "a test"), ""

    def function_modules(self, name: str, by_kprobe: bool = True) -> list[str]:
        return ["vmlinux"] if re.fullmatch(r"[A-Za-z_][\w.]*", name) else []

    def why_no_function(self, name: str) -> tuple[str, str]:
        return "that is no name of a function", ""

    def kernel_functions(self) -> Iterable[tuple[str, str]]:
        return ()
