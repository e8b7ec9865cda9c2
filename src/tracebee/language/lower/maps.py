"""Reading and writing the maps of the script."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tracebee.language.ir import Address, MapHandle, MapSpot, Reg
from tracebee.language.lower import memory, places
from tracebee.language.rules import is_signed
from tracebee.spec.types import Aggregation, Average, Extreme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.language import tree
    from tracebee.language.ir import Operand
    from tracebee.language.lower.build import MapPlan
    from tracebee.language.lower.lowering import Lowering

BPF_ANY, BPF_NOEXIST = 0, 1


def plan_of(low: Lowering, node: tree.MapAccess) -> MapPlan:
    return low.build.maps[node.name]


def key_address(low: Lowering, node: tree.MapAccess, plan: MapPlan) -> Address:
    """The key in memory.  A key that already lies somewhere in the right shape is used where it is."""
    from tracebee.language.lower import expressions

    assert node.key is not None and plan.key is not None
    if node.key.type == plan.key and not plan.key.is_scalar:
        place = places.find_place(low, node.key)
        if place is not None and place.space == "bpf" and _is_clean(node.key):
            return place.address
    to = low.memory(plan.spec.key_size)
    expressions.store_padded(low, node.key, plan.key, to)
    return to


def _is_clean(node: tree.Expression) -> bool:
    """Whether the padding of a value in memory is zero: so it is in variables and maps."""
    from tracebee.language import tree

    return isinstance(node, tree.Variable | tree.MapAccess)


def lookup(low: Lowering, node: tree.MapAccess, plan: MapPlan) -> tuple[Reg, Address]:
    """Code for bpf_map_lookup_elem; the register may be 0.  Also gives the key's address."""
    key = key_address(low, node, plan)
    return low.call("map_lookup_elem", MapHandle(plan.spec.name), key), key


def scalar_address(low: Lowering, plan: MapPlan) -> Address:
    """The value of a scalar map that is an array slot."""
    name = f"spot {plan.spec.name}"
    found = low.fact(name, lambda: low.move(MapSpot(plan.spec.name, 0)))
    assert type(found) is Reg
    return Address(found, 0)


def read(low: Lowering, node: tree.MapAccess) -> Operand:
    """A number in a map; 0 where there is no such key."""
    plan = plan_of(low, node)
    if isinstance(plan.value, Aggregation):
        return read_aggregation(low, node)
    size, signed = plan.value.size, is_signed(plan.value)
    if plan.key is None:
        return low.load(scalar_address(low, plan), size, signed)
    result = low.move(0, "value")
    missing, end = low.label("missing"), low.label("read")
    with low.temporaries():
        found, _ = lookup(low, node, plan)
        low.branch("==", found, 0, missing if low.build.report_failures else end)
        low.set(result, low.load(Address(found, 0), size, signed))
    if low.build.report_failures:
        low.jump(end)
        low.place_label(missing)
        from tracebee.language.lower import events

        with low.branch_scope():
            events.report_helper(low, "map_lookup_elem", low.move(0))
    low.place_label(end)
    return result


def address_of(low: Lowering, node: tree.MapAccess) -> Address:
    """Where a value that is no number lies; zeros where there is no such key."""
    plan = plan_of(low, node)
    if plan.key is None and not plan.per_cpu:
        return scalar_address(low, plan)
    found, _ = lookup(low, node, plan)
    low.build.zeros(plan.value.size)
    result = low.move(found, "value")
    end = low.label("found")
    low.branch("!=", result, 0, end)
    low.set(result, MapSpot("zeros", 0))
    low.place_label(end)
    return Address(result, 0)


def mark_set(low: Lowering, plan: MapPlan, base: Address) -> None:
    """Remember that a scalar map has a value now."""
    if plan.key is None:
        low.store(base.plus(plan.flag_offset), 1, 8)


def assign(low: Lowering, node: tree.MapAccess, value: tree.Expression) -> None:
    """``@map = value`` and ``@map[key] = value``."""
    from tracebee.language.lower import expressions

    plan = plan_of(low, node)
    type_ = plan.value
    if plan.key is None:
        if type_.is_scalar:
            found = expressions.converted(low, value, type_)
            base = scalar_address(low, plan)
            low.store(base, found, type_.size)
        else:
            base = scalar_address(low, plan)
            if mentions(value, node.name):
                # The new value is made from the old one, so not in its place.
                to = low.memory(type_.size)
                expressions.store_padded(low, value, type_, to)
                memory.copy(low, base, to, type_.size)
            else:
                expressions.store_padded(low, value, type_, base)
        mark_set(low, plan, base)
        return
    if type_.is_scalar:
        found = expressions.converted(low, value, type_)
        assign_number(low, node, plan, found)
        return
    place = places.find_place(low, value) if value.type == type_ else None
    if place is not None and place.space == "bpf" and _is_clean(value):
        source = place.address
    else:
        source = low.memory(plan.spec.value_size)
        expressions.store_padded(low, value, type_, source)
    key = key_address(low, node, plan)
    update(low, plan, key, source, node)


def assign_number(low: Lowering, node: tree.MapAccess, plan: MapPlan, value: Operand) -> None:
    """Set a number; in place if the key is there, which is quicker than a new element.

    Where keys are deleted that is not tried: what is set is then mostly what the next delete removes.
    """
    if plan.loses_keys:
        key = key_address(low, node, plan)
        fresh = low.memory(8, on_stack=True)
        low.store(fresh, value, 8)
        update(low, plan, key, fresh, node)
        return
    found, key = lookup(low, node, plan)
    insert, end = low.label("insert"), low.label("assigned")
    low.branch("==", found, 0, insert)
    low.store(Address(found, 0), value, plan.value.size)
    low.jump(end)
    low.place_label(insert)
    with low.branch_scope():
        fresh = low.memory(8, on_stack=True)
        low.store(fresh, value, 8)
        update(low, plan, key, fresh, node)
    low.place_label(end)


def update(
    low: Lowering, plan: MapPlan, key: Address, value: Address, node: tree.Node, flags: int = BPF_ANY
) -> Reg:
    """bpf_map_update_elem, with a warning at run time if the map is full."""
    result = low.call("map_update_elem", MapHandle(plan.spec.name), key, value, flags)
    if flags == BPF_ANY:
        report_update(low, result, node)
    return result


def report_update(low: Lowering, result: Reg, node: tree.Node) -> None:
    from tracebee.language.lower import events

    end = low.label("updated")
    low.branch("==", result, 0, end)
    with low.branch_scope(), low.at(node.span):
        # Before Linux 6.4 the functions behind the helper gave an int, and the upper half of the register is zero.
        error = low.move(low.alu("s>>", low.alu("<<", result, 32), 32))
        events.report_helper(low, "map_update_elem", error)
    low.place_label(end)


def add(low: Lowering, node: tree.MapAccess, amount: Operand, wanted: bool = False) -> Operand | None:
    """``@map += amount`` without losing what other CPUs add; the value before, if `wanted`."""
    plan = plan_of(low, node)
    size = plan.value.size
    if plan.key is None:
        base = scalar_address(low, plan)
        before = fetch_add(low, base, amount, size, wanted)
        mark_set(low, plan, base)
        return before
    result = low.move(0, "before") if wanted else None
    found, key = lookup(low, node, plan)
    there, end = low.label("there"), low.label("added")
    current = low.move(found, "element")
    low.branch("!=", current, 0, there)
    with low.branch_scope():
        fresh = low.memory(8, on_stack=True)
        low.store(fresh, amount, 8)
        made = update(low, plan, key, fresh, node, BPF_NOEXIST)
        low.branch("==", made, 0, end)
        # Somebody else was faster, or the map is full.
        again = low.call("map_lookup_elem", MapHandle(plan.spec.name), key)
        low.set(current, again)
        low.branch("!=", current, 0, there)
        report_update(low, made, node)
        low.jump(end)
    low.place_label(there)
    with low.branch_scope():
        before = fetch_add(low, Address(current, 0), amount, size, wanted)
        if result is not None and before is not None:
            low.set(result, before)
    low.place_label(end)
    return result


def fetch_add(low: Lowering, address: Address, amount: Operand, size: int, wanted: bool) -> Operand | None:
    """An atomic addition; with `wanted` the value before, exact where the kernel can fetch (5.12)."""
    if not wanted:
        low.atomic("+", address, amount, size)
        return None
    if low.machine.feature("atomic_fetch"):
        return low.atomic_fetch("+", address, amount, size)
    before = low.load(address, size)
    low.atomic("+", address, amount, size)
    return before


@contextmanager
def element(low: Lowering, node: tree.MapAccess) -> Iterator[Address]:
    """The element of an aggregation on this CPU; a new one has only zero bytes.

    The code inside is skipped, and the loss reported, if there is no element and no room for one.
    """
    plan = plan_of(low, node)
    end = low.label("aggregated")
    if plan.key is None and not plan.per_cpu:
        base = scalar_address(low, plan)
        yield base
        mark_set(low, plan, base)
        return
    with low.branch_scope():
        if plan.key is None:
            key = low.memory(8, on_stack=True)
            low.store(key, 0, 4)
            found = low.call("map_lookup_elem", MapHandle(plan.spec.name), key)
            low.branch("==", found, 0, end)
        else:
            found = _keyed_element(low, node, plan, end)
        yield Address(found, 0)
        mark_set(low, plan, Address(found, 0))
    low.place_label(end)


def _keyed_element(low: Lowering, node: tree.MapAccess, plan: MapPlan, end: str) -> Reg:
    first, key = lookup(low, node, plan)
    found = low.move(first, "element")
    there = low.label("there")
    low.branch("!=", found, 0, there)
    with low.branch_scope():
        low.build.zeros(plan.spec.value_size)
        made = low.call("map_update_elem", MapHandle(plan.spec.name), key, MapSpot("zeros", 0), BPF_NOEXIST)
        low.set(found, low.call("map_lookup_elem", MapHandle(plan.spec.name), key))
        low.branch("!=", found, 0, there)
        report_update(low, made, node)
        low.jump(end)
    low.place_label(there)
    return found


def read_aggregation(low: Lowering, node: tree.MapAccess) -> Operand:
    """The number that an aggregation stands for, over all CPUs."""
    plan = plan_of(low, node)
    if not low.machine.feature("map_lookup_percpu_elem"):
        low.context.diagnostics.fail(
            "reading an aggregation inside a probe needs the helper map_lookup_percpu_elem (since Linux 5.19)",
            node.span,
        )
    with low.temporaries():
        if plan.key is None:
            key = low.memory(8, on_stack=True)
            low.store(key, 0, 4)
        else:
            key = key_address(low, node, plan)
        return _sum_over_cpus(low, plan, key)


def _sum_over_cpus(low: Lowering, plan: MapPlan, key: Address) -> Operand:
    from tracebee.language.lower import expressions, strings

    type_ = plan.value
    total = low.move(0, "total")
    count = low.move(0, "count")

    def body(cpu: Reg, leave: str) -> None:
        skip = low.label("skip")
        found = low.call("map_lookup_percpu_elem", MapHandle(plan.spec.name), key, cpu)
        low.branch("==", found, 0, leave)
        value = low.load(Address(found, 0), 8)
        if isinstance(type_, Extreme):
            low.branch("==", low.load(Address(found, 8), 8), 0, skip)
            better = low.label("better")
            low.branch("==", count, 0, better)
            compare = ">" if type_.largest else "<"
            low.branch(f"s{compare}" if type_.signed else compare, value, total, better)
            low.jump(skip)
            low.place_label(better)
            low.set(total, value)
            low.set(count, 1)
        else:
            low.set(total, low.alu("+", total, value))
            if isinstance(type_, Average):
                low.set(count, low.alu("+", count, low.load(Address(found, 8), 8)))
        low.place_label(skip)

    strings.counted_loop(low, low.machine.possible_cpus, body)
    if isinstance(type_, Average):
        empty = low.label("empty")
        low.branch("==", count, 0, empty)
        low.set(total, expressions._quotient(low, "/", total, count, type_.signed))
        low.place_label(empty)
    return total


def assign_computed(low: Lowering, node: tree.MapAccess, value: tree.Expression) -> None:
    """``@map operator= value`` for the operators that have no atomic form."""
    from tracebee.language.lower import expressions

    plan = plan_of(low, node)
    found = expressions.value(low, value)
    if plan.key is None:
        base = scalar_address(low, plan)
        low.store(base, found, plan.value.size)
        mark_set(low, plan, base)
    else:
        assign_number(low, node, plan, found)


def delete(low: Lowering, plan: MapPlan, key: Address | None) -> Operand:
    """Remove a key, or the value of a scalar map; 1 if there was one."""
    result = low.move(0, "deleted")
    end = low.label("deleted")
    if plan.key is None:
        base, label = scalar_element(low, plan)
        low.branch("==", low.load(base.plus(plan.flag_offset), 8), 0, end)
        memory.zero(low, base, plan.spec.value_size)
        low.set(result, 1)
        if label:
            low.place_label(label)
    else:
        assert key is not None
        failed = low.call("map_delete_elem", MapHandle(plan.spec.name), key)
        low.branch("!=", failed, 0, end)
        low.set(result, 1)
    low.place_label(end)
    return result


def scalar_element(low: Lowering, plan: MapPlan) -> tuple[Address, str]:
    """The slot of a scalar map on this CPU, and a label for the case that there is none."""
    if not plan.per_cpu:
        return scalar_address(low, plan), ""
    key = low.memory(8, on_stack=True)
    low.store(key, 0, 4)
    found = low.call("map_lookup_elem", MapHandle(plan.spec.name), key)
    none = low.label("none")
    low.branch("==", found, 0, none)
    return Address(found, 0), none


def mentions(value: tree.Expression, name: str) -> bool:
    """Whether an expression reads a map."""
    from tracebee.language import tree

    return any(isinstance(node, tree.MapAccess) and node.name == name for node in tree.walk(value))
