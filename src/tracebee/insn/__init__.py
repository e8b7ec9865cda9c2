"""The eBPF instruction set: RFC 9669 in its fourth version, with what Linux has added since.

    opcodes     the numbers (generated)
    codec       Insn and its symbolic references; bytes to instructions and back
    builder     Builder: emits instructions, settles labels
    rules       which instructions exist, and which fields each of them uses
    disasm      instructions → text, as the kernel's verifier writes it
    asm         text → instructions
    helpers     the kernel's helper functions: ids, names, prototypes

The first three are on the way of every script and are imported here.  The others are imported by who needs
them, as ``from tracebee.insn.disasm import disassemble``.
"""

from __future__ import annotations

from tracebee.insn import opcodes
from tracebee.insn.builder import Builder
from tracebee.insn.codec import (
    LDDW,
    EncodeError,
    Insn,
    KernelSymbol,
    Kfunc,
    Label,
    MapFd,
    MapValue,
    Ref,
    decode,
    encode,
    resolve,
)

__all__ = [
    "LDDW",
    "Builder",
    "EncodeError",
    "Insn",
    "KernelSymbol",
    "Kfunc",
    "Label",
    "MapFd",
    "MapValue",
    "Ref",
    "decode",
    "encode",
    "opcodes",
    "resolve",
]
