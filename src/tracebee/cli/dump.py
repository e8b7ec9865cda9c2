"""-d: a script at the stages of its compilation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.language.diagnostics import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.language.compile import Compilation
    from tracebee.session.backend import LoadedProgram

# bpftrace's names of the stages are understood as well
ALIASES = {
    "ast": "ast",
    "tree": "ast",
    "types": "types",
    "ir": "ir",
    "codegen": "ir",
    "ir-opt": "ir-opt",
    "codegen-opt": "ir-opt",
    "bytecode": "bytecode",
    "dis": "bytecode",
    "verifier": "verifier",
    "libbpf": "verifier",
    "all": "all",
}
LOADED = "verifier"
"""The stage that only a loaded script has."""


def stage_names(words: list[str]) -> set[str]:
    """The stages that are meant.  Raises UsageError."""
    wanted = set()
    for word in words:
        if word not in ALIASES:
            names = sorted(set(ALIASES.values()))
            raise UsageError(
                f"unknown stage: {word}", nearest(word, ALIASES) or f"stages are {', '.join(names)}"
            )
        wanted.add(ALIASES[word])
    return {*STAGES, LOADED} if "all" in wanted else wanted


def dump_stages(compilation: Compilation, wanted: set[str], write: Callable[[str], object]) -> None:
    """Write the stages of the compilation that were asked for."""
    for name, show in STAGES.items():
        if name in wanted:
            write(f"// {name}\n{show(compilation).rstrip()}\n\n")


def dump_logs(programs: Iterable[LoadedProgram], write: Callable[[str], object]) -> None:
    """Write what the verifier said of each program."""
    for program in programs:
        write(f"// {LOADED} log of {program.spec.name}\n{program.log.rstrip()}\n\n")


def show_tree(compilation: Compilation) -> str:
    from tracebee.language.diagnostics import Diagnostics
    from tracebee.language.parser import parse
    from tracebee.language.printer import format_program

    # The passes have rewritten the tree, so the text is parsed once more.
    return format_program(parse(compilation.source, Diagnostics()))


def show_types(compilation: Compilation) -> str:
    from tracebee.language.printer import format_unit

    maps = []
    if compilation.inference is not None:
        for state in compilation.inference.maps.values():
            key = f"[{state.key}]" if state.keyed else ""
            maps.append(f"// {state.name}{key}: {state.value}")
    return "\n".join([*maps, *(format_unit(unit) for unit in compilation.units)])


def show_ir(compilation: Compilation) -> str:
    return "\n\n".join(compilation.lowered)


def show_optimized(compilation: Compilation) -> str:
    return "\n\n".join(compilation.optimized)


def show_bytecode(compilation: Compilation) -> str:
    from tracebee.insn.disasm import disassemble

    assert compilation.spec is not None
    parts = []
    for program in compilation.spec.programs:
        lines = "\n".join(disassemble(program.insns))
        parts.append(f"{program.name} ({program.type.lower()}):\n{lines}")
    return "\n\n".join(parts)


STAGES = {
    "ast": show_tree,
    "types": show_types,
    "ir": show_ir,
    "ir-opt": show_optimized,
    "bytecode": show_bytecode,
}
