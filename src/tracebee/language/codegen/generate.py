"""From typed units to an ObjectSpec: lower all, then finish each program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.process import load_id
from tracebee.language.codegen.debuginfo import DebugInfo
from tracebee.language.codegen.emit import MAX_STACK, Emitter
from tracebee.language.codegen.optimize import optimize
from tracebee.language.ir import Address, MapSpot
from tracebee.language.lower import expressions, statements
from tracebee.language.lower.build import Build
from tracebee.language.lower.lowering import Lowering, settle_stride
from tracebee.spec.objects import GLOBALS_MAP, Globals, ObjectSpec, ProgramSpec, Schema

if TYPE_CHECKING:
    from tracebee.language.compile import Compilation
    from tracebee.language.ir import Function
    from tracebee.language.probes.base import Unit

STACK_BUDGETS = (384, 256, 128, 32)
"""Bytes of a frame that values may take, tried in turn: the rest of the stack is for spilled registers."""


def generate_object(compilation: Compilation) -> None:
    """Fill `compilation.spec`."""
    context = compilation.context
    assert compilation.inference is not None
    build = Build(context)
    build.report_failures = compilation.options.report_failures
    build.inference = compilation.inference
    # For tests: the name of a map that holds the time, so that time series can be compared.
    build.clock_map = compilation.options.environment.get("BPFTRACE_DUMMY_TS_MAP", "")
    for state in compilation.inference.maps.values():
        build.plan_map(state)
    build.survey(compilation.units)
    build.ends_itself = any(
        isinstance(node, tree.Call) and node.name == "exit"
        for unit in compilation.units
        for node in tree.walk(unit.probe.body)
    )
    lowered: list[tuple[Unit, list[Function]]] = []
    for unit in compilation.units:
        unit.first_probe_id = len(build.probe_names)
        build.probe_names += [point.name for point in unit.points]
        build.function_names += [point.function for point in unit.points]
        lowered.append((unit, lower_unit(unit, build, STACK_BUDGETS[0])))
    debug = DebugInfo()
    programs = []
    for unit, functions in lowered:
        programs.append(finish(compilation, unit, functions, build, debug))
    maps = tuple(debug.typed_map(spec, build) for spec in build.map_specs())
    probes = []
    for unit in compilation.units:
        probes += unit.kind.probes(unit)
    schema = Schema(
        tuple(build.events),
        build.map_infos(),
        tuple(build.strings),
        tuple(build.probe_names),
        tuple(build.function_names) if build.names_functions else (),
        names_users=compilation.context.uses_user_symbols,
        demangles=compilation.config.flag("cpp_demangle"),
    )
    compilation.spec = ObjectSpec(tuple(programs), maps, tuple(probes), schema, debug.to_bytes())


def lower_unit(unit: Unit, build: Build, stack_budget: int) -> list[Function]:
    """The functions of a unit's program, not yet optimised."""
    low = Lowering(unit, build, stack_budget)
    pid = build.context.pid
    if pid and unit.kind.filters_by_program:
        low.branch("!=", load_id(low, process=True), pid, low.here.return_label)
    unit.kind.prologue(low)
    probe = unit.probe
    if probe.predicate is not None:
        with low.temporaries():
            expressions.condition(low, probe.predicate, low.here.return_label)
    if build.ends_itself and unit.kind.heeds_exit:
        # Between exit() and the moment when user space has detached, probes may still fire.
        spot = low.move(MapSpot(GLOBALS_MAP, Globals.EXITING))
        low.branch("!=", low.load(Address(spot, 0), 4), 0, low.here.return_label)
    low.begin_body()
    statements.block(low, probe.body)
    return low.complete()


def finish(
    compilation: Compilation, unit: Unit, functions: list[Function], build: Build, debug: DebugInfo
) -> ProgramSpec:
    """Optimise and emit a program."""
    emitter = Emitter(compilation.machine.feature("isa_v4"))
    for number, function in enumerate(functions):
        settle_stride(function, build.scratch_bytes)
        if compilation.options.keep_stages:
            compilation.lowered.append(function.dump())
        optimize(function)
        if compilation.options.keep_stages:
            compilation.optimized.append(function.dump())
        emitter.function(function, is_main=number == 0)
    stack = sum((function.frame_size + 31) // 32 * 32 for function in functions)
    if stack > MAX_STACK:
        compilation.diagnostics.fail(
            f"the probe needs {stack} bytes of BPF stack, {MAX_STACK} are allowed",
            unit.probe.span,
            "use fewer variables at once, or split the probe",
        )
    insns = emitter.builder.finish()
    func_info, line_info = debug.describe(emitter)
    return ProgramSpec(
        unit.name,
        unit.kind.program_type,
        insns,
        compilation.config.text("license"),
        unit.kind.attach_type(unit),
        unit.kind.attach_to(unit),
        unit.kind.attach_module(unit),
        func_info=func_info,
        line_info=line_info,
    )
