"""``tracebee prog run``: a program run by hand, on data and a context out of files."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.cli.selection import print_json, print_lines, split_options, split_selector
from tracebee.errors import NotSupportedError, SyscallError, UsageError
from tracebee.syscalls.bpfrun import ENOTSUPP, RunResult, run_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.kernel.info import ProgramInfo

ROOM = 1 << 15
"""Bytes for what a program leaves behind, if nothing else is said."""

_FILES = ("data_in", "data_out", "ctx_in", "ctx_out")
_NUMBERS = ("data_size_out", "ctx_size_out", "repeat")
_ROW = 16


class Request(NamedTuple):
    """What stands behind the program: files by their word, and numbers."""

    files: dict[str, str]
    numbers: dict[str, int]


def run_run(words: Sequence[str]) -> int:
    """Run a program and say what it returned and how long it took.  Raises TracebeeError."""
    options = split_options(words)
    selector, rest = split_selector(options.words)
    request = parse_request(rest)
    inputs: dict[str, bytes] = {
        name: _read(request.files[name]) for name in ("data_in", "ctx_in") if name in request.files
    }

    from tracebee.kernel.ids import find_one
    from tracebee.kernel.info import program_info

    _, fd = find_one("prog", selector)
    try:
        info = program_info(fd)
        try:
            result = run_program(
                fd,
                data=inputs.get("data_in"),
                context=inputs.get("ctx_in"),
                repeat=request.numbers.get("repeat", 1) if _repeats(info, request) else 0,
                data_room=request.numbers.get("data_size_out", ROOM) if "data_out" in request.files else 0,
                context_room=request.numbers.get("ctx_size_out", ROOM) if "ctx_out" in request.files else 0,
            )
        except SyscallError as error:
            raise _explained(error, info, inputs) from error
    finally:
        os.close(fd)
    _show(result, request, options.wants_json, lambda record: print_json(record, options))
    return 0


def parse_request(words: Sequence[str]) -> Request:
    """The words behind the program.  Raises UsageError."""
    files: dict[str, str] = {}
    numbers: dict[str, int] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word not in (*_FILES, *_NUMBERS):
            known = ", ".join((*_FILES, *_NUMBERS))
            raise UsageError(f"what is {word!r}?", f"behind the program may stand {known}, each with a value")
        if not rest:
            raise UsageError(f"{word} wants a value behind it")
        value = rest.pop(0)
        if word in _FILES:
            files[word] = value
        elif value.isascii() and value.isdigit() and int(value) < 1 << 31:
            numbers[word] = int(value)
        else:
            raise UsageError(f"{word} wants a number, not {value!r}")
    if list(files.values()).count("-") - sum(files.get(name) == "-" for name in ("data_out", "ctx_out")) > 1:
        raise UsageError("standard input is one file: data_in and ctx_in cannot both be `-`")
    return Request(files, numbers)


def _repeats(info: ProgramInfo, request: Request) -> bool:
    """Whether the type of program takes `repeat`: some take none, and it counts as 1 (bpf_prog_test_run_*())."""
    return "repeat" in request.numbers or info.type not in ("RAW_TRACEPOINT", "TRACING", "SYSCALL", "ITER")


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _show(result: RunResult, request: Request, wants_json: bool, show_json: Any) -> None:
    record: dict[str, Any] = {}
    for name, data in (("data_out", result.data), ("ctx_out", result.context)):
        path = request.files.get(name)
        if path is None or not data:
            continue
        if path != "-":
            _write(path, data)
        elif wants_json:
            record[name] = list(data)
        else:
            print_lines(hex_rows(data))
    if wants_json:
        show_json({**record, "retval": result.retval, "duration": result.duration})
        return
    average = " (average)" if request.numbers.get("repeat", 1) > 1 else ""
    signed = f" ({result.retval - (1 << 32)})" if result.retval >> 31 else ""
    print(f"Return value: {result.retval}{signed}, duration{average}: {result.duration}ns")


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def hex_rows(data: bytes) -> list[str]:
    """Bytes in hexadecimal and as ASCII, 16 in a line."""
    rows = []
    for at in range(0, len(data), _ROW):
        part = data[at : at + _ROW]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        rows.append(f"{at:07x}  {part.hex(' '):<{3 * _ROW - 1}}  |{text}|")
    return rows


def _explained(error: SyscallError, info: ProgramInfo, inputs: dict[str, bytes]) -> Exception:
    """What a refusal to run a program means."""
    kind = info.type.lower()
    # The kernel's answer for tracing programs other than fentry and the like is EFAULT.
    is_unknown = error.errno == errno.EFAULT and info.type == "TRACING"
    if is_unknown or error.errno in (ENOTSUPP, errno.EOPNOTSUPP):
        return NotSupportedError(
            f"the kernel runs no {kind} programs by hand",
            hint="it does so for network programs, raw tracepoints, syscall programs and a few more",
        )
    if error.errno == errno.EINVAL:
        error.hint = (
            "raw tracepoints take ctx_in, 8 bytes for each argument, and no data"
            if info.type in ("RAW_TRACEPOINT", "TRACING")
            else "packets have at least the 14 bytes of an Ethernet header in data_in"
        )
    return error
