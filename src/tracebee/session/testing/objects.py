"""An ELF object whose events are made up by a test."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracebee.btf.reader import Btf
from tracebee.btf.types import Datasec
from tracebee.btf.values import value_codec
from tracebee.engine.machine import Machine
from tracebee.engine.maps.ring import PerfEventArrayMap, RingMap
from tracebee.errors import UsageError
from tracebee.kernel.ring import BUSY, DISCARDED, HEADER
from tracebee.object import ObjectFile
from tracebee.session.objects.maps import Map
from tracebee.session.testing.contexts import Event, make_context
from tracebee.session.testing.machine import MadeUpMachine
from tracebee.session.testing.world import World
from tracebee.spec.objects import MapSpec, ObjectSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tracebee.btf.values import ValueCodec
    from tracebee.engine.maps import EngineMap
    from tracebee.session.testing.contexts import Value
    from tracebee.spec.objects import ProgramSpec


class Variables(Mapping[str, Any]):
    """The global variables of an object by name; they can be set, too."""

    def __init__(self, maps: Mapping[str, EngineMap], btf: Btf | None) -> None:
        self._maps = maps
        self._places = variables_of(btf)

    def __getitem__(self, name: str) -> Any:
        section, offset, codec = self._places[name]
        data = self._maps[section].get(bytes(4)) or b""
        return codec.decode(data[offset : offset + codec.size])

    def __setitem__(self, name: str, value: Any) -> None:
        section, offset, codec = self._places[name]
        table = self._maps[section]
        data = bytearray(table.get(bytes(4)) or b"")
        data[offset : offset + codec.size] = codec.encode(value, name)
        table.put(bytes(4), bytes(data))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def variables_of(btf: Btf | None) -> dict[str, tuple[str, int, ValueCodec]]:
    """Section, offset and type of the variables in .data, .bss and .rodata, by name."""
    found = {}
    for type_id in btf.ids_of_kind(Datasec) if btf is not None else ():
        assert btf is not None
        section = btf.type(type_id)
        assert isinstance(section, Datasec)
        if section.name.startswith((".data", ".bss", ".rodata")):
            for one in section.variables:
                var = btf.type(one.type_id)
                codec = value_codec(btf, getattr(var, "type_id", 0), one.size)
                found[var.name] = section.name, one.offset, codec
    return found


class ObjectBench:
    """An object that waits for events: `fire` makes one up.

    `world` is the task that the events happen to, `maps` are the object's by name, `variables` its global
    variables.  `programs` are the names of its programs.
    """

    def __init__(self, spec: ObjectSpec, world: World, arch: str = "x86_64") -> None:
        """Raises EngineFault, NotSupportedError or UsageError if the object cannot be run here."""
        self.world = world
        self._arch = MadeUpMachine(arch)
        self._machine = Machine(spec, world)
        self._places = {probe.program: probe.attach for probe in spec.probes}
        btf = Btf.from_bytes(spec.btf) if spec.btf else None
        buffers = RingMap | PerfEventArrayMap
        tables = {name: one for name, one in self._machine.maps.items() if not isinstance(one, buffers)}
        self.maps: dict[str, Map] = {}
        for name, one in tables.items():
            if not name.startswith("."):
                self.maps[name] = Map(one, btf, family=self.maps)
        self.variables = Variables(self._machine.maps, btf)
        self.programs = tuple(self._machine.programs)

    def fire(
        self,
        program: str,
        arguments: Sequence[Value] = (),
        /,
        *,
        context: bytes | None = None,
        returned: int | None = None,
        registers: Mapping[str, int] | None = None,
        **fields: Value,
    ) -> int:
        """Run a program, by its name or that of its section, for a made-up event; what it returns, 64 bits.

        The event is said as in `ScriptBench.fire`, or is the bytes of `context`.  A context can be changed by
        the program if it is a bytearray.
        """
        spec = self._find(program)
        if context is None:
            place = self._places.get(spec.name)
            if place is None:
                raise UsageError(f"{spec.section} says nothing about events", "give the bytes: context=…")
            event = Event(arguments, fields, returned, registers)
            context = make_context(place, event, self._arch, self.world)
        return self._machine.programs[spec.name].run(context)

    def _find(self, name: str) -> ProgramSpec:
        for program in self._machine.spec.programs:
            if name in (program.name, program.section):
                return program
        raise UsageError(f"the object has no program {name!r}", f"it has {', '.join(self.programs)}")

    def records(self, name: str) -> list[bytes]:
        """What programs have sent through a ring buffer or a perf event array since the last call."""
        table = self._machine.maps.get(name)
        if isinstance(table, PerfEventArrayMap):
            return [sample.data for sample in table.take()]
        if not isinstance(table, RingMap):
            raise UsageError(f"the object has no ring buffer {name!r}")
        found: list[bytes] = []

        def take(data: memoryview, words: memoryview, start: int, end: int, limit: int) -> int:
            while start < end and not words[start >> 2] & BUSY:
                length = words[start >> 2] & ~DISCARDED
                if not words[start >> 2] & DISCARDED:
                    found.append(bytes(data[start + HEADER : start + HEADER + length]))
                start += (length + HEADER + 7) & ~7
            return start

        table.drain(take)
        return found


def load_object(
    file: str | os.PathLike[str] | bytes,
    *,
    world: World | None = None,
    constants: Mapping[str, Any] | None = None,
    btf: Btf | None = None,
    kconfig: Mapping[str, str] | None = None,
    version: int = 0,
    arch: str = "x86_64",
) -> ObjectBench:
    """Read an object that clang has made, a path or the bytes, for events that are made up.

    `constants` are values of its ``const volatile`` variables.  `btf` are the types of the kernel that CO-RE is
    to find; without them the object stays as it was compiled.  `kconfig` is that kernel's configuration, `version`
    its LINUX_VERSION_CODE.

    Raises FormatError, UsageError, NotSupportedError, EngineFault.
    """
    if isinstance(file, bytes):
        data, name = file, ""
    else:
        name = os.fspath(file)
        try:
            with open(name, "rb") as stream:
                data = stream.read()
        except OSError as error:
            raise UsageError(f"failed to open file '{name}': {error.strerror}") from None
    spec = ObjectFile(data, name).spec(btf, kconfig=kconfig, version=version)
    return ObjectBench(with_constants(spec, constants or {}), world or World(), arch)


def with_constants(spec: ObjectSpec, constants: Mapping[str, Any]) -> ObjectSpec:
    """The same with other values of constants.  Raises UsageError for a name that is none."""
    if not constants:
        return spec
    places = variables_of(Btf.from_bytes(spec.btf) if spec.btf else None)
    contents = {one.name: bytearray(one.contents) for one in spec.maps}
    for name, value in constants.items():
        section, offset, codec = places.get(name, ("", 0, None))
        if codec is None or not section.startswith(".rodata"):
            known = [one for one, place in places.items() if place[0].startswith(".rodata")]
            raise UsageError(f"the object has no constant {name!r}", f"it has {', '.join(known) or 'none'}")
        contents[section][offset : offset + codec.size] = codec.encode(value, name)
    maps = []
    for one in spec.maps:
        fields: dict[str, Any] = {field: getattr(one, field) for field in MapSpec.__match_args__}
        maps.append(MapSpec(**{**fields, "contents": bytes(contents[one.name])}))
    return ObjectSpec(spec.programs, tuple(maps), spec.probes, spec.schema, spec.btf)
