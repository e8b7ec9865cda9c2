"""ELF symbol tables: decoded in bulk, looked up by address or by name (gABI chapter 4, "Symbol Table").

A big program has a million symbols of which a trace names a few.  So names stay in the string table until
somebody asks, and what is kept of each function is four integers in arrays, sorted by address.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_NAME = 1 << 16
"""Longest name that is believed; C++ reaches some ten thousand bytes."""

# STT_* and STB_* of elf.h.
_KINDS = {0: "notype", 1: "object", 2: "func", 3: "section", 4: "file", 5: "common", 6: "tls", 10: "ifunc"}
_BINDINGS = {0: "local", 1: "global", 2: "weak", 10: "unique"}
_FUNCTIONS = (2, 10)
_DATA = (1, 5, 6)

_MAX_NESTING = 1024
"""Starts of functions before an address that are tried for one that covers it."""

_TOP = (1 << 64) - 1
_VERSION_INDEX = 0x7FFF
_VERSION_HIDDEN = 0x8000


class Symbol(Frozen):
    """A defined symbol; `address` is a virtual address of the file and `size` bytes, 0 if not recorded.

    `kind` is "func", "ifunc", "object", "common" or "tls"; `binding` "local", "global", "weak" or "unique".
    `version` is that of a versioned symbol, such as "GLIBC_2.14", and `is_default` whether it is the one that
    a program linked now would get.
    """

    name: str
    address: int
    size: int
    kind: str = "func"
    binding: str = "global"
    version: str = ""
    is_default: bool = True


class RawTable:
    """One symbol table as it lies in the file, with its string table and, for .dynsym, its versions.

    `versym` has two bytes a symbol (0x8000: hidden; the rest: index into `versions`).  Indices and string
    offsets that point nowhere give empty names and no version.
    """

    __slots__ = ("_code_mask", "_entries", "_is_64", "_order", "_strings", "_versions", "_versym")

    def __init__(
        self,
        entries: bytes,
        strings: bytes,
        *,
        is_64: bool = True,
        is_little: bool = True,
        versym: bytes = b"",
        versions: dict[int, str] | None = None,
        code_mask: int = -1,
    ) -> None:
        """`code_mask` clears the bits of a function's value that are no part of its address (Thumb)."""
        entry_size = 24 if is_64 else 16
        self._entries = entries[: len(entries) // entry_size * entry_size]
        self._strings = strings
        self._is_64 = is_64
        self._order = "<" if is_little else ">"
        self._versym = struct.unpack(f"{self._order}{len(versym) // 2}H", versym[: len(versym) & ~1])
        self._versions = versions or {}
        self._code_mask = code_mask

    def rows(self, types: tuple[int, ...]) -> list[tuple[int, int, int, int, int]]:
        """(value, size, name offset, info, index) of every defined symbol of the given STT_* types."""
        order = self._order
        if self._is_64:
            return [
                (value, size, name, info, index)
                for index, (name, info, _other, section, value, size) in enumerate(
                    struct.iter_unpack(order + "IBBHQQ", self._entries)
                )
                if info & 15 in types and value and section
            ]
        return [
            (value, size, name, info, index)
            for index, (name, value, size, info, _other, section) in enumerate(
                struct.iter_unpack(order + "IIIBBH", self._entries)
            )
            if info & 15 in types and value and section
        ]

    def name(self, offset: int) -> bytes:
        strings = self._strings
        if not 0 <= offset < len(strings):
            return b""
        end = strings.find(b"\0", offset, offset + _MAX_NAME)
        return strings[offset : end if end >= 0 else offset + _MAX_NAME]

    def symbol(self, row: tuple[int, int, int, int, int]) -> Symbol:
        value, size, name_offset, info, index = row
        kind = info & 15
        name, version, is_default = split_version(self.name(name_offset).decode("utf-8", "surrogateescape"))
        if not version and index < len(self._versym):
            versym = self._versym[index]
            version = self._versions.get(versym & _VERSION_INDEX, "")
            is_default = not (version and versym & _VERSION_HIDDEN)
        if kind in _FUNCTIONS:
            value &= self._code_mask
        return Symbol(
            name,
            value,
            size,
            _KINDS.get(kind, "notype"),
            _BINDINGS.get(info >> 4, "local"),
            version,
            is_default,
        )

    def find(self, name: str, types: tuple[int, ...]) -> list[Symbol]:
        """Every defined symbol of that name without its version."""
        wanted = name.encode("utf-8", "surrogateescape")
        if not wanted or b"\0" in wanted:
            return []
        # Linkers let a name share the tail of a longer one, so any place that ends right may be meant.  In
        # .symtab a version follows the name.
        offsets: set[int] = set()
        for needle in (wanted + b"\0", wanted + b"@"):
            position = self._strings.find(needle)
            while position >= 0:
                offsets.add(position)
                position = self._strings.find(needle, position + 1)
        if not offsets:
            return []
        return [self.symbol(row) for row in self.rows(types) if row[2] in offsets]


def split_version(name: str) -> tuple[str, str, bool]:
    """``memcpy@@GLIBC_2.14`` → ("memcpy", "GLIBC_2.14", True); one ``@`` means not the default version."""
    base, separator, version = name.partition("@")
    if not separator or not base:
        return name, "", True
    return base, version.lstrip("@"), version.startswith("@")


class SymbolTable:
    """The functions of one or several tables of the same file, by address."""

    __slots__ = ("_ends", "_indices", "_infos", "_limit", "_names", "_sizes", "_starts", "_tables", "_which")

    def __init__(self, tables: Iterable[RawTable], limit: int = 1 << 64) -> None:
        """A last function without size ends at `limit`."""
        self._tables = tuple(tables)
        rows = sorted(
            (value & table._code_mask, which, size, name, info, index)
            for which, table in enumerate(self._tables)
            for value, size, name, info, index in table.rows(_FUNCTIONS)
        )
        self._starts = array("Q", [row[0] for row in rows])
        self._which = array("B", [row[1] for row in rows])
        self._sizes = array("Q", [row[2] for row in rows])
        self._names = array("I", [row[3] for row in rows])
        self._infos = array("B", [row[4] for row in rows])
        self._indices = array("I", [row[5] for row in rows])
        self._limit = limit
        # How far any function up to here reaches: functions may lie inside others.
        ends = (min(start + size, _TOP) for start, size in zip(self._starts, self._sizes, strict=True))
        self._ends = array("Q", accumulate(ends, max))

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Symbol]:
        """Every function by address, then in table order; a name comes once for an address."""
        index = 0
        while index < len(self._starts):
            after = self._after(index)
            yield from self._distinct(index, after)
            index = after

    def at(self, address: int) -> tuple[Symbol, int] | None:
        """The function that covers `address`, and the offset in it; None if there is none.

        A function without a size reaches to the next one.  Where one lies inside another the inner one is
        meant; of several names for one place `preference` takes the first.
        """
        if not 0 <= address < 1 << 64:
            return None
        index = bisect_right(self._starts, address) - 1
        is_nearest = True
        for _ in range(_MAX_NESTING):
            if index < 0:
                break
            start = self._starts[index]
            first = index
            while first and self._starts[first - 1] == start:
                first -= 1
            covering = [
                symbol
                for symbol in self._distinct(first, index + 1)
                if address - start < symbol.size or (is_nearest and not symbol.size and address < self._limit)
            ]
            if covering:
                return min(covering, key=preference), address - start
            if not first or self._ends[first - 1] <= address:
                return None
            index = first - 1
            is_nearest = False
        return None

    def find(self, name: str) -> list[Symbol]:
        """Every function called `name` (``name@version`` asks for one version), the best choice first."""
        base, version, is_default = split_version(name)
        found: dict[tuple[int, str], Symbol] = {}
        for table in self._tables:
            for symbol in table.find(base, _FUNCTIONS):
                if version and (symbol.version != version or (is_default and not symbol.is_default)):
                    continue
                known = found.get((symbol.address, symbol.version))
                if known is None or (symbol.size and not known.size):
                    found[symbol.address, symbol.version] = symbol
        # The copy in .symtab of a symbol in .dynsym has no version; it is the same symbol.
        versioned = {address for address, version in found if version}
        return sorted(
            (symbol for (address, at), symbol in found.items() if at or address not in versioned),
            key=_choice,
        )

    def find_data(self, name: str) -> list[Symbol]:
        """Every variable called `name`, the best choice first."""
        found = {symbol.address: symbol for table in self._tables for symbol in table.find(name, _DATA)}
        return sorted(found.values(), key=_choice)

    def _after(self, index: int) -> int:
        start = self._starts[index]
        while index < len(self._starts) and self._starts[index] == start:
            index += 1
        return index

    def _distinct(self, first: int, after: int) -> list[Symbol]:
        """The symbols of one address, each name once: as the default version, and with its size."""
        found: dict[str, Symbol] = {}
        for index in range(first, after):
            symbol = self._tables[self._which[index]].symbol(
                (
                    self._starts[index],
                    self._sizes[index],
                    self._names[index],
                    self._infos[index],
                    self._indices[index],
                )
            )
            known = found.get(symbol.name)
            if symbol.name and (known is None or _says_more(symbol, known)):
                found[symbol.name] = symbol
        return list(found.values())


def _says_more(symbol: Symbol, than: Symbol) -> bool:
    rank, other = ((one.version != "", one.is_default, one.size != 0) for one in (symbol, than))
    return rank > other


def _choice(symbol: Symbol) -> tuple[bool, tuple[bool, bool, int, bool, int, str], int]:
    """Sort key among places of one name."""
    return not symbol.is_default, preference(symbol), symbol.address


def preference(symbol: Symbol) -> tuple[bool, bool, int, bool, int, str]:
    """Sort key among names of one place: what a programmer would call it comes first.

    A C library has a function under several names, of which the plain one is often the weak one: ``read`` and
    not ``__libc_read``.
    """
    name = symbol.name
    return (
        not symbol.size,
        symbol.binding == "local",
        len(name) - len(name.lstrip("_")),
        symbol.binding == "weak",
        len(name),
        name,
    )
