"""``tracebee conformance-plugin``: a program from standard input, as the suite bpf_conformance runs its plugins."""

from __future__ import annotations

import sys
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.insn import Insn
    from tracebee.spec.objects import MapSpec

USAGE = """\
  echo b7 00 00 00 05 00 00 00 95 00 00 00 00 00 00 00 | tracebee conformance-plugin

tracebee conformance-plugin: run a program as the suite bpf_conformance asks its plugins to.

USAGE:
    tracebee conformance-plugin [MEMORY] [--path PATH] [--elf]

The program is read from standard input, in hex; MEMORY, in hex too, is what r1 points to, and r2 is its size.
R0 is printed in hex.  With --elf the input is an ELF object, whose first program is run.

EXIT STATUS:
    0 if the program has run to its end, else 1
"""


def run(arguments: Sequence[str]) -> int:
    """Be the plugin for one program."""
    try:
        options, words = gnu_getopt(list(arguments), "h", ["help", "path=", "elf"])
    except GetoptError as error:
        raise UsageError(str(error), "see tracebee conformance-plugin --help") from error
    path, is_object = "fast", False
    for name, value in options:
        if name in ("-h", "--help"):
            print(USAGE, end="")
            return 0
        if name == "--elf":
            is_object = True
        else:
            path = value
    if len(words) > 1:
        raise UsageError(f"more than the memory is given: {words[1]}")
    from tracebee.cli.conformance import door
    from tracebee.engine.conformance import hex_bytes, run_program
    from tracebee.session.testing.world import World

    memory = hex_bytes(words[0]) if words else b""
    insns, maps = program_of(hex_bytes(sys.stdin.read()), is_object)
    program = run_program(insns, memory, path=path, maps=maps, native=door(path), world=World())
    print(f"{program():x}")
    return 0


def program_of(data: bytes, is_object: bool) -> tuple[tuple[Insn, ...], tuple[MapSpec, ...]]:
    """The instructions in the input, and the maps that they name.  Raises FormatError, UsageError."""
    if not is_object:
        from tracebee.insn.codec import decode

        return tuple(decode(data, byteorder="little")), ()
    from tracebee.object import read_object

    spec = read_object(data, "standard input")
    if not spec.programs:
        raise UsageError("there is no program in the object")
    return spec.programs[0].insns, spec.maps
