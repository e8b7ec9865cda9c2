"""What user space does when it reads a record: one function a kind of action."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Any, Protocol

from tracebee.session.drain import Reader
from tracebee.session.maps import ScalarMap, ScriptMap
from tracebee.spec.events import (
    ClearMap,
    Exit,
    HelperFailed,
    Join,
    Location,
    Printf,
    PrintMap,
    PrintTime,
    PrintValue,
    RuntimeWarning,
    Unwatch,
    ZeroMap,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.session.session import Session
    from tracebee.spec.events import Event
    from tracebee.spec.objects import MapInfo
    from tracebee.spec.types import Type

    Handler = Callable[[tuple[Any, ...]], None]


class Output(Protocol):
    """Where a session's results go: a renderer, or whoever collects events."""

    def formatter(self, event: Event) -> Callable[[tuple[Any, ...]], str]:
        """The text of a Printf event out of its values."""

    def lines(self, event: Event) -> Callable[[Iterable[tuple[Any, ...]]], None] | None:
        """A function that writes many printf events at once, or None where they are taken one by one."""

    def printf(self, event: Event, values: tuple[Any, ...], text: str) -> None: ...

    def value(self, event: Event, type_: Type, value: Any) -> None: ...

    def map(self, info: MapInfo, items: list[tuple[Any, Any]], top: int, div: int) -> None: ...

    def time(self, text: str) -> None: ...

    def join(self, text: str) -> None: ...

    def cat(self, text: str) -> None: ...

    def system(self, text: str) -> None: ...

    def message(self, severity: str, location: Location, text: str) -> None:
        """errorf() and warnf()."""

    def helper_failed(self, action: HelperFailed, result: int) -> None: ...

    def runtime_warning(self, action: RuntimeWarning) -> None: ...

    def problem(self, text: str) -> None:
        """An action could not be carried out."""

    def attached(self, count: int) -> None: ...

    def lost(self, count: int) -> None: ...

    def missed(self, program: str, count: int) -> None: ...

    def stacks_lost(self, count: int) -> None: ...

    def end_of_probes(self) -> None: ...

    def flush(self) -> None: ...


class Actions:
    """Makes the readers of a session's events."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.output = session.output

    def readers(self) -> list[Reader]:
        """A reader for each event of the schema, in order."""
        found = []
        for event in self.session.spec.schema.events:
            make = _HANDLERS[type(event.action)]
            reader = Reader(event, self.session.decoder, make(self, event))
            if isinstance(event.action, Printf) and event.action.kind == "printf":
                reader.lines = self.output.lines(event)
            found.append(reader)
        return found

    # --- printing

    def _printf(self, event: Event) -> Handler:
        action = event.action
        assert isinstance(action, Printf)
        text_of = self.output.formatter(event)
        if action.kind == "printf":
            printf = self.output.printf
            return lambda values: printf(event, values, text_of(values))
        if action.kind in ("errorf", "warnf"):
            severity = "ERROR" if action.kind == "errorf" else "WARNING"
            location = action.location
            assert location is not None
            return lambda values: self.output.message(severity, location, text_of(values))
        if action.kind == "cat":
            return lambda values: self._cat(text_of(values))
        return lambda values: self._system(text_of(values))

    def _cat(self, path: str) -> None:
        limit = self.session.config.number("max_cat_bytes")
        try:
            with open(path, "rb") as file:
                data = file.read(limit)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.output.problem(f"failed to open file '{path}' ({reason})")
            return
        self.output.cat(data.decode("utf-8", "surrogateescape"))

    def _system(self, command: str) -> None:
        self.output.flush()
        done = subprocess.run(["/bin/sh", "-c", command], stdout=subprocess.PIPE, check=False)
        self.output.system(done.stdout.decode("utf-8", "surrogateescape"))

    def _value(self, event: Event) -> Handler:
        type_ = event.layout.slots[0].type
        return lambda values: self.output.value(event, type_, values[0])

    def _time(self, event: Event) -> Handler:
        action = event.action
        assert isinstance(action, PrintTime)
        return lambda values: self.output.time(time.strftime(action.format))

    def _join(self, event: Event) -> Handler:
        action = event.action
        assert isinstance(action, Join)
        return lambda values: self.output.join(action.delimiter.join(values[1 : 1 + values[0]]))

    # --- maps

    def _print_map(self, event: Event) -> Handler:
        action = event.action
        assert isinstance(action, PrintMap)
        return lambda values: self.print_map(action.map, action.top, action.div)

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
        self.output.map(found.info, items, top, div)

    def _clear(self, event: Event) -> Handler:
        action = event.action
        assert isinstance(action, ClearMap)
        return lambda values: self.session.maps.find(action.map).clear()

    def _zero(self, event: Event) -> Handler:
        action = event.action
        assert isinstance(action, ZeroMap)
        return lambda values: self._zero_map(self.session.maps.find(action.map))

    def _zero_map(self, found: ScriptMap | ScalarMap) -> None:
        found.zero()

    # --- the end, and what goes wrong

    def _exit(self, event: Event) -> Handler:
        def handle(values: tuple[Any, ...]) -> None:
            self.session.exit_code = values[0] & 0xFF
            self.session.drain.stopped = True

        return handle

    def _helper(self, event: Event) -> Handler:
        action = event.action
        assert isinstance(action, HelperFailed)
        return lambda values: self.output.helper_failed(action, values[0])

    def _warning(self, event: Event) -> Handler:
        action = event.action
        assert isinstance(action, RuntimeWarning)
        return lambda values: self.output.runtime_warning(action)

    def _unwatch(self, event: Event) -> Handler:
        return lambda values: None


def is_terminal(fd: int) -> bool:
    return os.isatty(fd)


_HANDLERS: dict[type, Callable[[Actions, Event], Handler]] = {
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
