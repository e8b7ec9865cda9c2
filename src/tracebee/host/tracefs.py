"""Tracepoints as tracefs lists and describes them.

tracefs need not be mounted anywhere: a `TraceFs` works from a path or from the descriptor of a directory,
such as a detached mount made by fsmount(2).  The shape of a format file is that of f_show() in the kernel's
kernel/trace/trace_events.c::

    name: sched_switch
    ID: 316
    format:
        field:unsigned short common_type; offset:0; size:2; signed:0;

        field:char prev_comm[16]; offset:8; size:16; signed:0;

    print fmt: "prev_comm=%s", REC->prev_comm
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_RECORD = 1 << 20
"""A record fits a page of the ring buffer, which is 64 KiB at most; beyond this a format is nonsense."""

_MAX_TEXT = 1 << 24


class TracepointField(Frozen):
    """One field of a record: `offset` and `size` are bytes from the start of the record.

    `c_type` is the type of one element as C writes it, such as ``const char *``.  An array has its number of
    elements in `count` (the product, if it has several dimensions); `count` is 0 for a plain value and for an
    array without a fixed length, which `is_array` tells apart.

    `data_loc` is "" for a value in place.  For "data_loc" and "rel_loc" the field is a u32 that says where
    the data is: its length in the upper 16 bits, and in the lower 16 the offset from the start of the record
    or from the end of this field.

    `is_common` marks the fields that every record starts with.
    """

    name: str
    c_type: str
    offset: int
    size: int
    signed: bool
    is_common: bool = False
    count: int = 0
    is_array: bool = False
    data_loc: str = ""

    @property
    def element_size(self) -> int:
        """Bytes of one element of a fixed array, and of the value otherwise."""
        return self.size // self.count if self.count else self.size


class TracepointFormat(Frozen):
    """The record of one tracepoint; `id` is what perf_event_attr.config takes."""

    name: str
    id: int
    fields: tuple[TracepointField, ...]

    @property
    def arguments(self) -> tuple[TracepointField, ...]:
        """The fields that this tracepoint has of its own."""
        return tuple(field for field in self.fields if not field.is_common)

    def find_field(self, name: str) -> TracepointField | None:
        for field in self.fields:
            if field.name == name:
                return field
        return None


class TraceFs:
    """A mounted tracefs, by path or by the descriptor of its root, which stays the caller's to close.

    OSError is raised as it comes when a file is missing or may not be read.
    """

    __slots__ = ("_root",)

    def __init__(self, root: str | int = "/sys/kernel/tracing") -> None:
        self._root = root

    def categories(self) -> list[str]:
        """Names of the groups of events, sorted."""
        return self._directories("events")

    def events(self) -> Iterator[tuple[str, str]]:
        """(category, name) of every event that can be enabled, in the kernel's order.

        The pseudo events of category ftrace, which only describe records, are not among them.
        """
        for line in self.read_text("available_events").splitlines():
            category, separator, name = line.strip().partition(":")
            if separator:
                yield category, name

    def events_of(self, category: str) -> list[str]:
        """Names of the events of one category, sorted; empty if there is no such category."""
        try:
            return self._directories(f"events/{_component(category)}")
        except (FileNotFoundError, NotADirectoryError):
            return []

    def has_event(self, category: str, name: str) -> bool:
        try:
            path = f"events/{_component(category)}/{_component(name)}/format"
            if isinstance(self._root, int):
                os.stat(path, dir_fd=self._root)
            else:
                os.stat(os.path.join(self._root, path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def event_id(self, category: str, name: str) -> int:
        text = self.read_text(f"events/{_component(category)}/{_component(name)}/id")
        try:
            return int(text)
        except ValueError:
            raise FormatError(f"the id of tracepoint {category}:{name} is {text[:40]!r}") from None

    def format_text(self, category: str, name: str) -> str:
        return self.read_text(f"events/{_component(category)}/{_component(name)}/format")

    def format(self, category: str, name: str) -> TracepointFormat:
        return parse_format(self.format_text(category, name))

    def read_text(self, path: str) -> str:
        """Content of a file, by its path from the root of tracefs."""
        fd = self._open(path, os.O_RDONLY)
        with open(fd, "rb") as stream:
            return stream.read(_MAX_TEXT).decode("utf-8", "replace")

    def _open(self, path: str, flags: int) -> int:
        flags |= os.O_CLOEXEC
        if isinstance(self._root, int):
            return os.open(path, flags, dir_fd=self._root)
        return os.open(os.path.join(self._root, path), flags)

    def _directories(self, path: str) -> list[str]:
        # The root may be an O_PATH descriptor, from which only openat(2) works.
        fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        finally:
            os.close(fd)


def _component(name: str) -> str:
    """`name`, if a directory entry can be called so: scripts name tracepoints, and may not leave tracefs."""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise FileNotFoundError(2, os.strerror(2), name)
    return name


def parse_format(text: str) -> TracepointFormat:
    """The content of a format file; FormatError if it is not one."""
    name = ""
    event_id = -1
    fields: list[TracepointField] = []
    in_fields = False
    # The kernel ends the common fields by an empty line; nothing else marks them.
    is_common = True
    for line in text.split("\n"):
        line = line.strip()
        if line.startswith("field"):
            if not in_fields:
                raise FormatError("tracepoint format: a field before 'format:'")
            fields.append(_parse_field(line, is_common))
        elif not line:
            is_common = is_common and not fields
        elif line.startswith("name:"):
            name = line[5:].strip()
        elif line.startswith("ID:"):
            event_id = _number(line[3:], "ID")
        elif line == "format:":
            in_fields = True
        elif line.startswith("print fmt:"):
            break
        else:
            raise FormatError(f"tracepoint format: unknown line {line[:60]!r}")
    if not name or event_id < 0 or not in_fields:
        raise FormatError("tracepoint format: no 'name:', 'ID:' or 'format:'")
    return TracepointFormat(name, event_id, tuple(fields))


def _parse_field(line: str, is_common: bool) -> TracepointField:
    # "field special:" is how kernels before 3.x marked fields without a C type.
    kind, _, rest = line.partition(":")
    parts = rest.split(";")
    if kind not in ("field", "field special") or len(parts) < 3:
        raise FormatError(f"tracepoint format: not a field: {line[:60]!r}")
    numbers: dict[str, int] = {}
    for part in parts[1:]:
        key, separator, value = part.partition(":")
        if separator:
            numbers[key.strip()] = _number(value, key.strip())
    offset = numbers.get("offset", -1)
    size = numbers.get("size", -1)
    if offset < 0 or size < 0 or offset + size > _MAX_RECORD:
        raise FormatError(f"tracepoint format: no sensible offset and size in {line[:60]!r}")
    return make_field(parts[0], offset, size, bool(numbers.get("signed", 0)), is_common)


def make_field(
    declaration: str, offset: int, size: int, signed: bool, is_common: bool = False
) -> TracepointField:
    """A field from its declaration in C and its place in the record, in bytes; FormatError for nonsense."""
    name, c_type, dimensions, data_loc = parse_declaration(declaration)
    count = 0 if data_loc else _count(dimensions, c_type, size)
    if count > size:
        raise FormatError(f"tracepoint format: more elements than bytes in {declaration[:60]!r}")
    return TracepointField(name, c_type, offset, size, signed, is_common, count, bool(dimensions), data_loc)


def _count(dimensions: tuple[str, ...], c_type: str, size: int) -> int:
    """The number of elements of an array of `size` bytes; 0 for none, and where it cannot be known."""
    if not dimensions:
        return 0
    count = 1
    for dimension in dimensions:
        count *= int(dimension) if dimension.isascii() and dimension.isdigit() and len(dimension) < 8 else 0
    if not count and c_type in ("char", "unsigned char", "signed char", "u8", "__u8", "s8"):
        # Old kernels show the name of a constant; of characters there are as many as there are bytes.
        return size
    return count


def parse_declaration(text: str) -> tuple[str, str, tuple[str, ...], str]:
    """A C declaration as format files have it → (name, type, array dimensions, data_loc kind).

    ``const char * filename``, ``u32 arr[3][2]``, ``__data_loc char[] name``, ``void (*fn)(int)``.  Dimensions
    are text: a number, nothing, or the name of a constant.
    """
    text = text.strip()
    data_loc = ""
    for prefix in ("__data_loc", "__rel_loc"):
        if text.startswith((prefix + " ", prefix + "\t")):
            data_loc = prefix[2:]
            text = text[len(prefix) :].lstrip()
    opening = text.find("(*")
    if opening >= 0:
        closing = text.find(")", opening)
        name = text[opening + 2 : closing].strip() if closing > 0 else ""
        if not _is_identifier(name):
            raise FormatError(f"tracepoint format: no name in {text[:60]!r}")
        return name, f"{text[:opening]}(*){text[closing + 1 :]}", (), data_loc
    dimensions: list[str] = []
    while text.endswith("]"):
        opening = text.rfind("[")
        if opening < 0:
            raise FormatError(f"tracepoint format: unbalanced brackets in {text[:60]!r}")
        dimensions.insert(0, text[opening + 1 : -1].strip())
        text = text[:opening].rstrip()
    start = len(text)
    while start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    name = text[start:]
    c_type = text[:start].rstrip()
    # The brackets may stand with the type: "char[] name".
    while c_type.endswith("]"):
        opening = c_type.rfind("[")
        if opening < 0:
            raise FormatError(f"tracepoint format: unbalanced brackets in {text[:60]!r}")
        dimensions.insert(0, c_type[opening + 1 : -1].strip())
        c_type = c_type[:opening].rstrip()
    if not _is_identifier(name) or not c_type:
        raise FormatError(f"tracepoint format: no type and name in {text[:60]!r}")
    return name, c_type, tuple(dimensions), data_loc


def _is_identifier(name: str) -> bool:
    return name.isascii() and name.replace("_", "a").isalnum()


def _number(text: str, what: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise FormatError(f"tracepoint format: {what} is {text[:20]!r}")
    return int(text)
