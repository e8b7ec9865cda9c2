"""A script under the control of a Python program."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from tracebee.errors import UsageError
from tracebee.session.results import MapPrinted, Message, Printed, Result, Text, Value
from tracebee.spec.events import Printf

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from tracebee.language.compile import Compilation, Options
    from tracebee.language.source import Source
    from tracebee.session.machine import LiveMachine
    from tracebee.session.maps import ScriptMaps
    from tracebee.session.session import Session
    from tracebee.spec.events import Event, Location
    from tracebee.spec.objects import MapInfo
    from tracebee.spec.types import Type

STEP = 0.25
"""Seconds after which a waiting tracer looks whether the script has ended without a word."""


class Collector:
    """An output whose renderer makes results instead of text."""

    prints_maps = False

    def __init__(self) -> None:
        self.queue: deque[Result] = deque()
        self.renderer = self
        self._fill: dict[int, Callable[[tuple[Any, ...]], str]] = {}

    def collect(self, event: Event, values: tuple[Any, ...]) -> None:
        action = event.action
        if not isinstance(action, Printf):
            self.queue.append(Value(values[0]))
            return
        fill = self._fill.get(event.id)
        if fill is None:
            from tracebee.render.formats import compile_format

            types = tuple(slot.type for slot in event.layout.slots)
            fill = self._fill[event.id] = compile_format(action.format, types).fill
        text = fill(values)
        if action.literals:
            arguments = list(values)
            for position, literal in action.literals:
                arguments.insert(position, literal)
            values = tuple(arguments)
        self.queue.append(Printed(text, values))

    def write(self, text: str) -> None:
        self.queue.append(Text("text", text))

    def flush(self) -> None:
        pass

    def warn(self, text: str) -> None:
        self.queue.append(Message("session", text))

    # --- the renderer

    def printf(self, text: str) -> None:
        self.queue.append(Printed(text, ()))

    def time(self, text: str) -> None:
        self.queue.append(Text("time", text))

    def join(self, text: str) -> None:
        self.queue.append(Text("join", text))

    def cat(self, text: str) -> None:
        self.queue.append(Text("cat", text))

    def system(self, text: str) -> None:
        self.queue.append(Text("system", text))

    def value(self, type_: Type, value: Any) -> None:
        self.queue.append(Value(value))

    def map(self, info: MapInfo, items: Sequence[tuple[Any, Any]], top: int = 0, div: int = 0) -> None:
        from tracebee.render.maps import shown_items

        self.queue.append(MapPrinted(info.name, tuple(shown_items(info, items, top, div))))

    def errorf(self, text: str, location: Location) -> None:
        self.queue.append(Message("error", text, location.line, location.column))

    def warnf(self, text: str, location: Location) -> None:
        self.queue.append(Message("warning", text, location.line, location.column))

    def runtime_warning(self, message: str, location: Location) -> None:
        self.queue.append(Message("runtime", message, location.line, location.column))

    def helper_failed(self, helper: str, result: int, location: Location) -> None:
        self.queue.append(Message("helper", f"{helper} returned {result}", location.line, location.column))

    def attached(self, count: int) -> None:
        pass

    def lost(self, count: int) -> None:
        self.queue.append(Message("lost", f"{count} events were lost"))

    def end_of_probes(self) -> None:
        pass

    def lines(self, event: Event) -> None:
        return None


class Tracer:
    """A loaded script: its maps can be set, it can be attached, and what it sends can be read.

    A context manager; leaving it detaches everything, ends the command if there is one, and closes the maps,
    whatever happened inside.

    `maps` are the script's maps by name: ``maps["@count"]`` is the value of a map without keys, and
    ``maps["@bytes"]`` a mutable mapping for one with keys.  They can be used from loading until `close`.
    `warnings` are what the compiler had to say, one text each.
    """

    def __init__(
        self, session: Session, compilation: Compilation, collector: Collector, machine: LiveMachine
    ) -> None:
        self._session = session
        self._collector = collector
        self._machine = machine
        self._attached = False
        self._closed = False
        self.maps: ScriptMaps = session.maps
        self.warnings = tuple(diagnostic.render() for diagnostic in compilation.warnings)
        self.probes = tuple(probe.name for probe in session.spec.probes)

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Tracer:
        """Attached, if it was not yet: ``async with tracebee.load(…) as tracer``."""
        if not self._attached:
            self.attach()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the command, or 0 without one."""
        return self._session.child.pid if self._session.child is not None else 0

    @property
    def exit_code(self) -> int:
        """What the script gave to exit(), or 0."""
        return self._session.exit_code

    @property
    def finished(self) -> bool:
        """Whether the script has ended: by exit(), with its command or process, or by `detach`."""
        return self._session.finished

    def attach(self) -> None:
        """Run ``begin``, attach all probes, and let the command start.

        Raises AttachError, TargetError; UsageError when called twice.
        """
        if self._attached or self._closed:
            raise UsageError("the tracer has been attached before", "load the script again")
        self._attached = True
        try:
            self._session.start()
        except BaseException:
            self.close()
            raise
        self._session.settle()

    def detach(self) -> None:
        """Take all probes off and run ``end``.  Maps, and results that were sent, can still be read."""
        if self._attached and not self._closed:
            self._session.stop()

    def close(self) -> None:
        """Detach, and let go of maps and programs.  Safe to call twice."""
        if not self._closed:
            try:
                self.detach()
            finally:
                self._closed = True
                self._session.close()
                self._machine.close()

    def poll(self, timeout: float = 0.0) -> list[Result]:
        """What has been sent since the last call; waits at most `timeout` seconds for the first result."""
        return list(self.events(timeout, only_ready=True))

    def events(self, timeout: float | None = None, *, only_ready: bool = False) -> Iterator[Result]:
        """The results as they come, until the script ends or `timeout` seconds have passed.

        With `only_ready` it ends after those that are there when the first one comes.  Raises UsageError
        before `attach`.
        """
        if not self._attached:
            raise UsageError("nothing can come before the tracer is attached", "call attach()")
        session, queue = self._session, self._collector.queue
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if queue:
                while queue:
                    yield queue.popleft()
                if only_ready:
                    return
            if session.finished:
                self.detach()
                if not queue:
                    return
                continue
            left = STEP if end is None else min(STEP, end - time.monotonic())
            if left < 0:
                return
            session.step(left)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the script has ended; results are kept for `events`.  False if the time was not enough."""
        if not self._attached:
            raise UsageError("nothing can end before the tracer is attached", "call attach()")
        session = self._session
        end = None if timeout is None else time.monotonic() + timeout
        while not session.finished:
            left = STEP if end is None else min(STEP, end - time.monotonic())
            if left < 0:
                return False
            session.step(left)
        self.detach()
        return True

    # --- asyncio: the event loop watches the descriptors, and nothing runs in a thread

    async def events_async(self, timeout: float | None = None) -> AsyncIterator[Result]:
        """`events` for an event loop of asyncio: ``async for result in tracer.events_async()``.

        Cancelling whoever waits detaches nothing, and loses no result: the tracer can be waited for again.
        """
        if not self._attached:
            raise UsageError("nothing can come before the tracer is attached", "call attach()")
        queue = self._collector.queue
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            while queue:
                yield queue.popleft()
            if self._session.finished:
                self.detach()
                if not queue:
                    return
                continue
            if not await self._turn_async(end):
                return

    def __aiter__(self) -> AsyncIterator[Result]:
        return self.events_async()

    async def wait_async(self, timeout: float | None = None) -> bool:
        """`wait` for an event loop of asyncio."""
        if not self._attached:
            raise UsageError("nothing can end before the tracer is attached", "call attach()")
        end = None if timeout is None else time.monotonic() + timeout
        while not self._session.finished:
            if not await self._turn_async(end):
                return False
        self.detach()
        return True

    async def _turn_async(self, end: float | None) -> bool:
        """Wait a while for something to happen and handle it; False if the time is over."""
        import asyncio

        from tracebee.session.session import COALESCE
        from tracebee.session.waiting import readable

        left = STEP if end is None else min(STEP, end - time.monotonic())
        if left < 0:
            return False
        await readable(self._session.waiting_fd(), left)
        if self._session.turn(0.0):
            await asyncio.sleep(COALESCE)
        return True


def load(
    script: str | os.PathLike[str],
    *parameters: object,
    pid: int = 0,
    command: str | Sequence[str] | None = None,
    named: Mapping[str, object] | None = None,
    config: Mapping[str, object] | None = None,
    unsafe: bool = False,
    include_paths: Sequence[str] = (),
    backend: str = "auto",
) -> Tracer:
    """Compile a script and load it; attach nothing yet.

    `script` is the text, or a path object for a file.  `parameters` are $1, $2 …, `named` what getopt() asks
    for.  `pid` limits the probes to a process; `command` is started when the tracer is attached, and its end
    ends the script.  `config` sets configuration variables, such as ``{"max_strlen": 200}``; `unsafe` allows
    system() and its like.  `backend` is "kernel", "user" (ptrace, which sees the command, the process `pid`, or
    without either this process) or "auto": the kernel where this process may use it.

    Raises SourceError, VerifierError, PermissionRefused, TargetError, UsageError, NotSupportedError,
    EngineFault.
    """
    from tracebee.language.compile import compile_script
    from tracebee.session.choice import choose_backend, make_machine
    from tracebee.session.launch import launch

    options = make_options(parameters, named, config, unsafe, include_paths)
    options.pid = pid
    machine = make_machine(choose_backend(backend).backend)
    collector = Collector()
    try:
        compilation = compile_script(read_script(script), machine, options)
        session = launch(compilation, machine, collector, pid=pid, command=command, otherwise=os.getpid())
    except BaseException:
        machine.close()
        raise
    return Tracer(session, compilation, collector, machine)


def trace(script: str | os.PathLike[str], *parameters: object, **options: Any) -> Tracer:
    """`load` a script and attach it at once; takes and raises what `load` does, and AttachError."""
    tracer = load(script, *parameters, **options)
    tracer.attach()
    return tracer


def make_options(
    parameters: Sequence[object],
    named: Mapping[str, object] | None,
    config: Mapping[str, object] | None,
    unsafe: bool,
    include_paths: Sequence[str],
) -> Options:
    """What `load` says about a compilation.  Raises UsageError."""
    from tracebee.language.compile import Options
    from tracebee.language.passes.parameters import Parameters

    return Options(
        parameters=Parameters(
            tuple(map(str, parameters)),
            tuple((name, None if value is None else str(value)) for name, value in (named or {}).items()),
        ),
        environment=_settings(config or {}),
        unsafe=unsafe,
        include_paths=tuple(include_paths),
    )


def _settings(config: Mapping[str, object]) -> dict[str, str]:
    """Configuration variables as the environment would hold them.  Raises UsageError for an unknown one."""
    from tracebee.language.config import OPTIONS
    from tracebee.language.diagnostics import nearest

    found = {}
    for name, value in config.items():
        if name not in OPTIONS:
            raise UsageError(f"unknown configuration variable: {name}", nearest(name, OPTIONS))
        found[f"TRACEBEE_{name.upper()}"] = str(int(value)) if isinstance(value, bool) else str(value)
    return found


def read_script(script: str | os.PathLike[str]) -> Source:
    """A script, which is text or the path of a file.  Raises UsageError."""
    from tracebee.language.source import Source

    if isinstance(script, str):
        return Source("script", script)
    name = os.fspath(script)
    try:
        with open(name, "rb") as file:
            return Source.decode(name, file.read())
    except OSError as error:
        raise UsageError(f"failed to open file '{name}': {error.strerror}") from None
