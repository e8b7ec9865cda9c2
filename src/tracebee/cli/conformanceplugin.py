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
    tracebee conformance-plugin [MEMORY] [--path PATH] [--elf] [--program HEX] [--debug]

The program is read from standard input, in hex; MEMORY, in hex too, is what r1 points to, and r2 is its size.
R0 is printed in hex.  With --elf the input is an ELF object, whose first program is run; where there is none,
the first function in .text is, for that is where the suite puts its programs.

OPTIONS:
    --path PATH      fast (translated to Python; the default), reference (interpreted), native (machine code)
    --elf            the program is an ELF object
    --program HEX    the program, instead of standard input
    --debug          nothing: reasons are always told, on standard error
    -h, --help       print this help

EXIT STATUS:
    0 if the program has run to its end, else 1
"""


def run(arguments: Sequence[str]) -> int:
    """Be the plugin for one program."""
    try:
        options, words = gnu_getopt(list(arguments), "h", ["help", "path=", "elf", "program=", "debug"])
    except GetoptError as error:
        raise UsageError(str(error), "see tracebee conformance-plugin --help") from error
    told = dict(options)
    if "-h" in told or "--help" in told:
        print(USAGE, end="")
        return 0
    path = told.get("--path", "fast")
    # Runners pass an empty word where there are no options, and between options that two blanks separate.
    words = [word for word in words if word.strip()]
    if len(words) > 1:
        raise UsageError(f"more than the memory is given: {words[1]}")
    from tracebee.cli.conformance import door
    from tracebee.engine.conformance import hex_bytes, run_program
    from tracebee.session.testing.world import World

    memory = hex_bytes(words[0]) if words else b""
    code = told["--program"] if "--program" in told else sys.stdin.read()
    insns, maps = program_of(hex_bytes(code), "--elf" in told)
    program = run_program(insns, memory, path=path, maps=maps, native=door(path), world=World())
    print(f"{program():x}")
    return 0


def program_of(data: bytes, is_object: bool) -> tuple[tuple[Insn, ...], tuple[MapSpec, ...]]:
    """The instructions in the input, and the maps that they name.  Raises FormatError, UsageError."""
    if not is_object:
        from tracebee.insn.codec import decode

        return tuple(decode(data, byteorder="little")), ()
    from tracebee.object.link import Linker, functions_of
    from tracebee.object.reader import TEXT, ObjectFile

    file = ObjectFile(data, "standard input")
    spec = file.spec()
    if spec.programs:
        return spec.programs[0].insns, spec.maps
    section = file.elf.by_name.get(TEXT)
    functions = functions_of(file.elf, section) if section is not None else []
    if not functions:
        raise UsageError("there is no program in the object")
    linker = Linker(file.elf, file.btf, file.ext, file.maps, file.data, {}, None)
    return linker.link(functions[0]).insns, spec.maps
