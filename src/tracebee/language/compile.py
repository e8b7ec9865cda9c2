"""The compiler's driver: from the text of a script to an ObjectSpec, pass by pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.config import WITHOUT_EFFECT, BadOption, Config, apply_environment, initial_config
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.parser import deep_recursion as deep_recursion
from tracebee.language.parser import parse
from tracebee.language.passes.fold import fold
from tracebee.language.passes.infer import Inference
from tracebee.language.passes.macros import Macros
from tracebee.language.passes.names import resolve_names
from tracebee.language.passes.parameters import Parameters, Substitution, settle
from tracebee.language.passes.questions import answer_questions
from tracebee.language.passes.scopes import bind_variables
from tracebee.language.probes.base import Expansion
from tracebee.language.source import Source
from tracebee.language.typetable import TypeTable
from tracebee.records import Mutable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tracebee.language.cdecl import Declarations
    from tracebee.language.diagnostics import Diagnostic
    from tracebee.language.machine import Machine
    from tracebee.language.probes.base import Unit
    from tracebee.spec.objects import ObjectSpec


class Options(Mutable):
    """What the command line or a caller of the API says about a compilation.

    `pid` limits every probe to one process; `environment` holds configuration as BPFTRACE_* or TRACEBEE_*;
    `include_paths` are folders of C headers and of imports; `check_units` is called as soon as the units are
    known, and may raise an error.
    """

    parameters: Parameters = Parameters()
    environment: Mapping[str, str] = {}
    pid: int = 0
    unsafe: bool = False
    report_failures: bool = False
    include_paths: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    probe_filter: str = ""
    modes: frozenset[str] = frozenset()
    keep_stages: bool = False
    check_units: Callable[[Compilation], None] | None = None


class Compilation:
    """A script on its way, with the result of every pass that has run.

    `context` is there once types are declared, `units` once attach points are expanded, `spec` at the end.
    """

    context: Expansion

    def __init__(
        self,
        source: Source,
        machine: Machine,
        options: Options,
        diagnostics: Diagnostics,
        config: Config,
        program: tree.Program,
    ) -> None:
        self.source = source
        self.machine = machine
        self.options = options
        self.diagnostics = diagnostics
        self.config = config
        self.program = program
        self.units: list[Unit] = []
        self.declarations: Declarations | None = None
        self.inference: Inference | None = None
        self.spec: ObjectSpec | None = None
        self.lowered: list[str] = []
        self.optimized: list[str] = []

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return self.diagnostics.all


def compile_script(source: Source, machine: Machine, options: Options) -> Compilation:
    """Compile a script for a machine.

    Raises SourceError with every diagnostic if the script is wrong; UsageError for wrong parameters.
    """
    with deep_recursion():
        compilation = analyze(source, machine, options)
        generate(compilation)
    return compilation


def analyze(source: Source, machine: Machine, options: Options) -> Compilation:
    """Everything up to types: what ``-l -e`` and ``--dry-run`` need."""
    diagnostics = Diagnostics()
    program = parse(source, diagnostics)
    config = read_config(program, options, diagnostics)
    compilation = Compilation(source, machine, options, diagnostics, config, program)
    for step in PASSES:
        step(compilation)
        diagnostics.stop_if_errors()
    return compilation


def read_config(program: tree.Program, options: Options, diagnostics: Diagnostics) -> Config:
    """The configuration: defaults, then the script's block, then the environment."""
    config = initial_config()
    for entry in program.config:
        try:
            if config.set(entry.key, entry.value) in WITHOUT_EFFECT:
                diagnostics.warning(f"{entry.key} is deprecated and has no effect", entry.span)
        except BadOption as bad:
            diagnostics.error(str(bad), entry.span)
    diagnostics.stop_if_errors()
    try:
        apply_environment(config, options.environment)
    except BadOption as bad:
        diagnostics.fail(str(bad), None)
    return config


def import_scripts(compilation: Compilation) -> None:
    """Read what the script imports."""
    if compilation.program.imports:
        from tracebee.language.passes.imports import add_imports

        add_imports(compilation)


def declare_types(compilation: Compilation) -> None:
    """Read the C part, and make types findable by name."""
    program, options = compilation.program, compilation.options
    if program.c_parts or options.includes:
        from tracebee.language.cdecl import read_declarations

        compilation.declarations = read_declarations(compilation)
    machine = compilation.machine
    types = TypeTable(machine.btf, compilation.declarations)
    compilation.context = Expansion(
        machine, types, compilation.config, compilation.diagnostics, options.pid, options.unsafe
    )


def substitute_parameters(compilation: Compilation) -> None:
    """Put parameters into the tree."""
    substitution = Substitution(compilation.options.parameters, compilation.diagnostics)
    program = compilation.program
    substitution.apply(program)
    for probe in program.probes:
        for point in probe.points:
            point.text = substitution.in_text(point.text)
    settle(program)
    substitution.check_unknown()


def expand_macros(compilation: Compilation) -> None:
    """Replace macro calls."""
    program = compilation.program
    from tracebee.language.stdlib import library_macros

    macros = Macros(program.macros, library_macros, compilation.diagnostics)
    for probe in program.probes:
        macros.expand(probe)
    for declaration in program.maps:
        macros.expand(declaration)


def name_things(compilation: Compilation) -> None:
    """Replace bare words, answer what the script asks of the kernel, and fold constants."""
    program, context = compilation.program, compilation.context
    types, diagnostics = context.types, compilation.diagnostics
    left_out = []
    for part in (*program.probes, *program.maps):
        resolve_names(part, types, diagnostics)
        asked = answer_questions(part, context)
        fold(part, diagnostics)
        if asked and isinstance(part, tree.Probe) and is_false(part.predicate):
            left_out.append(part)
    if left_out:
        program.probes = [probe for probe in program.probes if probe not in left_out]


def is_false(predicate: tree.Expression | None) -> bool:
    """Whether a predicate is known not to hold, ever."""
    return isinstance(predicate, tree.Truth | tree.Number) and not predicate.value


def expand_probes(compilation: Compilation) -> None:
    """Find the places that the attach points mean, and decide which share a program."""
    from tracebee.language.passes.points import make_units

    compilation.units = make_units(compilation)
    if compilation.options.check_units is not None:
        compilation.options.check_units(compilation)


def bind_scopes(compilation: Compilation) -> None:
    """Give variables their scopes."""
    feature = compilation.context.machine.feature

    def loops_are_functions() -> bool:
        return not feature("may_goto") and feature("loop")

    for unit in compilation.units:
        bind_variables(unit.probe, compilation.diagnostics, loops_are_functions)


def infer_types(compilation: Compilation) -> None:
    """Find all types."""
    from tracebee.language.passes.mapdecl import declare_maps

    inference = Inference(compilation.context)
    compilation.inference = inference
    declare_maps(compilation, inference)
    inference.run(compilation.units)


PASSES = (
    import_scripts,
    declare_types,
    substitute_parameters,
    expand_macros,
    name_things,
    expand_probes,
    bind_scopes,
    infer_types,
)
"""The compiler up to code, in order."""


def generate(compilation: Compilation) -> None:
    """Lower, optimise, allocate and emit; fills `spec`."""
    from tracebee.language.codegen.allocate import TooManyValues
    from tracebee.language.codegen.generate import generate_object

    try:
        generate_object(compilation)
    except TooManyValues as found:
        spans = [op.span for op in found.function.ops if op.span is not None]
        compilation.diagnostics.fail(
            "the probe needs more values at once than registers and BPF stack can hold",
            spans[0] if spans else None,
            "keep intermediate results in maps, or split the probe",
        )
    compilation.diagnostics.stop_if_errors()
