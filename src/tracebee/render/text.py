"""The output that people read: what bpftrace prints, character by character where it is right."""

from __future__ import annotations

from os import strerror
from typing import TYPE_CHECKING, Any

from tracebee.render.values import formatter, zero_value
from tracebee.spec import types
from tracebee.spec.events import Printf, PrintValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.render.base import Item, Writer
    from tracebee.render.formats import Template
    from tracebee.render.values import Formatter
    from tracebee.spec.events import Event, Location
    from tracebee.spec.objects import MapInfo

__all__ = ["TextRenderer", "formatter", "zero_value"]

_E2BIG, _ENOENT = 7, 2


class TextRenderer:
    """Writes what the script says to `write`, and what is said about the script to `write_error`."""

    def __init__(self, write: Writer, write_error: Writer) -> None:
        self._write = write
        self._write_error = write_error
        # By identity, since hashing a type walks all of it; the type is kept so that its id stays its own.
        self._formatters: dict[int, tuple[types.Type, Formatter]] = {}
        self._key_formatters: dict[int, tuple[types.Type, Formatter]] = {}

    def _formatter(self, type_: types.Type) -> Formatter:
        found = self._formatters.get(id(type_))
        if found is None:
            found = self._formatters[id(type_)] = (type_, formatter(type_))
        return found[1]

    def _key_formatter(self, type_: types.Type) -> Formatter:
        found = self._key_formatters.get(id(type_))
        if found is None:
            from tracebee.render.maps import key_formatter

            found = self._key_formatters[id(type_)] = (type_, key_formatter(type_))
        return found[1]

    def printf(self, text: str) -> None:
        self._write(text)

    def time(self, text: str) -> None:
        self._write(text)

    def cat(self, text: str) -> None:
        self._write(text)

    def join(self, text: str) -> None:
        self._write(f"{text}\n")

    def system(self, text: str) -> None:
        """What a command has printed; bpftrace ends it with a newline of its own."""
        self._write(f"{text}\n")

    def value(self, type_: types.Type, value: Any) -> None:
        self._write(f"{self._formatter(type_)(value)}\n")

    def map(self, info: MapInfo, items: Sequence[Item], top: int = 0, div: int = 0) -> None:
        from tracebee.render.maps import shown_items

        text = self._formatter(info.value)
        rows = isinstance(info.value, types.Hist | types.LHist | types.TSeries)
        key_text = None if info.key is None else self._key_formatter(info.key)
        lines = []
        for key, value in shown_items(info, items, top, div):
            name = info.name if key_text is None else f"{info.name}[{key_text(key)}]"
            lines.append(f"{name}:\n{text(value)}\n" if rows else f"{name}: {text(value)}\n")
        if lines:
            self._write("".join(lines))

    def errorf(self, text: str, location: Location) -> None:
        self._message("ERROR", text, location)

    def warnf(self, text: str, location: Location) -> None:
        self._message("WARNING", text, location)

    def _message(self, severity: str, text: str, location: Location) -> None:
        """A message of the script's own: the place without the source line, which its author knows."""
        end = "" if text.endswith("\n") else "\n"
        self._write_error(f"{location.heading}: {severity}: {text}{end}{_expansions(severity, location)}")

    def runtime_warning(self, message: str, location: Location) -> None:
        self._write_error(
            f"{location.heading}: WARNING: {message}\n{_excerpt(location)}{_expansions('WARNING', location)}"
        )

    def helper_failed(self, helper: str, result: int, location: Location) -> None:
        self.runtime_warning(
            f"{helper_message(helper, result)}\nAdditional Info - helper: {helper}, retcode: {result}",
            location,
        )

    def attached(self, count: int) -> None:
        self._write_error(f"Attached {count} probe{'' if count == 1 else 's'}\n")

    def lost(self, count: int) -> None:
        self._write_error(f"Lost {count} events\n")

    def end_of_probes(self) -> None:
        self._write("\n\n")

    def lines(self, event: Event) -> Template | None:
        """The template that turns values of the event into finished lines, where they are all there is."""
        from tracebee.render.formats import compile_format, line_template

        action = event.action
        arguments = tuple(slot.type for slot in event.layout.slots)
        if isinstance(action, Printf) and action.kind == "printf":
            return compile_format(action.format, arguments)
        if isinstance(action, PrintValue):
            return line_template(arguments[0])
        return None


def _excerpt(location: Location) -> str:
    return f"{location.excerpt}\n" if location.excerpt else ""


def _expansions(severity: str, location: Location) -> str:
    return "".join(
        [f"{outer.heading}: {severity}: expanded from\n{_excerpt(outer)}" for outer in location.expanded_from]
    )


def helper_message(helper: str, result: int) -> str:
    """What the failure of a helper means for a script; else what the errno says."""
    if helper == "map_update_elem" and result == -_E2BIG:
        return (
            "Map full; can't update element. Raise max_map_keys, or give the map room for more keys by "
            "declaring it, e.g. `let @a = hash(5000)`"
        )
    if helper == "map_delete_elem" and result == -_ENOENT:
        return "Can't delete map element because it does not exist."
    if helper == "map_lookup_elem":
        return "Can't lookup map element because it does not exist."
    return strerror(-result)
