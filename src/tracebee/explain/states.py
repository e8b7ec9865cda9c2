"""The verifier's states, as it prints them: what it knew of each register and stack slot.

The words changed over the years.  A number is ``inv``, ``inv5``, ``invP0`` up to 5.17 and ``scalar()``, ``5``,
``P0`` since; its bounds are ``umax_value=`` up to 6.0, ``umax=`` since, and ``smin=smin32=0`` since 6.8.  Marks of
liveness (``R1_w=``) are on 5.x to 6.17.
"""

from __future__ import annotations

from tracebee.records import Frozen

U64 = (1 << 64) - 1

_NO_ATTRIBUTES: dict[str, str] = {}
_NO_VALUES: dict[int, Value] = {}


class Value(Frozen):
    """What a register or slot holds: `kind` without ``_or_null``, `maybe_null`, and the bracket's `attributes`.

    A number has the kind ``scalar`` and, if it is known, `const`.  ``fp`` has its offset in `const`.
    """

    kind: str
    maybe_null: bool = False
    const: int | None = None
    attributes: dict[str, str] = _NO_ATTRIBUTES
    raw: str = ""

    def is_scalar(self) -> bool:
        return self.kind == "scalar"

    def is_pointer(self) -> bool:
        return self.kind not in ("scalar", "misc", "zero", "unknown")

    def number(self, *names: str) -> int | None:
        """The first attribute of these names that is there, as a number."""
        for name in names:
            text = self.attributes.get(name)
            if text is not None:
                value = to_number(text)
                if value is not None:
                    return value
        return None

    def upper(self) -> int | None:
        """The unsigned upper bound, or None where there is none below 2^64-1."""
        if self.const is not None:
            return self.const & U64
        bound = self.number("umax", "umax_value")
        if bound is None:
            bound = _mask_bound(self.attributes.get("var_off", ""))
        return bound

    def lower_signed(self) -> int | None:
        """The signed lower bound, or None where it is the least number."""
        if self.const is not None:
            return self.const
        bound = self.number("smin", "smin_value")
        if bound is None:
            upper = self.upper()
            if upper is not None and upper < 1 << 63:
                return self.number("umin", "umin_value") or 0
        return bound


class State(Frozen):
    """Registers by number, stack slots by offset from the frame pointer, references held, and the frame."""

    registers: dict[int, Value] = _NO_VALUES
    slots: dict[int, Value] = _NO_VALUES
    references: tuple[int, ...] = ()
    frame: int = 0

    def __bool__(self) -> bool:
        return bool(self.registers or self.slots)


def parse_state(text: str) -> State:
    """The value of what follows ``;`` or stands on a line of its own; later words win."""
    registers: dict[int, Value] = {}
    slots: dict[int, Value] = {}
    references: tuple[int, ...] = ()
    frame = 0
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals:
            if name.startswith("frame") and name[5:-1].isdigit() and name.endswith(":"):
                frame = int(name[5:-1][:4])
            continue
        name = name.partition("_")[0]
        number = name[1:]
        if name[:1] == "R" and number.isdigit() and len(number) < 4:
            registers[int(number)] = parse_value(value)
        elif name.startswith("fp-") and name[3:].isdigit() and len(name) < 9:
            slots[int(name[2:])] = parse_slot(value)
        elif name == "refs":
            references = tuple(
                int(part) for part in value.split(",")[:64] if part.isdigit() and len(part) < 12
            )
    return State(registers, slots, references, frame)


def parse_slot(text: str) -> Value:
    """A stack slot: eight letters of bytes, or a value that was saved there."""
    if len(text) == 8 and set(text) <= set("?rm0d-ifz"):
        return Value("bytes", raw=text)
    return parse_value(text)


def parse_value(text: str) -> Value:
    """A register's value."""
    head, bracket, rest = text.partition("(")
    attributes = _attributes(rest[:-1] if rest.endswith(")") else rest) if bracket else {}
    raw = text
    if head.startswith("inv"):
        head = head[3:] or "scalar"
    number = to_number(head.removeprefix("P"))
    if number is not None:
        return Value("scalar", False, number, attributes, raw)
    if head in ("scalar", "Pscalar", "P"):
        return Value("scalar", False, None, attributes, raw)
    if head.startswith("fp"):
        offset = to_number(head[2:] or "0")
        return Value("fp", False, offset, attributes, raw)
    maybe_null = "or_null" in head
    return Value(head.replace("_or_null", ""), maybe_null, None, attributes, raw)


def to_number(text: str) -> int | None:
    """A decimal or hexadecimal number of reasonable length, or None."""
    if not 0 < len(text) <= 24:
        return None
    try:
        return int(text, 16 if "x" in text[:3] else 10)
    except ValueError:
        return None


def _mask_bound(var_off: str) -> int | None:
    value, semicolon, mask = var_off.strip("()").partition(";")
    if not semicolon:
        return None
    known, unknown = to_number(value.strip()), to_number(mask.strip())
    if known is None or unknown is None or (known | unknown) >= U64:
        return None
    return known | unknown


def _attributes(text: str) -> dict[str, str]:
    """``a=1,b=c=2,var_off=(0x0; 0xff)`` by name; several names may share a value."""
    found: dict[str, str] = {}
    for part in _parts(text, ","):
        *names, value = part.split("=")
        for name in names:
            found[name.strip()] = value
    return found


def _words(text: str) -> list[str]:
    return _parts(text, " ")


def _parts(text: str, separator: str) -> list[str]:
    """Split at a separator outside of brackets, in one pass."""
    if "(" not in text:
        return [part for part in text.split(separator) if part]
    parts: list[str] = []
    depth = start = 0
    for at, character in enumerate(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth = max(depth - 1, 0)
        elif character == separator and not depth:
            if at > start:
                parts.append(text[start:at])
            start = at + 1
    if start < len(text):
        parts.append(text[start:])
    return parts
