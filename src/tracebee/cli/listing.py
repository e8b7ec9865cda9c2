"""-l: probes that match a pattern, the probes of a program, and the definitions of types."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import PermissionRefused
from tracebee.language.config import initial_config
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.probes import KINDS, get_kind, kind_name
from tracebee.language.probes.base import Expansion
from tracebee.language.typetable import TypeTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.cli.trace import Arguments
    from tracebee.session.machine import LiveMachine

TYPE_WORDS = ("struct ", "union ", "enum ")


def run_listing(arguments: Arguments) -> int:
    """Print what was asked for; the exit status."""
    from tracebee.cli.trace import make_machine

    machine = make_machine(arguments)
    context = Expansion(
        machine,
        TypeTable(machine.btf),
        initial_config(),
        Diagnostics(),
        arguments.pid,
        arguments.unsafe,
    )
    if arguments.program is not None or (arguments.words and os.path.isfile(arguments.words[0])):
        lines = program_probes(arguments, machine)
    else:
        lines = matching(arguments.words[0] if arguments.words else "*", context, arguments.verbose)
    from tracebee.cli.output import open_output

    output = open_output(arguments.output, "text", "full", True)
    for line in lines:
        output.write(line + "\n")
    output.close()
    return 0


def matching(patterns: str, context: Expansion, verbose: bool) -> Iterable[str]:
    """Lines for a comma-separated list of patterns; `verbose` adds arguments."""
    for pattern in patterns.split(","):
        pattern = pattern.strip()
        if pattern.startswith(TYPE_WORDS):
            yield from types_matching(pattern, context)
        else:
            yield from probes_matching(pattern, context, verbose)


def probes_matching(pattern: str, context: Expansion, verbose: bool) -> Iterable[str]:
    """Names of probes, kind by kind, each sorted."""
    kinds = kinds_of(pattern, context)
    for kind, full in kinds:
        message, hint = context.machine.why_unseen(kind, ())
        if message:
            if len(kinds) == 1:
                from tracebee.cli.messages import report

                report(f"WARNING: {message}", hint)
            continue
        try:
            names = sorted(set(get_kind(kind).listed(full, context)))
        except PermissionRefused as refused:
            import sys

            print(f"WARNING: {kind} probes cannot be listed: {refused}", file=sys.stderr)
            continue
        for name in names:
            yield name
            if verbose:
                for type_text, argument in get_kind(kind).describe_arguments(name, context):
                    yield f"    {type_text} {argument}".rstrip()


def kinds_of(pattern: str, context: Expansion) -> list[tuple[str, str]]:
    """The kinds that a pattern speaks of, each with the pattern for its names."""
    from fnmatch import fnmatchcase

    word, colon, rest = pattern.partition(":")
    if not colon:
        full = kind_name(word)
        if full is not None:
            return [(full, f"{full}:*")]
        # A single word is looked for in the names of all kinds that live in the kernel.
        return (
            [(kind, f"{kind}:{pattern}") for kind in KINDS]
            if pattern != "*"
            else [(k, f"{k}:*") for k in KINDS]
        )
    full = kind_name(word)
    if full is not None:
        return [(full, f"{full}:{rest}")]
    return [(kind, f"{kind}:{rest}") for kind in KINDS if fnmatchcase(kind, word)]


def types_matching(pattern: str, context: Expansion) -> Iterable[str]:
    """Definitions of the kernel's types that match, in C."""
    from fnmatch import fnmatchcase

    btf = context.types.btf
    if btf is None:
        from tracebee.errors import NotSupportedError

        raise NotSupportedError("this kernel has no BTF, or it cannot be read: there are no types to list")
    from tracebee.btf import types as kinds
    from tracebee.btf.format import definition

    word, _, name = pattern.partition(" ")
    wanted = {"struct": (kinds.Struct,), "union": (kinds.Union,), "enum": (kinds.Enum, kinds.Enum64)}[word]
    seen = set()
    if any(char in name for char in "*?["):
        found = [type_id for type_id, own in btf.names_of_kind(wanted) if fnmatchcase(own, name)]
    else:
        found = btf.find_all(name, wanted)
    for type_id in found:
        text = definition(btf, type_id)
        if text in seen:
            continue
        seen.add(text)
        yield f"vmlinux: {text.rstrip().removesuffix(';')};"
        yield ""


def program_probes(arguments: Arguments, machine: LiveMachine) -> Iterable[str]:
    """The attach points of a program, expanded."""
    from tracebee.cli.trace import compile_options, read_source
    from tracebee.language.compile import deep_recursion
    from tracebee.language.parser import parse
    from tracebee.language.passes.parameters import Substitution
    from tracebee.language.passes.points import split_point

    source, words = read_source(arguments)
    diagnostics = Diagnostics()
    with deep_recursion():
        program = parse(source, diagnostics)
    options = compile_options(arguments, words)
    substitution = Substitution(options.parameters, diagnostics)
    context = Expansion(
        machine, TypeTable(machine.btf), initial_config(), diagnostics, arguments.pid, arguments.unsafe
    )
    found: dict[str, None] = {}
    for probe in program.probes:
        for point in probe.points:
            text = substitution.in_text(point.text)
            kind = kind_name(split_point(text)[0])
            if kind in ("begin", "end", "self", "test", "bench"):
                continue
            if kind in ("interval", "profile", "software", "hardware") and kind is not None:
                parts = split_point(text)
                text = f"{kind}:{parts[1]}*" if len(parts) > 1 else f"{kind}:*"
            for line in matching(text, context, arguments.verbose):
                found.setdefault(line)
    return found
