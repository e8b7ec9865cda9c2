"""Built-ins that work on whole maps or their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import VOID, Builtin
from tracebee.spec.types import INT64, Aggregation, Bool, Stack, Type, Void

if TYPE_CHECKING:
    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference


def map_argument(infer: Inference, call: tree.Call, keyed: bool | None = None) -> tree.MapAccess | None:
    """The map that the first argument must be; with `keyed`, one with keys."""
    access = call.arguments[0]
    if not isinstance(access, tree.MapAccess) or access.key is not None:
        infer.visit(access)
        infer.error(f"{call.name}() expects a map argument", access.span)
        return None
    state = infer.map_state(access)
    if keyed and state.keyed is False:
        infer.error(f"call to {call.name}() expects a map with explicit keys (non-scalar map)", call.span)
        return None
    return access


def bind_key(infer: Inference, access: tree.MapAccess, key: tree.Expression) -> tree.MapAccess:
    """``@map[key]`` out of a map and a key that were given apart."""
    joined = tree.MapAccess(access.span, access.name, key)
    joined.type = infer.visit(joined)
    return joined


class Clear(Builtin):
    name = "clear"
    forms = ("clear(@map)",)
    description = "remove all keys of a map"
    minimum = maximum = 1
    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        subject = map_argument(infer, call)
        if subject is not None and infer.final and infer.map_state(subject).keyed is None:
            infer.error(f"Undefined map: {subject.name}", subject.span)
        return VOID

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import events
        from tracebee.spec.events import ClearMap

        assert isinstance(call.arguments[0], tree.MapAccess)
        events.send_plain(low, ClearMap(call.arguments[0].name))


class Zero(Clear):
    name = "zero"
    forms = ("zero(@map)",)
    description = "set all values of a map to zero"

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import events
        from tracebee.spec.events import ZeroMap

        assert isinstance(call.arguments[0], tree.MapAccess)
        events.send_plain(low, ZeroMap(call.arguments[0].name))


class Delete(Builtin):
    name = "delete"
    forms = ("delete(@map, key)", "delete(@map)")
    description = "remove a key, or the value of a map without keys; whether there was one"
    minimum = 1
    maximum = None
    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        access = call.arguments[0]
        if not isinstance(access, tree.MapAccess):
            infer.visit(access)
            infer.error("delete() expects a map argument", access.span)
            return Bool()
        if access.key is not None:
            # The old form, delete(@map[key], …).
            for argument in call.arguments:
                infer.visit(argument)
            return Bool()
        if len(call.arguments) == 1:
            infer.visit(access)
            return Bool()
        bind_key(infer, access, call.arguments[1])
        return Bool()

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import maps

        accesses = [argument for argument in call.arguments if isinstance(argument, tree.MapAccess)]
        first = accesses[0]
        if first.key is None and len(call.arguments) == 2:
            first = tree.MapAccess(first.span, first.name, call.arguments[1])
            accesses = [first]
        result: Operand = 0
        for access in accesses:
            with low.temporaries():
                plan = maps.plan_of(low, access)
                key = maps.key_address(low, access, plan) if access.key is not None else None
                result = maps.delete(low, plan, key)
        return result

    def run(self, low: Lowering, call: tree.Call) -> None:
        self.value(low, call)


class HasKey(Builtin):
    name = "has_key"
    forms = ("has_key(@map, key)",)
    description = "whether a map has a key"
    minimum = maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        access = map_argument(infer, call, keyed=True)
        if access is not None:
            bind_key(infer, access, call.arguments[1])
        return Bool()

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import expressions, maps

        access = call.arguments[0]
        assert isinstance(access, tree.MapAccess)
        with low.temporaries():
            joined = tree.MapAccess(access.span, access.name, call.arguments[1])
            found, _ = maps.lookup(low, joined, maps.plan_of(low, joined))
            return expressions.boolean(low, found)


class Find(Builtin):
    name = "find"
    forms = ("find(@map, key, $variable)",)
    description = "whether a map has a key; its value goes to the variable"
    minimum = maximum = 3

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        access = map_argument(infer, call, keyed=True)
        variable = call.arguments[2]
        if not isinstance(variable, tree.Variable):
            infer.error("find() expects a variable as third argument", call.span)
            return Bool()
        if access is not None:
            joined = bind_key(infer, access, call.arguments[1])
            type_ = infer.number(joined)
            infer._widen_variable(variable, type_, None, call.span)
            variable.type = variable.binding.type
        return Bool()

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.ir import Address
        from tracebee.language.lower import expressions, maps, places, statements

        access, key, variable = call.arguments
        assert isinstance(access, tree.MapAccess) and isinstance(variable, tree.Variable)
        plan = low.build.maps[access.name]
        joined = tree.MapAccess(access.span, access.name, key)
        result = low.move(0, "found")
        end = low.label("found")
        if variable.binding not in low.variables:
            statements.declare_zero(low, variable.binding)
        found, _ = maps.lookup(low, joined, plan)
        low.branch("==", found, 0, end)
        with low.branch_scope():
            home = places.variable_home(low, variable)
            if isinstance(plan.value, Aggregation):
                expressions.set_variable(low, variable, maps.read_aggregation(low, joined))
            elif plan.value.is_scalar:
                place = places.Place(Address(found, 0), plan.value)
                expressions.set_variable(low, variable, places.load(low, place))
            else:
                assert isinstance(home, Address)
                expressions.store_place(
                    low, places.Place(Address(found, 0), plan.value), variable.binding.type, home
                )
            low.set(result, 1)
        low.place_label(end)
        return result


class Len(Builtin):
    name = "len"
    forms = ("len(@map)", "len(stack)")
    description = "number of keys of a map, or of frames of a stack"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        argument = call.arguments[0]
        if isinstance(argument, tree.MapAccess) and argument.key is None:
            state = infer.map_state(argument)
            if state.keyed is False:
                if isinstance(state.value, Stack):
                    argument.type = state.value
                    return INT64
                infer.error("call to len() expects a map with explicit keys (non-scalar map)", call.span)
            elif state.keyed is None and infer.final:
                infer.error(f"Undefined map: {argument.name}", argument.span)
            return INT64
        type_ = infer.visit(argument)
        if not isinstance(type_, Stack | Void):
            infer.error("call to len() expects a map, ustack, or kstack", call.span)
        return INT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        argument = call.arguments[0]
        if isinstance(argument.type, Stack):
            from tracebee.language.lower import places

            with low.temporaries():
                place = places.local(low, places.any_place(low, argument))
                return low.load(place.address.plus(12), 4)
        from tracebee.language.lower import statements

        assert isinstance(argument, tree.MapAccess)
        return statements.count_elements(low, low.build.maps[argument.name], call)
