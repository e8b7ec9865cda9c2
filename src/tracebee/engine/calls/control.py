"""Helper functions that decide what runs next."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.engine.calls.base import MASK32, find_map, wrong_map
from tracebee.engine.faults import ProgramFault
from tracebee.engine.maps.nested import ProgramArray

if TYPE_CHECKING:
    from tracebee.engine.runtime import Helper, Runtime

MOST_ROUNDS = 8 << 20
"""BPF_MAX_LOOPS of linux/bpf.h."""


def loop(machine: Runtime) -> Helper:
    """(rounds, function, its argument, 0): how many rounds were made."""

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        rounds = r1 & MASK32
        if r4:
            return -errno.EINVAL
        if rounds > MOST_ROUNDS:
            return -errno.E2BIG
        invoke = machine.invoke
        for index in range(rounds):
            if invoke(r2, index, r3):
                return index + 1
        return rounds

    return call


def tail_call(machine: Runtime) -> Helper:
    """(context, array of programs, index): does not come back if there is such a program."""

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = find_map(machine.maps, r2, "r2")
        if not isinstance(table, ProgramArray):
            raise wrong_map(table, "tail_call")
        program = table.programs.get(r3 & MASK32)
        return -errno.ENOENT if program is None else machine.tail_call(program, r1)

    return call


def unanswered(machine: Runtime) -> Helper:
    """What stands for an instruction whose question about a type nothing answers (tracebee.btf.core.POISON)."""

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        raise ProgramFault("the target has not the type, field or constant that is needed here (CO-RE)")

    return call


MAKERS = {"loop": loop, "tail_call": tail_call}
