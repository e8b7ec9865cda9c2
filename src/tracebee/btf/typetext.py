"""Types out of a few words of C, for maps that are made by hand.

    u8 … u64, s8 … s64, __u32, uint32_t, int, unsigned long, char, bool, float, double
    char[16], u64[4][2], void *, struct task_struct *
    struct { u32 pid; char comm[16]; u8 flags : 3; }, struct key { … }, union { … }, enum state { IDLE, BUSY = 4 }

Members lie as C lays them out on 64-bit machines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.btf.reader import Btf
from tracebee.btf.types import INT_BOOL, INT_SIGNED, Composite, Fwd, Member, Struct, Union
from tracebee.errors import UsageError

if TYPE_CHECKING:
    from tracebee.btf.writer import BtfBuilder

MAX_NESTING = 16
MAX_SIZE = 1 << 26
POINTER = 8

# name: bytes, encoding
_INTS = {f"u{bits}": (bits // 8, 0) for bits in (8, 16, 32, 64, 128)}
_INTS |= {f"s{bits}": (bits // 8, INT_SIGNED) for bits in (8, 16, 32, 64, 128)}
_INTS |= {f"__{name}": fact for name, fact in _INTS.items()}
_INTS |= {f"i{bits}": (bits // 8, INT_SIGNED) for bits in (8, 16, 32, 64, 128)}
_INTS |= {f"uint{bits}_t": (bits // 8, 0) for bits in (8, 16, 32, 64)}
_INTS |= {f"int{bits}_t": (bits // 8, INT_SIGNED) for bits in (8, 16, 32, 64)}
_INTS |= {f"__{order}{bits}": (bits // 8, 0) for order in ("be", "le") for bits in (16, 32, 64)}
_INTS |= {"bool": (1, INT_BOOL), "_Bool": (1, INT_BOOL), "pid_t": (4, INT_SIGNED), "size_t": (8, 0)}
_FLOATS = {"float": 4, "double": 8}
_C_WORDS = {"unsigned", "signed", "char", "short", "int", "long", "__int128"}
_QUALIFIERS = {"const", "volatile", "restrict"}

_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z_]\w*)|(?P<number>0[xX][0-9a-fA-F]+|-?[0-9]+)|(?P<mark>[][{};:,*=])|(?P<end>$))"
)


def add_type(builder: BtfBuilder, text: str) -> tuple[int, int]:
    """Add the type that a text names; its id and its size in bytes.  Raises UsageError."""
    parser = _Parser(builder, text)
    type_id, size, align = parser.base(0)
    type_id, size, _ = parser.declarator(type_id, size, align)
    parser.expect("", "its end")
    if not size:
        raise parser.wrong("it has no size")
    return type_id, size


class _Parser:
    def __init__(self, builder: BtfBuilder, text: str) -> None:
        self.builder = builder
        self.text = text
        self.at = 0
        self.token = ""
        self.kind = ""
        self.next()

    def next(self) -> str:
        """Go on to the next token; gives the one that was passed."""
        passed = self.token
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise self.wrong(f"unexpected {self.text[self.at :].lstrip()[:1]!r}")
        self.kind = found.lastgroup or "end"
        self.token = found[self.kind]
        self.at = found.end()
        return passed

    def wrong(self, reason: str) -> UsageError:
        return UsageError(
            f"no type {self.text[:100]!r}: {reason}",
            "types are like u32, char[16], struct { u32 pid; char comm[16]; }",
        )

    def expect(self, token: str, what: str = "") -> None:
        if self.token != token:
            raise self.wrong(f"there should be {what or repr(token)}, not {self.token or 'the end'!r}")
        if token:
            self.next()

    def base(self, depth: int) -> tuple[int, int, int]:
        """What stands in front of a name: id, size, alignment."""
        if depth > MAX_NESTING:
            raise self.wrong(f"it is nested deeper than {MAX_NESTING}")
        while self.token in _QUALIFIERS:
            self.next()
        if self.kind != "word":
            raise self.wrong(f"unexpected {self.token or 'end'!r}")
        word = self.token
        if word in ("struct", "union"):
            found = self.composite(depth)
        elif word == "enum":
            found = self.enumeration()
        elif word in _C_WORDS:
            found = self.integer()
        else:
            self.next()
            if word in _INTS:
                size, encoding = _INTS[word]
                found = self.builder.add_int(word, size, encoding), size, size
            elif word in _FLOATS:
                size = _FLOATS[word]
                found = self.builder.add_float(word, size), size, size
            elif word == "void":
                found = 0, 0, 1
            else:
                from difflib import get_close_matches

                close = get_close_matches(word, [*_INTS, *_FLOATS, *_C_WORDS], n=1)
                raise self.wrong(f"{word} is not known" + (f", did you mean {close[0]}?" if close else ""))
        while self.token in _QUALIFIERS:
            self.next()
        return found

    def integer(self) -> tuple[int, int, int]:
        """The integers of C, whose words may stand in any order."""
        words = []
        while self.token in _C_WORDS:
            words.append(self.next())
        size = 4
        if "char" in words:
            size = 1
        elif "short" in words:
            size = 2
        elif "__int128" in words:
            size = 16
        elif "long" in words:
            size = 8
        order = [word for word in ("unsigned", "long", "short", "char", "__int128", "int") if word in words]
        if words.count("long") == 2:
            order.insert(order.index("long"), "long")
        name = " ".join(order) if order and order != ["unsigned"] else " ".join([*order, "int"])
        encoding = 0 if "unsigned" in words else INT_SIGNED
        return self.builder.add_int(name, size, encoding), size, size

    def declarator(self, type_id: int, size: int, align: int) -> tuple[int, int, int]:
        """Pointers and dimensions behind a type; a name in between is passed by `member`."""
        while self.token == "*":
            self.next()
            type_id, size, align = self.builder.add_ptr(type_id), POINTER, POINTER
            while self.token in _QUALIFIERS:
                self.next()
        return self.dimensions(type_id, size, align)

    def dimensions(self, type_id: int, size: int, align: int) -> tuple[int, int, int]:
        counts = []
        while self.token == "[":
            self.next()
            counts.append(self.number())
            self.expect("]")
        for count in reversed(counts):
            if not size or not 0 < count * size <= MAX_SIZE:
                raise self.wrong(f"an array of {count} cannot be")
            type_id, size = self.builder.add_array(type_id, count), size * count
        return type_id, size, align

    def number(self) -> int:
        if self.kind != "number":
            raise self.wrong(f"there should be a number, not {self.token or 'the end'!r}")
        return int(self.next(), 0)

    def enumeration(self) -> tuple[int, int, int]:
        self.next()
        name = self.next() if self.kind == "word" else ""
        self.expect("{")
        values = []
        following = 0
        while self.token != "}":
            if self.kind != "word":
                raise self.wrong("an enumerator needs a name")
            one = self.next()
            if self.token == "=":
                self.next()
                following = self.number()
            values.append((one, following))
            following += 1
            if self.token != "}":
                self.expect(",")
        self.expect("}")
        if all(-(1 << 31) <= value < 1 << 32 for _, value in values):
            return self.builder.add_enum(name, values), 4, 4
        return self.builder.add_enum64(name, values), 8, 8

    def composite(self, depth: int) -> tuple[int, int, int]:
        is_union = self.next() == "union"
        name = self.next() if self.kind == "word" else ""
        if self.token != "{":
            if name and self.token == "*":
                return self.builder.add(Fwd(name, is_union)), 0, 1
            raise self.wrong("its members are not said")
        self.next()
        members: list[Member] = []
        end = 0  # in bits
        strictest = 1
        while self.token != "}":
            base = self.base(depth + 1)
            while True:
                member, bits, align = self.member(base, 0 if is_union else end)
                members.append(member)
                strictest = max(strictest, align)
                end = max(end, member.bit_offset + bits)
                if self.token != ",":
                    break
                self.next()
            self.expect(";")
        self.expect("}")
        named = [one.name for one in members if one.name]
        for one in named:
            if named.count(one) > 1:
                raise self.wrong(f"there are two members {one}")
        size = -(-end // (8 * strictest)) * strictest
        if size > MAX_SIZE:
            raise self.wrong("it is too large")
        made: type[Composite] = Union if is_union else Struct
        return self.builder.add(made(name, size, tuple(members))), size, strictest

    def member(self, base: tuple[int, int, int], end: int) -> tuple[Member, int, int]:
        """A member behind `end` bits: it, its bits and its alignment in bytes."""
        type_id, size, align = base
        while self.token == "*":
            self.next()
            type_id, size, align = self.builder.add_ptr(type_id), POINTER, POINTER
        name = self.next() if self.kind == "word" else ""
        if not name and self.token not in (";", ":"):
            raise self.wrong(f"a member needs a name, not {self.token or 'the end'!r}")
        if self.token == ":":
            self.next()
            bits = self.number()
            if not 0 < bits <= 8 * size or not name:
                raise self.wrong(f"a bitfield of {bits} bits cannot be")
            # It may not lie across a boundary of its type.
            if end // (8 * size) != (end + bits - 1) // (8 * size):
                end = -(-end // (8 * size)) * 8 * size
            return Member(name, type_id, end, bits), bits, align
        type_id, size, align = self.dimensions(type_id, size, align)
        if not size:
            raise self.wrong(f"member {name} has no size")
        return Member(name, type_id, -(-end // (8 * align)) * 8 * align), 8 * size, align


def types_of(*texts: str) -> tuple[Btf, bytes, list[tuple[int, int]]]:
    """BTF with the types that texts name: as it is read, its bytes, and id and size of each."""
    from tracebee.btf.writer import BtfBuilder

    builder = BtfBuilder()
    found = [add_type(builder, text) if text else (0, 0) for text in texts]
    data = builder.to_bytes()
    return Btf.from_bytes(data), data, found
