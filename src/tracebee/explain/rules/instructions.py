"""Instructions that this kernel does not know or that are never valid: opcodes and operands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.rules.record import Finding, Rule, plain, rule
from tracebee.explain.versions import is_older

if TYPE_CHECKING:
    from tracebee.explain.case import Case

ATOMICS = {
    **dict.fromkeys((0x01, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1), "5.12"),
    **dict.fromkeys((0x100, 0x110), "6.15"),
}
"""Atomic operations by number, and the first release that has them; a plain addition (0) is older than all."""

NEW_OPCODES = {
    0x06: ("a long jump (gotol)", "6.6"),
    0x81: ("a sign-extending load", "6.6"),
    0x89: ("a sign-extending load", "6.6"),
    0x91: ("a sign-extending load", "6.6"),
    0xD7: ("a byte swap (bswap)", "6.6"),
    0xE5: ("a may_goto", "6.9"),
    0xCB: ("a load-acquire or store-release of 2 bytes", "6.15"),
    0xD3: ("a load-acquire or store-release of 1 byte", "6.15"),
    0x0D: ("a jump through a register (gotox)", "6.19"),
}
"""Opcodes of include/uapi/linux/bpf.h that came later, but for the 32-bit jumps."""

LAST_KNOWN = "7.4"
"""The first release after those whose instructions are known here."""


def opcode_since(opcode: int) -> tuple[str, str]:
    """What a byte of an opcode stands for and its first release, of those that came after 4.15; else empty."""
    named = NEW_OPCODES.get(opcode)
    if named is not None:
        return named
    # The class of 32-bit jumps has no call (8) and no exit (9), and ends with s<= (13).
    if opcode & 7 == 6 and opcode >> 4 in (1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13):
        return "a 32-bit jump", "5.1"
    return "", ""


def unknown_opcode(case: Case, found: re.Match[str]) -> Finding | None:
    """``unknown opcode d7``: the byte itself tells whether a later kernel has it."""
    what, since = opcode_since(int(found[1], 16))
    release = case.facts.release
    if not what or is_older(release, since) is False:
        reason = "a call through a pointer" if found[1] == "8d" else "an opcode that does not exist"
        return bad(
            case,
            f"The opcode 0x{found[1]} is no instruction that any kernel takes ({reason}).",
            not what and is_older(release, LAST_KNOWN) is not False,
        )
    here = f"this kernel is {release}" if release else "this kernel is older"
    cpu = {"5.1": "-mcpu=v2 or lower", "6.6": "-mcpu=v3 or lower"}.get(since, "an older instruction set")
    return Finding(
        "instruction-too-new",
        f"The program has {what} (opcode 0x{found[1]}), which came with Linux {since}; {here} and does not "
        f"know the instruction.",
        f"compile with {cpu}, or use a newer kernel ({since} or later)",
    )


def unknown_atomic(case: Case, operation: int) -> Finding:
    """``BPF_ATOMIC uses invalid atomic opcode 100``: the number is the instruction's imm."""
    release = case.facts.release
    since = ATOMICS.get(operation, "")
    if not since or is_older(release, since) is False:
        return bad(case, f"There is no atomic operation with the number 0x{operation:x}.", not since)
    what = "a load-acquire or store-release" if since != "5.12" else "an atomic operation with a result"
    return Finding(
        "instruction-too-new",
        f"The program has {what} (atomic opcode 0x{operation:x}), which came with Linux {since}; "
        f"{'this kernel is ' + release if release else 'this kernel is older'} and does not know the "
        f"instruction.",
        f"compile with {'-mcpu=v2 or lower' if since == '5.12' else '-mcpu=v3'}, or use a newer kernel ({since} "
        f"or later)",
    )


def instruction(case: Case, found: re.Match[str]) -> Finding | None:
    """Encodings that the kernel does not know: newer than it, or never valid."""
    text = found[0]
    release = case.facts.release
    if re.match(r"BPF_(?:EXIT|ST|JMP|JMP32|LD_\[ABS\|IND\]) uses", text):
        return bad(
            case, f"An instruction is not valid, fields of it must be 0 in every version: {text[:100]}."
        )
    atomic = re.search(r"invalid atomic opcode ([0-9a-f]{2,8})$", text)
    if atomic is not None:
        return unknown_atomic(case, int(atomic[1], 16))
    new_isa = is_older(release, "6.6")
    atomics = is_older(release, "5.12")
    v4 = case.facts.cpu in ("v4", "4")
    handmade = case.source is not None and any(
        word in line for line in case.source.lines for word in (".byte", ".8byte", ".long", ".quad")
    )
    stx = "STX" in text or "XADD" in text or "atomic" in text
    if handmade and not v4:
        return bad(case, f"An instruction is not valid: {text[:100]}.", False)
    if new_isa is False and not v4:
        return bad(case, f"An instruction has an encoding that does not exist: {text[:100]}.", False)
    what = (
        "atomic operations with a result (BPF CPU version 3 with atomics)"
        if stx and atomics
        else "instructions of BPF CPU version 4 (sign-extending loads and moves, gotol, bswap, signed division)"
    )
    since = "5.12" if stx and atomics else "6.6"
    here = f"this kernel is {release}" if release else "this kernel is older"
    sure = (v4 and new_isa is not False) or (stx and atomics is True)
    return Finding(
        "instruction-too-new",
        f"The program uses {what}, which came with Linux {since}; {here} and does not know the instruction "
        f"({text[:60]}).",
        f"compile with -mcpu={'v2' if stx and atomics else 'v3'} or lower, or use a newer kernel ({since} or "
        f"later)",
        sure=sure,
        others=() if sure else ("bad-instruction",),
    )


def bad(case: Case, sentence: str, sure: bool = True) -> Finding:
    return Finding(
        "bad-instruction",
        sentence,
        "correct the instruction: it comes from handwritten assembly, or from undefined behaviour in C; no "
        "kernel takes it",
        sure=sure,
        others=() if sure else ("instruction-too-new",),
    )


def bad_operand(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    if "shift" in text:
        sentence = (
            f"A shift by {found[1] or 'too many'} bits is not valid: the shift must be less than the "
            f"register's 64 (or 32) bits."
        )
    elif "div by zero" in text:
        sentence = "A division by the constant zero is not valid."
    elif "frame pointer" in text:
        sentence = "The frame pointer R10 is written, but it is read-only."
    else:
        sentence = f"An instruction uses a register or operand that does not exist: {text[:100]}."
    finding = bad(case, sentence)
    finding.advice = (
        "correct the constant or operand"
        + (" (less than 64, or mask it with & 63)" if "shift" in text else "")
        + "; in C it is undefined behaviour, or handwritten assembly"
    )
    return finding


RULES: tuple[Rule, ...] = (
    rule(
        "bad-instruction",
        r"invalid shift (-?\d+)|div by zero|frame pointer is read only|R\d+ is invalid|invalid atomic "
        r"operand size|invalid "
        r"bpf_ld_imm64 insn|invalid BPF_LD_IMM insn|unrecognized bpf_ld_imm64 insn",
        bad_operand,
        "4.15..7.3",
    ),
    rule("instruction-too-new", r"unknown opcode ([0-9a-f]{2})\b", unknown_opcode, "5.10..7.3"),
    rule(
        "instruction-too-new",
        r"BPF_\S+ uses reserved fields|unknown insn class \d+|invalid BPF_\S+ "
        r"(?:opcode|mode).*"
        r"|invalid BPF_LD mode|BPF_ATOMIC uses invalid atomic opcode.*|Unknown conditional jump.*|sign "
        r"extending loads from .*|addr_space_cast "
        r"insn can only.*|invalid may_goto.*",
        instruction,
        "4.15..7.3",
    ),
    plain(
        "bad-instruction",
        r"(BPF_LD_\[ABS\|IND\].*|at the time of BPF_LD_ABS\|IND R6 != pointer to skb|LD_ABS is .*)",
        "A direct packet load (BPF_LD_ABS, BPF_LD_IND) is not allowed here: {0}.",
        "use direct packet access or bpf_skb_load_bytes() instead",
        "4.15..",
        False,
    ),
)
