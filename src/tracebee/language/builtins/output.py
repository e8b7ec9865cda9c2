"""Built-ins that show something: printf, print and their relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import VOID, Builtin, literal_number, literal_text
from tracebee.language.rules import is_integer
from tracebee.spec.printf import BadFormat, Conversion, Format, parse_format
from tracebee.spec.types import Aggregation, Array, Buffer, Int, Named, Pointer, Str, Type, Void

if TYPE_CHECKING:
    from tracebee.language.ir import Argument
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference
    from tracebee.spec.events import Location

MAX_ARGUMENTS = 127


class Formatted(Builtin):
    """What printf and its relatives share: a literal format and arguments that fit it."""

    minimum = 1
    maximum = None
    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        text = literal_text(infer, call, 0)
        arguments = call.arguments[1:]
        types = [infer.visit(argument) for argument in arguments]
        if text is None:
            return VOID
        if len(arguments) > MAX_ARGUMENTS:
            infer.error(f"{self.name}() takes at most {MAX_ARGUMENTS} arguments", call.span)
            return VOID
        try:
            conversions = parse_format(text).conversions
        except BadFormat as bad:
            infer.error(bad.message, call.arguments[0].span)
            return VOID
        if len(arguments) != len(conversions):
            amount = "not enough" if len(arguments) < len(conversions) else "too many"
            infer.error(
                f"{amount} arguments for format string ({len(arguments)} supplied, {len(conversions)} expected)",
                call.span,
            )
            return VOID
        for argument, type_, conversion in zip(arguments, types, conversions, strict=True):
            self._check(infer, call, argument, type_, conversion)
        return VOID

    def _check(
        self,
        infer: Inference,
        call: tree.Call,
        argument: tree.Expression,
        type_: Type,
        conversion: Conversion,
    ) -> None:
        if isinstance(type_, Void):
            if infer.final and not infer.context.diagnostics.has_errors:
                infer.error(f"none type passed to {self.name}() is not printable", argument.span)
            return
        fits = {
            "integer": is_integer(type_) or isinstance(type_, Pointer),
            "buffer": isinstance(type_, Buffer),
            "any": True,
        }[conversion.takes]
        if isinstance(type_, Aggregation):
            infer.error(
                f"unsupported format specifier for type '{type_}': {conversion.letter}",
                call.span,
                "cast the map to a number: (int64)@x",
            )
        elif not fits:
            infer.error(f"unsupported format specifier for type '{type_}': {conversion.letter}", call.span)

    def format_of(
        self, call: tree.Call
    ) -> tuple[Format, tuple[tuple[int, str], ...], list[tuple[tree.Expression, Type]]]:
        """The format with constant strings put in, these with their positions, and what is left to send.

        What is left comes with the type to send it as.
        """
        assert isinstance(call.arguments[0], tree.Text)
        parsed = parse_format(call.arguments[0].text)
        arguments = enumerate(call.arguments[1:])
        pieces: list[str | Conversion] = []
        literals: list[tuple[int, str]] = []
        values: list[tuple[tree.Expression, Type]] = []
        for piece in parsed.pieces:
            if isinstance(piece, str):
                pieces.append(piece)
                continue
            position, argument = next(arguments)
            constant = _constant_text(argument, piece)
            if constant is not None:
                pieces.append(_justified(constant, piece))
                literals.append((position, constant))
                continue
            pieces.append(piece)
            values.append((argument, sent_type(argument.type, piece)))
        return Format(tuple(pieces)), tuple(literals), values

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import events
        from tracebee.spec.events import Printf

        parsed, literals, values = self.format_of(call)
        events.send(low, Printf(self.name, parsed, self.location(call), literals), values)

    def location(self, call: tree.Call) -> Location | None:
        """The place that the message names; None for plain output."""
        return None


def _constant_text(argument: tree.Expression, conversion: Conversion) -> str | None:
    """The text of a literal argument, if the conversion shows it as it is."""
    if isinstance(argument, tree.Text) and conversion.letter == "s" and not conversion.flags.strip("-"):
        return argument.value.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return None


def _justified(text: str, conversion: Conversion) -> str:
    return text.ljust(conversion.width) if "-" in conversion.flags else text.rjust(conversion.width)


def sent_type(type_: Type, conversion: Conversion) -> Type:
    """The type that a value is sent as: integers already have the width and sign that C would print."""
    if conversion.takes == "integer":
        return Int(conversion.bits // 8, conversion.letter in ("d", "i"))
    return type_


class Printf(Formatted):
    name = "printf"
    forms = ("printf(format, values...)",)
    description = "print formatted values"


class Cat(Formatted):
    name = "cat"
    forms = ("cat(path)", "cat(format, values...)")
    description = "print the contents of a file"


class System(Formatted):
    name = "system"
    forms = ("system(command)", "system(format, values...)")
    description = "run a shell command"
    unsafe = True


class Located(Formatted):
    def location(self, call: tree.Call) -> Location | None:
        return call.span.location()


class Errorf(Located):
    name = "errorf"
    forms = ("errorf(format, values...)",)
    description = "print an error message with its place in the script"


class Warnf(Located):
    name = "warnf"
    forms = ("warnf(format, values...)",)
    description = "print a warning with its place in the script"


class Debugf(Formatted):
    name = "debugf"
    forms = ("debugf(format, values...)",)
    description = "print to the kernel's trace buffer; at most three values of integer or string type"

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        super().infer(infer, call)
        if len(call.arguments) > 4:
            infer.error("debugf() takes at most three values", call.span)
        return VOID

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.ir import MapSpot
        from tracebee.language.lower import expressions, memory
        from tracebee.language.lower.strings import materialized, text_of

        assert isinstance(call.arguments[0], tree.Text)
        text = call.arguments[0].value + b"\0"
        arguments: list[Argument] = []
        for argument in call.arguments[1:]:
            if isinstance(argument.type, Str | Named):
                found = materialized(low, text_of(low, argument))
                assert found.address is not None
                arguments.append(low.pointer(found.address))
            else:
                arguments.append(expressions.number(low, argument))
        spot: MapSpot = memory.constant(low, text)
        low.call("trace_printk", spot, len(text), *arguments)


class Print(Builtin):
    name = "print"
    forms = ("print(value)", "print(@map[, top[, div]])")
    description = "print a value, or a map as it is when user space gets to it"
    minimum = 1
    maximum = 3
    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        subject = call.arguments[0]
        if isinstance(subject, tree.MapAccess) and subject.key is None:
            self._map(infer, call, subject)
            return VOID
        type_ = infer.printable(subject, self.name, call.span)
        if len(call.arguments) > 1:
            infer.error(f"Non-map print() only takes 1 argument, {len(call.arguments)} found", call.span)
        elif isinstance(type_, Aggregation) and infer.final:
            subject.type = infer.number(subject)
        return VOID

    def _map(self, infer: Inference, call: tree.Call, subject: tree.MapAccess) -> None:
        state = infer.map_state(subject)
        subject.type = state.value
        if state.keyed is None and infer.final:
            infer.error(f"Undefined map: {subject.name}", subject.span)
        for index in range(1, len(call.arguments)):
            literal_number(infer, call, index)
        if len(call.arguments) > 1 and state.keyed is False:
            infer.warning("print() of a map without keys ignores top and div", call.span)

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import events
        from tracebee.spec.events import PrintMap, PrintValue

        subject = call.arguments[0]
        if isinstance(subject, tree.MapAccess) and subject.key is None:
            numbers = [_literal(argument) for argument in call.arguments[1:]] + [0, 0]
            events.send_plain(low, PrintMap(subject.name, numbers[0], numbers[1]))
            return
        type_ = subject.type
        if isinstance(type_, Aggregation):
            from tracebee.language.rules import as_integer

            type_ = as_integer(type_)
        events.send(low, PrintValue(), [(subject, type_)])


def _literal(node: tree.Expression) -> int:
    if isinstance(node, tree.Cast):
        return _literal(node.operand)
    assert isinstance(node, tree.Number | tree.Constant)
    return node.value


class Time(Builtin):
    name = "time"
    forms = ("time()", "time(format)")
    description = "print the wall-clock time"
    maximum = 1
    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        if call.arguments:
            literal_text(infer, call, 0)
        return VOID

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import events
        from tracebee.spec.events import PrintTime

        text = "%H:%M:%S\n"
        if call.arguments:
            assert isinstance(call.arguments[0], tree.Text)
            text = call.arguments[0].text
        events.send_plain(low, PrintTime(text))


class Join(Builtin):
    name = "join"
    forms = ("join(array[, delimiter])",)
    description = "print an array of strings, such as argv"
    minimum = 1
    maximum = 2
    has_effect = True

    MOST = 16
    LENGTH = 1024

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        type_ = infer.number(call.arguments[0])
        if not is_integer(type_) and not isinstance(type_, Pointer | Array | Void):
            infer.error(
                f"join() only supports int or pointer arguments ({infer.noun(type_)} provided)", call.span
            )
        if len(call.arguments) > 1:
            literal_text(infer, call, 1)
        return VOID

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import joins

        delimiter = call.literal(1, " ")
        joins.join(low, call.arguments[0], delimiter, self.MOST, self.LENGTH)
