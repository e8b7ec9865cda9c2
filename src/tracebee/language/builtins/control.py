"""Built-ins that end something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import VOID, Builtin, address_argument, integer_argument
from tracebee.language.rules import is_integer
from tracebee.spec.types import INT32, UINT64, Pointer, Type

if TYPE_CHECKING:
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference


class Exit(Builtin):
    name = "exit"
    forms = ("exit()", "exit(code)")
    description = "end tracing; the rest of the probe is skipped"
    maximum = 1
    bare = False
    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        if call.arguments:
            integer_argument(infer, call, 0)
        return VOID

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.ir import Address, MapSpot
        from tracebee.language.lower import events, expressions
        from tracebee.spec.events import Exit as ExitAction
        from tracebee.spec.objects import GLOBALS_MAP, Globals

        code = expressions.converted(low, call.arguments[0], INT32) if call.arguments else 0
        # A full ring buffer must not keep a script running, so the wish is also left where it cannot be lost.
        spot = low.move(MapSpot(GLOBALS_MAP, 0))
        low.store(Address(spot, Globals.EXIT_CODE), code, 4)
        low.store(Address(spot, Globals.EXITING), 1, 4)
        number = tree.Number(call.span, 0)
        number.type = INT32
        events.send(low, ExitAction(), [(call.arguments[0] if call.arguments else number, INT32)])
        low.finish_probe()


class Fail(Builtin):
    name = "fail"
    forms = ("fail(message)",)
    description = "stop the compilation if this can be reached"
    minimum = 1
    maximum = None
    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        first = call.arguments[0]
        text = first.text if isinstance(first, tree.Text) else "fail"
        values = [
            str(a.value) if isinstance(a, tree.Number) else getattr(a, "text", "") for a in call.arguments[1:]
        ]
        for value in values:
            for conversion in ("%s", "%d"):
                if conversion in text:
                    text = text.replace(conversion, value, 1)
                    break
        infer.error(text, call.span)
        return VOID

    def run(self, low: Lowering, call: tree.Call) -> None:
        raise AssertionError("fail() stops the compilation")


class Unwatch(Builtin):
    name = "unwatch"
    forms = ("unwatch(address)",)
    description = "remove the watchpoint at an address"
    minimum = maximum = 1
    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        address_argument(infer, call, 0)
        return VOID

    def run(self, low: Lowering, call: tree.Call) -> None:
        from tracebee.language.lower import events
        from tracebee.spec.events import Unwatch as UnwatchAction

        argument = call.arguments[0]
        assert is_integer(argument.type) or isinstance(argument.type, Pointer)
        events.send(low, UnwatchAction(), [(argument, UINT64)])
