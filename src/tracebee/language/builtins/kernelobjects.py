"""Built-ins about objects of the kernel: paths, cgroups, error pointers, containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import (
    Builtin,
    address_argument,
    integer_argument,
    literal_number,
    literal_text,
)
from tracebee.spec.types import UINT64, Bool, Pointer, Str, Struct, Type
from tracebee.spec.types import CgroupPath as CgroupPathType

if TYPE_CHECKING:
    from tracebee.language.ir import Address, Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference

MAX_ERRNO = 4095


class Path(Builtin):
    name = "path"
    forms = ("path(struct path *[, size])",)
    description = "the path of an open file; only in fentry and fexit probes of some functions"
    minimum = 1
    maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        unit = infer.unit
        assert unit is not None
        infer.visit(call.arguments[0])
        size = infer.usual_strlen
        if len(call.arguments) == 2:
            size = literal_number(infer, call, 1) or size
        if unit.kind.name not in ("fentry", "fexit", "iter"):
            infer.error(f'path can not be used with "{unit.kind.name}" probes', call.span)
        return Str(size)

    def text(self, low: Lowering, call: tree.Call, to: Address, room: int) -> Operand:
        from tracebee.language.lower import memory, places

        length = low.move(0, "length")
        end = low.label("path")
        low.null_label = end
        place = places.any_place(low, call.arguments[0])
        low.null_label = ""
        got = low.call("d_path", low.pointer(place.address), low.pointer(to), min(room, call.type.size))
        low.branch("s<=", got, 0, end)
        low.set(length, low.alu("-", got, 1))
        low.place_label(end)
        return memory.bounded(low, length, min(room, call.type.size))


class Cgroupid(Builtin):
    name = "cgroupid"
    forms = ('cgroupid("path")',)
    description = "the id of a cgroup"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        path = literal_text(infer, call, 0)
        if path is not None and infer.final and infer.context.machine.cgroup_id(path) is None:
            infer.error(f"Failed to get cgroup id of '{path}'", call.span)
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        assert isinstance(call.arguments[0], tree.Text)
        return low.machine.cgroup_id(call.arguments[0].text) or 0


class CgroupPath(Builtin):
    name = "cgroup_path"
    forms = ("cgroup_path(id[, pattern])",)
    description = "the path of a cgroup; looked up when it is printed"
    minimum = 1
    maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        integer_argument(infer, call, 0)
        if len(call.arguments) == 2:
            literal_text(infer, call, 1)
        return CgroupPathType()

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.lower import expressions

        pattern = call.literal(1, "")
        low.store(to, expressions.number(low, call.arguments[0]), 8)
        low.store(to.plus(8), low.build.string(pattern), 4)
        low.store(to.plus(12), 0, 4)


class IsErr(Builtin):
    name = "is_err"
    forms = ("is_err(pointer)",)
    description = "whether a pointer that the kernel returns is an error number"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        address_argument(infer, call, 0)
        return Bool()

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import expressions

        found = expressions.number(low, call.arguments[0])
        result = low.move(1, "error")
        end = low.label("error")
        low.branch(">=", found, -MAX_ERRNO, end)
        low.set(result, 0)
        low.place_label(end)
        return result


class ContainerOf(Builtin):
    name = "container_of"
    forms = ("container_of(pointer, typeof(struct type), member)",)
    description = "the structure that a pointer to one of its members points into"
    minimum = maximum = 3
    word_arguments = frozenset((2,))

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        pointer = infer.number(call.arguments[0])
        place = self._place(infer, call)
        if place is None:
            return UINT64
        space = pointer.space if isinstance(pointer, Pointer) else ""
        return Pointer(place[0], space)

    def _place(self, infer: Inference, call: tree.Call) -> tuple[Struct, int] | None:
        target, path = call.arguments[1], _member_path(call.arguments[2])
        outer = infer.type_named(target.target) if isinstance(target, tree.TypeOf) else None
        if not isinstance(outer, Struct) or not path:
            infer.error(
                "container_of() expects a pointer, a structure type and the name of a member",
                call.span,
                self._form_hint(),
            )
            return None
        # offsetof() knows the way, and complains about members that are not there.
        return outer, infer.offset_of(tree.OffsetOf(call.arguments[2].span, target, path))

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import expressions

        place = self._place(low.build.inference, call)
        assert place is not None
        return low.alu("-", expressions.number(low, call.arguments[0]), place[1])


def _member_path(node: tree.Expression) -> list[str]:
    """The names in ``a.b.c``; none if it is something else."""
    names: list[str] = []
    while isinstance(node, tree.Member):
        names.insert(0, node.name)
        node = node.operand
    return [node.name, *names] if isinstance(node, tree.Name) else []
