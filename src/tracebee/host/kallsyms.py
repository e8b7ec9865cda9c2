"""Kernel addresses ↔ names, from /proc/kallsyms.

A line is ``address type name``, and ``\\t[module]`` where the symbol is not the core kernel's::

    ffffffff81000000 T _stext
    ffffffffc0201000 t ftrace_trampoline	[__builtin__ftrace]

The file has 120,000 lines and more, and most scripts ask for a handful.  So it is kept as the bytes that it
is: the core kernel comes first and sorted by address (scripts/kallsyms.c), which bisection by byte position
uses without taking a line apart; the modules, BPF programs and trampolines after it are in the order of their
loading and are sorted here.  A name is found by searching the bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT_TYPES = "tTwW"
"""Letters of symbols in text, weak ones included; nm(1) explains them."""

_PAGE = 4096


class KernelSymbol(Frozen):
    """The symbol that an address belongs to; `module` is "" for the core kernel."""

    name: str
    offset: int
    module: str = ""


class KernelSymbols:
    """The symbols of one moment.

    `hidden` is true where the kernel shows zeros instead of addresses (kernel.kptr_restrict, or no
    CAP_SYSLOG): then names can be listed, but no address is known and none is resolved.
    """

    __slots__ = ("_core_end", "_core_ranges", "_data", "_rest", "_width", "hidden")

    def __init__(self, data: bytes) -> None:
        """`data` is the content of /proc/kallsyms.  FormatError if its first line is none of kallsyms."""
        self._data = data
        self._width = max(data[:32].find(b" "), 0)
        if data and not _is_symbol_line(data[: data.find(b"\n") + 1 or len(data)].rstrip(b"\n"), self._width):
            raise FormatError("kallsyms: the first line is not 'address type name'", 0)
        first_module = data.find(b"\t[")
        self._core_end = len(data) if first_module < 0 else data.rfind(b"\n", 0, first_module) + 1
        rest = [line for line in data[self._core_end :].split(b"\n") if _is_symbol_line(line, self._width)]
        # By address only, and stable: of several names at an address the first is the kernel's own choice.
        rest.sort(key=itemgetter(slice(self._width)))
        self._rest = rest
        self._core_ranges: tuple[tuple[int, int], ...] | None = None
        zero = b"0" * self._width
        last_core = data.rfind(b"\n", 0, max(self._core_end - 1, 0)) + 1
        self.hidden = bool(data) and all(
            line.startswith(zero) for line in (data[last_core : self._core_end] or zero, *rest[-1:])
        )

    @classmethod
    def parse(cls, data: bytes) -> KernelSymbols:
        return cls(data)

    @classmethod
    def read(cls, path: str = "/proc/kallsyms") -> KernelSymbols:
        """The symbols of the running kernel.  OSError where there is no such file (CONFIG_KALLSYMS=n)."""
        with open(path, "rb") as stream:
            return cls(stream.read())

    def resolve(self, address: int) -> KernelSymbol | None:
        """The symbol that covers `address`, or None.

        kallsyms has no sizes: a symbol reaches to the next one.  The last symbol of the core kernel's text,
        and of a module, has no next one; a module's is taken to end with the page after the one it starts in.
        """
        if self.hidden or not 0 <= address < 1 << (4 * self._width):
            return None
        for start, end in self._core():
            if start <= address < end:
                return self._resolve_core(address)
        return self._resolve_module(address)

    def find(self, name: str, module: str | None = None) -> int | None:
        """Address of `name`, a symbol in text before any other, or None.

        `module` limits the search to a module, "" to the core kernel.
        """
        if self.hidden:
            return None
        return self._find(name, module)

    def has(self, name: str, module: str | None = None) -> bool:
        """Whether there is a symbol of that name, also where addresses are hidden."""
        return self._find(name, module) is not None

    def owners(self, name: str) -> list[str]:
        """The module of each symbol of that name in text, "" for the core kernel."""
        return [owner for _, letter, owner in self._named(name) if letter in TEXT_TYPES]

    def addresses(self, name: str, module: str | None = None) -> list[int]:
        """The addresses of all symbols of that name in text: static functions may share one.

        `module` as for `find`; empty where addresses are hidden.
        """
        if self.hidden:
            return []
        return [
            address
            for address, letter, owner in self._named(name)
            if letter in TEXT_TYPES and (module is None or owner == module)
        ]

    def entries(self, name: str) -> list[tuple[int, str, str]]:
        """(address, type letter, module) of every symbol of that name, data too; 0 where addresses are hidden."""
        return list(self._named(name))

    def modules(self) -> list[str]:
        """Everything that owns symbols besides the core kernel, sorted; pseudo modules such as "bpf" too."""
        return sorted({_module(line) for line in self._rest} - {""})

    def names(self, types: str = "tT", module: str | None = None) -> Iterator[tuple[str, str]]:
        """(name, module) of every symbol of the given types; the core kernel's come first."""
        skip = self._width + 3
        letter = skip - 2
        if not module:
            # Text decoded at once and sliced is twice as fast as lines decoded one by one.
            for line in _text(self._data[: self._core_end]).split("\n"):
                if line[letter : skip - 1] in types and len(line) > skip:
                    yield line[skip:], ""
        if module != "":
            for raw in self._rest:
                owner = _module(raw)
                line = _text(raw)
                if line[letter : skip - 1] in types and (module is None or owner == module):
                    yield line[skip:].partition("\t")[0], owner

    def _core(self) -> tuple[tuple[int, int], ...]:
        """Address ranges of the core kernel in which the symbol before an address is the address's symbol.

        With CONFIG_KALLSYMS_ALL that is the whole image; without it, data has no symbols besides section
        marks, and only text counts (is_ksym_addr() in the kernel's include/linux/kallsyms.h).
        """
        if self._core_ranges is None:
            start = self._find("_stext", "")
            if start is None:
                start = self._find("_text", "")
            ranges: list[tuple[int, int]] = []
            end = self._find("_end", "")
            if start is not None and end is not None:
                ranges.append((start, end))
            elif start is not None and (end := self._find("_etext", "")) is not None:
                ranges.append((start, end))
                init_end = self._find("_einittext", "")
                init_start = self._find("_sinittext", "")
                if init_start is not None and init_end is not None:
                    ranges.append((init_start, init_end))
            else:
                ranges.extend(self._text_range())
            self._core_ranges = tuple(ranges)
        return self._core_ranges

    def _text_range(self) -> Iterator[tuple[int, int]]:
        """From the first to the last text symbol, for kernels (or excerpts) without the usual marks."""
        position = self._width + 1
        lines = [
            line
            for line in self._data[: self._core_end].split(b"\n")
            if line[position : position + 1] in (b"t", b"T", b"w", b"W")
        ]
        if lines:
            last = _address(lines[-1], self._width)
            yield _address(lines[0], self._width), (last | (_PAGE - 1)) + 1 + _PAGE

    def _resolve_core(self, address: int) -> KernelSymbol | None:
        data = self._data
        width = self._width

        def address_at(position: int) -> bytes:
            start = data.rfind(b"\n", 0, position) + 1
            return data[start : start + width]

        # The last byte of the core part is a newline, so that every position below belongs to a line.
        positions = range(max(self._core_end - 1, 0))
        after = bisect_right(positions, b"%0*x" % (width, address), key=address_at)
        if not after:
            return None
        start = data.rfind(b"\n", 0, after - 1) + 1
        found = data[start : start + width]
        # Back to the first of several names at the address.
        while start and data.startswith(found, previous := data.rfind(b"\n", 0, start - 1) + 1):
            start = previous
        end = data.find(b"\n", start)
        line = data[start : end if end >= 0 else len(data)]
        return KernelSymbol(_text(line[width + 3 :]), address - _address(line, width))

    def _resolve_module(self, address: int) -> KernelSymbol | None:
        rest = self._rest
        width = self._width
        key = itemgetter(slice(width))
        wanted = b"%0*x" % (width, address)
        after = bisect_right(rest, wanted, key=key)
        if not after:
            return None
        found = key(rest[after - 1])
        first = after - 1
        while first and key(rest[first - 1]) == found:
            first -= 1
        line = rest[first]
        start = _address(line, width)
        owner = _module(line)
        if not start:
            return None
        has_next = after < len(rest) and _module(rest[after]) == owner
        if not has_next and address > (start | (_PAGE - 1)) + _PAGE:
            return None
        return KernelSymbol(_text(line[width + 3 :].partition(b"\t")[0]), address - start, owner)

    def _find(self, name: str, module: str | None) -> int | None:
        found: int | None = None
        for address, letter, owner in self._named(name):
            if module is None or owner == module:
                if letter in "tT":
                    return address
                if found is None:
                    found = address
        return found

    def _named(self, name: str) -> Iterator[tuple[int, str, str]]:
        """(address, type letter, module) of every symbol of that name, in the file's order."""
        encoded = name.encode("utf-8", "surrogateescape")
        if not name or b"\n" in encoded or b"\t" in encoded:
            return
        data = self._data
        width = self._width
        needle = b" " + encoded
        position = data.find(needle)
        while position >= 0:
            end = position + len(needle)
            if end == len(data) or data[end] in b"\n\t":
                start = data.rfind(b"\n", 0, position) + 1
                # The name is the third word; a match elsewhere is the start of nothing.
                if start + width + 2 == position:
                    line_end = data.find(b"\n", end)
                    line = data[start : line_end if line_end >= 0 else len(data)]
                    yield _address(line, width), chr(data[position - 1]), _module(line)
            position = data.find(needle, end)


def _is_symbol_line(line: bytes, width: int) -> bool:
    return width >= 8 and len(line) > width + 3 and line[width] == 0x20 == line[width + 2]


def _address(line: bytes, width: int) -> int:
    try:
        return int(line[:width], 16)
    except ValueError:
        raise FormatError(f"kallsyms: no address in {line[:60]!r}") from None


def _module(line: bytes) -> str:
    _, separator, module = line.partition(b"\t")
    return _text(module.strip(b"[]\t ")) if separator else ""


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
