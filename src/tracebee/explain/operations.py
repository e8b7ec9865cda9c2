"""What an instruction does, read from the verifier's disassembly of it."""

from __future__ import annotations

import re

from tracebee.explain.states import to_number
from tracebee.records import Frozen

MEMORY = r"\*\(([us])(\d{1,2}) \*\)\(r(\d{1,2}) ?([+-] ?\w{1,18})\)"
LOAD = re.compile(rf"[rw](\d{{1,2}}) = {MEMORY}")
STORE = re.compile(rf"{MEMORY} = (?:[rw](\d{{1,2}})|(-?\w{{1,20}}))$")
ATOMIC = re.compile(rf"lock {MEMORY} \S{{1,4}} r(\d{{1,2}})")
FETCH = re.compile(
    r"[rw](\d{1,2}) = (atomic\w*|load_acquire)\(\(([us])(\d{1,2}) \*\)\(r(\d{1,2}) ?([+-] ?\w{1,18})\)"
)
MOVE = re.compile(r"[rw](\d{1,2}) = (?:\([su]\d{1,2}\) ?)?([rw])(\d{1,2})$")
CONSTANT = re.compile(r"[rw](\d{1,2}) = (-?(?:0x[0-9a-f]{1,16}|\d{1,20}))$")
ALU = re.compile(
    r"([rw])(\d{1,2}) (s?(?:[-+*/%&|^]|<<|>>))= (?:[rw](\d{1,2})|(-?(?:0x[0-9a-f]{1,16}|\d{1,20})))$"
)
UNARY = re.compile(r"[rw](\d{1,2}) = (?:-|(?:be|le|bswap)\d+ )[rw]\d{1,2}$")
JUMP = re.compile(
    r"if ([rw])(\d{1,2}) (\S{1,3}) (?:[rw](\d{1,2})|(-?0x[0-9a-f]{1,16}|-?\d{1,20})) goto pc([+-]\d{1,9})"
)
CALL = re.compile(r"call (?:pc([+-]?\d{1,9})|([\w.]{1,128})(?:#(\d{1,10}))?)")
OTHER_TARGET = re.compile(r"[rw](\d{1,2}) = ")


class Operation(Frozen):
    """An instruction in parts.

    ========= ===============================================================================
    kind      move, constant, alu, load, store, atomic, jump, call, exit, address, other
    target    the register that is written, or None; a call writes r0 and destroys r1 to r5
    source    the register that is read, or None where `constant` is
    base, offset, size  memory: the register, the distance from it, and the number of bytes
    operator  of alu and jump: ``+``, ``s>>``, ``==``
    name      of a call: the function, or empty for a function of the program
    narrow    the 32-bit half alone
    ========= ===============================================================================
    """

    kind: str
    target: int | None = None
    source: int | None = None
    constant: int | None = None
    base: int | None = None
    offset: int = 0
    size: int = 0
    operator: str = ""
    name: str = ""
    number: int | None = None
    narrow: bool = False
    displacement: int = 0

    def writes(self, register: int) -> bool:
        if self.kind == "call":
            return register <= 5
        return self.target == register


def is_unary(change: Operation) -> bool:
    """Whether an operation has one operand: a negation or a byte swap."""
    return change.kind == "alu" and change.source is None and change.constant is None


def parse_operation(opcode: int, text: str) -> Operation:
    """The parts of a disassembled instruction; kind ``other`` for what is not known."""
    if opcode == 0x95 or text == "exit":
        return Operation("exit")
    if text.startswith("call"):
        found = CALL.match(text)
        if found is None:
            return Operation("call")
        name = found[2] or ""
        number = found[3]
        if name.isdigit():
            # Before 4.10 the number alone was printed.
            name, number = "", name
        return Operation("call", 0, name=name, number=int(number) if number else None)
    if text.startswith("if "):
        found = JUMP.match(text)
        if found is None:
            return Operation("jump")
        return Operation(
            "jump",
            None,
            int(found[4]) if found[4] else None,
            to_number(found[5]) if found[5] else None,
            int(found[2]),
            operator=found[3],
            narrow=found[1] == "w",
            displacement=int(found[6]),
        )
    if opcode == 0x18:
        found = OTHER_TARGET.match(text)
        return Operation("address", int(found[1]) if found else None)
    if found := MOVE.match(text):
        return Operation("move", int(found[1]), int(found[3]), narrow=found[2] == "w" or "(" in text)
    if found := CONSTANT.match(text):
        return Operation("constant", int(found[1]), constant=to_number(found[2]))
    if found := ALU.match(text):
        return Operation(
            "alu",
            int(found[2]),
            int(found[4]) if found[4] else None,
            to_number(found[5]) if found[5] else None,
            operator=found[3],
            narrow=found[1] == "w",
        )
    if found := LOAD.match(text):
        return Operation(
            "load", int(found[1]), base=int(found[4]), offset=_offset(found[5]), size=int(found[3]) // 8
        )
    if found := STORE.match(text):
        return Operation(
            "store",
            None,
            int(found[5]) if found[5] else None,
            to_number(found[6]) if found[6] else None,
            int(found[3]),
            _offset(found[4]),
            int(found[2]) // 8,
        )
    if found := ATOMIC.match(text):
        return Operation(
            "atomic",
            None,
            int(found[5]),
            base=int(found[3]),
            offset=_offset(found[4]),
            size=int(found[2]) // 8,
        )
    if found := FETCH.match(text):
        kind = "load" if found[2] == "load_acquire" else "atomic"
        return Operation(
            kind,
            int(found[1]),
            base=int(found[5]),
            offset=_offset(found[6]),
            size=int(found[4]) // 8,
        )
    if found := UNARY.match(text):
        return Operation("alu", int(found[1]), operator="-")
    if found := OTHER_TARGET.match(text):
        return Operation("other", int(found[1]))
    return Operation("other")


def _offset(text: str) -> int:
    return to_number(text.replace(" ", "").removeprefix("+")) or 0
