"""Built-ins that take call stacks.

A stack is told by a hash of its frames; the frames go once into a map of their own, under that hash.  So a
stack costs sixteen bytes in a key, a value or a record, whatever its depth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import VOID, Builtin
from tracebee.language.ir import Address, MapHandle, MapSpot, Reg
from tracebee.spec.objects import GLOBALS_MAP, STACKS_MAP, Globals
from tracebee.spec.types import Stack, Type

if TYPE_CHECKING:
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference

MODES = ("bpftrace", "perf", "raw", "build_id")
MOST_FRAMES = 127
"""PERF_MAX_STACK_DEPTH, the default of kernel.perf_event_max_stack."""

BPF_F_USER_STACK = 1 << 8
MULTIPLIER = 0x9E37_79B9_7F4A_7C15
"""2^64 over the golden ratio: multiplying by it spreads every bit over the upper ones (Knuth, TAOCP 6.4)."""


class Kstack(Builtin):
    name = "kstack"
    forms: tuple[str, ...] = ("kstack", "kstack([mode][, limit])")
    description = "the kernel's call stack"
    bare = True
    maximum = 2
    words = frozenset(("*",))
    user = False

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        mode, limit = infer.config.text("stack_mode"), MOST_FRAMES
        for argument in call.arguments:
            if isinstance(argument, tree.Name):
                mode = argument.name
                if mode not in MODES:
                    infer.error(
                        f"Error parsing stack mode: {self.name}: Invalid value for stack_mode: valid values are "
                        "bpftrace, raw, perf, and build_id.",
                        argument.span,
                    )
                    return VOID
            elif isinstance(argument, tree.Number):
                infer.visit(argument)
                limit = argument.value
            else:
                infer.visit(argument)
                infer.error(f"{self.name}() expects a mode and a literal limit", call.span)
                return VOID
        if not 0 < limit <= MOST_FRAMES:
            if limit > MOST_FRAMES:
                infer.error(
                    f"{self.name}([int limit]) limit shouldn't exceed {MOST_FRAMES}, {limit} given", call.span
                )
            limit = min(max(limit, 0), MOST_FRAMES)
        if self.user and mode != "raw":
            infer.context.uses_user_symbols = True
        return Stack(self.user, mode, limit)

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        type_ = call.type
        assert isinstance(type_, Stack)
        with low.temporaries():
            take_stack(low, type_, to)


class Ustack(Kstack):
    name = "ustack"
    forms: tuple[str, ...] = ("ustack", "ustack([mode][, limit])")
    description = "the process's call stack"
    user = True


class DwUstack(Ustack):
    name = "dw_ustack"
    forms = ("dw_ustack([mode][, limit])",)
    description = "the process's call stack, by unwind tables; not available yet"

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        infer.error("dw_ustack() is not available", call.span, "use ustack, which follows frame pointers")
        return VOID


def take_stack(low: Lowering, type_: Stack, to: Address) -> None:
    """Take a stack, file its frames, and put its id, process and number of frames at an address."""
    from tracebee.language.lower import strings

    build = low.build
    build.stack_frames = max(build.stack_frames, type_.limit, 1)
    low.store(to, 0, 8)
    low.store(to.plus(8), 0, 8)
    if type_.user:
        both = low.fact("pid_tgid", lambda: low.call("get_current_pid_tgid"))
        low.store(to.plus(8), low.fact("tgid", lambda: low.alu(">>", both, 32)), 4)
    # The map's value may be larger than this stack: another one may want more frames.
    frames = low.memory(8 * MOST_FRAMES, on_stack=False)
    base = low.pointer(frames)
    flags = BPF_F_USER_STACK if type_.user else low.unit.kind.skipped_frames
    got = low.call("get_stack", low.ctx(), base, 8 * type_.limit, flags)
    end = low.label("stack")
    low.branch("s<=", got, 0, end)
    with low.branch_scope():
        count = low.alu(">>", got, 3)
        hashed = low.move(count, "hash")
        factor = low.move(MULTIPLIER)

        def mix(index: Reg, leave: str) -> None:
            low.branch(">=", index, count, leave)
            at = low.alu("+", base, low.alu("<<", index, 3))
            assert type(at) is Reg
            mixed = low.alu("*", low.alu("^", hashed, low.load(Address(at, 0), 8)), factor)
            low.set(hashed, low.alu("^", mixed, low.alu(">>", mixed, 29)))

        strings.counted_loop(low, type_.limit, mix)
        low.store(to, hashed, 8)
        low.store(to.plus(12), count, 4)
        # Linux 5.10 takes no key that lies in a record of the ring buffer, which may be where the stack goes.
        key = low.memory(8, on_stack=True)
        low.store(key, hashed, 8)
        known = low.call("map_lookup_elem", MapHandle(STACKS_MAP), key)
        low.branch("!=", known, 0, end)
        filed = low.call("map_update_elem", MapHandle(STACKS_MAP), key, frames, 0)
        low.branch("==", filed, 0, end)
        spot = low.move(MapSpot(GLOBALS_MAP, Globals.STACKS_LOST))
        low.atomic("+", Address(spot, 0), 1)
    low.place_label(end)
