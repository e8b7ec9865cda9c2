"""The global variables of an object: .rodata, .data and .bss, by name."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.btf.types import Datasec, Modifier, Var
from tracebee.btf.values import value_codec
from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tracebee.btf.reader import Btf
    from tracebee.btf.values import ValueCodec
    from tracebee.session.objects.sides import Side

MAX_MODIFIERS = 8

CONSTANTS = ".rodata"
SECTIONS = (".data", ".bss", CONSTANTS)


class Variable(NamedTuple):
    """Where a variable is, and how its values are read and made."""

    section: str
    offset: int
    codec: ValueCodec
    type: str

    @property
    def is_constant(self) -> bool:
        return belongs(self.section, CONSTANTS)


def belongs(section: str, name: str) -> bool:
    """Whether a section is one of this name, such as .rodata.cst8 is of .rodata."""
    return section == name or section.startswith(name + ".")


def find_variables(btf: Btf | None) -> dict[str, Variable]:
    """All of them by name.  `btf` has the places filled in, see `ObjectFile.settled_btf`.  Raises FormatError."""
    found: dict[str, Variable] = {}
    if btf is None:
        return found
    from tracebee.btf.format import declaration

    for type_id in btf.ids_of_kind(Datasec):
        section = btf.type(type_id)
        assert isinstance(section, Datasec)
        if not any(belongs(section.name, name) for name in SECTIONS):
            continue
        for one in section.variables:
            var = btf.type(one.type_id)
            if isinstance(var, Var):
                type_id = _bare(btf, var.type_id)
                codec = value_codec(btf, type_id, one.size)
                found[var.name] = Variable(section.name, one.offset, codec, declaration(btf, type_id))
    return found


def _bare(btf: Btf, type_id: int) -> int:
    """A type without const and volatile, which say nothing about its values."""
    for _ in range(MAX_MODIFIERS):
        found = btf.type(type_id)
        if not isinstance(found, Modifier):
            break
        type_id = found.type_id
    return type_id


class Variables(MutableMapping[str, Any]):
    """The variables of an object as a mapping of typed values.

    Before the object is loaded they are what it will start with.  Afterwards those of .data and .bss are the
    living ones, and constants can only be read: the kernel has frozen them, and its verifier has left out what
    they rule out.
    """

    def __init__(self, places: Mapping[str, Variable], contents: dict[str, bytearray]) -> None:
        """`contents` are the sections' bytes before the object is loaded."""
        self.places = places
        self.contents = contents
        self.side: Side | None = None

    def __repr__(self) -> str:
        return f"<variables: {', '.join(self.places) or 'none'}>"

    def describe(self, name: str) -> Variable:
        """What is known of a variable.  Raises KeyError with the nearest name."""
        found = self.places.get(name)
        if found is None or found.section not in self.contents:
            raise KeyError(f"the object has no variable {name!r}{self._nearest(name, self.places)}")
        return found

    @staticmethod
    def _nearest(name: str, known: Mapping[str, Any]) -> str:
        from tracebee.language.diagnostics import nearest

        return f"; {nearest(name, known)}" if nearest(name, known) else ""

    def __getitem__(self, name: str) -> Any:
        place = self.describe(name)
        size = place.codec.size
        if self.side is None or place.is_constant:
            data = bytes(self.contents[place.section][place.offset : place.offset + size])
        else:
            data = self.side.peek(place.section, place.offset, size)
        return place.codec.decode(data)

    def __setitem__(self, name: str, value: Any) -> None:
        place = self.describe(name)
        if self.side is not None and place.is_constant:
            raise UsageError(
                f"{name} is a constant ({place.section}), which the kernel has frozen when the object was loaded",
                "set it before load(), or take the const away in the C source",
            )
        data = place.codec.encode(value, name)
        if self.side is None:
            self.contents[place.section][place.offset : place.offset + len(data)] = data
        else:
            self.side.poke(place.section, place.offset, data)

    def __delitem__(self, name: str) -> None:
        raise TypeError("variables of an object cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return (name for name, place in self.places.items() if place.section in self.contents)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def set_constant(self, name: str, value: Any) -> None:
        """Set a constant before the object is loaded.  Raises UsageError for what is none."""
        place = self._constant(name)
        data = place.codec.encode(value, name)
        self.contents[place.section][place.offset : place.offset + len(data)] = data

    def set_text(self, name: str, text: str) -> None:
        """Set any variable before the object is loaded, by what somebody has written on a command line."""
        try:
            place = self.describe(name)
        except KeyError as error:
            raise UsageError(*self._unknown(name)) from error
        self[name] = self._parsed(place, name, text)

    def _parsed(self, place: Variable, name: str, text: str) -> Any:
        try:
            return place.codec.parse(text)
        except UsageError as error:
            text = str(error)
            what = text if place.type in text else f"{text} (its type is {place.type})"
            raise UsageError(f"{name}: {what}", error.hint) from None

    def _constant(self, name: str) -> Variable:
        found = self.places.get(name)
        if found is None or not found.is_constant or found.section not in self.contents:
            if found is not None:
                raise UsageError(
                    f"{name} is no constant, but a variable of {found.section}",
                    "set it by variables[…], before load() or after",
                )
            raise UsageError(*self._unknown(name))
        return found

    def _unknown(self, name: str) -> tuple[str, str]:
        """The message about a name that is not there, and its hint."""
        from tracebee.language.diagnostics import nearest

        known = list(self)
        hint = nearest(name, known)
        if not hint:
            hint = (
                f"it has {', '.join(known)}"
                if known
                else "its source must say: const volatile TYPE NAME = VALUE;"
            )
        return f"the object has no constant {name!r}", hint
