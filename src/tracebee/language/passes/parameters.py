"""Pass: put the parameters from the command line into the script.

``$1`` becomes a number where the parameter reads as one and a string elsewhere; ``str($1)`` is always a
string, and ``$1 + 2`` of a string skips two bytes. ``getopt("name", default)`` takes ``--name=value``, given
after ``--``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.language import tree
from tracebee.language.scanner import BadLiteral, number_value
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.language.diagnostics import Diagnostics


class Parameters(Frozen):
    """What the command line gave: `positional` in order, `named` by name; None is a bare --name."""

    positional: tuple[str, ...] = ()
    named: tuple[tuple[str, str | None], ...] = ()


class NamedOption(Frozen):
    """A getopt() of the script."""

    name: str
    description: str


def split_parameters(words: Sequence[str]) -> Parameters:
    """Positional and named parameters of the words behind the script.

    Before ``--`` all are positional; behind it ``--name`` and ``--name=value`` are named.  Raises UsageError
    for a word that starts with ``--`` before that.
    """
    positional: list[str] = []
    named: list[tuple[str, str | None]] = []
    behind = False
    for word in words:
        if not behind and word == "--":
            behind = True
        elif behind and word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            named.append((name, value if equals else None))
        else:
            positional.append(word)
    return Parameters(tuple(positional), tuple(named))


def parameter_number(text: str) -> int | None:
    """The value of a parameter that is a number: decimal, 0x, 0 or 0b, with a sign; else None."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if not digits[:1].isdigit():
        return None
    try:
        if digits[:2] in ("0b", "0B"):
            return sign * int(digits, 2)
        return sign * number_value(digits)
    except (BadLiteral, ValueError):
        return None


class Substitution:
    """Replaces the parameters in a tree; remembers the getopt() calls it met."""

    def __init__(self, parameters: Parameters, diagnostics: Diagnostics) -> None:
        self.parameters = parameters
        self.named: Mapping[str, str | None] = dict(parameters.named)
        self.diagnostics = diagnostics
        self.options: dict[str, NamedOption] = {}

    def apply(self, node: tree.Node) -> None:
        """Replace the parameters below a node, in place."""
        tree.rewrite(node, self._replace)

    def in_text(self, text: str) -> str:
        """An attach point with ``$1`` and the like replaced by the parameters' text."""
        if "$" not in text:
            return text
        import re

        def value(match: re.Match[str]) -> str:
            if match.group() == "$#":
                return str(len(self.parameters.positional))
            return self._text(int(match.group()[1:]))

        # As in the scanner, nothing beyond nine digits is a parameter.
        return re.sub(r"\$(?:[0-9]{1,9}|#)", value, text)

    def _text(self, index: int) -> str:
        values = self.parameters.positional
        return values[index - 1] if 0 < index <= len(values) else ""

    def _replace(self, node: tree.Node) -> tree.Node:
        match node:
            case tree.PositionalCount():
                return tree.Number(node.span, len(self.parameters.positional))
            case tree.Positional():
                return self._positional(node)
            case tree.Call(name="str", arguments=[_Str() as inner, *rest]):
                return self._as_string(node, inner, rest)
            case tree.Call(name="getopt"):
                return self._getopt(node)
            case tree.Binary(operator="+", left=_Str(number=None) as inner, right=tree.Number(value=skipped)):
                # As with a pointer in C: what is left of the parameter's bytes.
                data = inner.text.encode("utf-8", "surrogateescape")[skipped:]
                return _Str(node.span, data.decode("utf-8", "surrogateescape"), None)
        return node

    def _positional(self, node: tree.Positional) -> tree.Expression:
        if node.index == 0:
            self.diagnostics.error("Positional parameters start at $1", node.span)
        text = self._text(node.index)
        if not text:
            self.diagnostics.warning(
                f"Positional parameter ${node.index} is empty or not provided.", node.span
            )
        number = parameter_number(text) if text else 0
        return _Str(node.span, text, number)

    def _as_string(self, node: tree.Call, inner: _Str, rest: list[tree.Expression]) -> tree.Expression:
        text = tree.Text(inner.span, inner.text.encode("utf-8", "surrogateescape"))
        if not rest:
            return text
        return tree.Call(node.span, "str", [text, *rest])

    def _getopt(self, node: tree.Call) -> tree.Expression:
        if not 1 <= len(node.arguments) <= 3 or not isinstance(node.arguments[0], tree.Text):
            self.diagnostics.error("getopt() takes a name, a default value and a description", node.span)
            return node
        name = node.arguments[0].text
        default = node.arguments[1] if len(node.arguments) > 1 else tree.Truth(node.span, False)
        description = ""
        if len(node.arguments) == 3:
            if not isinstance(node.arguments[2], tree.Text):
                self.diagnostics.error(
                    "the description of an option must be a string", node.arguments[2].span
                )
            else:
                description = node.arguments[2].text
        self.options[name] = NamedOption(name, description)
        return self._option_value(node, name, default)

    def _option_value(self, node: tree.Call, name: str, default: tree.Expression) -> tree.Expression:
        given = name in self.named
        value = self.named.get(name)
        if isinstance(default, tree.Unary) and isinstance(default.operand, tree.Number):
            default = tree.Number(default.span, -default.operand.value)
        match default:
            case tree.Truth():
                if not given:
                    return default
                word = "true" if value is None else value.lower()
                if word not in ("true", "false", "1", "0"):
                    raise UsageError(f"program command line option --{name} invalid boolean (value: {value})")
                return tree.Truth(node.span, word in ("true", "1"))
            case tree.Number():
                number: int | None = default.value
                if given:
                    number = None if value is None else parameter_number(value)
                    if number is None:
                        shown = "true" if value is None else value
                        raise UsageError(
                            f"program command line option --{name} invalid integer (value: {shown})"
                        )
                assert number is not None
                base = "int64" if min(number, default.value) < 0 else "uint64"
                return tree.Cast(
                    node.span, tree.TypeName(node.span, base, None, []), tree.Number(node.span, number)
                )
            case tree.Text():
                if given:
                    return tree.Text(node.span, (value or "").encode("utf-8", "surrogateescape"))
                return default
        self.diagnostics.error(
            "the default value of an option must be a number, a string, true or false", default.span
        )
        return default

    def check_unknown(self) -> None:
        """Complain about named parameters that no getopt() asks for; ``--help`` lists those that are."""
        known = [
            f"--{option.name}" + (f": {option.description}" if option.description else "")
            for option in self.options.values()
        ]
        hint = "expected program options: " + ", ".join(known) if known else "the script takes no options"
        if "help" in self.named and "help" not in self.options:
            listing = "\n".join(f"  {line}" for line in known)
            raise UsageError("", f"expected program options:\n{listing}" if known else hint)
        unknown = [name for name in self.named if name not in self.options]
        if unknown:
            shown = ", ".join(f"--{name}" for name in unknown)
            raise UsageError(f"unexpected program command line options: {shown}", hint)


class _Str(tree.Expression):
    """A positional parameter while the pass runs: it may still become a string."""

    text: str
    number: int | None

    def settled(self) -> tree.Expression:
        if self.number is None:
            return tree.Text(self.span, self.text.encode("utf-8", "surrogateescape"))
        return tree.Number(self.span, self.number)


def settle(node: tree.Node) -> None:
    """Turn the parameters that were not used as strings into numbers where they are ones."""
    tree.rewrite(node, lambda item: item.settled() if isinstance(item, _Str) else item)
