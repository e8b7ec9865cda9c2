"""What helper functions are made of, and what several of them need."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.engine.faults import ProgramFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.engine.maps.base import EngineMap
    from tracebee.engine.runtime import Helper, Runtime

    Make = Callable[[Runtime], Helper]

MASK32 = (1 << 32) - 1


class Call(NamedTuple):
    """A helper function.  `make` ties it to a machine: what comes takes r1 to r5 and gives r0, as any int.

    A failure that a program has to reckon with is minus an errno; what no verified program does ends in a
    ProgramFault or MemoryFault.
    """

    name: str
    make: Make


def no_map(value: int, register: str = "r1") -> ProgramFault:
    return ProgramFault(f"{register} holds no map", value)


def find_map(maps: dict[int, EngineMap], value: int, register: str = "r1") -> EngineMap:
    """The map whose handle a register holds."""
    table = maps.get(value)
    if table is None:
        raise no_map(value, register)
    return table


def wrong_map(table: EngineMap, helper: str) -> ProgramFault:
    return ProgramFault(f"{helper} is not for map {table.spec.name} of type {table.spec.type}")
