"""What the programs of one machine run on: memory, stacks, functions by address, and the limits of a run.

Each path (interpreter, translation to Python, native code) makes a `Function` of every function of a program;
this module knows what they have in common: how they call each other, and when they have to stop.
"""

from __future__ import annotations

import errno
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from tracebee.engine.faults import ProgramFault, TailCall
from tracebee.engine.memory import MASK32, Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracebee.engine.check import Code
    from tracebee.engine.maps.base import EngineMap, Shared
    from tracebee.engine.world import World

    # r1 to r5 and the depth of the call, 0 for the program itself → r0.  All but the depth are 64 bits, unsigned.
    Function = Callable[[int, int, int, int, int, int], int]
    # r1 to r5 → r0, which may be any int
    Helper = Callable[[int, int, int, int, int], int]

MASK64 = (1 << 64) - 1

STACK_BYTES = 512
MAX_DEPTH = 8
"""Functions that may be active at once (MAX_CALL_FRAMES of linux/bpf_verifier.h)."""

MAX_TAIL_CALLS = 33
"""Tail calls in one run (MAX_TAIL_CALL_CNT of linux/bpf.h)."""

MAY_GOTO_ROUNDS = 8 << 20
"""How often a may_goto of one function goes on (BPF_MAX_LOOPS of linux/bpf.h)."""

UNIT = 16
"""Instructions of which the fast path keeps account at a time."""


class Linked(NamedTuple):
    """A checked program with its names bound on a machine.

    `values` is what each 64-bit immediate load gives, by index.  `pinned` are those that are addresses of
    memory which stays for as long as the machine.  `helpers` are the functions that it calls, by number.
    `addresses` is what programs know its functions by whose addresses they take, by the index of their start.
    """

    name: str
    code: Code
    values: dict[int, int]
    pinned: frozenset[int]
    helpers: dict[int, Helper]
    addresses: dict[int, int]


class Runtime:
    """What helper functions and running programs see of their machine.

    `maps` is by handle.  `depth` is that of the function that calls a helper which may call back.
    """

    __slots__ = (
        *("beginning", "budget", "context", "depth", "frames", "functions", "helper", "maps", "memory"),
        *("programs", "remaining", "replaced", "shared", "stacks", "tail_calls", "units", "world"),
    )

    def __init__(self, memory: Memory, world: World, shared: Shared, budget: int) -> None:
        self.memory = memory
        self.world = world
        self.shared = shared
        self.maps: dict[int, EngineMap] = shared.by_handle
        # Functions by the address that a program has of them, and programs by number.
        self.functions: dict[int, Function] = {}
        self.programs: dict[int, Function] = {}
        self.helper: Callable[[int], Helper | None] = lambda number: None
        self.stacks = [bytearray(STACK_BYTES) for _ in range(MAX_DEPTH)]
        # Addresses of their ends, where stacks start to grow downwards.
        self.frames = [memory.add(data, True, "the stack") + STACK_BYTES for data in self.stacks]
        self.context = memory.add(b"", False, "the context")
        # The numbers of helper functions that a machine has in place of those of tracebee.engine.calls.
        self.replaced: frozenset[int] = frozenset()
        self.budget = budget
        # What a path has to do besides when a run begins.
        self.beginning: Callable[[], None] | None = None
        self.depth = 0
        self.tail_calls = 0
        self.remaining = 0
        self.units: Iterator[None] = iter(())

    @property
    def cpu(self) -> int:
        """The processor whose part of per-CPU maps the program sees."""
        return self.shared.cpu

    def begin(self) -> None:
        """Make ready for a run."""
        self.depth = self.tail_calls = 0
        self.remaining = self.budget
        self.units = repeat(None, self.budget // UNIT + 1)
        if self.beginning is not None:
            self.beginning()

    def invoke(self, address: int, r1: int = 0, r2: int = 0, r3: int = 0, r4: int = 0, r5: int = 0) -> int:
        """r0 of the function at `address`, which a helper function has got to call back."""
        function = self.functions.get(address)
        if function is None:
            raise ProgramFault("there is no function to call back", address)
        depth = self.depth
        try:
            return function(
                r1 & MASK64, r2 & MASK64, r3 & MASK64, r4 & MASK64, r5 & MASK64, self.deeper(depth)
            )
        finally:
            self.depth = depth

    def call_register(self, value: int, arguments: tuple[int, int, int, int, int], depth: int) -> int:
        """r0 of what a register names: a function by its address, or a helper by its number."""
        function = self.functions.get(value)
        if function is not None:
            return function(*arguments, self.deeper(depth))
        helper = self.helper(value)
        if helper is None:
            raise ProgramFault("call of what is no function", value)
        self.depth = depth
        return helper(*arguments) & MASK64

    def deeper(self, depth: int) -> int:
        """The depth of a function that one at `depth` calls."""
        if depth + 1 >= MAX_DEPTH:
            raise ProgramFault(f"more than {MAX_DEPTH} functions call each other")
        return depth + 1

    def tail_call(self, program: int, context: int) -> int:
        """Go on with another program instead of the running function, by raising TailCall.

        Minus an errno if there have been too many of these, or there is no such program.
        """
        if program not in self.programs:
            return -errno.ENOENT
        if self.tail_calls >= MAX_TAIL_CALLS:
            return -errno.EPERM
        if context & MASK32 or context >> 32 not in self.memory.readable:
            raise ProgramFault("a tail call passes on something else than the context", context)
        self.tail_calls += 1
        raise TailCall(program, context)

    def enter(self, tail: TailCall, depth: int) -> int:
        """r0 of the program that a function at `depth` has given way to."""
        return self.programs[tail.program](tail.context, 0, 0, 0, 0, depth)
