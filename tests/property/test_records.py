"""Laws of the record decoder: what is packed is what is read, and bad bytes end in a FormatError."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.errors import FormatError
from tracebee.kernel.ring import BUSY, DISCARDED
from tracebee.session.aggregate import merger
from tracebee.session.decode import Decoder
from tracebee.session.drain import Drain, Reader
from tracebee.session.maps import encode
from tracebee.session.names import Names
from tracebee.spec.events import Event, Layout, PrintValue, Slot
from tracebee.spec.objects import Schema
from tracebee.spec.types import (
    Array,
    Average,
    Bool,
    Buffer,
    Count,
    Enum,
    Extreme,
    Hist,
    Inet,
    Int,
    LHist,
    MacAddr,
    Named,
    Pointer,
    Record,
    Stack,
    Str,
    Sum,
    Timestamp,
    TSeries,
    Tuple,
    Type,
    Void,
    align_up,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TRAILER = ".."

# ---------------------------------------------------------------------- types, and values that fit them

numbers = st.builds(Int, st.sampled_from((1, 2, 4, 8)), st.booleans())
leaves = st.one_of(
    numbers,
    st.just(Bool()),
    st.builds(Enum, st.just("e"), st.sampled_from((1, 4, 8)), st.booleans(), st.just(())),
    st.just(Pointer(Void())),
    st.builds(Str, st.integers(1, 40)),
    st.builds(Buffer, st.integers(0, 40)),
)


def larger(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    elements = st.lists(inner, max_size=4).map(tuple)
    return st.one_of(
        st.builds(Array, inner, st.integers(0, 3)),
        st.builds(Tuple, elements),
        elements.map(lambda found: Record(tuple(f"m{i}" for i in range(len(found))), found)),
    )


types = st.recursive(leaves, larger, max_leaves=6)


def values(type_: Type) -> st.SearchStrategy[Any]:
    """Python values of a type, as tracebee.spec.values describes them."""
    match type_:
        case Int():
            return st.integers(type_.minimum, type_.maximum)
        case Enum(_, width, signed):
            return values(Int(width, signed))
        case Bool():
            return st.booleans()
        case Pointer():
            return st.integers(0, 2**64 - 1)
        case Str(capacity):
            return texts(capacity - 1)
        case Buffer(capacity):
            return st.binary(max_size=capacity)
        case Array(element, count):
            return st.lists(values(element), min_size=count, max_size=count)
        case Tuple(elements):
            return st.tuples(*map(values, elements))
        case Record(names, elements):
            return st.fixed_dictionaries(dict(zip(names, map(values, elements), strict=True)))
    raise AssertionError(type_)


def texts(most: int) -> st.SearchStrategy[str]:
    """Whatever bytes without NUL decode to."""
    data = st.lists(st.integers(1, 255), max_size=most).map(bytes)
    return data.map(lambda found: found.decode("utf-8", "surrogateescape"))


def pack(type_: Type, value: Any, junk: bytes) -> bytes:
    """The bytes of a value by struct and hand, not by the code under test; padding is `junk`."""
    filler = (junk * (type_.size // len(junk) + 1))[: type_.size]
    match type_:
        case Int() | Enum():
            letter = {1: "b", 2: "h", 4: "i", 8: "q"}[type_.size]
            return struct.pack("=" + (letter if type_.signed else letter.upper()), value)
        case Bool():
            return struct.pack("=?", value)
        case Pointer():
            return struct.pack("=Q", value)
        case Str(capacity):
            text: bytes = value.encode("utf-8", "surrogateescape") + b"\0"
            return text + filler[len(text) : capacity]
        case Buffer():
            data: bytes = struct.pack("=I", len(value)) + value
            return data + filler[len(data) :]
        case Array(element):
            return b"".join(pack(element, part, junk) for part in value)
        case Tuple() | Record():
            parts = value if isinstance(type_, Tuple) else [value[name] for name in type_.names]
            area = bytearray(filler)
            for element, offset, part in zip(type_.elements, type_.offsets, parts, strict=True):
                area[offset : offset + element.size] = pack(element, part, junk)
            return bytes(area)
    raise AssertionError(type_)


# ---------------------------------------------------------------------- schemas, and records of them


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """As a compiler would lay values out: aligned, after the u32 id; some texts are dynamic."""
    slots = []
    offset = 4
    for type_ in draw(st.lists(types, max_size=5)):
        dynamic = isinstance(type_, Str | Buffer) and draw(st.booleans())
        offset = align_up(offset, 4 if dynamic else type_.align)
        slots.append(Slot(type_, offset, dynamic))
        offset += 4 if dynamic else type_.size
    return Layout(tuple(slots), align_up(offset, 8))


def pack_record(event: Event, row: tuple[Any, ...], junk: bytes) -> bytes:
    layout = event.layout
    area = bytearray((junk * (layout.size // len(junk) + 1))[: layout.size])
    area[:4] = struct.pack("=I", event.id)
    tail = b""
    for slot, value in zip(layout.slots, row, strict=True):
        if slot.dynamic:
            data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
            area[slot.offset : slot.offset + 4] = struct.pack("=I", len(data))
            tail += data
        else:
            area[slot.offset : slot.offset + slot.type.size] = pack(slot.type, value, junk)
    return bytes(area) + tail


def framed(payload: bytes, flags: int = 0) -> bytes:
    return struct.pack("=II", len(payload) | flags, 7) + payload.ljust(align_up(len(payload), 8), b"\xa5")


def drain_of(events: list[Event], runs: bool) -> tuple[Drain, list[tuple[int, tuple[Any, ...]]]]:
    """A drain that notes what it reads."""
    seen: list[tuple[int, tuple[Any, ...]]] = []
    decoder = Decoder(Names(Schema(), lambda stack_id: None), TRAILER)
    readers = [Reader(event, decoder) for event in events]

    def listen(reader: Reader) -> None:
        number = reader.event.id
        reader.handle = lambda row: seen.append((number, row))
        if runs:
            reader.lines = lambda rows: seen.extend((number, row) for row in rows)

    for reader in readers:
        listen(reader)
    return Drain(readers), seen


def take(drain: Drain, data: bytes) -> int:
    view = memoryview(data)
    return drain.take(view, view.cast("I"), 0, len(data))


junks = st.binary(min_size=1, max_size=7)


@given(st.data(), st.lists(layouts(), min_size=1, max_size=3), junks)
@settings(max_examples=150, deadline=None)
def test_what_is_packed_is_what_is_read(data: st.DataObject, found: list[Layout], junk: bytes) -> None:
    events = [Event(number, PrintValue(), layout) for number, layout in enumerate(found)]
    wanted: list[tuple[int, tuple[Any, ...]]] = []
    stream = b""
    for _ in range(data.draw(st.integers(0, 4))):
        event = data.draw(st.sampled_from(events))
        row = data.draw(st.tuples(*(values(slot.type) for slot in event.layout.slots)))
        repeats = data.draw(st.sampled_from((1, 1, 7, 9, 80)))
        record = framed(pack_record(event, row, junk))
        stream += record * repeats + framed(b"gone", DISCARDED) * data.draw(st.integers(0, 1))
        wanted += [(event.id, row)] * repeats
    for runs in (True, False):
        drain, seen = drain_of(events, runs)
        assert take(drain, stream) == len(stream)
        assert seen == wanted


@given(st.data(), types, junks)
@settings(max_examples=150, deadline=None)
def test_a_value_that_is_set_is_read_back(data: st.DataObject, type_: Type, junk: bytes) -> None:
    value = data.draw(values(type_))
    read = Decoder(Names(Schema(), lambda stack_id: None), TRAILER).function(type_)
    assert read(encode(type_, value, "a value")) == value
    assert read(pack(type_, value, junk)) == value
    assert len(encode(type_, value, "a value")) == type_.size


# ---------------------------------------------------------------------- arbitrary bytes

odd = st.one_of(
    types,
    st.just(Inet()),
    st.just(MacAddr()),
    st.just(Timestamp()),
    st.builds(Named, st.sampled_from(("strerror", "signal", "syscall", "probe"))),
    st.builds(Stack, st.just(False), st.just("bpftrace"), st.just(127)),
)


class Nobody:
    """A symbol table that knows nothing."""

    def resolve(self, address: int) -> None:
        return None


class Blank(Names):
    """Names of a script without formats and probes, whose stacks are all of two frames."""

    def __init__(self) -> None:
        super().__init__(Schema(), lambda stack_id: bytes(16))

    kernel = Nobody()  # type: ignore[assignment]


@given(st.data(), odd)
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_value_or_a_format_error(data: st.DataObject, type_: Type) -> None:
    bytes_ = data.draw(st.binary(min_size=type_.size, max_size=type_.size))
    try:
        Decoder(Blank(), TRAILER).function(type_)(bytes_)
    except FormatError:
        pass


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Bytes that look like records enough to get past the first check."""
    parts: list[bytes] = []
    for _ in range(draw(st.integers(1, 12))):
        length = draw(st.one_of(st.integers(0, 64), st.integers(0, 2**30 - 1)))
        flags = draw(st.sampled_from((0, 0, 0, DISCARDED, BUSY)))
        event = draw(st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)))
        body = struct.pack("=I", event) + draw(st.binary(max_size=60))
        parts.append(struct.pack("=II", length | flags, 0) + body.ljust(align_up(len(body), 8), b"\0"))
        if draw(st.booleans()):
            parts *= 2
            if len(parts) > 200:
                break
    return b"".join(parts)


@given(st.lists(layouts(), max_size=3), st.one_of(streams(), st.binary(max_size=40).map(lambda b: b * 8)))
@settings(max_examples=200, deadline=None)
def test_any_stream_is_records_or_a_format_error(found: list[Layout], stream: bytes) -> None:
    events = [Event(number, PrintValue(), layout) for number, layout in enumerate(found)]
    for runs in (True, False):
        drain, _ = drain_of(events, runs)
        try:
            stopped = take(drain, stream)
        except FormatError:
            continue
        # It stands at the end, or before a record that is not there yet.
        assert 0 <= stopped <= len(stream)
        if stopped < len(stream):
            assert struct.unpack_from("=I", stream, stopped)[0] & BUSY


@given(streams())
@settings(max_examples=100, deadline=None)
def test_what_is_thrown_away_stays_within_the_data(stream: bytes) -> None:
    drain, seen = drain_of([], False)
    drain.stopped = True
    assert 0 <= take(drain, stream) <= len(stream)
    assert seen == []


AGGREGATIONS = (
    Count(),
    *(Sum(signed) for signed in (False, True)),
    *(Extreme(largest, signed) for largest in (False, True) for signed in (False, True)),
    *(Average(signed, full) for signed in (False, True) for full in (False, True)),
    Hist(0),
    LHist(-10, 10, 5),
    *(TSeries(10**9, 4, function, True) for function in ("last", "avg", "max", "min", "sum")),
)


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@given(st.data(), st.sampled_from(AGGREGATIONS))
@settings(max_examples=150, deadline=None)
def test_any_bytes_of_an_aggregation_are_a_value(data: st.DataObject, type_: Any) -> None:
    merge = merger(type_)
    assert merge is not None
    cpus = data.draw(st.integers(1, 4))
    some = data.draw(st.binary(min_size=8, max_size=96))
    area = (some * (type_.size * cpus // len(some) + 1))[: type_.size * cpus]
    parts = list(chunks(area, type_.size))
    merged = merge(parts)
    # It does not matter which CPU is which, but for two values of "last" at one time.
    if getattr(type_, "function", "") != "last":
        assert merge(parts[::-1]) == merged
