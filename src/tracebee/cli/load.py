"""``tracebee load``: load an object that clang has made, attach its programs, print what they send."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING, Any

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.session.objects.events import EventStream
    from tracebee.session.objects.object import Object
    from tracebee.session.objects.programs import ObjectLink

HELP = """\
tracebee load: load an object that clang has made, attach its programs, print what they send

USAGE:
    tracebee load FILE.o [FILE.o …] [OPTIONS]

    Several files are linked to one object first.

OPTIONS:
    --set NAME=VALUE     set a constant, or another variable, before it is loaded; cpid is the process of -c
    --events MAP[:TYPE]  print the events of a ring buffer or perf event array, as values of a BTF type
    -c COMMAND           start a command when all is attached, and go on until it ends
    -p PID               only this process, as far as programs can be limited to one; until it ends
    --duration SECONDS   go on for so long; without any of the three until Ctrl-C
    --program NAME       load only this program (again for several)
    --attach NAME:TARGET attach a program to a target that its section does not say, such as count:eth0
    --backend WHAT       kernel; user (ptrace, needs no rights, sees -c or -p only); vm:6.1 (another kernel); auto
    --pin DIR            pin programs, maps and links there: they stay
    --btf FILE           answer CO-RE by these types rather than by those of the running kernel
    --trace              print what programs write by bpf_printk(), too
    --dry-run            load and attach, then leave
    -f FORMAT, -j        output format: text, json (a line for each event)
    -q                   print the events alone
    -h, --help           print this help

EXAMPLES:
    tracebee load opensnoop.bpf.o --set targ_failed=true --events events:event
    tracebee load opensnoop.bpf.o --set targ_tgid=cpid -c 'cat /etc/hostname'
    tracebee load filter.bpf.o --attach drop:eth0 --duration 10

    tracebee object show FILE.o shows what is in an object.
"""

SHORT = "c:p:f:jqh"
LONG = [
    *("set=", "events=", "cmd=", "pid=", "duration=", "program=", "attach=", "backend=", "pin=", "btf="),
    *("trace", "dry-run", "format=", "json", "quiet", "help"),
]
ALIASES = {"--cmd": "-c", "--pid": "-p", "--format": "-f", "--json": "-j", "--quiet": "-q"}

PRINTERS = ("trace_printk", "trace_vprintk")
"""Helper functions that write to the trace pipe."""


class Wish:
    """The command line, taken apart."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.settings: list[tuple[str, str]] = []
        self.events: list[tuple[str, str]] = []
        self.attach: list[tuple[str, str]] = []
        self.programs: list[str] = []
        self.command: str | None = None
        self.pid = 0
        self.duration: float | None = None
        self.backend = "auto"
        self.pin = ""
        self.btf = ""
        self.trace = False
        self.dry_run = False
        self.json = False
        self.quiet = False


def parse(words: Sequence[str]) -> Wish:
    """Take a command line apart.  Raises UsageError."""
    try:
        options, rest = gnu_getopt(list(words), SHORT, LONG)
    except GetoptError as error:
        from tracebee.language.diagnostics import nearest

        hint = nearest(error.opt, [name.rstrip("=") for name in LONG]) if len(error.opt) > 1 else ""
        raise UsageError(error.msg, hint or "tracebee load --help lists the options") from None
    wish = Wish()
    for name, value in options:
        _take(wish, ALIASES.get(name, name), value)
    if not rest:
        raise UsageError("which object is to be loaded?", "tracebee load FILE.o")
    wish.paths = rest
    return wish


def _take(wish: Wish, name: str, value: str) -> None:
    match name:
        case "--set":
            wish.settings.append(_split(value, "=", "--set NAME=VALUE"))
        case "--events":
            wish.events.append((value.partition(":")[0], value.partition(":")[2]))
        case "--attach":
            wish.attach.append(_split(value, ":", "--attach NAME:TARGET"))
        case "--program":
            wish.programs += value.split(",")
        case "-c":
            wish.command = value
        case "-p":
            from tracebee.cli.trace import parse_pid

            wish.pid = parse_pid(value)
        case "--duration":
            wish.duration = parse_seconds(value)
        case "--backend":
            from tracebee.session.choice import check_backend

            wish.backend = check_backend(value)
        case "--pin":
            wish.pin = value
        case "--btf":
            wish.btf = value
        case "--trace":
            wish.trace = True
        case "--dry-run":
            wish.dry_run = True
        case "-f":
            if value not in ("text", "json"):
                raise UsageError(f'Invalid output format "{value}"', "Valid formats: 'text', 'json'")
            wish.json = value == "json"
        case "-j":
            wish.json = True
        case "-q":
            wish.quiet = True


def _split(text: str, sign: str, form: str) -> tuple[str, str]:
    name, found, value = text.partition(sign)
    if not name or not found:
        raise UsageError(f"{text!r} should be {form.partition(' ')[2]}", f"write {form}")
    return name, value


def parse_seconds(text: str) -> float:
    """A duration such as ``10``, ``0.5`` or ``10s``.  Raises UsageError."""
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise UsageError(f"--duration {text}: not a number of seconds", "such as --duration 10")
    return seconds


def run(words: Sequence[str]) -> int:
    """Run the command; the exit status.  Raises TracebeeError."""
    if any(word in ("-h", "--help") for word in words):
        print(HELP, end="")
        return 0
    from tracebee.cli.guest import guest_kernel, run_there

    kernel, rest = guest_kernel(words)
    if kernel:
        return run_there(kernel, ["load", *rest])
    wish = parse(words)
    from tracebee.session.objects.object import Object
    from tracebee.syscalls.process import set_name

    with Object.from_elf(*wish.paths, btf=wish.btf or None) as found:
        prepare(found, wish)
        set_name("tracebee")
        return Loading(found, wish).run()


def prepare(found: Object, wish: Wish) -> None:
    """Do to an object what is asked for before it is loaded.  Raises UsageError."""
    from tracebee.cli.trace import check_targets

    check_targets(wish.command, wish.pid)
    for name in [*wish.programs, *(name for name, _ in wish.attach)]:
        if name not in found.programs:
            raise UsageError(_missing("program", name, found.programs), f"it has {', '.join(found.programs)}")
    for program in found.programs.values():
        if wish.programs:
            program.autoload = program.name in wish.programs
        elif any(name == program.name for name, _ in wish.attach):
            program.autoload = True
    for name, _ in wish.events:
        if name not in found.buffers:
            if name in found.maps:
                raise UsageError(
                    f"map {name} is no ring buffer and no perf event array, but {found.maps[name].type}",
                    f"those are {', '.join(found.buffers)}" if found.buffers else "the object has none",
                )
            raise UsageError(
                _missing("buffer", name, found.buffers), f"it has {', '.join(found.buffers) or 'none'}"
            )
    from tracebee.session.objects.events import find_type

    for _, type_name in wish.events:
        if type_name:
            find_type(found.btf, type_name)
    for name, text in wish.settings:
        if text == "cpid" and name in found.variables:
            if wish.command is None:
                raise UsageError(f"--set {name}=cpid: there is no command", "add -c COMMAND")
            found.variables.set_constant(name, 0)
        else:
            found.variables.set_text(name, text)


def _missing(what: str, name: str, known: Any) -> str:
    from tracebee.session.objects.object import missing_part

    return missing_part(what, name, known)


class Loading:
    """One run: from what is asked for to what is told at the end."""

    def __init__(self, found: Object, wish: Wish) -> None:
        self.object = found
        self.wish = wish
        self.streams: list[tuple[EventStream, Callable[[Any], str]]] = []
        self.links: list[ObjectLink] = []
        self.pinned: list[str] = []
        self._stopped = False
        self._trace = -1
        self._lines = b""

    def run(self) -> int:
        found, wish = self.object, self.wish
        named = [name for name, text in wish.settings if text == "cpid"]
        if len(named) > 1:
            raise UsageError("cpid can be set for one constant only", f"it is for {', '.join(named)}")
        found.load(wish.backend, pid=wish.pid, command=wish.command, command_pid=named[0] if named else "")
        self._tell_choice()
        self._open_streams()
        self.links = [found.programs[name].attach(target, pid=wish.pid) for name, target in wish.attach]
        if wish.pid == 0 and wish.command is None and found.backend == "user" and not wish.dry_run:
            self._needs_target()
        self.links += found.attach(release=False)
        if wish.pin:
            self.pinned = found.pin(wish.pin, links=True)
        if wish.trace and found.backend == "kernel":
            self._open_trace()
        self._tell_what_was_made()
        if wish.dry_run or (wish.pin and not self._waits):
            return 0
        self._catch_signals()
        found.release()
        self._read_iterators()
        self._follow()
        return self._end()

    @staticmethod
    def _needs_target() -> None:
        from tracebee.errors import TargetError

        raise TargetError(
            "",
            "there is nothing to trace: the user backend (ptrace) sees the command of -c or the process of -p",
            "add -c 'COMMAND' or -p PID; --backend kernel sees the whole system",
        )

    @property
    def _waits(self) -> bool:
        """Whether there is something to wait for, or to print."""
        wish = self.wish
        return bool(wish.command is not None or wish.pid or wish.duration or wish.events)

    def _tell_choice(self) -> None:
        if self.wish.backend == "auto" and self.object.backend == "user" and not self.wish.quiet:
            from tracebee.session.choice import choose_backend

            self._note(choose_backend("auto").reason)

    def _note(self, text: str, hint: str = "") -> None:
        from tracebee.cli.messages import report

        report(f"NOTE: {text}" if text else "", hint)

    # --- events

    def _open_streams(self) -> None:
        """Begin to read the buffers that are asked for, or the only one."""
        found = self.object
        wanted = list(self.wish.events)
        if not wanted and len(found.buffers) == 1:
            name, type_name = next(iter(found.buffers.items()))
            wanted = [(name, type_name)]
            if not type_name:
                self._hint_types(name)
        for name, type_name in wanted:
            stream = found.events(name, type_name or found.buffers[name] or None)
            self.streams.append((stream, self._printer(stream, len(wanted) > 1)))

    def _hint_types(self, name: str) -> None:
        from tracebee.session.objects.events import candidate_types

        types = candidate_types(self.object.btf)
        if self.wish.quiet or self.wish.dry_run:
            return
        hint = f"it may be one of {', '.join(types)}: --events {name}:{types[0]}" if types else ""
        self._note(f"what is in the records of {name} is not known: they are printed as bytes", hint)

    def _printer(self, stream: EventStream, several: bool) -> Callable[[Any], str]:
        """What makes a line of an event."""
        from tracebee.session.objects.events import Lost

        codec, name = stream.codec, stream.name
        if self.wish.json:

            def as_json(event: Any) -> str:
                if isinstance(event, Lost):
                    return json.dumps({"type": "lost_events", "map": name, "data": {"events": event.count}})
                value = event.hex(" ") if codec is None else codec.plain(event)
                return json.dumps({"type": "event", "map": name, "data": value})

            return as_json
        if codec is None:
            body: Callable[[Any], str] = lambda event: event.hex(" ")  # noqa: E731
        else:
            from tracebee.btf.values import RecordCodec
            from tracebee.cli.eventlines import EventColumns

            if isinstance(codec, RecordCodec) and not several:
                body = EventColumns(codec).line
            else:
                body = codec.text
        prefix = f"{name}: " if several else ""

        def as_text(event: Any) -> str:
            if isinstance(event, Lost):
                return f"{prefix}({event.count} events were lost here)"
            return prefix + body(event)

        return as_text

    def _pump(self) -> None:
        """Print what has come."""
        lines: list[str] = []
        for stream, line_of in self.streams:
            lines += [line_of(event) for event in stream.poll()]
        if self._trace >= 0:
            lines += self._trace_lines()
        if lines:
            self._print("\n".join(lines))
        for text in self.object.notices():
            self._note(text.removeprefix("NOTE: "))

    @staticmethod
    def _print(text: str) -> None:
        if text:
            sys.stdout.flush()
            data = memoryview((text + "\n").encode("utf-8", "surrogateescape"))
            while data:
                data = data[os.write(1, data) :]

    def _read_iterators(self) -> None:
        from tracebee.spec.objects import Iterator

        for link in self.links:
            if isinstance(link.place, Iterator) and link.fd >= 0:
                self._print(link.read().decode("utf-8", "surrogateescape").removesuffix("\n"))

    # --- the trace pipe

    def _open_trace(self) -> None:
        machine = self.object.machine
        assert machine is not None
        try:
            folder = machine.tracefs_fd()
            self._trace = os.open("trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            raise UsageError(f"the trace pipe cannot be read: {error.strerror}") from None

    def _trace_lines(self) -> list[str]:
        """Whole lines of bpf_printk(); other users of the trace pipe are left out."""
        try:
            while data := os.read(self._trace, 1 << 16):
                self._lines += data
        except BlockingIOError:
            pass
        *whole, self._lines = self._lines.split(b"\n")
        texts = [line.decode(errors="replace") for line in whole]
        found = [line.partition("bpf_trace_printk: ") for line in texts if "bpf_trace_printk: " in line]
        if self.wish.json:
            return [json.dumps({"type": "printk", "data": text}) for _, _, text in found]
        return [text for _, _, text in found]

    # --- waiting

    def _catch_signals(self) -> None:
        """Ctrl-C and SIGTERM end the run in order."""

        def stop(number: int, frame: object) -> None:
            self._stopped = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)

    def _follow(self) -> None:
        """Print until there is an end."""
        from tracebee.session.waiting import SLICE, Poller
        from tracebee.spec.objects import Iterator

        found, wish = self.object, self.wish
        if wish.command is None and not wish.pid and wish.duration is None and self.links:
            # Iterators have been read to their ends.
            self._stopped = self._stopped or all(isinstance(one.place, Iterator) for one in self.links)
        if not self.links and not wish.command and not wish.pid:
            self._stopped = True
        wakeup, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        end = None if wish.duration is None else time.monotonic() + wish.duration
        fds = [wakeup, self._trace, *(stream.fileno() for stream, _ in self.streams), *found.end_fds]
        poller = Poller(fds)
        try:
            while not self._stopped and not found.finished:
                left = SLICE if end is None else min(SLICE, end - time.monotonic())
                if left <= 0:
                    break
                poller.wait(left)
                self._pump()
        finally:
            poller.close()
            signal.set_wakeup_fd(-1)
            os.close(wakeup)
            os.close(writer)

    def _end(self) -> int:
        """Detach, print what is left, tell what was lost; the exit status."""
        found = self.object
        code = found.exit_code if found.backend == "user" else None
        if not self.pinned:
            found.detach()
        for stream, _ in self.streams:
            stream.settle()
        self._pump()
        for stream, _ in self.streams:
            if stream.lost and not self.wish.json:
                self._note(f"{stream.lost} events of {stream.name} did not fit its buffer and were lost")
        if self._trace >= 0:
            os.close(self._trace)
        return code or 0

    # --- what was made

    def _tell_what_was_made(self) -> None:
        wish, found = self.wish, self.object
        if wish.quiet:
            return
        from tracebee.cli.loaded import as_json, as_text

        if wish.json:
            self._print(json.dumps({"type": "loaded", "data": as_json(found, self.links, self.pinned)}))
        else:
            self._print("\n".join(as_text(found, self.links, self.pinned, " + ".join(wish.paths))))
        if not wish.trace and found.backend == "kernel":
            names = printing_programs(found)
            if names and not wish.json:
                self._note(
                    f"{', '.join(names)} write{'s' * (len(names) == 1)} to the trace pipe by bpf_printk()",
                    "--trace shows it here",
                )


def printing_programs(found: Object) -> list[str]:
    """The programs that call a function which writes to the trace pipe."""
    from tracebee.insn import opcodes as op
    from tracebee.insn.helpers import helper_id

    numbers = {helper_id(name) for name in PRINTERS}
    call = op.BPF_JMP | op.BPF_CALL
    return [
        program.name
        for program in found.loaded_spec.programs
        if any(insn.code == call and insn.src == 0 and insn.imm in numbers for insn in program.insns)
    ]
