"""What a session may ask of a renderer, whatever the output looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tracebee.render.json import JsonRenderer
    from tracebee.render.text import TextRenderer
    from tracebee.spec.events import Event, Location
    from tracebee.spec.objects import MapInfo
    from tracebee.spec.types import Type

    Writer = Callable[[str], object]
    """Takes text that goes to one place.  Bytes that are not UTF-8 are lone surrogates in it."""

    Item = tuple[Any, Any]
    """Key and value of a map; the key of a scalar map is None."""


class Lines(Protocol):
    """What the records of one event become, for reading many of them at once."""

    def fill(self, values: tuple[Any, ...]) -> str:
        """The output of one record."""

    def lines(self, rows: Iterable[tuple[Any, ...]]) -> str:
        """The output of many records, one after the other."""


class Renderer(Protocol):
    """Writes each kind of thing that can come out of a script."""

    def printf(self, text: str) -> None: ...
    def time(self, text: str) -> None: ...
    def join(self, text: str) -> None: ...
    def cat(self, text: str) -> None: ...

    def system(self, text: str) -> None:
        """What a command of system() has printed."""

    def value(self, type_: Type, value: Any) -> None: ...

    def map(self, info: MapInfo, items: Sequence[Item], top: int = 0, div: int = 0) -> None:
        """A whole map.  `top` keeps the last so many items, `div` divides values; 0 is neither."""

    def errorf(self, text: str, location: Location) -> None: ...
    def warnf(self, text: str, location: Location) -> None: ...
    def runtime_warning(self, message: str, location: Location) -> None: ...

    def helper_failed(self, helper: str, result: int, location: Location) -> None:
        """A BPF helper returned `result`, a negative errno (or 0 from a lookup that found nothing)."""

    def attached(self, count: int) -> None: ...
    def lost(self, count: int) -> None: ...

    def end_of_probes(self) -> None:
        """The end probes have run; the maps follow."""

    def lines(self, event: Event) -> Lines | None:
        """The fast way for an event that does nothing but print its values, or None for another."""


if TYPE_CHECKING:

    def _conform(text: TextRenderer, json: JsonRenderer) -> tuple[Renderer, Renderer]:
        """Has the type checker compare the renderers with the protocol."""
        return text, json
