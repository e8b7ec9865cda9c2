"""What a kind of probe is to the compiler: one record a kind, one file a record.

A kind turns an attach point as written into points (concrete places), says what a program at such a place may
use, and emits the code that reads its arguments.  Attaching is the backend's: a point carries a plain Attach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.records import Frozen, Mutable
from tracebee.spec.objects import ProbeSpec, RunOnce
from tracebee.spec.types import Struct, Type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language import tree
    from tracebee.language.config import Config
    from tracebee.language.diagnostics import Diagnostics
    from tracebee.language.ir import Address, Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.machine import Machine
    from tracebee.language.source import Span
    from tracebee.language.typetable import TypeTable
    from tracebee.spec.objects import Attach


class Point(Frozen):
    """One concrete place.

    `name` is what the `probe` builtin gives, `function` what `func` gives (empty: not a function).  `facts`
    is whatever the kind wants to remember of it, a comparable value.  `refusal` is the message and the hint
    for a place that exists but cannot be traced here.  An `optional` one came from a wildcard.
    """

    name: str
    attach: Attach
    function: str = ""
    facts: Any = None
    refusal: tuple[str, str] = ("", "")
    optional: bool = False


class Expansion(Mutable):
    """What the expansion of attach points may look at and report to."""

    machine: Machine
    types: TypeTable
    config: Config
    diagnostics: Diagnostics
    pid: int = 0
    unsafe: bool = False
    uses_user_symbols: bool = False


class Uses(Frozen):
    """What a probe's body mentions; it decides which points can share one program.

    `members` are the members of `args` that are read, or None if `args` is used as a whole.
    """

    arguments: bool = False
    members: frozenset[str] | None = frozenset()
    probe: bool = False
    function: bool = False


class Unit(Mutable):
    """A probe compiled for points that share one program."""

    kind: ProbeKind
    points: list[Point]
    probe: tree.Probe
    uses: Uses
    name: str
    first_probe_id: int = 0
    arguments: Struct | None = None
    context: Expansion | None = None
    multi_links: bool = False


class ProbeKind:
    """Base of the kinds.  Methods that are not overridden say that the kind has no such thing."""

    name = ""
    aliases: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    """How attach points of this kind are written, for messages and documentation."""

    program_type = ""
    expected_attach_type = ""
    space = ""
    """The address space that a plain number cast to a pointer is taken to point into."""

    filters_by_program = False
    """Whether the place is not a process's, or more than that process's, so that ``-p`` is a test in front."""

    multi_feature = ""
    """The feature by which one link can hold many points, or empty."""

    one_program_each = False
    """Whether every point needs a program of its own."""

    is_exclusive = False
    """Whether on its CPU no program of another exclusive kind can start before this one has ended.

    The kernel sees to that for tracepoints, kprobes and perf events, also in interrupts: trace_call_bpf,
    kprobe_multi_link_prog_run and bpf_overflow_handler run nothing where bpf_prog_active is taken.  `begin`
    runs before anything is attached, and `end` after everything is detached.  No other kind has this guard.
    """

    heeds_exit = True
    """Whether a probe that fires after exit() was called does nothing."""

    is_preemptible = False
    """Whether two tasks on one CPU can be in the program at once, so that per-CPU memory needs a claim."""

    def expand(self, parts: list[str], span: Span, context: Expansion) -> list[Point]:
        """The points that an attach point means; `parts` is what is written behind the kind, split at colons.

        Mistakes go to the diagnostics.  An empty list means that there is no such place.
        """
        raise NotImplementedError

    def listed(self, pattern: str, context: Expansion) -> Iterable[str]:
        """The names of all points that match a wildcard pattern, for ``-l``; it includes the kind."""
        return ()

    def describe_arguments(self, name: str, context: Expansion) -> Iterable[tuple[str, str]]:
        """Type and name of each argument of a point, for ``-lv``."""
        return ()

    def signature(self, point: Point, uses: Uses, context: Expansion) -> object:
        """Points whose signatures are equal can share one program."""
        return (point.function if uses.function else "", None)

    def tells_points_apart(self, context: Expansion) -> bool:
        """Whether a program attached to several points can find out at which it runs (`load_probe_id`)."""
        return False

    def arguments(self, point: Point, context: Expansion) -> Struct | None:
        """The type of `args`, or None where there is none."""
        return None

    def argument_type(self, number: int) -> Type | None:
        """The type of ``argN``, or None where there is none."""
        return None

    def return_type(self, unit: Unit) -> Type | None:
        """The type of `retval`, or None where there is none."""
        return None

    has_registers = False
    """Whether the context starts with a struct pt_regs, so that reg() works."""

    string_space = ""
    """The address space in which str() looks for a plain number."""

    nullable_pointers = False
    """Whether pointers in the context may be null, which the verifier wants to see tested."""

    skipped_frames = 0
    """Innermost kernel frames that are the tracing itself and are left out of stacks."""

    def no_arguments_reason(self, unit: Unit) -> tuple[str, str]:
        """Message and hint for a script that uses `args` where there is none."""
        return (
            "The args builtin can only be used with tracepoint, rawtracepoint, fentry/fexit, kprobe, and uprobe "
            f"probes ({'special' if isinstance(unit.points[0].attach, RunOnce) else self.name} used here)",
            "",
        )

    def arguments_value(self, arguments: Struct) -> Struct:
        """The type of `args` as a value of its own, with offsets that are those of bytes in memory."""
        return arguments

    def no_member_reason(self, unit: Unit, name: str) -> str:
        """Message for a member that `args` does not have, if there is more to say than that."""
        return ""

    def no_argument_reason(self, number: int) -> str:
        """Message for a script that uses ``argN`` where there is none."""
        return f"The arg{number} builtin can only be used with 'kprobes', 'uprobes' and 'usdt' probes"

    def context_type(self, unit: Unit, context: Expansion) -> Type | None:
        """The type of `ctx`, or None where it cannot be used."""
        return None

    def user_symbol_size(self, unit: Unit, name: str, context: Expansion) -> int | None:
        """The size of a variable of the traced program; -1 if there is none, None where there is no program."""
        return None

    def attach_type(self, unit: Unit) -> str:
        """The expected attach type that the program is loaded with."""
        return self.expected_attach_type

    def probes(self, unit: Unit) -> list[ProbeSpec]:
        """What has to be attached for a unit, in order."""
        return [
            ProbeSpec(point.name, unit.name, point.attach, number, optional=point.optional)
            for number, point in enumerate(unit.points)
        ]

    def attach_to(self, unit: Unit) -> str:
        """The kernel function or type that loading the program needs, or an empty string."""
        return ""

    def attach_module(self, unit: Unit) -> str:
        """The module that has what `attach_to` names; empty for the kernel itself."""
        return ""

    def check(self, unit: Unit, context: Expansion) -> None:
        """Warn of what a probe's body says that cannot be meant."""

    # --- code

    def prologue(self, low: Lowering) -> None:
        """Code in front of the predicate, such as a filter."""

    def load_member(self, low: Lowering, member: str) -> Any:
        """A Place (see lower.places) with the member of `args`."""
        raise NotImplementedError

    def member_value(self, low: Lowering, member: str) -> Operand | None:
        """The number that a member of `args` is, where it is at hand; None to read it from its place."""
        return None

    def store_arguments(self, low: Lowering, call: tree.Call, to: Address) -> None:
        """Put all of `args` at an address, member by member."""
        from tracebee.language.lower import expressions

        type_ = call.type
        assert isinstance(type_, Struct)
        for field in type_.fields:
            expressions.store_place(low, self.load_member(low, field.name), field.type, to.plus(field.offset))

    def load_user_symbol(self, low: Lowering, name: str) -> Any:
        """A register with the address of a variable of the traced program."""
        raise NotImplementedError

    def load_argument(self, low: Lowering, number: int) -> Any:
        """A register with ``argN``."""
        raise NotImplementedError

    def load_return(self, low: Lowering) -> Any:
        """A register with `retval`."""
        raise NotImplementedError

    def load_probe_id(self, low: Lowering) -> Any:
        """A register or constant with the number of the point among the unit's."""
        return 0


def no_match(kind: ProbeKind, target: str, span: Span, context: Expansion) -> None:
    """Say that an attach point matches nothing, as the configuration wants it said.

    A pattern may well match nothing, as long as the probe has other places.
    """
    if any(char in target for char in "*?["):
        return
    mode = context.config.text("missing_probes")
    message = f"No matches for {kind.name} {target}."
    if mode == "error":
        context.diagnostics.error(
            message,
            span,
            "If this is expected, set the 'missing_probes' config variable to 'warn' or 'ignore'.",
        )
    elif mode == "warn":
        context.diagnostics.warning(f"{message} Skipping.", span)
