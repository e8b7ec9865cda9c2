"""Statements, and the bodies of loops."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tracebee.language import tree
from tracebee.language.builtins import find_builtin
from tracebee.language.builtins.aggregations import Aggregate
from tracebee.language.ir import (
    FRAME,
    Address,
    Alu,
    Function,
    FunctionHandle,
    MapHandle,
    MapSpot,
    Reg,
    Return,
)
from tracebee.language.lower import events, expressions, maps, memory, places
from tracebee.language.lower.lowering import Loop
from tracebee.language.rules import PLAIN_ROUNDS, is_integer, is_signed
from tracebee.spec.objects import GLOBALS_MAP, Globals
from tracebee.spec.types import INT64, UINT64, Aggregation, Int, Pointer, Tuple, Void

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracebee.language.ir import Operand
    from tracebee.language.lower.build import MapPlan
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.scratch import Scratch

SCALAR_HOME = 8

MOST_ROUNDS = 1 << 23
"""BPF_MAX_LOOPS, include/linux/bpf_verifier.h"""


def statement(low: Lowering, node: tree.Statement) -> None:
    with low.at(node.span):
        _STATEMENTS[type(node)](low, node)


def block(low: Lowering, node: tree.Block) -> None:
    """A block for its effect."""
    with low.branch_scope():
        block_statements(low, node)
        if node.value is not None:
            effect(low, node.value)


def block_statements(low: Lowering, node: tree.Block) -> None:
    """The statements of a block; the memory of its variables stays taken."""
    for inner in node.statements:
        with low.temporaries():
            statement(low, inner)


def effect(low: Lowering, node: tree.Expression) -> None:
    """An expression whose value nobody wants."""
    with low.at(node.span):
        match node:
            case tree.Call():
                builtin = find_builtin(node.name)
                assert builtin is not None
                builtin.effect(low, node)
            case tree.If():
                if_statement(low, node)
            case tree.Block():
                block(low, node)
            case tree.Unary(operator="++" | "--"):
                if isinstance(node.operand, tree.MapAccess) and not isinstance(node.type, Pointer):
                    maps.add(low, node.operand, 1 if node.operator == "++" else -1)
                else:
                    expressions.value(low, node)
            case _:
                for child in tree.children(node):
                    if isinstance(child, tree.Expression):
                        effect(low, child)


def expression_statement(low: Lowering, node: tree.ExpressionStatement) -> None:
    effect(low, node.value)


def discard(low: Lowering, node: tree.Discard) -> None:
    effect(low, node.value)


def if_statement(low: Lowering, node: tree.If) -> None:
    if node.compile_time:
        chosen = chosen_branch(node)
        if chosen is not None:
            block(low, chosen)
        return
    other = low.label("else")
    with low.temporaries():
        expressions.condition(low, node.condition, other)
        block(low, node.then)
    if node.otherwise is None:
        low.place_label(other)
        return
    end = low.label("endif")
    low.jump(end)
    low.place_label(other)
    block(low, node.otherwise)
    low.place_label(end)


def chosen_branch(node: tree.If) -> tree.Block | None:
    """The branch that ``if comptime`` keeps."""
    assert isinstance(node.condition, tree.Truth | tree.Number)
    return node.then if node.condition.value else node.otherwise


# --- variables


def declare(low: Lowering, binding: Scratch) -> Reg | Address:
    """Give a variable its register or memory."""
    if binding in low.variables:
        return low.variables[binding]
    type_ = binding.type
    home: Reg | Address
    if type_.is_scalar and not binding.captured and not binding.address_taken:
        home = low.reg(binding.name.lstrip("$"))
    else:
        fits = True if type_.size <= max(SCALAR_HOME, low.stack_limit) and low.stack_limit > 0 else None
        if binding.captured and type_.is_scalar:
            fits = True
        home = low.kept_memory(type_.size, fits)
    low.variables[binding] = home
    low.variable_levels[binding] = low.here.level
    return home


def let(low: Lowering, node: tree.Let) -> None:
    binding = node.variable.binding
    if isinstance(binding.type, Void):
        return
    if node.value is not None:
        assign_variable(low, node.variable, node.value)
    else:
        declare_zero(low, binding)


def declare_zero(low: Lowering, binding: Scratch) -> None:
    """Give a variable its place and the value zero."""
    home = declare(low, binding)
    if isinstance(home, Reg):
        low.set(home, 0)
    else:
        memory.zero(low, home, binding.type.size)


def assign_variable(low: Lowering, target: tree.Variable, value: tree.Expression) -> None:
    binding = target.binding
    type_ = binding.type
    first = binding not in low.variables
    if type_.is_scalar:
        found = expressions.converted(low, value, type_)
        if first:
            declare(low, binding)
        expressions.set_variable(low, target, found)
        return
    if first:
        home = declare(low, binding)
    else:
        home = places.variable_home(low, target)
    assert isinstance(home, Address)
    if uses_variable(value, binding):
        with low.temporaries():
            to = low.memory(type_.size)
            expressions.store_padded(low, value, type_, to)
            memory.copy(low, home, to, type_.size)
    else:
        with low.temporaries():
            expressions.store_padded(low, value, type_, home)


def uses_variable(value: tree.Expression, binding: Scratch) -> bool:
    return any(isinstance(node, tree.Variable) and node.binding is binding for node in tree.walk(value))


def assign(low: Lowering, node: tree.Assign) -> None:
    target = node.target
    if isinstance(target, tree.MapAccess):
        with low.temporaries():
            assign_map(low, node, target)
        return
    assert isinstance(target, tree.Variable)
    if node.operator == "=":
        assign_variable(low, target, node.value)
        return
    with low.temporaries():
        binary = combined(node)
        expressions.set_variable(low, target, expressions.value(low, binary))


def combined(node: tree.Assign) -> tree.Binary:
    """``target operator value`` of ``target operator= value``."""
    binary = tree.Binary(node.span, node.operator[:-1], node.target, node.value)
    signed = is_signed(node.target.type)
    binary.type = node.target.type if isinstance(node.target.type, Pointer) else _wide(signed)
    return binary


def _wide(signed: bool) -> Int:
    return INT64 if signed else UINT64


def assign_map(low: Lowering, node: tree.Assign, target: tree.MapAccess) -> None:
    plan = maps.plan_of(low, target)
    if isinstance(plan.value, Aggregation):
        assert isinstance(node.value, tree.Call)
        builtin = find_builtin(node.value.name)
        assert isinstance(builtin, Aggregate)
        builtin.update(low, node.value, target)
        return
    target.type = plan.value
    if node.operator == "=":
        maps.assign(low, target, node.value)
        return
    if node.operator in ("+=", "-=") and not isinstance(plan.value, Pointer):
        amount = expressions.number(low, node.value)
        maps.add(low, target, low.negate(amount) if node.operator == "-=" else amount)
        return
    maps.assign_computed(low, target, combined(node))


# --- jumps and loops


def jump(low: Lowering, node: tree.Jump) -> None:
    if node.kind == "return":
        low.finish_probe(0 if node.value is None else expressions.number(low, node.value))
        return
    loop = low.here.loops[-1]
    if loop.is_callback:
        low.add(Return(None, 1 if node.kind == "break" else 0))
    else:
        low.jump(loop.break_label if node.kind == "break" else loop.continue_label)


def unroll(low: Lowering, node: tree.Unroll) -> None:
    assert isinstance(node.count, tree.Number)
    for _ in range(node.count.value):
        block(low, node.body)


def while_loop(low: Lowering, node: tree.While) -> None:
    if node.as_function:
        while_function(low, node)
        return
    again, leave, cut = low.label("while"), low.label("endwhile"), low.label("cut")
    guarded = not _is_plain(low, PLAIN_ROUNDS + 1)
    if guarded:
        forget_values(low, node)
    low.place_label(again)
    if guarded:
        low.may_goto(cut)
    with low.branch_scope():
        expressions.condition(low, node.condition, leave)
        low.here.loops.append(Loop(leave, again))
        block(low, node.body)
        low.here.loops.pop()
    low.jump(again)
    end_loop(low, node, cut if guarded else "", leave)


def while_function(low: Lowering, node: tree.While) -> None:
    """A loop before may_goto (Linux 6.9): its body becomes a function that the helper loop calls (Linux 5.17)."""
    with callback(low, node.body, ("index", "frame")) as body:
        forget_values(low, node)
        leave = low.label("endwhile")
        with low.temporaries(), low.branch_scope():
            expressions.condition(low, node.condition, leave)
            block(low, node.body)
        low.add(Return(None, 0))
        low.place_label(leave)
        low.add(Return(None, 1))
    rounds = low.call("loop", MOST_ROUNDS, FunctionHandle(body.name), Address(FRAME, 0), 0)
    leave_if_returned(low, node.body)
    leave = low.label("endwhile")
    low.branch("<", rounds, MOST_ROUNDS, leave)
    warn_of_cut(low, node)
    low.place_label(leave)


def _is_plain(low: Lowering, rounds: int) -> bool:
    """Whether the verifier is to walk through a loop round by round, within the plain loops around it."""
    if not low.machine.feature("may_goto"):
        return True
    return rounds * (low.here.loops[-1].rounds if low.here.loops else 1) <= PLAIN_ROUNDS


def forget_values(low: Lowering, loop: tree.While | tree.ForRange) -> None:
    """Make the verifier forget what it knows of the numbers that a loop changes.

    It is done with a loop once a round starts in a state that an earlier one covers.  A number that it knows
    and that changes makes every round a new state; one that may be anything covers all.
    """
    for binding in changed_variables(loop):
        home = low.variables.get(binding)
        if home is None or not is_integer(binding.type):
            continue
        if isinstance(home, Reg):
            low.set(home, unknown(low, home))
        else:
            place = low.outer_address(home, low.variable_levels[binding])
            size = binding.type.size
            low.store(place, unknown(low, low.load(place, size)), size)


def unknown(low: Lowering, value: Operand) -> Reg:
    """A register with a number of which the verifier knows nothing."""
    zero = low.fact("zero", lambda: low.load(low.address(MapSpot(GLOBALS_MAP, Globals.ZERO)), 8))
    result = low.reg("any")
    low.add(Alu(result, "+", value, zero))
    return result


def changed_variables(loop: tree.Node) -> list[Scratch]:
    """The variables that something inside a loop assigns to."""
    found: dict[Scratch, None] = {}
    for node in tree.walk(loop):
        target: tree.Node | None = None
        if isinstance(node, tree.Assign):
            target = node.target
        elif isinstance(node, tree.Unary) and node.operator in ("++", "--"):
            target = node.operand
        if isinstance(target, tree.Variable):
            found[target.binding] = None
    return list(found)


def end_loop(low: Lowering, node: tree.Node, cut: str, leave: str) -> None:
    """Behind a loop: a loop that the kernel cuts short is told of."""
    if cut:
        low.place_label(cut)
        warn_of_cut(low, node)
    low.place_label(leave)


def warn_of_cut(low: Lowering, node: tree.Node) -> None:
    with low.branch_scope():
        events.report_warning(low, "The kernel ended a loop that ran for too long.", node.span)


def for_range(low: Lowering, node: tree.ForRange) -> None:
    if node.as_function:
        range_function(low, node)
        return
    first, last = expressions.number(low, node.first), expressions.number(low, node.last)
    rounds = last - first if isinstance(first, int) and isinstance(last, int) else PLAIN_ROUNDS + 1
    plain = _is_plain(low, rounds)
    around = low.here.loops[-1].rounds if low.here.loops else 1
    last = low.move(last)
    counter = low.move(first if plain else unknown(low, first), "counter")
    again, leave, proceed, cut = low.label("for"), low.label("endfor"), low.label("next"), low.label("cut")
    if not plain:
        forget_values(low, node)
    low.place_label(again)
    low.branch("s>=", counter, last, leave)
    if not plain:
        low.may_goto(cut)
    with low.branch_scope():
        home = declare(low, node.variable.binding)
        if isinstance(home, Reg):
            low.set(home, counter)
        else:
            low.store(home, counter, 8)
        low.here.loops.append(Loop(leave, proceed, rounds=max(1, rounds) * around if plain else 1))
        block(low, node.body)
        low.here.loops.pop()
    low.place_label(proceed)
    low.set(counter, low.alu("+", counter, 1))
    low.jump(again)
    end_loop(low, node, "" if plain else cut, leave)


def range_function(low: Lowering, node: tree.ForRange) -> None:
    """See `while_function`."""
    first, last = expressions.number(low, node.first), expressions.number(low, node.last)
    level = low.here.level
    start = low.kept_memory(8, on_stack=True)
    low.store(start, first, 8)
    wanted = low.move(low.alu("-", last, first))
    leave, few = low.label("endfor"), low.label("few")
    low.branch("s<=", wanted, 0, leave)
    rounds = low.move(wanted)
    low.branch("<=", rounds, MOST_ROUNDS, few)
    low.set(rounds, MOST_ROUNDS)
    low.place_label(few)
    with callback(low, node.body, ("index", "frame")) as body:
        forget_values(low, node)
        home = declare(low, node.variable.binding)
        number = low.alu("+", low.load(low.outer_address(start, level), 8), body.parameters[0])
        if isinstance(home, Reg):
            low.set(home, number)
        else:
            low.store(home, number, 8)
        with low.temporaries():
            block(low, node.body)
        low.add(Return(None, 0))
    low.call("loop", rounds, FunctionHandle(body.name), Address(FRAME, 0), 0)
    leave_if_returned(low, node.body)
    low.branch("s<=", wanted, MOST_ROUNDS, leave)
    warn_of_cut(low, node)
    low.place_label(leave)


def for_map(low: Lowering, node: tree.ForMap) -> None:
    """The body becomes a function that the kernel calls for each element (Linux 5.13)."""
    if not low.machine.feature("for_each_map_elem"):
        low.context.diagnostics.fail(
            "a loop over a map needs the helper for_each_map_elem (since Linux 5.13)", node.span
        )
    plan = low.build.maps[node.map.name]
    with callback(low, node.body, ("map", "key", "value", "frame")) as body:
        binding = node.variable.binding
        home = declare(low, binding)
        assert isinstance(home, Address)
        pair = binding.type
        assert isinstance(pair, Tuple) and plan.key is not None and plan.value is not None
        key_type, value_type = pair.elements
        from tracebee.language.lower.places import Place

        key = Place(Address(body.parameters[1], 0), plan.key)
        expressions.store_place(low, key, key_type, home.plus(pair.offsets[0]))
        value_home = home.plus(pair.offsets[1])
        if isinstance(plan.value, Aggregation):
            total = maps._sum_over_cpus(low, plan, home.plus(pair.offsets[0]))
            low.store(value_home, total, value_type.size)
        else:
            value = Place(Address(body.parameters[2], 0), plan.value)
            expressions.store_place(low, value, value_type, value_home)
        with low.temporaries():
            block(low, node.body)
        low.add(Return(None, 0))
    low.call("for_each_map_elem", MapHandle(plan.spec.name), FunctionHandle(body.name), Address(FRAME, 0), 0)
    leave_if_returned(low, node.body)


@contextmanager
def callback(low: Lowering, content: tree.Block, parameters: tuple[str, ...]) -> Iterator[Function]:
    """Lower the body of a loop as a function that a helper calls; the last parameter is the frame around it.

    It returns 1 to end the loop and 0 to go on.
    """
    outer = low.here
    if outer.parent is None and outer.context_slot is None:
        outer.context_slot = low.kept_memory(8, on_stack=True)
        low.store(outer.context_slot, outer.function.parameters[0], 8)
    if low.return_flag is None and has_return(content):
        low.return_flag = outer_flag(low)
    body = Function(f"{low.unit.name}_loop{len(low.functions)}", parameters)
    body.span = content.span
    inner = low.begin_callback(body)
    inner.parent_frame = body.parameters[-1]
    inner.loops.append(Loop(is_callback=True))
    low.here = inner
    inner.depth = 8
    body.frame_size = 8
    inner.parent_slot = Address(FRAME, -8)
    low.store(inner.parent_slot, inner.parent_frame, 8)
    yield body
    low.finish_activation(inner)
    low.here = outer


def leave_if_returned(low: Lowering, content: tree.Block) -> None:
    """Behind a loop whose body is a function: go on with a return that was met inside."""
    if low.return_flag is None or not has_return(content):
        return
    outer = low.here
    proceed = low.label("proceed")
    low.branch("==", low.load(low.outer_address(low.return_flag, 0), 8), 0, proceed)
    if outer.parent is None:
        low.jump(outer.return_label)
    else:
        low.add(Return(None, 1))
    low.place_label(proceed)


def count_elements(low: Lowering, plan: MapPlan, node: tree.Node) -> Reg:
    """The number of elements of a map: what bpf_for_each_map_elem gives when nothing stops it."""
    if not low.machine.feature("for_each_map_elem"):
        low.context.diagnostics.fail(
            "counting the keys of a map needs the helper for_each_map_elem (since Linux 5.13)", node.span
        )
    name = f"{low.unit.name}_next"
    if all(function.name != name for function in low.functions):
        body = Function(name, ("map", "key", "value", "frame"))
        body.span = node.span
        low.begin_callback(body)
        body.add(Return(None, 0))
    return low.call("for_each_map_elem", MapHandle(plan.spec.name), FunctionHandle(name), 0, 0)


def outer_flag(low: Lowering) -> Address:
    root = low.here
    while root.parent is not None:
        root = root.parent
    if root is not low.here:
        low.context.diagnostics.fail(
            "this kernel allows a return only in an outermost loop", low.unit.probe.span
        )
    flag = low.kept_memory(8, on_stack=True)
    low.store(flag, 0, 8)
    return flag


def has_return(body: tree.Block) -> bool:
    return any(
        (isinstance(node, tree.Jump) and node.kind == "return")
        or (isinstance(node, tree.Call) and node.name in ("exit", "fail"))
        for node in tree.walk(body)
    )


_STATEMENTS: dict[type[tree.Statement], Callable[[Lowering, Any], None]] = {
    tree.ExpressionStatement: expression_statement,
    tree.Assign: assign,
    tree.Discard: discard,
    tree.Let: let,
    tree.While: while_loop,
    tree.Unroll: unroll,
    tree.ForMap: for_map,
    tree.ForRange: for_range,
    tree.Jump: jump,
}
