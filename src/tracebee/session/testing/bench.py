"""A script whose events are made up by a test."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.render.text import TextRenderer
from tracebee.session.session import Session
from tracebee.session.testing.contexts import Event, make_context
from tracebee.session.testing.world import World
from tracebee.session.user.engine import EngineBackend
from tracebee.spec.objects import Globals, RunOnce

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from tracebee.btf import Btf
    from tracebee.language.compile import Compilation
    from tracebee.session.maps import ScriptMaps
    from tracebee.session.testing.contexts import Value
    from tracebee.session.testing.machine import MadeUpMachine
    from tracebee.spec.objects import ProbeSpec

    Collect = Callable[[Any, tuple[Any, ...]], None] | None


class TextOutput:
    """What a terminal would show: standard output and error."""

    collect: Collect = None
    prints_maps = True

    def __init__(self) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self.renderer = TextRenderer(self.out.append, self.err.append)
        self.renderer.attached = lambda count: None  # type: ignore[method-assign]

    def write(self, text: str) -> None:
        self.out.append(text)

    def warn(self, text: str) -> None:
        self.err.append(text + "\n")

    def flush(self) -> None:
        pass


class ScriptBench:
    """A compiled script that waits for events: `fire` makes one up.

    `world` is the task that the events happen to.  `maps` are the script's, as of `tracebee.Tracer`.  A context
    manager; leaving it ends the script.
    """

    def __init__(self, compilation: Compilation, machine: MadeUpMachine, world: World) -> None:
        assert compilation.spec is not None
        self.world = world
        self.warnings = tuple(diagnostic.render() for diagnostic in compilation.warnings)
        self._machine = machine
        self._output = TextOutput()
        self._backend = EngineBackend(compilation.spec, world)
        self._session = Session(compilation.spec, self._backend, compilation.config, self._output)
        self.maps: ScriptMaps = self._session.maps
        self.probes = tuple(dict.fromkeys(probe.name for probe in compilation.spec.probes))
        self._session.prepare()
        self._backend.set_global(Globals.START, 8, world.now)
        self._backend.set_global(Globals.WALL_OFFSET, 8, 0)
        self._session.fire("begin")
        self._session.attach_all()
        self._session.pump()

    def __enter__(self) -> ScriptBench:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    @property
    def output(self) -> str:
        """What the script has printed."""
        return "".join(self._output.out)

    @property
    def messages(self) -> str:
        """What went to standard error: warnings at run time, errorf(), lost events."""
        return "".join(self._output.err)

    @property
    def finished(self) -> bool:
        """Whether the script has called exit(), or `finish` was called."""
        return self._session.finished

    @property
    def exit_code(self) -> int:
        return self._session.exit_code

    def fire(
        self,
        probe: str,
        arguments: Sequence[Value] = (),
        /,
        *,
        context: bytes | None = None,
        returned: int | None = None,
        registers: Mapping[str, int] | None = None,
        **fields: Value,
    ) -> None:
        """Let an event happen: the programs of `probe` run, in the order of the script.

        `probe` is an attach point by its full name, such as ``tracepoint:syscalls:sys_enter_openat``.
        `arguments` are those of the system call or of the function, `fields` those of a tracepoint by
        name, `returned` is what the call returns, and `registers` are values by name.  A string in the place of an
        address is put into the task's memory.  `context` are the whole bytes instead of all that.

        Raises UsageError for what the script does not probe or the event does not have, and EngineFault if
        a program does what it may not.
        """
        specs = self._find(probe)
        event = Event(arguments, fields, returned, registers)
        for spec in specs:
            self.world.attach_cookie = spec.cookie
            if isinstance(spec.attach, RunOnce):
                self._backend.run(spec)
                continue
            data = context
            if data is None:
                data = make_context(spec.attach, event, self._machine, self.world)
            self._backend.programs[spec.program].run(data)
        self._session.pump()

    def _find(self, probe: str) -> list[ProbeSpec]:
        specs = [spec for spec in self._session.spec.probes if spec.name == probe]
        if not specs:
            near = get_close_matches(probe, self.probes, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(self.probes)}"
            raise UsageError(f"the script has no probe {probe!r}", hint)
        return specs

    def finish(self) -> str:
        """Run ``end``, print the maps as tracebee does when it ends, and give all output.  Safe to call twice."""
        self._session.stop()
        self._session.close()
        return self.output


def load_script(
    script: str | os.PathLike[str],
    *parameters: object,
    world: World | None = None,
    named: Mapping[str, object] | None = None,
    config: Mapping[str, object] | None = None,
    unsafe: bool = False,
    include_paths: Sequence[str] = (),
    btf: Btf | None = None,
    arch: str = "x86_64",
) -> ScriptBench:
    """Compile a script, text or the path of a file, for events that are made up.

    What is not said here is as for `tracebee.load`.  `btf` are the kernel's types, for a script that names
    some, and `arch` is the processor whose registers and system calls there are.

    Raises SourceError, UsageError.
    """
    from tracebee.language.compile import compile_script
    from tracebee.session.testing.machine import MadeUpMachine
    from tracebee.session.tracer import make_options, read_script

    options = make_options(parameters, named, config, unsafe, include_paths)
    machine = MadeUpMachine(arch, btf)
    try:
        compilation = compile_script(read_script(script), machine, options)
    finally:
        machine.close()
    return ScriptBench(compilation, machine, world or World())
