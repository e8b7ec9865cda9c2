"""Function, line and relocation records: the ELF section .BTF.ext, and what BPF_PROG_LOAD takes of it.

An object file has a table per program section, and its records count bytes from the section's start.  The
kernel wants one array per program that counts instructions, and so do the values here: `insn_offset` is in
slots of 8 bytes.  FuncInfo and LineInfo are shaped like those of `tracebee.spec`; the encoders take either.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.reader import MAGIC, MAX_NAME, VERSION, words_of
from tracebee.errors import FormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from tracebee.btf.reader import Btf, ByteOrder

    class FuncRecord(Protocol):
        @property
        def insn_offset(self) -> int: ...
        @property
        def type_id(self) -> int: ...

    class LineRecord(Protocol):
        @property
        def insn_offset(self) -> int: ...
        @property
        def file(self) -> int: ...
        @property
        def text(self) -> int: ...
        @property
        def line(self) -> int: ...
        @property
        def column(self) -> int: ...


FUNC_INFO_SIZE = 8
LINE_INFO_SIZE = 16
CORE_RELO_SIZE = 16

MAX_LINE = (1 << 22) - 1
MAX_COLUMN = (1 << 10) - 1


class FuncInfo(NamedTuple):
    """struct bpf_func_info: the Func `type_id` starts at `insn_offset`."""

    insn_offset: int
    type_id: int


class LineInfo(NamedTuple):
    """struct bpf_line_info: the source of the instructions from `insn_offset` on.

    `file` and `text` are offsets into the string section of the BTF; `line` and `column` count from 1.
    """

    insn_offset: int
    file: int
    text: int
    line: int
    column: int


class CoreRelo(NamedTuple):
    """struct bpf_core_relo: the instruction at `insn_offset` depends on the layout of `type_id`.

    `access` is the path to the field, such as ``0:1:2``, and `kind` a value of enum bpf_core_relo_kind.
    """

    insn_offset: int
    type_id: int
    access: str
    kind: int


class BtfExt(NamedTuple):
    """A .BTF.ext section: records by the name of the program section that they are about."""

    func_info: dict[str, list[FuncInfo]]
    line_info: dict[str, list[LineInfo]]
    core_relos: dict[str, list[CoreRelo]]


def parse_ext(data: bytes | bytearray | memoryview, btf: Btf) -> BtfExt:
    """Reads a .BTF.ext section; `btf` is the .BTF of the same file, which has the strings.

    Records may be longer than those known here; what follows the known fields is ignored.

    Raises FormatError.
    """
    view = memoryview(data).cast("B")
    if len(view) < 24:
        raise FormatError(f".BTF.ext: {len(view)} bytes are too few for a header", 0)
    byteorder: ByteOrder = "little" if view[0] == MAGIC & 0xFF else "big"
    if int.from_bytes(view[:2], byteorder) != MAGIC:
        raise FormatError(f".BTF.ext: wrong magic number {bytes(view[:2]).hex()}", 0)
    if view[2] != VERSION or view[3]:
        raise FormatError(f".BTF.ext: unknown version {view[2]} or flags {view[3]:#x}", 2)
    header_size = int.from_bytes(view[4:8], byteorder)
    if not 24 <= header_size <= len(view):
        raise FormatError(f".BTF.ext: impossible header size {header_size}", 4)
    header = words_of(view[8 : header_size & ~3], byteorder)

    def table(field: int, smallest: int, what: str) -> _Table:
        start, size = header_size + header[field], header[field + 1]
        if start + size > len(view) or size % 4:
            raise FormatError(f".BTF.ext: impossible size of the {what} table", 8 + 4 * field)
        return _Table(words_of(view[start : start + size], byteorder), start, smallest, what, btf)

    functions = table(0, FUNC_INFO_SIZE, "function")
    lines = table(2, LINE_INFO_SIZE, "line")
    func_info: dict[str, list[FuncInfo]] = {}
    for name, rows in functions.sections():
        func_info.setdefault(name, []).extend(map(FuncInfo, functions.slots(rows[0]), rows[1]))
    line_info: dict[str, list[LineInfo]] = {}
    for name, rows in lines.sections():
        places = [place >> 10 for place in rows[3]], [place & MAX_COLUMN for place in rows[3]]
        found = map(LineInfo, lines.slots(rows[0]), rows[1], rows[2], *places)
        line_info.setdefault(name, []).extend(found)
    core_relos: dict[str, list[CoreRelo]] = {}
    if len(header) >= 6:  # older compilers wrote no more than two tables
        relocations = table(4, CORE_RELO_SIZE, "relocation")
        for name, rows in relocations.sections():
            access = [relocations.text(offset) for offset in rows[2]]
            made = map(CoreRelo, relocations.slots(rows[0]), rows[1], access, rows[3])
            core_relos.setdefault(name, []).extend(made)
    return BtfExt(func_info, line_info, core_relos)


def encode_func_info(records: Iterable[FuncRecord]) -> bytes:
    """The array for `func_info` of BPF_PROG_LOAD; its `func_info_rec_size` is FUNC_INFO_SIZE.

    Raises UsageError if a number does not fit.
    """
    values: list[int] = []
    for record in records:
        values += record.insn_offset, record.type_id
    return _u32s(values)


def encode_line_info(records: Iterable[LineRecord]) -> bytes:
    """The array for `line_info` of BPF_PROG_LOAD; its `line_info_rec_size` is LINE_INFO_SIZE.

    A line or column too large for its field (22 and 10 bits) becomes the largest.  Raises UsageError if
    another number does not fit.
    """
    values: list[int] = []
    for record in records:
        place = min(record.line, MAX_LINE) << 10 | min(record.column, MAX_COLUMN)
        values += record.insn_offset, record.file, record.text, place
    return _u32s(values)


def _u32s(values: list[int]) -> bytes:
    try:
        return array("I", values).tobytes()
    except OverflowError as error:
        raise UsageError("a number of a function or line record does not fit 32 bits") from error


class _Table:
    """One of the tables: the size of a record, then per section a name, a count and the records."""

    def __init__(self, words: array[int], start: int, smallest: int, what: str, btf: Btf) -> None:
        self.words = words
        self.start = start  # in the file, for error messages
        self.what = what
        self.btf = btf
        self.stride = words[0] // 4 if words else 0
        self.columns = smallest // 4
        if words and (words[0] < smallest or words[0] % 4):
            raise FormatError(f".BTF.ext: impossible size {words[0]} of a {what} record", start)

    def sections(self) -> list[tuple[str, list[array[int]]]]:
        """The section names, each with the columns of its records."""
        words, stride = self.words, self.stride
        found = []
        at = 1
        while at < len(words):
            first = at + 2
            end = first + stride * words[at + 1] if first <= len(words) else first
            if end > len(words):
                raise FormatError(f".BTF.ext: the {self.what} table is cut short", self.start + 4 * at)
            rows = words[first:end]
            found.append((self.text(words[at]), [rows[column::stride] for column in range(self.columns)]))
            at = end
        return found

    def slots(self, offsets: array[int]) -> list[int]:
        """Byte offsets of instructions as slots."""
        if any(offset % 8 for offset in offsets):
            raise FormatError(f".BTF.ext: a {self.what} record points into an instruction", self.start)
        return [offset // 8 for offset in offsets]

    def text(self, offset: int) -> str:
        try:
            text = self.btf.string(offset)
        except FormatError as error:
            raise FormatError(
                f".BTF.ext: the {self.what} table has a bad string offset", self.start
            ) from error
        if len(text) > MAX_NAME:
            raise FormatError(f".BTF.ext: the {self.what} table has an overlong string", self.start)
        return text
