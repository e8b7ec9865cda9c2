"""Finds the command, and turns errors into messages: no mistake of a user's ends in a traceback."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from tracebee.cli.messages import message_of, report

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: dict[str, str] = {
    "btf": "btf",
    "check": "check",
    "conformance": "conformance",
    "conformance-plugin": "conformanceplugin",
    "doctor": "doctor",
    "explain": "explain",
    "link": "link",
    "load": "load",
    "map": "map",
    "object": "object",
    "prog": "prog",
    "struct": "struct",
    "tools": "tools",
    "tree": "tree",
    "vm": "vm",
    "why": "why",
}
"""Commands by their first word, and the module that runs each; without one of them, a script is run."""

FAILURE = 1


def run() -> NoReturn:
    """The entry point of the ``tracebee`` command."""
    _fill_standard_streams()
    status = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    # What is left to tear down is memory, which the kernel does faster.
    os._exit(status)


def _fill_standard_streams() -> None:
    """Have descriptors 0 to 2 lead somewhere: else the next file opened would take what is printed."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def main(arguments: Sequence[str]) -> int:
    """Run a command line; the exit status."""
    from tracebee.errors import InternalError, TracebeeError

    try:
        return dispatch(list(arguments))
    except BrokenPipeError:
        _silence_stdout()
        return 0
    except KeyboardInterrupt:
        return 130
    except InternalError as error:
        report(f"ERROR: internal error: {error}", error.hint)
        return FAILURE
    except TracebeeError as error:
        report(message_of(error), error.hint)
        return FAILURE
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        report(f"ERROR: {about}{error.strerror or error}", "")
        return FAILURE
    except MemoryError:
        report("ERROR: out of memory", "")
        return FAILURE
    except Exception as error:
        if os.environ.get("TRACEBEE_TRACEBACK"):
            raise
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f" ({os.path.basename(where.tb_frame.f_code.co_filename)}:{where.tb_lineno})" if where else ""
        report(
            f"ERROR: internal error: {type(error).__name__}: {error}{place}",
            "this is a bug in tracebee; TRACEBEE_TRACEBACK=1 shows where it happened",
        )
        return FAILURE


def dispatch(arguments: list[str]) -> int:
    """Run the command that the first word names."""
    if not arguments:
        from tracebee.cli.usage import USAGE

        print(USAGE, end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        from tracebee._version import VERSION

        print(f"tracebee v{VERSION}")
        return 0
    if arguments[0] in ("-h", "--help"):
        from tracebee.cli.usage import USAGE

        print(USAGE, end="")
        return 0
    first = command_position(arguments)
    module = COMMANDS.get(arguments[first])
    if module is not None:
        from importlib import import_module

        words = arguments[:first] + arguments[first + 1 :]
        status: int = import_module(f"tracebee.cli.{module}").run(words)
        return status
    if any(word.startswith("--backend") for word in arguments):
        from tracebee.cli.guest import guest_kernel, run_there

        kernel, rest = guest_kernel(arguments)
        if kernel:
            return run_there(kernel, rest)
    at = tool_position(arguments)
    if at is not None:
        from tracebee.cli.tools import run_tool

        return run_tool(arguments[at], arguments[at + 1 :], arguments[:at])
    from tracebee.cli.trace import run as trace

    return trace(arguments)


def command_position(arguments: list[str]) -> int:
    """Which word may name a command: the first one, or, as bpftool has it, the first behind -j and -p."""
    at = 0
    while at + 1 < len(arguments) and arguments[at] in ("-j", "-p", "--json", "--pretty"):
        at += 1
    return at if arguments[at] in COMMANDS else 0


def tool_position(arguments: list[str]) -> int | None:
    """Which word names a tool that ships: the first one, or the first behind options of tracebee."""
    from tracebee.cli.names import is_tool

    script = next((index for index, word in enumerate(arguments) if is_tool(word)), None)
    if not script:
        return script
    from getopt import GetoptError, getopt

    from tracebee.cli.trace import LONG, SHORT

    try:
        options, rest = getopt(arguments, SHORT, LONG)
    except GetoptError:
        return None
    given = {name for name, _ in options}
    if not rest or not is_tool(rest[0]) or given & {"-e", "-h", "--help", "-V", "--version"}:
        return None
    return len(arguments) - len(rest)


def _silence_stdout() -> None:
    """Standard output is gone: keep the interpreter from complaining about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run()
