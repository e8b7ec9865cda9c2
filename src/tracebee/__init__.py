"""tracebee: ask a running Linux system what it is doing.

From Python::

    import tracebee

    with tracebee.trace("tracepoint:syscalls:sys_enter_openat { @[comm] = count(); }", command="ls") as tracer:
        tracer.wait()
        print(dict(tracer.maps["@"]))

    with tracebee.Object.from_elf("opensnoop.bpf.o", constants={"targ_failed": True}) as snoop:
        events = snoop.load().events("events", "event", timeout=10)
        snoop.attach()
        for event in events:
            print(event.comm, event.path)

The package is laid out as an hourglass.  Above its waist a script becomes plain values; below it something
runs them:

    errors, records       exceptions; immutable and mutable records
    insn, btf             the instruction set; types
    spec                  the waist: programs, maps, probes, records' layouts, as plain values
    language, object      scripts and clang's objects to specs
    explain               why something was refused
    engine                runs specs in user space
    syscalls, host        system calls; facts read from this machine
    kernel, inferior      live maps, programs, links, rings; processes under ptrace
    microvm               other kernels
    session               the order of a run, decoding, aggregation, the Python API
    render                text, JSON, tables
    cli                   the command
    testing               made-up events for scripts and objects, for tests of them

Names here are found when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracebee._version import VERSION as __version__
    from tracebee.errors import (
        AttachError,
        NotSupportedError,
        PermissionRefused,
        SourceError,
        TargetError,
        TracebeeError,
        UsageError,
        VerifierError,
    )
    from tracebee.session.objects.events import EventStream, Lost
    from tracebee.session.objects.inventory import Program, btfs, links, maps, programs
    from tracebee.session.objects.maps import Map
    from tracebee.session.objects.object import Object
    from tracebee.session.results import MapPrinted, Message, Printed, Result, Text, Value
    from tracebee.session.tracer import Tracer, load, trace
    from tracebee.spec.values import AverageValue, Frame, SeriesPoint, StackTrace

_HOMES = {
    "errors": (
        "AttachError",
        "NotSupportedError",
        "PermissionRefused",
        "SourceError",
        "TargetError",
        "TracebeeError",
        "UsageError",
        "VerifierError",
    ),
    "session.objects.events": ("EventStream", "Lost"),
    "session.objects.inventory": ("Program", "btfs", "links", "maps", "programs"),
    "session.objects.maps": ("Map",),
    "session.objects.object": ("Object",),
    "session.results": ("MapPrinted", "Message", "Printed", "Result", "Text", "Value"),
    "session.tracer": ("Tracer", "load", "trace"),
    "spec.values": ("AverageValue", "Frame", "SeriesPoint", "StackTrace"),
}
"""Where the public names live."""

__all__ = [
    "AttachError",
    "AverageValue",
    "EventStream",
    "Frame",
    "Lost",
    "Map",
    "MapPrinted",
    "Message",
    "NotSupportedError",
    "Object",
    "PermissionRefused",
    "Printed",
    "Program",
    "Result",
    "SeriesPoint",
    "SourceError",
    "StackTrace",
    "TargetError",
    "Text",
    "TracebeeError",
    "Tracer",
    "UsageError",
    "Value",
    "VerifierError",
    "__version__",
    "btfs",
    "links",
    "load",
    "maps",
    "programs",
    "trace",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from tracebee._version import VERSION

        return VERSION
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"tracebee.{module}"), name)
    raise AttributeError(f"module 'tracebee' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
