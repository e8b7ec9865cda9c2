"""Pass: from attach points as written to concrete points, and to the units that share a program."""

from __future__ import annotations

import re
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tracebee.errors import SourceError, UsageError
from tracebee.language import tree
from tracebee.language.diagnostics import Diagnostics, nearest
from tracebee.language.probes import KINDS, get_kind, kind_name
from tracebee.language.probes.base import Expansion, Point, ProbeKind, Unit, Uses
from tracebee.language.probes.tracepoint import FEW, few_syscalls, is_syscall_event, lower_syscalls
from tracebee.spec.objects import Tracepoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.language.compile import Compilation
    from tracebee.language.source import Span


def make_units(compilation: Compilation) -> list[Unit]:
    """The units of all probes.  Mistakes go to the diagnostics."""
    context = compilation.context
    keep = _filter(compilation.options.probe_filter)
    modes = compilation.options.modes
    expanded: list[tuple[tree.Probe, list[tuple[ProbeKind, Point]]]] = []
    for probe in compilation.program.probes:
        points: list[tuple[ProbeKind, Point]] = []
        for attach_point in probe.points:
            found = expand_point(attach_point.text, attach_point.span, context)
            kept = [(kind, point) for kind, point in found if keep(kind, point)]
            points += without_refused(kept, attach_point.span, context)
        if not points and not compilation.options.probe_filter:
            report_empty(probe, context)
        points = [
            (kind, point)
            for kind, point in points
            if kind.name not in ("test", "bench") or kind.name in modes
        ]
        if modes:
            points = [pair for pair in points if pair[0].name in (*modes, "begin", "end")]
        expanded.append((probe, points))
    context.diagnostics.stop_if_errors()
    total = sum(len(points) for _, points in expanded)
    limit = context.config.number("max_probes")
    if total > limit:
        context.diagnostics.fail(
            f"Can't attach to {total} probes because it exceeds the current limit of {limit} probes.",
            None,
            "You can increase the limit through the max_probes config or the BPFTRACE_MAX_PROBES environment "
            "variable, but BE CAREFUL since a high number of probes attached can cause your system to crash.",
        )
    if not total:
        context.diagnostics.fail("No probes to attach", None, severity="")
    lower = many_syscalls(expanded, context)
    units: list[Unit] = []
    for probe, points in expanded:
        units += group(probe, lower_syscalls(points, context) if lower else points, context, len(units))
    most = context.config.number("max_bpf_progs")
    if len(units) > most:
        context.diagnostics.fail(
            f"The script is compiled to {len(units)} BPF programs, which exceeds the current limit of {most}.",
            None,
            "You can increase the limit through the max_bpf_progs config or the BPFTRACE_MAX_BPF_PROGS environment "
            "variable.",
        )
    return units


def without_refused(
    points: list[tuple[ProbeKind, Point]], span: Span, context: Expansion
) -> list[tuple[ProbeKind, Point]]:
    """The points that this kernel can serve; about the others the first one's reason is told.

    It is told even where missing probes are to be ignored: those are places, and this is a whole kind.
    """
    refusal = next((point.refusal for _, point in points if point.refusal[0]), None)
    if refusal is None:
        return points
    if context.config.text("missing_probes") == "error":
        context.diagnostics.error(refusal[0], span, refusal[1])
    else:
        context.diagnostics.warning(f"{refusal[0]}; skipping this one", span, refusal[1])
    return [(kind, point) for kind, point in points if not point.refusal[0]]


def report_empty(probe: tree.Probe, context: Expansion) -> None:
    """Say that a probe has no place at all, as the configuration wants it said."""
    mode = context.config.text("missing_probes")
    if mode == "error":
        if not context.diagnostics.has_errors:
            context.diagnostics.error(
                "Probe has no valid attach points. If this is expected, set the 'missing_probes' config variable to "
                "'warn'.",
                probe.span,
            )
    elif mode == "warn":
        context.diagnostics.warning(
            "Probe has no valid attach points. It is being removed which may cause issues with program behavior.",
            probe.span,
        )


def many_syscalls(
    expanded: list[tuple[tree.Probe, list[tuple[ProbeKind, Point]]]], context: Expansion
) -> bool:
    """Whether the script has more than a few tracepoints of system calls, where each costs something."""
    if context.machine.attaches_cheaply:
        return False
    places = (point.attach for _, points in expanded for _, point in points)
    found = sum(isinstance(place, Tracepoint) and is_syscall_event(place) for place in places)
    return found > FEW and found > few_syscalls(context)


def _filter(pattern: str) -> Callable[[ProbeKind, Point], bool]:
    """Which points --probe-filter keeps; begin and end always stay."""
    if not pattern:
        return lambda kind, point: True
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"Invalid --probe-filter regex '{pattern}': {error}") from None
    return lambda kind, point: kind.name in ("begin", "end") or wanted.search(point.name) is not None


def split_point(text: str) -> list[str]:
    """An attach point split at its colons; quotes protect one, and are taken off."""
    parts = [""]
    quoted = False
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and quoted and at + 1 < len(text):
            parts[-1] += text[at + 1]
            at += 1
        elif char == '"':
            quoted = not quoted
        elif char == ":" and not quoted:
            parts.append("")
        else:
            parts[-1] += char
        at += 1
    return parts


def expand_point(text: str, span: Span, context: Expansion) -> list[tuple[ProbeKind, Point]]:
    """The points that one attach point means."""
    parts = split_point(text)
    word = parts[0]
    if "*" in word or "[" in word or "?" in word:
        return _expand_wildcard_kind(word, parts[1:], span, context)
    full = kind_name(word)
    if full is None:
        known = [name for name, (_, _, aliases) in KINDS.items() for name in (name, *aliases)]
        context.diagnostics.error(f"Invalid probe type: {word}", span, nearest(word, known))
        return []
    message, hint = context.machine.why_unseen(full, parts[1:])
    if message:
        context.diagnostics.error(message, span, hint)
        return []
    kind = get_kind(full)
    return [(kind, point) for point in kind.expand(parts[1:], span, context)]


def _expand_wildcard_kind(
    word: str, parts: list[str], span: Span, context: Expansion
) -> list[tuple[ProbeKind, Point]]:
    """The points of all kinds whose name matches; what is no place of a kind is passed over in silence.

    Places that cannot be traced here count only where there are no others.
    """
    names = [name for name in KINDS if fnmatchcase(name, word) and name not in ("test", "bench")]
    if not names:
        context.diagnostics.error(f"No probe type matched for {word}", span)
        return []
    found: list[tuple[ProbeKind, Point]] = []
    for name in names:
        if context.machine.why_unseen(name, parts)[0]:
            continue
        kind = get_kind(name)
        attempt = Expansion(
            context.machine, context.types, context.config, Diagnostics(), context.pid, context.unsafe
        )
        with suppress(SourceError):
            points = kind.expand(parts, span, attempt)
            if not attempt.diagnostics.has_errors:
                found += [(kind, point) for point in points]
    possible = [(kind, point) for kind, point in found if not point.refusal[0]]
    return possible or found


def uses_of(probe: tree.Probe) -> Uses:
    """What the body and the predicate mention."""
    arguments = whole = names_probe = names_function = False
    members: set[str] = set()
    for part in (probe.predicate, probe.body):
        if part is None:
            continue
        parents = {id(child): node for node in tree.walk(part) for child in tree.children(node)}
        for node in tree.walk(part):
            if not isinstance(node, tree.Call):
                continue
            if node.name == "args":
                arguments = True
                parent = parents.get(id(node))
                if isinstance(parent, tree.Member):
                    members.add(parent.name)
                else:
                    whole = True
            elif node.name == "probe":
                names_probe = True
            elif node.name == "func":
                names_function = True
    return Uses(arguments, None if whole else frozenset(members), names_probe, names_function)


def group(
    probe: tree.Probe, points: list[tuple[ProbeKind, Point]], context: Expansion, start: int
) -> list[Unit]:
    """Points of a probe that can share a program become one unit, in the order of their first point."""
    uses = uses_of(probe)
    groups: dict[object, Unit] = {}
    for kind, point in points:
        # The kind itself, not its name: entries and exits of system calls are both "tracepoint".
        signature: object = (kind, kind.signature(point, uses, context))
        if kind.one_program_each or _needs_own(kind, uses, context):
            signature = (kind, len(groups))
        unit = groups.get(signature)
        if unit is None:
            name = program_name(point.name, start + len(groups) + 1)
            groups[signature] = unit = Unit(kind, [], probe, uses, name)
        unit.points.append(point)
    units = list(groups.values())
    for unit in units[1:]:
        # Each unit infers and binds for itself.
        unit.probe = tree.clone(probe)
    for unit in units:
        unit.context = context
        multi = unit.kind.multi_feature
        unit.multi_links = bool(multi) and len(unit.points) > 1 and context.machine.feature(multi)
        if uses.arguments:
            unit.arguments = unit.kind.arguments(unit.points[0], context)
        unit.kind.check(unit, context)
    return units


def _needs_own(kind: ProbeKind, uses: Uses, context: Expansion) -> bool:
    """Whether a program cannot tell which of its points it runs at, but is asked."""
    return uses.probe and not kind.tells_points_apart(context)


def program_name(point: str, number: int) -> str:
    """A name for a program in the kernel: the attach point as far as its rules allow, and a number.

    Names have letters, digits, underscores and dots (bpf_obj_name_cpy) and 15 characters; the function in
    BTF has the whole name.
    """
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', point)[:100]}_{number}"
