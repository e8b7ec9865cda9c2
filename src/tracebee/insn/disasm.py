"""Instructions as text, in the notation of the kernel's verifier and of ``bpftool prog dump xlated``.

    r1 = 5                    r1 += r2                  w1 s>>= 3          r1 = (s8)r2
    r0 = be16 r0              r1 = bswap32 r1           r1 = -r1           r1 s/= 7
    r1 = *(u32 *)(r6 +4)      *(u64 *)(r10 -8) = r1     *(u8 *)(r1 +0) = 1
    lock *(u64 *)(r1 +0) += r2                          r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)
    if r1 s> 0x5 goto pc+3    goto pc-2                 gotol pc+70000     may_goto pc+4
    call bpf_ktime_get_ns#5   call pc+12                call kfunc#4711    exit
    r1 = 0x5 ll               r1 = map[fd:3]            r1 = map[fd:3][0]+8

Names take the place of numbers where an instruction has a reference, or where the caller names slots:

    goto again                call local sum            call kfunc bpf_rcu_read_lock
    r1 = map[events]          r1 = map[globals][0]+16   r1 = ksym[jiffies]           r1 = subprog[visit]

Where kernel and bpftool leave the reader, or an assembler, to guess, there is more text than theirs: "ll"
marks a 64-bit immediate when the opcode is not shown (as in LLVM), "kfunc" a call by BTF id.  What is no
instruction is written field by field: ``.insn code=0xff dst=0 src=0 off=0 imm=0``.  tracebee.insn.asm reads
it all back.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from tracebee.insn import opcodes as op
from tracebee.insn.codec import (
    CALL,
    GOTOL,
    LDDW,
    MASK32,
    PSEUDO_JUMP,
    Insn,
    KernelSymbol,
    Kfunc,
    Label,
    MapFd,
    MapValue,
    reach,
    signed32,
)
from tracebee.insn.helpers import helper_name
from tracebee.insn.rules import NotAnInstruction, field_fault, used_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ALU_SIGNS = {
    op.BPF_ADD: "+=",
    op.BPF_SUB: "-=",
    op.BPF_MUL: "*=",
    op.BPF_DIV: "/=",
    op.BPF_OR: "|=",
    op.BPF_AND: "&=",
    op.BPF_LSH: "<<=",
    op.BPF_RSH: ">>=",
    op.BPF_MOD: "%=",
    op.BPF_XOR: "^=",
    op.BPF_MOV: "=",
    op.BPF_ARSH: "s>>=",
}
JUMP_SIGNS = {
    op.BPF_JEQ: "==",
    op.BPF_JNE: "!=",
    op.BPF_JGT: ">",
    op.BPF_JGE: ">=",
    op.BPF_JLT: "<",
    op.BPF_JLE: "<=",
    op.BPF_JSET: "&",
    op.BPF_JSGT: "s>",
    op.BPF_JSGE: "s>=",
    op.BPF_JSLT: "s<",
    op.BPF_JSLE: "s<=",
}
SIZE_NAMES = {op.BPF_B: "8", op.BPF_H: "16", op.BPF_W: "32", op.BPF_DW: "64"}
ATOMIC_NAMES = {
    op.BPF_ADD | op.BPF_FETCH: "fetch_add",
    op.BPF_OR | op.BPF_FETCH: "fetch_or",
    op.BPF_AND | op.BPF_FETCH: "fetch_and",
    op.BPF_XOR | op.BPF_FETCH: "fetch_xor",
    op.BPF_XCHG: "xchg",
    op.BPF_CMPXCHG: "cmpxchg",
}

# Instructions outside the rules that have a notation all the same.  The kernel writes the first two into
# programs that it dumps (linux/filter.h), the others are younger than the rules or not for Linux.
NOSPEC = op.BPF_ST | 0xC0
PERCPU_OFF = -1
GOTO_OR_NOP = 1
R12 = 12
"""The last of the kernel's own registers: blinded constants go through r11, from Linux 7.2 on through r12."""

GOTOX = op.BPF_JMP | op.BPF_JA | op.BPF_X
CALLX = op.BPF_JMP | op.BPF_CALL | op.BPF_X

_NO_NAMES: Mapping[int, str] = {}
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.$@")


def disassemble(
    insns: Iterable[Insn],
    *,
    slots: bool = True,
    opcodes: bool = True,
    labels: Mapping[int, str] = _NO_NAMES,
    comments: Mapping[int, str] = _NO_NAMES,
    kfuncs: Mapping[int, str] = _NO_NAMES,
    map_ids: bool = False,
) -> list[str]:
    """The lines of a program: an instruction each, after its slot number and opcode if these are wanted.

    `labels` names slots: a named one gets a line ``name:``, and jumps to it are written by name;
    label_targets() makes such names.  `comments` are by slot too, source lines for example; each of their
    lines goes before the instruction.  `kfuncs` names kernel functions by BTF id.  `map_ids` says that the
    numbers of maps are ids, as they are in a program that the kernel gives back.
    """
    insns = list(insns)
    # A name for the middle of an instruction has no line to stand on.
    starts = set(accumulate([insn.slots for insn in insns], initial=0))
    labels = {slot: name for slot, name in labels.items() if slot in starts}
    lines: list[str] = []
    slot = 0
    for insn in insns:
        _announce(lines, slot, labels, comments)
        text = format_insn(insn, slot, opcodes=opcodes, labels=labels, kfuncs=kfuncs, map_ids=map_ids)
        lines.append(f"{slot:4d}: {text}" if slots else text)
        slot += insn.slots
    _announce(lines, slot, labels, comments)
    return lines


def format_insn(
    insn: Insn,
    slot: int = 0,
    *,
    opcodes: bool = True,
    labels: Mapping[int, str] = _NO_NAMES,
    kfuncs: Mapping[int, str] = _NO_NAMES,
    map_ids: bool = False,
    loaded: bool = False,
) -> str:
    """One instruction as text; see disassemble().  Its `slot` is where distances to `labels` count from.

    In a program that is `loaded` there may be registers r11 and r12.
    """
    text = _describe(insn, slot, _Names(labels, kfuncs, map_ids, loaded))
    if text is None:
        return _raw(insn)
    if not opcodes:
        # Without its opcode nothing tells a 64-bit immediate from a plain move.
        is_number = insn.code == LDDW and insn.src == 0
        return f"{text} ll" if is_number else text
    return f"({insn.code:02x}) {text}"


def label_targets(insns: Iterable[Insn]) -> dict[int, str]:
    """Names for the slots that instructions refer to by distance: "L" or "func_" and the slot."""
    starts: set[int] = set()
    jumps: set[int] = set()
    functions: set[int] = set()
    slot = 0
    for insn in insns:
        starts.add(slot)
        distance = reach(insn)
        if distance is not None:
            (functions if insn.code in (CALL, LDDW) else jumps).add(slot + 1 + distance)
        slot += insn.slots
    starts.add(slot)
    names = {target: f"L{target}" for target in jumps & starts}
    names |= {target: f"func_{target}" for target in functions & starts}
    return names


def quoted(name: str) -> str:
    """A name as it stands in text: bare if it is a word, else as a JSON string."""
    if name and _PLAIN.issuperset(name) and name[0] not in "0123456789":
        return name
    import json

    return json.dumps(name)


def _announce(lines: list[str], slot: int, labels: Mapping[int, str], comments: Mapping[int, str]) -> None:
    """What stands before the instruction at `slot`."""
    if slot in labels:
        lines.append(f"{quoted(labels[slot])}:")
    if slot in comments:
        lines.extend(f"; {line}" for line in comments[slot].splitlines())


def _raw(insn: Insn) -> str:
    code, dst, src, off, imm, ref = insn
    text = f".insn code={code:#04x} dst={dst} src={src} off={off} imm={imm}"
    return text if ref is None else f"{text} ; {ref!r}"


class _Names(NamedTuple):
    """What the caller knows of the numbers in a program."""

    labels: Mapping[int, str]
    kfuncs: Mapping[int, str]
    map_ids: bool
    loaded: bool = False


def _describe(insn: Insn, slot: int, names: _Names) -> str | None:
    """The instruction in notation, or None if it has a field that the notation would not show."""
    try:
        used = used_fields(insn)
    except NotAnInstruction:
        return _outside_the_rules(insn)
    checked = insn
    if names.loaded and op.R10 < max(insn.dst, insn.src) <= R12:
        checked = insn._replace(dst=min(insn.dst, op.R10), src=min(insn.src, op.R10))
    if field_fault(checked, used) is not None:
        return None
    kind = insn.code & 7
    if kind in (op.BPF_ALU, op.BPF_ALU64):
        return _arithmetic(insn)
    if kind in (op.BPF_JMP, op.BPF_JMP32):
        return _jump(insn, slot, names)
    if insn.code == LDDW:
        return f"r{insn.dst} = {_immediate(insn, slot, names)}"
    return _memory(insn)


def _arithmetic(insn: Insn) -> str:
    code, dst, src, off, imm, _ = insn
    operation, wide = code & 0xF0, code & 7 == op.BPF_ALU64
    letter = "r" if wide else "w"
    if operation == op.BPF_END:
        order = "bswap" if wide else "be" if code & 8 else "le"
        return f"r{dst} = {order}{imm} r{dst}"
    if operation == op.BPF_NEG:
        return f"{letter}{dst} = -{letter}{dst}"
    sign = ALU_SIGNS[operation]
    if operation in (op.BPF_DIV, op.BPF_MOD) and off:
        sign = f"s{sign}"
    if not code & 8:
        return f"{letter}{dst} {sign} {imm}"
    if operation == op.BPF_MOV and off == op.BPF_ADDR_SPACE_CAST:
        return f"r{dst} = addr_space_cast(r{src}, {imm >> 16}, {imm & 0xFFFF})"
    cast = f"(s{off})" if operation == op.BPF_MOV and off else ""
    return f"{letter}{dst} {sign} {cast}{letter}{src}"


def _memory(insn: Insn) -> str:
    code, dst, src, off, imm, _ = insn
    kind, mode, width = code & 7, code & 0xE0, SIZE_NAMES[code & 0x18]
    if kind == op.BPF_LD:
        if mode == op.BPF_ABS:
            return f"r0 = *(u{width} *)skb[{imm}]"
        return f"r0 = *(u{width} *)skb[r{src} + {imm}]"
    if kind == op.BPF_LDX:
        sign = "s" if mode == op.BPF_MEMSX else "u"
        return f"r{dst} = *({sign}{width} *)(r{src} {off:+d})"
    place = f"(u{width} *)(r{dst} {off:+d})"
    if kind == op.BPF_ST:
        return f"*{place} = {imm}"
    if mode == op.BPF_MEM:
        return f"*{place} = r{src}"
    if imm == op.BPF_LOAD_ACQ:
        return f"r{dst} = load_acquire((u{width} *)(r{src} {off:+d}))"
    if imm == op.BPF_STORE_REL:
        return f"store_release({place}, r{src})"
    if imm in ATOMIC_NAMES:
        name = f"atomic{'64' if width == '64' else ''}_{ATOMIC_NAMES[imm]}"
        if imm == op.BPF_CMPXCHG:
            return f"r0 = {name}({place}, r0, r{src})"
        return f"r{src} = {name}({place}, r{src})"
    return f"lock *{place} {ALU_SIGNS[imm]} r{src}"


def _jump(insn: Insn, slot: int, names: _Names) -> str:
    code, dst, src, _, imm, _ = insn
    operation = code & 0xF0
    if operation == op.BPF_EXIT:
        return "exit"
    if operation == op.BPF_CALL:
        return _call(insn, slot, names)
    place = _place(insn, slot, names)
    if code == GOTOL:
        return f"gotol {place}"
    if operation == op.BPF_JA:
        return f"goto {place}"
    if operation == op.BPF_JCOND:
        return f"may_goto {place}"
    letter = "r" if code & 7 == op.BPF_JMP else "w"
    other = f"{letter}{src}" if code & 8 else f"{imm & MASK32:#x}"
    return f"if {letter}{dst} {JUMP_SIGNS[operation]} {other} goto {place}"


def _call(insn: Insn, slot: int, names: _Names) -> str:
    if insn.src == op.BPF_PSEUDO_CALL:
        name = _target_name(insn, slot, names)
        return f"call pc{insn.imm:+d}" if name is None else f"call local {quoted(name)}"
    if insn.src == op.BPF_PSEUDO_KFUNC_CALL:
        module = f" fd_array[{insn.off}]" if insn.off else ""
        if isinstance(insn.ref, Kfunc):
            return f"call kfunc {quoted(insn.ref.name)}{module}"
        name = names.kfuncs.get(insn.imm)
        return f"call kfunc{'' if name is None else f' {quoted(name)}'}#{insn.imm}{module}"
    return f"call {helper_name(insn.imm) or 'unknown'}#{insn.imm}"


def _place(insn: Insn, slot: int, names: _Names) -> str:
    """Where a jump goes."""
    name = _target_name(insn, slot, names)
    return f"pc{reach(insn):+d}" if name is None else quoted(name)


def _target_name(insn: Insn, slot: int, names: _Names) -> str | None:
    """What the place is called that `insn` refers to; None if it has to be given as a distance."""
    if isinstance(insn.ref, Label):
        return insn.ref.name
    distance = reach(insn)
    return None if distance is None else names.labels.get(slot + 1 + distance)


def _immediate(insn: Insn, slot: int, names: _Names) -> str:
    """What an LDDW loads."""
    src, imm, ref = insn.src, insn.imm, insn.ref
    if isinstance(ref, MapFd):
        return f"map[{quoted(ref.name)}]"
    if isinstance(ref, MapValue):
        return f"map[{quoted(ref.name)}][0]+{ref.offset}"
    if isinstance(ref, KernelSymbol):
        return f"ksym[{quoted(ref.name)}]"
    lower, upper = imm & MASK32, imm >> 32
    number = f"{'id' if names.map_ids else 'fd'}:{lower}"
    if src == op.BPF_PSEUDO_MAP_FD:
        return f"map[{number}]"
    if src == op.BPF_PSEUDO_MAP_VALUE:
        return f"map[{number}][0]+{upper}"
    if src == op.BPF_PSEUDO_MAP_IDX:
        return f"map[idx:{lower}]"
    if src == op.BPF_PSEUDO_MAP_IDX_VALUE:
        return f"map[idx:{lower}][0]+{upper}"
    if src == op.BPF_PSEUDO_BTF_ID:
        return f"btf[id:{lower},fd:{upper}]" if upper else f"btf[id:{lower}]"
    if src == op.BPF_PSEUDO_FUNC:
        name = _target_name(insn, slot, names)
        # bpftool counts from this instruction, not from the next slot.
        return f"subprog[{signed32(imm) + 1:+d}]" if name is None else f"subprog[{quoted(name)}]"
    return f"{imm:#x}"


def _outside_the_rules(insn: Insn) -> str | None:
    code, dst, src, off, imm, ref = insn
    if ref is not None:
        return None
    unused = src, off, imm
    if code == GOTOX and not any(unused) and dst <= op.R10:
        return f"gotox r{dst}"
    if code == CALLX and not any(unused) and dst <= op.R10:
        return f"callx r{dst}"
    if code == NOSPEC and not any((dst, *unused)):
        return "nospec"
    if code == PSEUDO_JUMP and src == GOTO_OR_NOP and not (dst or imm):
        return f"goto_or_nop pc{off:+d}"
    is_move = code == op.BPF_ALU64 | op.BPF_MOV | op.BPF_X
    if is_move and off == PERCPU_OFF and not imm and max(dst, src) <= op.R10:
        return f"r{dst} = &(void __percpu *)(r{src})"
    return None
