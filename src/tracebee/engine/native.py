"""The native path: programs become machine code by llvmlite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tracebee.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.engine.runtime import Function, Linked, Runtime


class NativeDoor(Protocol):
    """How machine code is called; tracebee.syscalls.nativecode is one."""


def compiled(programs: Sequence[Linked], runtime: Runtime, door: NativeDoor) -> list[dict[int, Function]]:
    """The functions of programs by the index of their first instruction."""
    raise NotSupportedError("the native path")
