"""The seam between a session and whatever runs the programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tracebee.spec.objects import GLOBALS_MAP, Globals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tracebee.kernel.ring import Take
    from tracebee.kernel.taskevents import Executed, Forked, Mapped
    from tracebee.spec.objects import Attach, MapSpec, ProbeSpec, ProgramSpec


class BackendMap(Protocol):
    """A map: bytes in, bytes out.  Values of per-CPU maps are those of all CPUs, each `slot` bytes."""

    @property
    def spec(self) -> MapSpec: ...

    @property
    def slot(self) -> int: ...

    @property
    def cpus(self) -> int: ...

    def get(self, key: bytes) -> bytes | None: ...

    def put(self, key: bytes, value: bytes) -> None: ...

    def remove(self, key: bytes) -> bool: ...

    def items(self) -> Iterator[tuple[bytes, bytes]]: ...

    def clear(self) -> None: ...


class LoadedProgram(Protocol):
    """A program where it will run; `log` is what its verifier said, if it was asked to."""

    @property
    def spec(self) -> ProgramSpec: ...

    @property
    def log(self) -> str: ...


class TaskLog(Protocol):
    """Forks, executions and executable mappings as they happen; see tracebee.kernel.taskevents."""

    @property
    def fds(self) -> Sequence[int]:
        """Descriptors that become readable when it is time to drain."""

    @property
    def lost(self) -> int: ...

    def drain(self) -> list[Forked | Executed | Mapped]: ...


class GlobalState:
    """A script's run-time state (tracebee.spec.objects.Globals) for a backend that has its map at hand."""

    maps: Mapping[str, BackendMap]

    def global_value(self, offset: int, size: int) -> int:
        """A number of the state."""
        data = self.maps[GLOBALS_MAP].get(bytes(4)) or bytes(Globals.SIZE)
        return int.from_bytes(data[offset : offset + size], "little")

    def set_global(self, offset: int, size: int, value: int) -> None:
        """Set a number of the state."""
        table = self.maps[GLOBALS_MAP]
        data = bytearray(table.get(bytes(4)) or bytes(Globals.SIZE))
        data[offset : offset + size] = value.to_bytes(size, "little")
        table.put(bytes(4), bytes(data))


class Backend(Protocol):
    """A loaded object.  Closing it detaches everything and lets go of maps and programs."""

    @property
    def maps(self) -> Mapping[str, BackendMap]: ...

    @property
    def programs(self) -> Mapping[str, LoadedProgram]: ...

    @property
    def passes_status(self) -> bool:
        """Whether a session without exit() ends with the status of its command, as other ptrace tools do."""

    def set_command(self, pid: int) -> None:
        """The process that is going to be the command, and waits."""

    def follow(self) -> bytes:
        """Called when everything is attached, before the target is let go.

        Gives what a command has to install as its system call filter, or nothing.  Raises TargetError,
        PermissionRefused where the target cannot be traced.
        """

    def notices(self) -> list[str]:
        """What there is to say to the person since the last call."""

    def attach(self, probe: ProbeSpec) -> Sequence[tuple[str, str]]:
        """Attach one probe; the places of it that were left out, each with the reason.  Raises AttachError."""

    def run(self, probe: ProbeSpec) -> int:
        """Run a program that fires on request; its result."""

    def measure(self, probe: ProbeSpec, nanoseconds: int) -> tuple[int, int]:
        """Run a program for about so long; mean nanoseconds of a run, and how many there were."""

    def run_iterators(self) -> None:
        """Run the attached iterators, each over all its objects."""

    def detach_where(self, chosen: Callable[[Attach], bool]) -> None:
        """Detach the probes whose place is chosen."""

    def detach(self) -> None:
        """Detach all probes; maps and programs stay."""

    def drain(self, take: Take) -> int:
        """Hand over the records written so far; see tracebee.kernel.ring."""

    def watch_tasks(self) -> TaskLog | None:
        """Begin to record what tasks map and execute; None where that cannot be had."""

    def event_fd(self) -> int:
        """A descriptor that becomes readable when there are records, or -1."""

    def global_value(self, offset: int, size: int) -> int:
        """A number of the script's run-time state (tracebee.spec.objects.Globals)."""

    def set_global(self, offset: int, size: int, value: int) -> None:
        """Set a number of the run-time state."""

    def missed(self) -> dict[str, int]:
        """Runs that the kernel skipped, by program."""

    def close(self) -> None: ...
