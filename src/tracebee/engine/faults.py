"""What stops a program from inside, before the machine makes an EngineFault of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracebee.engine.runtime import Linked


class Stop(Exception):
    """Base of what a program is stopped by.

    `place` is the program and the index of the instruction, once whoever runs the program has added it.
    """

    place: tuple[Linked, int] | None = None


class ProgramFault(Stop):
    """The program may not do what it does; `address` is what it was about, if it was an address."""

    def __init__(self, reason: str, address: int | None = None) -> None:
        self.reason = reason
        self.address = address
        super().__init__(reason)


class BudgetSpent(ProgramFault):
    """The program has run for as long as it may."""

    def __init__(self, budget: int) -> None:
        super().__init__(f"the program does not end: it has run for {budget} instructions")


class TailCall(Exception):
    """Not a fault: the helper function tail_call leaves the running function for another program.

    `program` is its number on the machine, `context` what it gets in r1.
    """

    def __init__(self, program: int, context: int) -> None:
        self.program = program
        self.context = context
        super().__init__(program)
