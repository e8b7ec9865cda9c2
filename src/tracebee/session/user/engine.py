"""Programs and maps in this process, by the engine: half of the user backend, and all that a test needs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tracebee.engine.machine import Machine
from tracebee.errors import AttachError, InternalError
from tracebee.kernel.ring import default_bytes, valid_bytes
from tracebee.session.backend import GlobalState
from tracebee.spec.objects import MapSpec, RunOnce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tracebee.engine.machine import EngineProgram
    from tracebee.engine.maps.base import EngineMap
    from tracebee.engine.world import World
    from tracebee.kernel.ring import Take
    from tracebee.spec.objects import Attach, ObjectSpec, ProbeSpec

PAGE = 4096

NO_CONTEXT = bytes(8)
"""What programs get that run without an event, as by BPF_PROG_TEST_RUN."""


class EngineBackend(GlobalState):
    """A loaded object whose programs run in this process, when somebody calls them.

    What is attached is in `attached`, in order; whoever has the events runs the programs.
    """

    passes_status = False

    def __init__(self, spec: ObjectSpec, world: World, *, ring_pages: int = 0, path: str = "fast") -> None:
        """Make the maps, check and translate the programs.  Raises EngineFault, NotSupportedError."""
        self.spec = _with_ring(spec, ring_pages)
        self.world = world
        self.machine = Machine(self.spec, world, path=path)
        self.maps: Mapping[str, EngineMap] = self.machine.maps
        self.attached: list[ProbeSpec] = []

    @property
    def programs(self) -> Mapping[str, EngineProgram]:
        return self.machine.programs

    def attach(self, probe: ProbeSpec) -> Sequence[tuple[str, str]]:
        if probe.program not in self.programs:
            raise AttachError(probe.name, "there is no such program")
        self.attached.append(probe)
        return ()

    def set_command(self, pid: int) -> None:
        """Events are made up here: no process is followed."""

    def follow(self) -> bytes:
        return b""

    def run(self, probe: ProbeSpec) -> int:
        if not isinstance(probe.attach, RunOnce):
            raise InternalError(f"{probe.name} does not fire on request")
        return self.programs[probe.program].run(NO_CONTEXT) & 0xFFFFFFFF

    def measure(self, probe: ProbeSpec, nanoseconds: int) -> tuple[int, int]:
        run = self.programs[probe.program].run
        count = 0
        start = time.perf_counter_ns()
        while time.perf_counter_ns() - start < nanoseconds:
            for _ in range(100):
                run(NO_CONTEXT)
            count += 100
            self.drain(lambda data, words, first, last, limit: last)
        return (time.perf_counter_ns() - start) // count, count

    def run_iterators(self) -> None:
        """There are none: they go over the kernel's objects."""

    def detach_where(self, chosen: Callable[[Attach], bool]) -> None:
        self.attached = [probe for probe in self.attached if not chosen(probe.attach)]

    def detach(self) -> None:
        self.attached.clear()

    def drain(self, take: Take) -> int:
        ring = self.machine.ring
        return 0 if ring is None else ring.drain(take)

    @property
    def hurries(self) -> bool:
        """Whether machine code may handle plain stops: the ring of scripts is the one buffer that it writes to."""
        return True

    def streams(self) -> Iterable[tuple[int, bytes]]:
        """What was written to buffers other than the ring of a script: objects have such."""
        return ()

    def losses(self) -> Iterable[tuple[int, int]]:
        return ()

    def watch_tasks(self) -> None:
        return None

    def event_fd(self) -> int:
        return -1

    def missed(self) -> dict[str, int]:
        """None: one program runs at a time."""
        return {}

    def notices(self) -> list[str]:
        return []

    def close(self) -> None:
        self.attached.clear()


def _with_ring(spec: ObjectSpec, ring_pages: int) -> ObjectSpec:
    """The same with a size for the ring buffer where it has none: by the number of pages, or by the memory."""
    from tracebee.spec.objects import ObjectSpec

    maps = []
    for one in spec.maps:
        if one.type == "RINGBUF" and not one.max_entries:
            size = valid_bytes(ring_pages * PAGE) if ring_pages else default_bytes()
            one = MapSpec(one.name, one.type, 0, 0, size)
        maps.append(one)
    return ObjectSpec(spec.programs, tuple(maps), spec.probes, spec.schema, spec.btf)
