"""The default command: run a script."""

from __future__ import annotations

import os
import sys
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING

from tracebee.errors import TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.cli.output import StreamOutput
    from tracebee.language.compile import Compilation
    from tracebee.language.compile import Options as CompileOptions
    from tracebee.language.source import Source
    from tracebee.session.machine import LiveMachine

SHORT = "e:lc:p:o:f:B:I:d:vqkhV"
LONG = [
    "unsafe",
    "no-warnings",
    "warnings",
    "dry-run",
    "info",
    "version",
    "help",
    "fmt",
    "test",
    "bench",
    "quiet",
    "list",
    "verbose",
    "usdt-file-activation",
    "cmd=",
    "pid=",
    "output=",
    "include=",
    "mode=",
    "debug=",
    "no-feature=",
    "probe-filter=",
    "traceable-functions=",
    "debuginfo=",
    "dwarf-pid=",
    "backend=",
]
LONG_TO_SHORT = {
    "--cmd": "-c",
    "--pid": "-p",
    "--output": "-o",
    "--quiet": "-q",
    "--list": "-l",
    "--verbose": "-v",
    "--warnings": "-k",
    "--debug": "-d",
}
NOTIFY = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"


class Arguments:
    """The command line, taken apart."""

    def __init__(self) -> None:
        self.program: str | None = None
        self.words: list[str] = []
        self.listing = False
        self.verbose = False
        self.command: str | None = None
        self.pid = 0
        self.output = ""
        self.format = "text"
        self.buffering = "line"
        self.quiet = False
        self.report_failures = False
        self.warnings = True
        self.unsafe = False
        self.dry_run = False
        self.info = False
        self.reformat = False
        self.stages: list[str] = []
        self.include_paths: list[str] = []
        self.includes: list[str] = []
        self.disabled: list[str] = []
        self.probe_filter = ""
        self.mode = ""
        self.backend = "auto"


def parse_arguments(words: list[str]) -> Arguments:
    """Take a command line apart.  Raises UsageError."""
    behind: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, behind = words[:at], words[at:]
    try:
        options, rest = gnu_getopt(words, SHORT, LONG)
    except GetoptError as error:
        from tracebee.cli.usage import USAGE
        from tracebee.language.diagnostics import nearest

        usage = USAGE[USAGE.index("USAGE:") : USAGE.index("OPTIONS:")].strip()
        hint = nearest(error.opt, [name.rstrip("=") for name in LONG]) if len(error.opt) > 1 else ""
        raise UsageError(f"{error.msg}\n\n{usage}", hint or "tracebee --help lists the options") from None
    parsed = Arguments()
    parsed.words = rest + behind
    for name, value in options:
        _take(parsed, LONG_TO_SHORT.get(name, name), value)
    return parsed


def _take(parsed: Arguments, name: str, value: str) -> None:
    match name:
        case "-e":
            parsed.program = value
        case "-l":
            parsed.listing = True
        case "-v":
            parsed.verbose = True
        case "-c":
            parsed.command = value
        case "-p":
            parsed.pid = parse_pid(value)
        case "-o":
            parsed.output = value
        case "-f":
            parsed.format = value
        case "-B":
            parsed.buffering = value
        case "-q":
            parsed.quiet = True
        case "-k":
            parsed.report_failures = True
        case "--no-warnings":
            parsed.warnings = False
        case "--unsafe":
            parsed.unsafe = True
        case "--dry-run":
            parsed.dry_run = True
        case "--info":
            parsed.info = True
        case "--fmt":
            parsed.reformat = True
        case "-d":
            parsed.stages.append(value)
        case "-I":
            parsed.include_paths.append(value)
        case "--include":
            parsed.includes.append(value)
        case "--no-feature":
            parsed.disabled += value.split(",")
        case "--probe-filter":
            parsed.probe_filter = value
        case "--test" | "--bench":
            parsed.mode = name.removeprefix("--")
        case "--mode":
            parsed.mode = value
        case "-h" | "--help" | "-V" | "--version":
            raise UsageError(f"{name} stands alone")
        case "--backend":
            from tracebee.session.choice import check_backend

            parsed.backend = check_backend(value)


def parse_pid(text: str) -> int:
    """A process id.  Raises UsageError."""
    digits = text[: next((i for i, char in enumerate(text) if char not in "0123456789"), len(text))]
    if not digits:
        raise UsageError(f"Failed to parse pid: invalid integer: {text}")
    if digits != text:
        raise UsageError(f"Failed to parse pid: invalid trailing bytes: {text}")
    pid = int(text)
    # PID_MAX_LIMIT, include/linux/threads.h
    if not 1 <= pid <= 1 << 22:
        raise UsageError(f"Pid out of range: {pid}")
    return pid


def read_source(arguments: Arguments) -> tuple[Source, list[str]]:
    """The program, and the words that are its parameters.  Raises UsageError."""
    from tracebee.language.source import Source

    words = list(arguments.words)
    if arguments.program is not None:
        return Source("stdin", arguments.program), words
    if not words or words[0] == "--":
        raise UsageError("USAGE: filename or -e 'program' required.")
    name = words.pop(0)
    try:
        if name == "-":
            data = sys.stdin.buffer.read()
            name = "stdin"
        else:
            with open(name, "rb") as file:
                data = file.read()
    except OSError as error:
        raise UsageError(f"failed to open file '{name}': {error.strerror}") from None
    if data.startswith(b"\x7fELF"):
        raise UsageError(
            f"{name} is an ELF object, not a script",
            f"tracebee load {name} loads it, tracebee object show {name} shows what is in it",
        )
    return Source.decode(name, data), words


def compile_options(arguments: Arguments, words: list[str]) -> CompileOptions:
    from tracebee.language.compile import Options
    from tracebee.language.passes.parameters import split_parameters

    return Options(
        parameters=split_parameters(words),
        environment=os.environ,
        pid=arguments.pid,
        unsafe=arguments.unsafe,
        report_failures=arguments.report_failures,
        include_paths=tuple(arguments.include_paths),
        includes=tuple(arguments.includes),
        probe_filter=arguments.probe_filter,
        modes=frozenset((arguments.mode,)) if arguments.mode in ("test", "bench") else frozenset(),
        keep_stages=bool(arguments.stages),
    )


def make_machine(arguments: Arguments) -> LiveMachine:
    """The machine for the backend that is asked for or possible; the choice is told where it is a surprise."""
    from tracebee.session import choice

    if arguments.disabled:
        from tracebee.kernel.features import FEATURES
        from tracebee.language.diagnostics import nearest

        for name in arguments.disabled:
            if name not in FEATURES:
                raise UsageError(f"unknown feature: {name}", nearest(name, FEATURES))
    backend, reason = choice.choose_backend(arguments.backend)
    if reason and not arguments.quiet:
        from tracebee.cli.messages import report

        report(f"NOTE: {reason}", "")
    return choice.make_machine(backend, arguments.disabled)


def run(words: list[str], check: Callable[[Compilation], None] | None = None) -> int:
    """Run the command line; the exit status.  `check` may refuse the script once its places are known."""
    arguments = parse_arguments(words)
    stages: set[str] = set()
    if arguments.stages:
        from tracebee.cli.dump import stage_names

        stages = stage_names(arguments.stages)
    if arguments.info:
        from tracebee.cli.info import show_info
        from tracebee.session.choice import make_machine as machine_for

        return show_info(machine_for("kernel", arguments.disabled))
    if arguments.listing:
        from tracebee.cli.listing import run_listing

        return run_listing(arguments)
    source, parameters = read_source(arguments)
    if arguments.reformat:
        return reformat(source)
    from tracebee.cli.output import open_output
    from tracebee.language.compile import compile_script

    check_targets(arguments.command, arguments.pid)
    output = open_output(arguments.output, arguments.format, arguments.buffering, arguments.quiet)
    machine = make_machine(arguments)
    options = compile_options(arguments, parameters)
    options.check_units = check
    compilation = compile_script(source, machine, options)
    if arguments.warnings:
        for diagnostic in compilation.warnings:
            output.warn(diagnostic.render())
    if arguments.stages:
        from tracebee.cli.dump import dump_stages

        dump_stages(compilation, stages, output.write)
        output.flush()
    return trace(arguments, compilation, machine, output, stages)


def reformat(source: Source) -> int:
    from tracebee.language.compile import deep_recursion
    from tracebee.language.diagnostics import Diagnostics
    from tracebee.language.parser import parse
    from tracebee.language.printer import format_program

    with deep_recursion():
        print(format_program(parse(source, Diagnostics())), end="")
    return 0


def check_targets(command: str | None, pid: int) -> None:
    """Refuse what could only fail later: a command that is none, a process that is not there."""
    if command is not None:
        from tracebee.session.child import find_executable, split_command

        find_executable(split_command(command)[0])
    if pid and not os.path.isdir(f"/proc/{pid}"):
        raise TargetError(f"process {pid}", "there is no such process")


def trace(
    arguments: Arguments,
    compilation: Compilation,
    machine: LiveMachine,
    output: StreamOutput,
    stages: set[str],
) -> int:
    """Load, attach and run a compiled script; the exit status."""
    from tracebee.session.launch import launch
    from tracebee.syscalls.process import set_name

    set_name("tracebee")
    session = launch(
        compilation,
        machine,
        output,
        pid=arguments.pid,
        command=arguments.command,
        warnings=arguments.warnings,
        log_level=2 if "verifier" in stages else 0,
    )
    if "verifier" in stages:
        from tracebee.cli.dump import dump_logs

        dump_logs(session.programs, output.write)
        output.flush()
    try:
        if arguments.mode in ("test", "bench"):
            from tracebee.cli.runs import run_probes

            return run_probes(session, arguments.mode, arguments.format)
        if arguments.dry_run:
            session.attach_all()
            return 0
        session.start(catch_signals=True)
        if os.environ.get(NOTIFY):
            output.write(f"{NOTIFY}\n")
            output.flush()
        status = session.run()
        output.close()
        return status
    finally:
        session.close()
