"""The programs of an object, and the links that attach them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.errors import NotSupportedError, UsageError
from tracebee.session.objects.targets import how_to_attach, read_target
from tracebee.spec.objects import Attach, Trampoline

if TYPE_CHECKING:
    from types import TracebackType

    from tracebee.kernel.info import LinkInfo, ProgramInfo
    from tracebee.object.hooks import Section
    from tracebee.session.objects.object import Object
    from tracebee.session.objects.sides import Attached, TestRun
    from tracebee.spec.objects import ProgramSpec


class ObjectLink:
    """A program at its place.  `detach` takes it off; a context manager that does.

    `program` is its name, `place` where it is.  `skipped` are the places of one that stands for many to which it
    could not be attached, each with the reason.
    """

    def __init__(self, program: str, place: Attach, attached: Attached, name: str) -> None:
        self.program = program
        self.place = place
        self.name = name
        self._attached: Any = attached
        self.skipped: tuple[tuple[str, str], ...] = tuple(getattr(attached, "skipped", ()))
        self.is_attached = True

    def __repr__(self) -> str:
        return f"<link of {self.program} to {self.name}{'' if self.is_attached else ', detached'}>"

    def __enter__(self) -> ObjectLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.detach()

    @property
    def fd(self) -> int:
        """The descriptor of the BPF link; -1 where the kernel has none for this attachment."""
        return next(iter(self._attached.links), -1)

    @property
    def id(self) -> int:
        """The kernel's number of the link; 0 where the attachment is none."""
        return int(self._attached.id) if self.is_attached else 0

    @property
    def info(self) -> LinkInfo | None:
        """What the kernel says of the link; None where the attachment is none."""
        if self.fd < 0:
            return None
        from tracebee.kernel.info import link_info

        return link_info(self.fd)

    def pin(self, path: str) -> tuple[str, ...]:
        """Have the attachment stay when this process ends, under a path in a BPF file system; where it is now.

        Raises NotSupportedError where it is no link, SyscallError.
        """
        found: tuple[str, ...] = self._attached.pin(path)
        return found

    def read(self) -> bytes:
        """Run an iterator over everything, once: what it has written by bpf_seq_write and bpf_seq_printf."""
        from tracebee.spec.objects import Iterator

        if not isinstance(self.place, Iterator):
            raise UsageError(f"{self.program} is no iterator, which could be read")
        import os

        from tracebee.syscalls import bpf

        found = []
        with os.fdopen(bpf.iter_create(self.fd), "rb", buffering=0) as file:
            while data := file.read(1 << 16):
                found.append(data)
        return b"".join(found)

    def detach(self) -> None:
        """Take the program off.  Safe to call twice.  One that is pinned goes, too, where the kernel can do that."""
        if self.is_attached:
            self.is_attached = False
            self._attached.detach()

    def close(self) -> None:
        """Let go of it: it is detached, unless it is pinned."""
        if self.is_attached:
            self.is_attached = False
            self._attached.close()


class ObjectProgram:
    """A program of an object, before it is loaded and after.

    `section` is what its source says by SEC(), `type` and `attach_type` are names of the uapi enums without
    prefix, `hook` the same in words.  `place` is where the section says that it belongs, or None.
    """

    def __init__(self, owner: Object, name: str, section: str, meaning: Section) -> None:
        self._owner = owner
        self.name = name
        self.section = section
        self._meaning = meaning
        self._autoload = meaning.loads
        self.place: Attach | None = meaning.attach

    def __repr__(self) -> str:
        return f"<program {self.name}: {self.section}>"

    @property
    def type(self) -> str:
        return self._meaning.hook.type

    @property
    def attach_type(self) -> str:
        return self._meaning.hook.attach_type

    @property
    def hook(self) -> str:
        """What it is for, in words."""
        return self._meaning.hook.words

    @property
    def how_to_attach(self) -> str:
        """What to say by hand, where the section does not; empty where it does, or there is no way."""
        words, example = self.target
        if self.place is not None or not words:
            return ""
        return f"attach it to {words}" + (f": .attach({example!r})" if example else ": .attach(…)")

    @property
    def target(self) -> tuple[str, str]:
        """What the program can be attached to, in words, and an example of it; each is empty if there is none."""
        return how_to_attach(self._meaning.hook)

    @property
    def autoload(self) -> bool:
        """Whether the program is loaded with the object; a "?" in its section says that it is not."""
        return self._autoload

    @autoload.setter
    def autoload(self, wanted: bool) -> None:
        if self._owner.is_loaded:
            raise UsageError(f"{self.name}: the object is loaded", "set autoload before load()")
        self._autoload = wanted

    @property
    def spec(self) -> ProgramSpec:
        """Its instructions and all that goes with them, as they are loaded."""
        for one in self._owner.loaded_spec.programs:
            if one.name == self.name:
                return one
        raise UsageError(f"{self.name} has not been loaded", f"programs[{self.name!r}].autoload = True")

    @property
    def fd(self) -> int:
        """Its descriptor.  Raises UsageError before it is loaded, NotSupportedError without the kernel."""
        return self._owner.program_fd(self.name)

    @property
    def id(self) -> int:
        """The kernel's number of the program."""
        return self.info.id

    @property
    def info(self) -> ProgramInfo:
        """What the kernel says of it: id, tag, run time, maps, …"""
        from tracebee.kernel.info import program_info

        return program_info(self.fd)

    @property
    def log(self) -> str:
        """What the verifier wrote, if it was asked to."""
        return str(self._owner.program_log(self.name))

    def attach(self, target: str | Attach | None = None, *, pid: int = 0, cookie: int = 0) -> ObjectLink:
        """Attach it where its section says, or to `target`.

        A target is written as behind the slash of the section (``"syscalls/sys_enter_openat"``,
        ``"/bin/bash:readline"``), by its type (a network interface, the directory of a control group, …:
        `how_to_attach`), or a value of tracebee.spec.objects.  `pid` limits uprobes and the like to a process, and
        `cookie` is what bpf_get_attach_cookie() gives.

        Raises AttachError, TargetError, UsageError.
        """
        place = self._place(target)
        section = self.section.removeprefix("?")
        name = section if target is None else f"{section.partition('/')[0]}/{target}"
        return self._owner.attach_program(self, place, name, pid, cookie)

    def _place(self, target: str | Attach | None) -> Attach:
        if isinstance(target, Attach):
            return target
        if target is not None:
            return read_target(target, self._meaning.hook, self.name)
        if self.place is None:
            words, example = how_to_attach(self._meaning.hook)
            raise UsageError(
                f"{self.name}: SEC({self.section!r}) does not say what to attach it to",
                f"give {words}, such as .attach({example!r})"
                if example
                else "it is not attached, but called or run",
            )
        return self.place

    @property
    def is_placed_at_load(self) -> bool:
        """Whether loading it says already what it is for."""
        return isinstance(self.place, Trampoline)

    def pin(self, path: str) -> None:
        """Have the program stay when this process ends, under a path in a BPF file system."""
        from tracebee.syscalls import bpf

        bpf.object_pin(self.fd, path)

    def test_run(self, *, data: bytes = b"", context: bytes = b"", repeat: int = 0) -> TestRun:
        """Run it once, or `repeat` times, for a packet or a context that is made up (BPF_PROG_TEST_RUN).

        Which of the two depends on its type; programs of tracepoints, kprobes and uprobes cannot be run so by the
        kernel, but by the user backend.  Raises SyscallError, NotSupportedError.
        """
        side = self._owner.side_of(self.name)
        if side.name == "kernel" and self.type in ("TRACEPOINT", "KPROBE", "PERF_EVENT"):
            raise NotSupportedError(
                f"running {self.name}, a {self.type} program, on request",
                hint='load(backend="user") runs it in tracebee\'s engine',
            )
        return side.test_run(self.name, data, context, repeat)
