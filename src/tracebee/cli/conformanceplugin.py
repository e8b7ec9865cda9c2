"""``tracebee conformance-plugin``: a program from standard input, as the suite bpf_conformance runs its plugins."""

from __future__ import annotations

import sys
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING

from tracebee.errors import NotSupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """\
  echo b7 00 00 00 05 00 00 00 95 00 00 00 00 00 00 00 | tracebee conformance-plugin

tracebee conformance-plugin: run a program as the suite bpf_conformance asks its plugins to.

USAGE:
    tracebee conformance-plugin [MEMORY] [--path PATH]

The program is read from standard input, in hex; MEMORY, in hex too, is what r1 points to, and r2 is its size.
R0 is printed in hex.  Programs in ELF objects (--elf) are refused.

EXIT STATUS:
    0 if the program has run to its end, else 1
"""


def run(arguments: Sequence[str]) -> int:
    """Be the plugin for one program."""
    try:
        options, words = gnu_getopt(list(arguments), "h", ["help", "path=", "elf"])
    except GetoptError as error:
        raise UsageError(str(error), "see tracebee conformance-plugin --help") from error
    path = "fast"
    for name, value in options:
        if name in ("-h", "--help"):
            print(USAGE, end="")
            return 0
        if name == "--elf":
            raise NotSupportedError("a program in an ELF object", hint="leave out --elf: bytes are taken")
        path = value
    if len(words) > 1:
        raise UsageError(f"more than the memory is given: {words[1]}")
    from tracebee.cli.conformance import door
    from tracebee.engine.conformance import hex_bytes, run_program
    from tracebee.insn.codec import decode

    memory = hex_bytes(words[0]) if words else b""
    insns = tuple(decode(hex_bytes(sys.stdin.read()), byteorder="little"))
    print(f"{run_program(insns, memory, path=path, native=door(path))():x}")
    return 0
