"""An object that clang has made: read, changed, loaded, attached, read from."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracebee.errors import NotSupportedError, TracebeeError, UsageError
from tracebee.object import ObjectFile
from tracebee.session.objects.drafts import MapDraft
from tracebee.session.objects.events import EventStream, event_codec, evident_type
from tracebee.session.objects.programs import ObjectLink, ObjectProgram
from tracebee.session.objects.sides import BPF_F_MMAPABLE, BUFFERS, PERF_PAGES
from tracebee.session.objects.variables import CONSTANTS, Variables, belongs, find_variables
from tracebee.session.waiting import SLICE, Poller
from tracebee.spec.objects import ObjectSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tracebee.btf.core import Targets
    from tracebee.btf.reader import Btf
    from tracebee.session.child import Child
    from tracebee.session.machine import LiveMachine
    from tracebee.session.objects.sides import Side
    from tracebee.spec.objects import Attach, MapSpec

KCONFIG = ".kconfig"


class Names(Mapping[str, Any]):
    """Parts of an object by name; a name that is not there comes with the nearest one."""

    def __init__(self, what: str, parts: Mapping[str, Any]) -> None:
        self._what = what
        self._parts = parts

    def __repr__(self) -> str:
        return f"<{self._what}s: {', '.join(self._parts) or 'none'}>"

    def __getitem__(self, name: str) -> Any:
        try:
            return self._parts[name]
        except KeyError:
            raise KeyError(missing_part(self._what, name, self._parts)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def missing_part(what: str, name: str, known: Mapping[str, Any]) -> str:
    """The message about a name that an object has not."""
    from tracebee.language.diagnostics import nearest

    near = nearest(name, known)
    return f"the object has no {what} {name!r}" + (f"; {near}" if near else "")


class Object:
    """An ELF object with programs and maps.

    `from_elf` reads it and does not touch the kernel: constants, variables, the sizes of maps and which programs
    are loaded can be changed then.  `load` makes its maps and loads its programs, `attach` puts these to their
    places.  A context manager: leaving it, or `close`, detaches everything and lets go of all, but for what was
    pinned.

    `name` is the object's, `license` what its section of that name says.  `variables` are its global variables,
    see `Variables`; `programs` and `maps` go by name.
    """

    def __init__(
        self,
        file: ObjectFile,
        *,
        name: str = "",
        btf: Btf | None = None,
        kconfig: Mapping[str, str] | None = None,
    ) -> None:
        self.file = file
        self.name = name or file.short_name
        self.license = file.license
        self._target = btf
        self._kconfig = kconfig
        data = file.settled_btf
        self.btf: Btf | None = _types(data)
        contents = {
            one.spec.name: bytearray(one.spec.contents.ljust(one.spec.value_size, b"\0")) for one in file.data
        }
        self.variables = Variables(find_variables(self.btf), contents)
        self._programs = {
            entry.function.name: ObjectProgram(self, entry.function.name, entry.section, entry.hook)
            for entry in file.entries
        }
        self.programs: Mapping[str, ObjectProgram] = Names("program", self._programs)
        self._drafts = {one.spec.name: MapDraft(one.spec) for one in file.maps}
        self._hidden = {one.spec.name: one.spec for one in file.data}
        self._maps: dict[str, Any] = {}
        self.links: list[ObjectLink] = []
        self._streams: list[EventStream] = []
        self._side: Side | None = None
        self._machine: LiveMachine | None = None
        self._spec: ObjectSpec | None = None
        self._child: Child | None = None
        self._pidfd = -1
        self._released = False

    def __repr__(self) -> str:
        state = "not loaded" if self._side is None else f"loaded into the {self._side.name} backend"
        return (
            f"<object {self.name or '?'}: {len(self.programs)} programs, {len(self._drafts)} maps, {state}>"
        )

    @classmethod
    def from_elf(
        cls,
        file: str | os.PathLike[str] | bytes,
        *more: str | os.PathLike[str] | bytes,
        constants: Mapping[str, Any] | None = None,
        btf: str | os.PathLike[str] | Btf | None = None,
        kconfig: Mapping[str, str] | None = None,
        name: str = "",
    ) -> Object:
        """Read an object: a path, or the bytes of a file; of several, which are linked to one.

        `constants` are values for its ``const volatile`` variables.  `btf` are types for CO-RE to find its answers
        in, as values or in a file, instead of the running kernel's.  `kconfig` is the kernel's configuration
        (``{"CONFIG_HZ": "250"}``) instead of the running kernel's own.  `name` is what the maps of variables are
        called by in the kernel, else the file's.

        Raises FormatError for what is no object, UsageError for a constant that is not there or does not fit.
        """
        path, data = _read(file, name)
        if more:
            from tracebee.object import link_objects

            others = [_read(one, f"file {number}") for number, one in enumerate(more, 2)]
            data = link_objects([(path, data), *others])
        found = cls(ObjectFile(data, path), name=name, btf=_custom_types(btf), kconfig=kconfig)
        for constant, value in (constants or {}).items():
            found.variables.set_constant(constant, value)
        return found

    def __enter__(self) -> Object:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- before it is loaded

    @property
    def maps(self) -> Mapping[str, Any]:
        """The maps by name: a `MapDraft` each before the object is loaded, a typed `Map` afterwards.

        Ring buffers and perf event arrays are read by `events`.
        """
        return Names("map", self._maps if self._side is not None else self._drafts)

    @property
    def is_loaded(self) -> bool:
        return self._side is not None

    @property
    def backend(self) -> str:
        """Where it is loaded: "kernel", "user", or empty."""
        return self._side.name if self._side is not None else ""

    @property
    def loaded_spec(self) -> ObjectSpec:
        """What was loaded, as plain values.  Raises UsageError before."""
        if self._spec is None:
            raise UsageError("the object is not loaded", "call load()")
        return self._spec

    def make_spec(self, machine: LiveMachine) -> ObjectSpec:
        """What is to be loaded on a machine, as plain values.

        Raises FormatError, and NotSupportedError for an object of the other byte order.
        """
        file = self.file
        file.entries = [
            entry._replace(hook=entry.hook._replace(loads=self._programs[entry.function.name].autoload))
            for entry in file.entries
        ]
        kconfig, version = self._kconfig, 0
        if self._wants_kconfig:
            from tracebee.host.kconfig import kernel_version

            version = kernel_version()
            kconfig = self._configuration(machine) if kconfig is None else kconfig
        spec = file.spec(self._core_target(machine), kconfig=kconfig, version=version)
        return spec.replaced(maps=tuple(self._settled(one) for one in spec.maps), name=self.name)

    def _core_target(self, machine: LiveMachine) -> Btf | Targets | None:
        """The types that CO-RE is answered by; reading the kernel's takes time, and not all objects ask."""
        if self._target is not None:
            return self._target
        if self.file.ext is None or not self.file.ext.core_relos:
            return None
        from tracebee.btf.core import Targets

        btf = machine.btf()
        return None if btf is None else Targets(btf, machine.modules_btf)

    @property
    def _wants_kconfig(self) -> bool:
        from tracebee.btf.types import Datasec

        # Not those of `btf`, out of which what only linkers know has been taken for the kernel.
        types = self.file.btf
        return types is not None and types.find(KCONFIG, Datasec) is not None

    @staticmethod
    def _configuration(machine: LiveMachine) -> dict[str, str]:
        """The kernel's configuration, with what objects ask for as if it were some."""
        from tracebee.host.kconfig import read_kconfig
        from tracebee.session.places import abilities

        return read_kconfig() | abilities(machine)

    def _settled(self, spec: MapSpec) -> MapSpec:
        """A map as it is wanted now."""
        draft = self._drafts.get(spec.name)
        if draft is not None:
            return draft.spec
        contents = self.variables.contents.get(spec.name)
        if contents is None:
            return spec
        flags = spec.flags if belongs(spec.name, CONSTANTS) else spec.flags | BPF_F_MMAPABLE
        return spec.replaced(contents=bytes(contents), flags=flags)

    # --- loading

    def load(
        self,
        backend: str = "auto",
        *,
        pid: int = 0,
        command: str | Sequence[str] | None = None,
        command_pid: str = "",
        pin_root: str = "/sys/fs/bpf",
        reuse: Mapping[str, Any] | None = None,
        targets: Mapping[str, int] | None = None,
        log_level: int = 0,
    ) -> Object:
        """Make the maps and load the programs; attach nothing yet.  Gives the object itself.

        `backend` is "kernel", "user" (tracebee's engine, fed by ptrace with what the command or the process `pid`
        does) or "auto": the kernel where this process may use it.  `pid` limits to a process what can be limited.
        `command` is started when everything is attached, and its end ends the streams of events; `command_pid`
        names a constant that gets its process id.  Maps that are pinned by name are shared in the directory
        `pin_root`.  `reuse` are maps that are there already, by name: descriptors, or objects with an `fd`.
        `targets` are descriptors of programs whose functions programs here are for (freplace, fentry of BPF
        programs).  `log_level` is that of the verifier.

        Nothing is left if it fails.  Raises VerifierError with the C source's line in its log, FormatError,
        NotSupportedError, PermissionRefused, TargetError, UsageError, SyscallError, EngineFault.
        """
        if self._side is not None:
            raise UsageError("the object is loaded", "close() it, or read it again")
        from tracebee.session.choice import choose_backend, make_machine

        chosen = choose_backend(backend).backend
        machine = self._machine = make_machine(chosen)
        try:
            if pid:
                self._watch(pid)
            if chosen == "user":
                self._load_user(machine, pid, command, command_pid)
            else:
                options = {"pin_root": pin_root, "log_level": log_level, "targets": targets}
                options["reuse"] = {one: _descriptor(value) for one, value in (reuse or {}).items()}
                self._load_kernel(machine, pid, command, command_pid, options)
            self._take_maps()
        except BaseException:
            self.close()
            raise
        return self

    def _load_kernel(
        self,
        machine: LiveMachine,
        pid: int,
        command: str | Sequence[str] | None,
        command_pid: str,
        options: dict[str, Any],
    ) -> None:
        from tracebee.session.child import Child
        from tracebee.session.objects.sides import KernelSide

        if command is not None:
            # First, as a constant may be to have its process id.
            self._child = Child(command)
            if command_pid:
                self.variables.set_constant(command_pid, self._child.pid)
        self._spec = self.make_spec(machine)
        side = KernelSide(self._spec, machine, pid=pid, **options)
        self._side = self.variables.side = side
        if self._child is not None:
            side.command_started(self._child.pid)

    def _load_user(
        self, machine: LiveMachine, pid: int, command: str | Sequence[str] | None, command_pid: str
    ) -> None:
        from tracebee.session.child import Child
        from tracebee.session.objects.sides import UserSide
        from tracebee.session.user.launch import check_command
        from tracebee.session.user.machine import UserMachine

        assert isinstance(machine, UserMachine)
        if command is not None:
            check_command(command)
        if command_pid:
            self.variables.set_constant(command_pid, 0)
        self._spec = self.make_spec(machine)
        side = UserSide(self._spec, machine, pid=pid)
        self._side = side
        if command is not None:
            self._child = Child(command, side.backend.tracer_pid)
            side.command_started(self._child.pid)
            if command_pid:
                self.variables.set_constant(command_pid, self._child.pid)
                place = self.variables.places[command_pid]
                side.backend.fill(
                    place.section, place.offset, place.codec.encode(self._child.pid, command_pid)
                )
        self.variables.side = side

    def _watch(self, pid: int) -> None:
        from tracebee.errors import TargetError

        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise TargetError(f"process {pid}", os.strerror(error.errno or 0)) from None

    def _take_maps(self) -> None:
        from tracebee.session.objects.maps import Map

        side = self._loaded()
        for name in self._drafts:
            table = side.maps.get(name)
            if table is not None:
                self._maps[name] = Map(table, self.btf, family=self._maps)

    def _loaded(self) -> Side:
        if self._side is None:
            raise UsageError("the object is not loaded", "call load()")
        return self._side

    # --- programs

    def side_of(self, program: str) -> Side:
        """Where a program is loaded.  Raises UsageError if it is not."""
        side = self._loaded()
        if not any(one.name == program for one in self.loaded_spec.programs):
            raise UsageError(
                f"{program} has not been loaded", f"programs[{program!r}].autoload = True before load()"
            )
        return side

    def program_fd(self, name: str) -> int:
        """A program's descriptor."""
        return int(self._kernel_program(name).fd)

    def program_log(self, name: str) -> str:
        return str(self._kernel_program(name).log)

    def _kernel_program(self, name: str) -> Any:
        side = self.side_of(name)
        if side.name != "kernel":
            raise NotSupportedError(
                f"what the kernel knows of {name}, which it has not loaded",
                hint='load it with backend="kernel"',
            )
        return side.backend.programs[name]  # type: ignore[attr-defined]

    def attach_program(
        self, program: ObjectProgram, place: Attach, name: str, pid: int, cookie: int
    ) -> ObjectLink:
        """See `ObjectProgram.attach`."""
        side = self.side_of(program.name)
        attached = side.attach(program.spec, place, cookie, pid, name)
        link = ObjectLink(program.name, place, attached, name)
        self.links.append(link)
        return link

    def attach(self, *, release: bool = True) -> list[ObjectLink]:
        """Attach all programs that were loaded by their sections, in the order of the file; let the command start.

        Without `release` the command goes on waiting, see there.  Programs whose section says no place are left
        out; `unattached` tells how they are attached.  What this call has attached is taken off again if it fails.
        Raises AttachError, TargetError.
        """
        self._loaded()
        made: list[ObjectLink] = []
        try:
            for program in self._to_attach():
                made.append(program.attach())
            if release:
                self.release()
        except BaseException:
            for link in made[::-1]:
                link.detach()
            self.links = [link for link in self.links if link.is_attached]
            raise
        return made

    def _to_attach(self) -> list[ObjectProgram]:
        """The programs with a place that are nowhere yet."""
        there = {link.program for link in self.links if link.is_attached}
        return [one for one in self.loaded_programs if one.place is not None and one.name not in there]

    @property
    def loaded_programs(self) -> list[ObjectProgram]:
        """The programs that were loaded, in the order of the file."""
        names = {one.name for one in self.loaded_spec.programs}
        return [one for one in self._programs.values() if one.name in names]

    @property
    def unattached(self) -> dict[str, str]:
        """Programs that are loaded and attached to nothing, and how each is attached by hand, if it can be."""
        there = {link.program for link in self.links if link.is_attached}
        return {one.name: one.how_to_attach for one in self.loaded_programs if one.name not in there}

    def release(self) -> None:
        """Let the command start, or the user backend see its process; `attach` does that.  Safe to call twice."""
        if self._released:
            return
        side = self._loaded()
        call_filter = side.follow()
        self._released = True
        if self._child is not None:
            self._child.release(call_filter)

    def detach(self) -> None:
        """Take all programs off.  Maps and events that were sent can still be read."""
        for link in self.links[::-1]:
            link.detach()
        self.links.clear()

    # --- the command

    @property
    def pid(self) -> int:
        """The process id of the command, or 0 without one."""
        return self._child.pid if self._child is not None else 0

    @property
    def _end_fd(self) -> int:
        return self._child.pidfd if self._child is not None else self._pidfd

    @property
    def end_fds(self) -> tuple[int, ...]:
        """Descriptors that become readable when there is something to look at: the end, the user backend's pipe."""
        end = self._end_fd
        return (*((end,) if end >= 0 else ()), *self._pipe())

    @property
    def machine(self) -> LiveMachine | None:
        """The machine that it is loaded on."""
        return self._machine

    @property
    def finished(self) -> bool:
        """Whether the command, or the process, has ended."""
        import select

        fd = self._end_fd
        if fd < 0:
            return False
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def exit_code(self) -> int | None:
        """The command's exit status, or 128 and the signal that ended it; None before it has ended."""
        if self._child is None or not self.finished:
            return None
        # A tracer has it first: it may take a moment more to be ours.
        return self._child.exit_status()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the command or the process has ended; False if the time was not enough.

        Events stay in their buffers meanwhile, and what does not fit is lost.
        """
        end = None if timeout is None else time.monotonic() + timeout
        poller = Poller((self._end_fd, *self._pipe()))
        try:
            while not self.finished:
                left = SLICE if end is None else min(SLICE, end - time.monotonic())
                if left < 0:
                    return False
                poller.wait(left)
                self._pump()
        finally:
            poller.close()
        return True

    async def wait_async(self, timeout: float | None = None) -> bool:
        """`wait` for an event loop of asyncio."""
        end = None if timeout is None else time.monotonic() + timeout
        poller = Poller((self._end_fd, *self._pipe()))
        try:
            while not self.finished:
                left = SLICE if end is None else min(SLICE, end - time.monotonic())
                if left < 0:
                    return False
                await poller.wait_async(left)
                self._pump()
        finally:
            poller.close()
        return True

    def _pipe(self) -> tuple[int, ...]:
        """What has to be read so that the tracer process can go on."""
        side = self._side
        return (side.backend.event_fd(),) if side is not None and side.name == "user" else ()  # type: ignore[attr-defined]

    def _pump(self) -> None:
        if self._pipe():
            self._side.backend.drain(lambda data, words, first, last, limit: last)  # type: ignore[union-attr]

    def notices(self) -> list[str]:
        """What the backend has had to say since the last call."""
        return self._loaded().notices()

    # --- events

    @property
    def buffers(self) -> dict[str, str]:
        """The ring buffers and perf event arrays by name, and the type of each one's events where it is evident."""
        specs = {name: draft.spec for name, draft in self._drafts.items()}
        return {name: evident_type(self.btf, spec) for name, spec in specs.items() if spec.type in BUFFERS}

    def events(
        self,
        name: str = "",
        type: str | None = None,
        *,
        timeout: float | None = None,
        pages: int = PERF_PAGES,
    ) -> EventStream:
        """The events that programs send through the ring buffer or perf event array `name`, of a BTF type.

        `name` may be left out where there is only one buffer.  Without `type` events are bytes, unless the
        definition of the map says what they are.  A perf event array takes what is sent after this call, and has
        `pages` pages (a power of two) for each processor: so call it before `attach`.

        Raises UsageError for a name that is none, with the nearest one.
        """
        side = self._loaded()
        buffers = self.buffers
        name = name or self._only_buffer(buffers)
        if name not in buffers:
            if name in self._drafts:
                raise UsageError(
                    f"map {name} is no ring buffer and no perf event array, but {self._drafts[name].type}",
                    f"those are {', '.join(buffers)}" if buffers else "the object has none",
                )
            raise UsageError(missing_part("buffer", name, buffers), f"it has {', '.join(buffers) or 'none'}")
        known = self._drafts[name].spec.value_type
        if type is None and known and self.btf is not None and self.btf.size_of(known) > 4:
            type = buffers[name]
        codec = event_codec(self.btf, type) if type else None
        source = side.source(name, pages)
        stream = EventStream(name, source, codec, type or "", timeout, self._end_fd, self._has_ended)
        self._streams.append(stream)
        return stream

    @staticmethod
    def _only_buffer(buffers: Mapping[str, str]) -> str:
        if len(buffers) == 1:
            return next(iter(buffers))
        if not buffers:
            raise UsageError("the object has no ring buffer and no perf event array", "its maps are in .maps")
        raise UsageError(f"the object has several buffers: {', '.join(buffers)}", "say which")

    def _has_ended(self) -> bool:
        return self._side is None or self.finished

    # --- pins

    def pin(self, folder: str, *, links: bool = False) -> list[str]:
        """Pin all programs and maps under their names in a directory of a BPF file system, which is made.

        With `links` the attachments, too, as ``link_`` and the program's name: they stay then when this process
        ends.  Gives the paths; nothing stays pinned if it fails.  Raises SyscallError, NotSupportedError.
        """
        from tracebee.syscalls import bpf

        side = self._loaded()
        made: list[str] = []
        try:
            made_folder = not os.path.isdir(folder)
            if made_folder:
                os.mkdir(folder)
            for program in self.loaded_programs:
                program.pin(_path(folder, program.name))
                made.append(_path(folder, program.name))
            for name, table in side.maps.items():
                path = _path(folder, f"{self.name}{name}" if name.startswith(".") else name)
                bpf.object_pin(table.fd, path)  # type: ignore[attr-defined]
                made.append(path)
            if links:
                for link in self.links:
                    made += link.pin(_path(folder, f"link_{link.program}"))
        except BaseException:
            for path in made:
                os.unlink(path)
            if made_folder:
                os.rmdir(folder)
            raise
        return made

    # --- the end

    def close(self) -> None:
        """Detach everything, end the command if it is still there, let go of programs and maps.

        What was pinned stays.  Safe to call twice; the object can be loaded again afterwards.
        """
        for stream in self._streams:
            stream.close()
        self._streams.clear()
        side, self._side = self._side, None
        try:
            for link in self.links[::-1]:
                link.close()
        except TracebeeError:
            pass  # a tracer process that has ended has detached everything
        self.links.clear()
        if self._child is not None:
            self._child.close()
            self._child = None
        if side is not None:
            side.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._machine is not None:
            self._machine.close()
            self._machine = None
        self._maps.clear()
        self.variables.side = None
        self._released = False


def _read(file: str | os.PathLike[str] | bytes, name: str) -> tuple[str, bytes]:
    """A name for messages, and the bytes."""
    if isinstance(file, bytes):
        return name, file
    from tracebee.session.objects.btffile import read_file

    path = os.fspath(file)
    return path, read_file(path)


def _custom_types(btf: str | os.PathLike[str] | Btf | None) -> Btf | None:
    from tracebee.btf.reader import Btf
    from tracebee.session.objects.btffile import types_of

    return btf if btf is None or isinstance(btf, Btf) else types_of(btf)


def _types(data: bytes) -> Btf | None:
    from tracebee.btf.reader import Btf

    return Btf.from_bytes(data) if data else None


def _path(folder: str, name: str) -> str:
    """Where something is pinned: the BPF file system keeps dots for itself."""
    return os.path.join(folder, name.replace(".", "_"))


def _descriptor(value: Any) -> int:
    return value if isinstance(value, int) else int(value.fd)
