"""Programs as the kernel runs them: instructions that its verifier has rewritten, in bpftool's words.

What differs from a program that is going to be loaded (tracebee.insn.disasm): a helper is called by the distance
of a kernel function from ``__bpf_call_base``, a map has its id in the place of a descriptor, a function of the
program has its number, and what the verifier put in has opcodes of the kernel's own (bpf_insn_prepare_dump() in
kernel/bpf/syscall.c, jit_subprogs() in kernel/bpf/verifier.c)::

    call bpf_ringbuf_reserve#381328        r1 = map[id:82384]         call pc+42#bpf_prog_9d5ce9ada8718b20_is_wanted
    call __htab_map_lookup_elem#330864     r1 = map[id:82389][0]+8    r2 = subprog[+21]

These texts are those of ``bpftool prog dump xlated``, character by character.  Names that they lack are a note
beside them.  Where the kernel hides addresses, functions have no names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, LDDW, MASK32, Insn, signed32
from tracebee.insn.disasm import format_insn
from tracebee.insn.helpers import helper_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Modes of the kernel's own (linux/filter.h): loads and atomics that may fault.
PROBE_MEMSX = 0x40
PROBE_ATOMIC = 0xE0

LOWEST_ADDRESS = 1 << 63
"""Numbers from here on may be addresses of the kernel."""


def nothing_known(_: int) -> str:
    return ""


class Names(NamedTuple):
    """What is known of the numbers in a program; "" and missing keys stand for nothing.

    `function` gives the name of the kernel function at a distance from __bpf_call_base, `symbol` that of what is
    at an address, both only of what begins there.  `subprograms` are the symbols of the program's functions by
    their number, empty for a program that is not compiled; `functions` are their names in C by slot.  `maps` are
    names by id, and `variables` gives what lies in a map's value at an offset.
    """

    function: Callable[[int], str] = nothing_known
    symbol: Callable[[int], str] = nothing_known
    subprograms: Sequence[str] = ()
    functions: Mapping[int, str] = {}
    maps: Mapping[int, str] = {}
    variables: Callable[[int, int], str] = lambda map_id, offset: ""


class Source(NamedTuple):
    """A line of source; the text without what it is indented by."""

    text: str
    file: str
    line: int
    column: int


class Line(NamedTuple):
    """An instruction: its slot, its text with the opcode in front, and a note with names that the text lacks.

    `head` is the prototype of the function that begins here, `source` the line whose code begins here.
    """

    slot: int
    insn: Insn
    text: str
    note: str
    head: str = ""
    source: Source | None = None


def describe(
    insns: Sequence[Insn],
    names: Names,
    heads: Mapping[int, str] | None = None,
    sources: Mapping[int, Source] | None = None,
) -> list[Line]:
    """The lines of a program; `heads` and `sources` are by slot."""
    heads, sources = heads or {}, sources or {}
    lines = []
    slot = 0
    for insn in insns:
        text, note = describe_insn(insn, slot, names)
        lines.append(Line(slot, insn, text, note, heads.get(slot, ""), sources.get(slot)))
        slot += insn.slots
    return lines


def describe_insn(insn: Insn, slot: int, names: Names) -> tuple[str, str]:
    """The text and the note of an instruction."""
    code = insn.code
    if code == CALL:
        text, note = _call(insn, slot, names)
    elif code == LDDW:
        text, note = _immediate(insn, slot, names)
    else:
        return format_insn(_as_written(insn), loaded=True), ""
    return f"({code:02x}) {text}", note


def function_starts(insns: Sequence[Insn]) -> dict[int, int]:
    """The slots where functions begin that the program calls, or has called back, with their numbers."""
    starts = {0: 0}
    slot = 0
    for insn in insns:
        if insn.code == CALL and insn.src == op.BPF_PSEUDO_CALL:
            starts[slot + 1 + insn.off] = insn.imm
        elif insn.code == LDDW and insn.src == op.BPF_PSEUDO_FUNC:
            starts[slot + 1 + signed32(insn.imm)] = insn.imm >> 32
        slot += insn.slots
    return {start: number for start, number in starts.items() if 0 <= start < slot}


def _call(insn: Insn, slot: int, names: Names) -> tuple[str, str]:
    imm, off = insn.imm, insn.off
    if insn.src == op.BPF_PSEUDO_CALL:
        # Compiled or not, the distance is in `off`; `imm` is the number of the function, or of an interpreter.
        function = names.functions.get(slot + 1 + off, "")
        is_number = 0 <= imm < len(names.subprograms)
        symbol = names.subprograms[imm] if is_number else names.function(imm)
        if symbol:
            return f"call pc{off:+d}#{symbol}", "" if symbol.endswith(function) else function
        return f"call pc{off:+d}", function
    if insn.src == 0:
        # A few stay what they were, such as tail calls; 0 stands for a function that is kept secret.
        helper = helper_name(imm) if imm else "bpf_unspec"
        if helper:
            return f"call {helper}#{imm}", ""
    return f"call {names.function(imm) or 'unknown'}#{imm}", ""


def _immediate(insn: Insn, slot: int, names: Names) -> tuple[str, str]:
    dst, src, imm = insn.dst, insn.src, insn.imm
    lower, upper = imm & MASK32, imm >> 32
    if src == op.BPF_PSEUDO_MAP_FD:
        return f"r{dst} = map[id:{lower}]", names.maps.get(lower, "")
    if src == op.BPF_PSEUDO_MAP_VALUE:
        variable = names.variables(lower, upper)
        owner = names.maps.get(lower, "")
        note = f"&{variable}" if variable else f"{owner}[0]+{upper}" if owner else ""
        return f"r{dst} = map[id:{lower}][0]+{upper}", note
    if src == op.BPF_PSEUDO_FUNC:
        distance = signed32(imm)
        return f"r{dst} = subprog[{distance:+d}]", names.functions.get(slot + 1 + distance, "")
    symbol = names.symbol(imm) if imm >= LOWEST_ADDRESS else ""
    return f"r{dst} = {imm:#x}", f"&{symbol}" if symbol else ""


def _as_written(insn: Insn) -> Insn:
    """The instruction that a program has in the place of one of the kernel's own."""
    kind, mode = insn.code & 7, insn.code & 0xE0
    if kind == op.BPF_LDX and mode == PROBE_MEMSX:
        return insn._replace(code=insn.code & ~0xE0 | op.BPF_MEMSX)
    if kind == op.BPF_STX and mode == PROBE_ATOMIC:
        return insn._replace(code=insn.code & ~0xE0 | op.BPF_ATOMIC)
    return insn
