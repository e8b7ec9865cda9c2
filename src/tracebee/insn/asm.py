"""Text → instructions: the notation of tracebee.insn.disasm, with labels and comments.

    ; how often does this run?
        r1 = map[counts][0]+8
        r2 = 1
        lock *(u64 *)(r1 +0) += r2
        if r2 == 0x1 goto done
        call bpf_ktime_get_ns
    done:
        exit

A line is one instruction, a label, or both.  Slot numbers and opcodes in front, as disassemblers and the
verifier's log have them, may be there; an opcode is held against the instruction, a slot number says nothing.
A comment starts with ``;`` or ``//``, at the start of a line also with ``#``.  Names that are no words stand
between double quotes, as JSON strings.  Jumps stay as they are written: one that cannot reach its label is an
error, where Builder would take a longer one.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import UsageError
from tracebee.insn import opcodes as op
from tracebee.insn.asmlines import REGISTER_LIKE, AsmError, Line, Token
from tracebee.insn.builder import SIZE_BITS
from tracebee.insn.codec import (
    CALL,
    GOTO,
    GOTOL,
    LDDW,
    MASK32,
    MASK64,
    PSEUDO_JUMP,
    Insn,
    KernelSymbol,
    Kfunc,
    Label,
    MapFd,
    MapValue,
    aim,
)
from tracebee.insn.disasm import (
    ALU_SIGNS,
    ATOMIC_NAMES,
    CALLX,
    GOTO_OR_NOP,
    GOTOX,
    JUMP_SIGNS,
    NOSPEC,
    PERCPU_OFF,
)
from tracebee.insn.helpers import PREFIX, helper_id, helper_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AsmError", "assemble"]

_PREFIX = re.compile(r"[ \t]*(?:[0-9]+:)?[ \t]*(?:\((?P<opcode>[0-9a-fA-F]{2})\))?")
_BYTE_ORDER = re.compile(r"(le|be|bswap)(16|32|64)")

_ALU_CODES = {sign: code for code, sign in ALU_SIGNS.items()}
_JUMP_CODES = {sign: code for code, sign in JUMP_SIGNS.items()}
_TYPES = {f"{letter}{size * 8}": (letter, size) for letter in "us" for size in SIZE_BITS}
_ATOMICS = {
    f"atomic{'64' if size == 8 else ''}_{name}": (size, imm)
    for size in (4, 8)
    for imm, name in ATOMIC_NAMES.items()
}
_LOCKED = {ALU_SIGNS[code]: code for code in (op.BPF_ADD, op.BPF_OR, op.BPF_AND, op.BPF_XOR)}


class _Pending(NamedTuple):
    """An instruction that refers to a place by name."""

    at: int
    line: Line
    token: Token
    maybe_helper: bool


def assemble(text: str, *, external: bool = False) -> tuple[Insn, ...]:
    """The instructions that `text` spells; labels become distances, other names stay references.

    With `external` a label that the text does not define stays a Label too.  Raises AsmError.
    """
    program = _Program()
    for number, line in enumerate(text.split("\n"), 1):
        program.read(line, number)
    return program.finish(external)


class _Program:
    """What has been read so far."""

    def __init__(self) -> None:
        self.insns: list[Insn] = []
        self.slot = 0
        self.labels: dict[str, int] = {}
        self.pending: list[_Pending] = []

    def read(self, text: str, number: int) -> None:
        """Take in a line."""
        if text.lstrip(" \t").startswith("#"):
            return
        match = _PREFIX.match(text)
        assert match is not None
        line = Line(text, number, match.end())
        opcode = match["opcode"]
        if opcode is None:
            self._define_labels(line)
        if line.at_end():
            if opcode is not None:
                raise line.error("an opcode, but no instruction")
            return
        start = line.peek()
        insn = _instruction(line, None if opcode is None else int(opcode, 16))
        if not line.at_end():
            raise line.error(f"expected the end of the line, not {line.peek().text!r}")
        if opcode is not None and insn.code != int(opcode, 16):
            raise line.error(f"opcode {opcode} is not of this instruction, which has {insn.code:02x}", start)
        if line.named is not None:
            self.pending.append(_Pending(len(self.insns), line, line.named, line.maybe_helper))
        self.insns.append(insn)
        self.slot += insn.slots

    def finish(self, external: bool) -> tuple[Insn, ...]:
        """Settle the names."""
        for at, line, token, maybe_helper in self.pending:
            name = str(token.value)
            if maybe_helper and name not in self.labels:
                self.insns[at] = Insn(CALL, imm=_helper(line, token))
            elif name not in self.labels and not external:
                raise line.error(f"label {name!r} is not defined", token)
        return tuple(self._resolved())

    def _resolved(self) -> list[Insn]:
        """The instructions with distances to the labels that are known."""
        result = list(self.insns)
        starts = list(accumulate([insn.slots for insn in result], initial=0))
        for at, line, token, _ in self.pending:
            insn = result[at]
            if not isinstance(insn.ref, Label) or insn.ref.name not in self.labels:
                continue
            insn = aim(insn, self.labels[insn.ref.name] - starts[at] - 1)
            if not -0x8000 <= insn.off <= 0x7FFF:
                hint = "only gotol reaches farther than 32767 slots"
                raise line.error(f"the label is {insn.off} slots away, too far", token, hint)
            result[at] = insn
        return result

    def _define_labels(self, line: Line) -> None:
        """Take the ``name:`` at the start of a line."""
        while line.peek().kind in ("word", "string") and line.peek(1).text == ":":
            token = line.next()
            line.next()
            name = str(token.value)
            if name in self.labels:
                raise line.error(f"label {name!r} is defined twice", token)
            self.labels[name] = self.slot


def _instruction(line: Line, opcode: int | None) -> Insn:
    """The instruction on a line.  `opcode` is the one that stands before it, if any."""
    token = line.peek()
    read = _BY_FIRST_WORD.get(token.text) if token.kind in ("word", "sign") else None
    if read is not None:
        line.next()
        return read(line)
    match = REGISTER_LIKE.fullmatch(token.text)
    if match is None or token.kind != "word":
        known = ", ".join(word for word in _BY_FIRST_WORD if word != "*")
        raise line.error(f"no instruction starts with {token.text!r}", token, f"a register, *(…), {known}")
    letter = token.text[0]
    dst = line.register(letter)
    token = line.next()
    sign = token.text
    if token.kind != "sign":
        raise line.error(f"expected an operator such as += or =, not {sign!r}", token)
    if sign == "=":
        insn = _value_of(line, letter, dst, opcode)
        if insn is not None:
            return insn
    off = 0
    if sign in ("s/=", "s%="):
        sign, off = sign[1:], 1
    if sign not in _ALU_CODES:
        raise line.error(f"there is no operator {sign!r}", token)
    code = _ALU_CODES[sign] | (op.BPF_ALU64 if letter == "r" else op.BPF_ALU)
    if not line.is_number():
        return Insn(code | op.BPF_X, dst, line.register(letter), off)
    return Insn(code, dst, 0, off, _immediate(line, letter == "w"))


def _immediate(line: Line, may_be_unsigned: bool) -> int:
    """A 32-bit immediate, which where it says so may be written as an unsigned number."""
    high = MASK32 if may_be_unsigned else 0x7FFFFFFF
    hint = "32 bits are sign-extended; a larger number needs a register: rN = number ll"
    value = line.number_in(-0x80000000, high, "the immediate", hint)
    return value - (1 << 32) if value > 0x7FFFFFFF else value


def _value_of(line: Line, letter: str, dst: int, opcode: int | None) -> Insn | None:
    """What stands right of ``=`` if it is more than a register or a 32-bit number."""
    token, after = line.peek(), line.peek(1)
    width = op.BPF_ALU64 if letter == "r" else op.BPF_ALU
    if token.text == "-" and after.kind == "word":
        line.next()
        line.same_register(dst, letter)
        return Insn(width | op.BPF_NEG, dst)
    if token.text == "(" and after.text in ("s8", "s16", "s32"):
        line.expect("(", after.text, ")")
        bits = int(after.text[1:])
        if bits == 32 and letter == "w":
            raise line.error("a 32-bit register has nothing to extend 32 bits to", after)
        return Insn(width | op.BPF_MOV | op.BPF_X, dst, line.register(letter), bits)
    if letter == "w":
        return None
    if token.text == "*":
        line.next()
        return _load(line, dst)
    if token.text == "&":
        line.expect("&", "(", "void", "__percpu", "*", ")", "(")
        src = line.register()
        line.expect(")")
        return Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, dst, src, PERCPU_OFF)
    if line.is_number():
        return _wide_number(line, dst, opcode)
    if token.kind != "word":
        return None
    if _BYTE_ORDER.fullmatch(token.text):
        return _byte_order(line, dst)
    if token.text in _ATOMICS:
        return _atomic(line, dst)
    if token.text == "load_acquire":
        line.expect("load_acquire", "(")
        _, size, base, off = _place(line, "u")
        line.expect(")")
        return Insn(op.BPF_STX | op.BPF_ATOMIC | SIZE_BITS[size], dst, base, off, op.BPF_LOAD_ACQ)
    if token.text == "addr_space_cast":
        return _address_cast(line, dst)
    if after.text == "[":
        return _address(line, dst)
    return None


def _wide_number(line: Line, dst: int, opcode: int | None) -> Insn | None:
    """A 64-bit immediate: one marked by ``ll``, by its opcode, or by not fitting a move."""
    signed = line.peek().text in ("-", "+")
    marked = line.peek(1 + signed).text == "ll" or opcode == LDDW
    token = line.peek(signed)
    value = -int(token.value) if line.peek().text == "-" else int(token.value)
    if not marked and -0x80000000 <= value <= 0x7FFFFFFF:
        return None
    value = line.number_in(-(1 << 63), MASK64, "the immediate")
    line.accept("ll")
    return Insn(LDDW, dst, imm=value & MASK64)


def _place(line: Line, letters: str) -> tuple[str, int, int, int]:
    """``(type *)(register offset)`` → letter of the type, size in bytes, register, offset."""
    line.expect("(")
    letter, size = _type(line, letters)
    line.expect("*", ")", "(")
    base = line.register()
    off = line.number_in(-0x8000, 0x7FFF, "the offset") if line.is_number() else 0
    line.expect(")")
    return letter, size, base, off


def _type(line: Line, letters: str) -> tuple[str, int]:
    token = line.next()
    found = _TYPES.get(token.text)
    if found is None or found[0] not in letters or found == ("s", 8):
        names = [name for name, kind in _TYPES.items() if kind[0] in letters and kind != ("s", 8)]
        raise line.error(f"expected a type, not {token.text!r}", token, f"types here are {', '.join(names)}")
    return found


def _load(line: Line, dst: int) -> Insn:
    """``*(u32 *)(r1 +0)``, or the old packet access ``*(u32 *)skb[…]``, after the first star."""
    if line.peek(4).text == "skb":
        return _packet_load(line, dst)
    letter, size, base, off = _place(line, "us")
    mode = op.BPF_MEM if letter == "u" else op.BPF_MEMSX
    return Insn(op.BPF_LDX | mode | SIZE_BITS[size], dst, base, off)


def _packet_load(line: Line, dst: int) -> Insn:
    start = line.peek(1)
    line.expect("(")
    _, size = _type(line, "u")
    line.expect("*", ")", "skb", "[")
    if dst != 0:
        raise line.error("a packet is loaded to r0", start)
    if size == 8:
        raise line.error("8 bytes of a packet cannot be loaded", start)
    mode, src = op.BPF_ABS, 0
    if line.peek().kind == "word":
        mode, src = op.BPF_IND, line.register()
        line.expect("+")
    imm = _immediate(line, False)
    line.expect("]")
    return Insn(op.BPF_LD | mode | SIZE_BITS[size], 0, src, 0, imm)


def _store(line: Line) -> Insn:
    """``*(u64 *)(r10 -8) = r1``, or a number, after the star."""
    _, size, base, off = _place(line, "u")
    line.expect("=")
    if line.is_number():
        imm = _immediate(line, size < 8)
        return Insn(op.BPF_ST | op.BPF_MEM | SIZE_BITS[size], base, 0, off, imm)
    return Insn(op.BPF_STX | op.BPF_MEM | SIZE_BITS[size], base, line.register(), off)


def _locked(line: Line) -> Insn:
    """``lock *(u64 *)(r1 +0) += r2``."""
    line.expect("*")
    where = line.peek(1)
    _, size, base, off = _place(line, "u")
    if size < 4:
        raise line.error("atomic operations are on u32 and u64", where)
    token = line.next()
    if token.text not in _LOCKED:
        raise line.error(f"no atomic operation {token.text!r}", token, f"there are {', '.join(_LOCKED)}")
    src = line.register()
    return Insn(op.BPF_STX | op.BPF_ATOMIC | SIZE_BITS[size], base, src, off, _LOCKED[token.text])


def _atomic(line: Line, dst: int) -> Insn:
    """``r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)``, from the name on."""
    token = line.next()
    wanted, imm = _ATOMICS[token.text]
    line.expect("(")
    _, size, base, off = _place(line, "u")
    if size != wanted:
        raise line.error(f"{token.text} is on u{wanted * 8}, not u{size * 8}", token)
    line.expect(",")
    if imm == op.BPF_CMPXCHG:
        if dst != 0:
            raise line.error(f"{token.text} has its result in r0", token)
        line.same_register(0)
        line.expect(",")
        src = line.register()
    else:
        line.same_register(dst)
        src = dst
    line.expect(")")
    return Insn(op.BPF_STX | op.BPF_ATOMIC | SIZE_BITS[size], base, src, off, imm)


def _store_release(line: Line) -> Insn:
    line.expect("(")
    _, size, base, off = _place(line, "u")
    line.expect(",")
    src = line.register()
    line.expect(")")
    return Insn(op.BPF_STX | op.BPF_ATOMIC | SIZE_BITS[size], base, src, off, op.BPF_STORE_REL)


def _byte_order(line: Line, dst: int) -> Insn:
    match = _BYTE_ORDER.fullmatch(line.next().text)
    assert match is not None
    line.same_register(dst)
    code = {
        "le": op.BPF_ALU | op.BPF_TO_LE,
        "be": op.BPF_ALU | op.BPF_TO_BE,
        "bswap": op.BPF_ALU64,
    }[match[1]]
    return Insn(code | op.BPF_END, dst, imm=int(match[2]))


def _address_cast(line: Line, dst: int) -> Insn:
    line.expect("addr_space_cast", "(")
    src = line.register()
    line.expect(",")
    to = line.number_in(0, 1, "the address space")
    line.expect(",")
    token = line.peek()
    space = line.number_in(0, 1, "the address space")
    if to == space:
        raise line.error("the cast is to the address space that it is from", token)
    line.expect(")")
    off = op.BPF_ADDR_SPACE_CAST
    return Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, dst, src, off, to << 16 | space)


def _address(line: Line, dst: int) -> Insn:
    """``map[…]``, ``subprog[…]``, ``ksym[…]`` or ``btf[…]``."""
    token = line.next()
    line.expect("[")
    if token.text == "map":
        return _map_address(line, dst)
    if token.text == "subprog":
        return _function_address(line, dst)
    if token.text == "ksym":
        name = str(line.name("the name of a kernel variable").value)
        line.expect("]")
        return Insn(LDDW, dst, op.BPF_PSEUDO_BTF_ID, ref=KernelSymbol(name))
    if token.text == "btf":
        line.expect("id", ":")
        imm = line.number_in(0, MASK32, "the BTF id")
        if line.accept(","):
            line.expect("fd", ":")
            imm |= line.number_in(0, MASK32, "the descriptor") << 32
        line.expect("]")
        return Insn(LDDW, dst, op.BPF_PSEUDO_BTF_ID, imm=imm)
    hint = "there are map[…], subprog[…], ksym[…] and btf[…]"
    raise line.error(f"no address {token.text}[…]", token, hint)


def _map_address(line: Line, dst: int) -> Insn:
    """From the bracket on: a name, or a number after ``fd:``, ``id:`` or ``idx:``; then ``[0]+offset``."""
    token = line.name("the name of a map")
    numbered = token.kind == "word" and token.text in ("fd", "id", "idx") and line.accept(":")
    number = line.number_in(0, MASK32, "the number of the map") if numbered else 0
    line.expect("]")
    by_index = numbered and token.text == "idx"
    if line.peek().text != "[":
        src = op.BPF_PSEUDO_MAP_IDX if by_index else op.BPF_PSEUDO_MAP_FD
        return Insn(LDDW, dst, src, imm=number, ref=None if numbered else MapFd(str(token.value)))
    line.expect("[")
    line.number_in(0, 0, "the index")
    line.expect("]", "+")
    offset = line.number_in(0, MASK32, "the offset")
    src = op.BPF_PSEUDO_MAP_IDX_VALUE if by_index else op.BPF_PSEUDO_MAP_VALUE
    if numbered:
        return Insn(LDDW, dst, src, imm=number | offset << 32)
    return Insn(LDDW, dst, src, ref=MapValue(str(token.value), offset))


def _function_address(line: Line, dst: int) -> Insn:
    if line.is_number():
        distance = line.number_in(-0x7FFFFFFF, 0x80000000, "the distance") - 1
        line.expect("]")
        return Insn(LDDW, dst, op.BPF_PSEUDO_FUNC, imm=distance & MASK32)
    insn = Insn(LDDW, dst, op.BPF_PSEUDO_FUNC, ref=_label(line))
    line.expect("]")
    return insn


def _label(line: Line) -> Label:
    """Take a name and note that the instruction waits for it."""
    line.named = line.name("a label")
    return Label(str(line.named.value))


def _is_distance(line: Line) -> bool:
    """Whether ``pc+3`` or the like comes next."""
    return line.peek().text == "pc" and line.peek(1).text in ("+", "-")


def _distance(line: Line, bits: int) -> int:
    line.expect("pc")
    return line.number_in(-(1 << bits - 1), (1 << bits - 1) - 1, "the distance")


def _jump_to(line: Line, insn: Insn) -> Insn:
    """`insn` with the target that comes next."""
    if not _is_distance(line):
        return insn._replace(ref=_label(line))
    if insn.code == GOTOL:
        return insn._replace(imm=_distance(line, 32))
    return insn._replace(off=_distance(line, 16))


def _conditional(line: Line) -> Insn:
    """``if r1 s> 0x5 goto pc+3``, after the if."""
    letter = "w" if line.peek().text.startswith("w") else "r"
    code = op.BPF_JMP if letter == "r" else op.BPF_JMP32
    dst = line.register(letter)
    token = line.next()
    if token.text not in _JUMP_CODES or token.kind != "sign":
        hint = f"comparisons are {' '.join(_JUMP_CODES)}"
        raise line.error(f"expected a comparison, not {token.text!r}", token, hint)
    code |= _JUMP_CODES[token.text]
    if line.is_number():
        # Disassemblers write a negative immediate as the 32 bits that it is.
        in_hex = line.peek().text[:2] in ("0x", "0X")
        insn = Insn(code, dst, imm=_immediate(line, letter == "w" or in_hex))
    else:
        insn = Insn(code | op.BPF_X, dst, line.register(letter))
    line.expect("goto")
    return _jump_to(line, insn)


def _call(line: Line) -> Insn:
    """What comes after ``call``."""
    if _is_distance(line):
        insn = Insn(CALL, src=op.BPF_PSEUDO_CALL, imm=_distance(line, 32))
        if line.accept("#"):
            line.name("a function")  # bpftool adds it where it knows it
        return insn
    after = line.peek(1)
    if after.kind in ("word", "string") and line.accept("local"):
        return Insn(CALL, src=op.BPF_PSEUDO_CALL, ref=_label(line))
    if (after.kind in ("word", "string") or after.text == "#") and line.accept("kfunc"):
        return _kfunc_call(line)
    if line.peek().kind == "number" or line.peek().text == "#":
        line.accept("#")
        return Insn(CALL, imm=_call_number(line))
    token = line.name("a function")
    if line.accept("#"):
        number = _call_number(line)
        return _named_call(line, token, number)
    line.named, line.maybe_helper = token, True
    return Insn(CALL, src=op.BPF_PSEUDO_CALL, ref=Label(str(token.value)))


def _named_call(line: Line, token: Token, number: int) -> Insn:
    """``name#number``, which the verifier writes for helpers and for kernel functions alike."""
    known = helper_name(number)
    if token.value in (known, "unknown"):
        return Insn(CALL, imm=number)
    try:
        right = helper_id(str(token.value))
    except UsageError:
        return Insn(CALL, src=op.BPF_PSEUDO_KFUNC_CALL, imm=number)
    raise line.error(f"{token.value} is helper {right}, not {number}", token)


def _call_number(line: Line) -> int:
    return line.number_in(-0x80000000, 0x7FFFFFFF, "the number of the function")


def _kfunc_call(line: Line) -> Insn:
    """After ``call kfunc``: a name, a name and an id, or an id; then perhaps ``fd_array[n]``."""
    ref: Kfunc | None = None
    imm = off = 0
    if line.peek().text != "#":
        ref = Kfunc(str(line.name("a kernel function").value))
    if line.accept("#"):
        ref, imm = None, _call_number(line)
    if line.accept("fd_array"):
        line.expect("[")
        off = line.number_in(-0x8000, 0x7FFF, "the index")
        line.expect("]")
    return Insn(CALL, 0, op.BPF_PSEUDO_KFUNC_CALL, off, imm, ref)


def _helper(line: Line, token: Token) -> int:
    """The number of the helper that `token` names."""
    try:
        return helper_id(str(token.value))
    except UsageError as exc:
        hint = exc.hint or f"helpers start with {PREFIX}; a kernel function is called by: call kfunc name"
        raise line.error(f"neither a label nor a helper is called {token.value!r}", token, hint) from None


def _raw(line: Line) -> Insn:
    """``.insn code=0xff dst=0 src=0 off=0 imm=0``."""
    fields: dict[str, int] = {}
    for name, low, high in (
        ("code", 0, 0xFF),
        ("dst", 0, 15),
        ("src", 0, 15),
        ("off", -0x8000, 0x7FFF),
        ("imm", -0x80000000, 0x7FFFFFFF),
    ):
        line.expect(name, "=")
        if name == "imm" and fields["code"] == LDDW:
            low, high = 0, MASK64
        fields[name] = line.number_in(low, high, f"the field {name}")
    return Insn(fields["code"], fields["dst"], fields["src"], fields["off"], fields["imm"])


def _goto_or_nop(line: Line) -> Insn:
    return Insn(PSEUDO_JUMP, src=GOTO_OR_NOP, off=_distance(line, 16))


_BY_FIRST_WORD: dict[str, Callable[[Line], Insn]] = {
    "*": _store,
    "lock": _locked,
    "store_release": _store_release,
    "if": _conditional,
    "goto": lambda line: _jump_to(line, Insn(GOTO)),
    "gotol": lambda line: _jump_to(line, Insn(GOTOL)),
    "may_goto": lambda line: _jump_to(line, Insn(PSEUDO_JUMP, src=op.BPF_MAY_GOTO)),
    "goto_or_nop": _goto_or_nop,
    "gotox": lambda line: Insn(GOTOX, line.register()),
    "call": _call,
    "callx": lambda line: Insn(CALLX, line.register()),
    "exit": lambda line: Insn(op.BPF_JMP | op.BPF_EXIT),
    "nospec": lambda line: Insn(NOSPEC),
    ".insn": _raw,
}
