"""What user space does when it reads a record: one function a kind of action."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from tracebee.session.drain import Reader
from tracebee.session.maps import ScalarMap
from tracebee.spec.events import (
    ClearMap,
    Exit,
    HelperFailed,
    Join,
    Printf,
    PrintMap,
    PrintTime,
    PrintValue,
    RuntimeWarning,
    Unwatch,
    ZeroMap,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.render.base import Renderer
    from tracebee.session.session import Session
    from tracebee.spec.events import Event


class Output(Protocol):
    """Where a session's results go.

    `renderer` turns them into text; `write` takes text for standard output as it is.  If `collect` is not
    None, it gets the values of printf() and print() themselves, and the renderer only what is about the
    session.  `prints_maps` says whether the maps are wanted at the end.
    """

    @property
    def renderer(self) -> Renderer: ...

    @property
    def collect(self) -> Callable[[Event, tuple[Any, ...]], None] | None: ...

    @property
    def prints_maps(self) -> bool: ...

    def write(self, text: str) -> object: ...

    def flush(self) -> None: ...

    def warn(self, text: str) -> None:
        """A message about the session, for standard error."""


class Actions:
    """Makes the readers of a session's events."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.output = session.output
        self.renderer = session.output.renderer

    def readers(self) -> list[Reader]:
        """A reader for each event of the schema, in order."""
        found = []
        for event in self.session.spec.schema.events:
            make = _HANDLERS[type(event.action)]
            reader = Reader(event, self.session.decoder)
            make(self, event, reader)
            found.append(reader)
        return found

    # --- printing

    def _printf(self, event: Event, reader: Reader) -> None:
        action = event.action
        assert isinstance(action, Printf)
        if action.kind == "printf":
            collect = self.output.collect
            if collect is not None:
                reader.handle = lambda values: collect(event, values)
                return
            template = self.renderer.lines(event)
            if template is None:
                text_of = self._template(event)
                reader.handle = lambda values: self.renderer.printf(text_of(values))
                return
            write = self.output.write
            reader.handle = lambda values: write(template.fill(values))
            reader.lines = lambda rows: write(template.lines(rows))
            return
        text_of = self._template(event)
        location = action.location
        if action.kind == "errorf" and location is not None:
            reader.handle = lambda values: self.renderer.errorf(text_of(values), location)
        elif action.kind == "warnf" and location is not None:
            reader.handle = lambda values: self.renderer.warnf(text_of(values), location)
        elif action.kind == "cat":
            reader.handle = lambda values: self._cat(text_of(values))
        else:
            reader.handle = lambda values: self._system(text_of(values))

    def _template(self, event: Event) -> Callable[[tuple[Any, ...]], str]:
        """The text of a record's values through its format."""
        from tracebee.render.formats import compile_format

        action = event.action
        assert isinstance(action, Printf)
        return compile_format(action.format, tuple(slot.type for slot in event.layout.slots)).fill

    def _cat(self, path: str) -> None:
        limit = self.session.config.number("max_cat_bytes")
        try:
            with open(path, "rb") as file:
                data = file.read(limit)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.output.warn(f"ERROR: failed to open file '{path}' ({reason})")
            return
        self.renderer.cat(data.decode("utf-8", "surrogateescape"))

    def _system(self, command: str) -> None:
        import subprocess

        self.output.flush()
        done = subprocess.run(["/bin/sh", "-c", command], stdout=subprocess.PIPE, check=False)
        self.renderer.system(done.stdout.decode("utf-8", "surrogateescape"))

    def _value(self, event: Event, reader: Reader) -> None:
        type_ = event.layout.slots[0].type
        collect = self.output.collect
        if collect is not None:
            reader.handle = lambda values: collect(event, values)
        else:
            value = self.renderer.value
            reader.handle = lambda values: value(type_, values[0])

    def _time(self, event: Event, reader: Reader) -> None:
        action = event.action
        assert isinstance(action, PrintTime)
        reader.handle = lambda values: self.renderer.time(time.strftime(action.format))

    def _join(self, event: Event, reader: Reader) -> None:
        action = event.action
        assert isinstance(action, Join)
        reader.handle = lambda values: self.renderer.join(action.delimiter.join(values[1 : 1 + values[0]]))

    # --- maps

    def _print_map(self, event: Event, reader: Reader) -> None:
        action = event.action
        assert isinstance(action, PrintMap)
        reader.handle = lambda values: self.print_map(action.map, action.top, action.div)

    def print_map(self, name: str, top: int, div: int, only_filled: bool = False) -> None:
        """Print a map as it is now; with `only_filled` nothing if it holds nothing."""
        found = self.session.maps.find(name)
        if isinstance(found, ScalarMap):
            if only_filled and not found.is_set:
                return
            items = [(None, found.value)]
        else:
            items = found.items_now()
            if only_filled and not items:
                return
        self.renderer.map(found.info, items, top, div)

    def _clear(self, event: Event, reader: Reader) -> None:
        action = event.action
        assert isinstance(action, ClearMap)
        reader.handle = lambda values: self.session.maps.find(action.map).clear()

    def _zero(self, event: Event, reader: Reader) -> None:
        action = event.action
        assert isinstance(action, ZeroMap)
        reader.handle = lambda values: self.session.maps.find(action.map).zero()

    # --- the end, and what goes wrong

    def _exit(self, event: Event, reader: Reader) -> None:
        def handle(values: tuple[Any, ...]) -> None:
            self.session.exit_code = values[0] & 0xFF
            self.session.drain.stopped = True

        reader.handle = handle

    def _helper(self, event: Event, reader: Reader) -> None:
        action = event.action
        assert isinstance(action, HelperFailed)
        if self.session.warnings:
            reader.handle = lambda values: self.renderer.helper_failed(
                action.helper, values[0], action.location
            )

    def _warning(self, event: Event, reader: Reader) -> None:
        action = event.action
        assert isinstance(action, RuntimeWarning)
        if self.session.warnings:
            reader.handle = lambda values: self.renderer.runtime_warning(action.message, action.location)

    def _unwatch(self, event: Event, reader: Reader) -> None:
        reader.handle = lambda values: self.session.unwatch(values[0])


_HANDLERS: dict[type, Callable[[Actions, Event, Reader], None]] = {
    Printf: Actions._printf,
    PrintValue: Actions._value,
    PrintTime: Actions._time,
    Join: Actions._join,
    PrintMap: Actions._print_map,
    ClearMap: Actions._clear,
    ZeroMap: Actions._zero,
    Exit: Actions._exit,
    HelperFailed: Actions._helper,
    RuntimeWarning: Actions._warning,
    Unwatch: Actions._unwatch,
}
