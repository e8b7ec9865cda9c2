"""Built-ins that ask about types, answered while compiling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import Builtin, literal_text
from tracebee.language.rules import BOOL, is_integer, is_signed
from tracebee.spec.types import Array, Bool, Named, Pointer, Record, Str, Struct, Type

if TYPE_CHECKING:
    from tracebee.language.ir import Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference


class TypeQuery(Builtin):
    """What they share: the answer is a constant."""

    minimum = maximum = 1

    def answer(self, infer: Inference, call: tree.Call) -> bool:
        """The answer; visits the argument."""
        return self.holds(infer.visit(call.arguments[0]))

    def holds(self, type_: Type) -> bool:
        raise NotImplementedError

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        self.answer(infer, call)
        return BOOL

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        inference = low.build.inference
        inference.unit = low.unit  # some answers depend on the probe
        return int(self.answer(inference, call))


class IsStr(TypeQuery):
    name = "is_str"
    forms = ("is_str(value)",)
    description = "whether a value is a string"

    def holds(self, type_: Type) -> bool:
        return isinstance(type_, Str | Named)


class IsPtr(TypeQuery):
    name = "is_ptr"
    forms = ("is_ptr(value)",)
    description = "whether a value is a pointer"

    def holds(self, type_: Type) -> bool:
        return isinstance(type_, Pointer)


class IsArray(TypeQuery):
    name = "is_array"
    forms = ("is_array(value)",)
    description = "whether a value is an array"

    def holds(self, type_: Type) -> bool:
        return isinstance(type_, Array)


class IsInteger(TypeQuery):
    name = "is_integer"
    forms = ("is_integer(value)",)
    description = "whether a value is an integer"

    def holds(self, type_: Type) -> bool:
        return is_integer(type_) and not isinstance(type_, Bool)


class IsUnsignedInteger(TypeQuery):
    name = "is_unsigned_integer"
    forms = ("is_unsigned_integer(value)",)
    description = "whether a value is an integer without a sign"

    def holds(self, type_: Type) -> bool:
        return is_integer(type_) and not isinstance(type_, Bool) and not is_signed(type_)


class IsLiteral(TypeQuery):
    name = "is_literal"
    forms = ("is_literal(expression)",)
    description = "whether an expression is a constant as written"

    def answer(self, infer: Inference, call: tree.Call) -> bool:
        infer.visit(call.arguments[0])
        return isinstance(call.arguments[0], tree.Number | tree.Text | tree.Truth)


class HasMember(TypeQuery):
    name = "has_member"
    forms = ('has_member(value, "name")',)
    description = "whether a value is a structure, or points to one, and has a member of a name"
    minimum = maximum = 2

    def answer(self, infer: Inference, call: tree.Call) -> bool:
        type_ = infer.visit(call.arguments[0])
        name = literal_text(infer, call, 1)
        if isinstance(type_, Pointer):
            type_ = type_.target
        if isinstance(type_, Record):
            return name in type_.names
        return isinstance(type_, Struct) and name is not None and type_.find(name) is not None


class HasProbe(TypeQuery):
    """Answered before probes are expanded, by `tracebee.language.passes.questions`."""

    name = "has_probe"
    forms = ('has_probe("attach point")',)
    description = "whether this kernel has an attach point, and lets it be traced"


class KfuncExist(TypeQuery):
    name = "kfunc_exist"
    forms = ('kfunc_exist("function")',)
    description = "whether the kernel has a function that programs may call by name"

    def answer(self, infer: Inference, call: tree.Call) -> bool:
        name = literal_text(infer, call, 0)
        btf = infer.types.btf
        if name is None or btf is None:
            return False
        from tracebee.btf.types import DeclTag, Func

        function = btf.find(name, Func)
        if function is None:
            return False
        # pahole marks them since Linux 6.10; before that, being in BTF is all that can be seen.
        tagged = {
            tag.type_id
            for tag_id in btf.find_all("bpf_kfunc")
            if isinstance(tag := btf.type(tag_id), DeclTag)
        }
        return not tagged or function in tagged


class KfuncAllowed(KfuncExist):
    name = "kfunc_allowed"
    forms = ('kfunc_allowed("function")',)
    description = "whether a program of this probe may call a function of the kernel by name"

    def answer(self, infer: Inference, call: tree.Call) -> bool:
        if not super().answer(infer, call):
            return False
        unit, name = infer.unit, call.literal(0, "")
        assert unit is not None
        return infer.context.machine.kfunc_allowed(name, unit.kind.program_type)
