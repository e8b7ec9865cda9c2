"""What a built-in is to the compiler: one record a name.

A built-in checks its arguments and gives its type while types are inferred, and emits its code when the tree
is lowered.  Which of the code methods it has depends on its type: `value` for what fits a register, `store`
for what lies in memory, `run` for what is only an effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.rules import is_integer
from tracebee.spec.types import Pointer, Str, Type, Void

if TYPE_CHECKING:
    from tracebee.language.ir import Address, Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference

VOID = Void()


class Builtin:
    """Base of the records."""

    name = ""
    forms: tuple[str, ...] = ()
    """How it is called, for messages and documentation."""

    description = ""
    minimum = 0
    maximum: int | None = 0
    """How many arguments it takes; None is no limit."""

    bare = False
    """Whether it may be written without parentheses."""

    words: frozenset[str] = frozenset()
    """Bare words that it takes as arguments."""

    word_arguments: frozenset[int] = frozenset()
    """Which arguments, counted from 0, are words that stand for themselves, such as the name of a member."""

    unsafe = False
    """Whether it needs --unsafe, because it changes what it observes."""

    has_effect = False
    """Whether a call whose result is not used makes sense."""

    def check(self, infer: Inference, call: tree.Call) -> bool:
        """Complain about a wrong number of arguments, and about missing --unsafe."""
        count = len(call.arguments)
        if self.unsafe and not infer.context.unsafe:
            infer.error(
                f"{self.name}() is an unsafe function being used in safe mode",
                call.span,
                "run tracebee with --unsafe to allow it",
            )
            return False
        if count < self.minimum or (self.maximum is not None and count > self.maximum):
            infer.error(self._count_message(count), call.span, self._form_hint())
            return False
        return True

    def _count_message(self, count: int) -> str:
        if self.maximum == self.minimum:
            wanted = f"{self.minimum} argument{'s' if self.minimum != 1 else ''}"
        elif count < self.minimum:
            number = {1: "one argument"}.get(self.minimum, f"{self.minimum} arguments")
            wanted = f"at least {number}"
        else:
            wanted = f"at most {self.maximum} argument{'s' if self.maximum != 1 else ''}"
        verb = "requires" if count < self.minimum or self.maximum == self.minimum else "takes"
        return f"{self.name}() {verb} {wanted} ({count} provided)"

    def _form_hint(self) -> str:
        return f"it is called as {' or '.join(self.forms)}" if self.forms else ""

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        """The type of the result; visits the arguments."""
        raise NotImplementedError

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        """Code for a result that fits a register."""
        raise NotImplementedError(self.name)

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        """Code that puts the result at an address."""
        raise NotImplementedError(self.name)

    def append(self, low: Lowering, call: tree.Call, to: Address, room: int) -> Operand:
        """Code that puts at most `room` bytes of a Buffer's contents at an address; returns how many."""
        raise NotImplementedError(self.name)

    pads_text = False
    """Whether `text` writes as many bytes as its type has, zeros behind the string."""

    def text(self, low: Lowering, call: tree.Call, to: Address, room: int) -> Operand:
        """Code that puts a string of at most `room` characters at an address; returns its length."""
        raise NotImplementedError(self.name)

    def home(self, low: Lowering, call: tree.Call) -> Address | None:
        """Where a string result already lies, padded with zeros; None if it has to be made."""
        return None

    def run(self, low: Lowering, call: tree.Call) -> None:
        """Code for the effect."""
        raise NotImplementedError(self.name)

    def effect(self, low: Lowering, call: tree.Call) -> None:
        """Code for a call whose value nobody wants: the effect, or those of the arguments."""
        if self.has_effect:
            self.run(low, call)
            return
        from tracebee.language.lower import statements

        for argument in call.arguments:
            if not isinstance(argument, tree.Name | tree.MapAccess):
                statements.effect(low, argument)


class Fact(Builtin):
    """A number about the moment that stays the same while the probe runs: asked for once."""

    bare = True
    type: Type

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        return self.type

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        return low.fact(self.name, lambda: self.ask(low))

    def ask(self, low: Lowering) -> Operand:
        """Code that finds the number out."""
        raise NotImplementedError(self.name)


def literal_text(infer: Inference, call: tree.Call, index: int) -> str | None:
    """The string literal that an argument must be; complains otherwise."""
    argument = call.arguments[index]
    if isinstance(argument, tree.Text):
        argument.type = Str(len(argument.value) + 1)
        return argument.text
    infer.visit(argument)
    infer.error(f"{call.name}() expects a string literal ({infer.noun(argument.type)} provided)", call.span)
    return None


def literal_number(infer: Inference, call: tree.Call, index: int, what: str = "int literal") -> int | None:
    """The integer literal that an argument must be; complains otherwise."""
    argument = call.arguments[index]
    infer.visit(argument)
    if isinstance(argument, tree.Number | tree.Constant):
        return argument.value
    if isinstance(argument, tree.Cast) and isinstance(argument.operand, tree.Number):
        return argument.operand.value
    infer.error(f"{call.name}() expects a {what} ({infer.noun(argument.type)} provided)", call.span)
    return None


def integer_argument(infer: Inference, call: tree.Call, index: int) -> Type:
    """An argument that must be a number."""
    argument = call.arguments[index]
    type_ = infer.number(argument)
    if not is_integer(type_):
        infer.error(f"{call.name}() only supports int arguments ({infer.noun(type_)} provided)", call.span)
    return type_


def address_argument(infer: Inference, call: tree.Call, index: int) -> Type:
    """An argument that must be an address: a pointer or a number."""
    argument = call.arguments[index]
    type_ = infer.number(argument)
    if not is_integer(type_) and not isinstance(type_, Pointer):
        infer.error(
            f"{call.name}() expects an integer or a pointer type as first argument ({infer.noun(type_)} provided)",
            call.span,
        )
    return type_
