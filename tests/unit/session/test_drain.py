"""Records out of a ring's bytes: their order, runs of equal ones, and bytes that are no records."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tracebee.errors import FormatError
from tracebee.kernel.ring import BUSY, DISCARDED
from tracebee.session.decode import Decoder
from tracebee.session.drain import SHORTEST_RUN, Drain, Reader, equal_records
from tracebee.session.names import Names
from tracebee.spec.events import Event, Layout, PrintValue, Slot
from tracebee.spec.objects import Schema
from tracebee.spec.types import INT32, INT64, UINT32, Array, Buffer, Str, Tuple


def record(payload: bytes, flags: int = 0) -> bytes:
    """A record as the kernel lays it out: length and flags, an offset that is not for us, a padded payload."""
    return struct.pack("=II", len(payload) | flags, 0xAAAA) + payload.ljust(
        (len(payload) + 7) // 8 * 8, b"\xee"
    )


def make_reader(number: int, layout: Layout, trailer: str = "..") -> Reader:
    decoder = Decoder(Names(Schema(), lambda stack_id: None), trailer)
    return Reader(Event(number, PrintValue(), layout), decoder)


NUMBER = Layout((Slot(INT64, 8),), 16)
PAIR = Layout((Slot(INT32, 4), Slot(Str(8), 8)), 16)
TEXT = Layout((Slot(UINT32, 4), Slot(Str(16), 8, dynamic=True), Slot(Str(16), 12, dynamic=True)), 16)


def number(value: int, event: int = 0) -> bytes:
    return struct.pack("=I4xq", event, value)


def pair(value: int, text: bytes, event: int = 1) -> bytes:
    return struct.pack("=Ii8s", event, value, text)


def text(value: int, one: bytes, two: bytes, event: int = 2) -> bytes:
    return struct.pack("=IIII", event, value, len(one), len(two)) + one + two


class Log:
    """A drain over three events that notes what it was given, and how."""

    def __init__(self, runs: bool = True) -> None:
        self.seen: list[tuple[int, tuple[Any, ...]]] = []
        self.how: list[str] = []
        self.readers = [make_reader(index, layout) for index, layout in enumerate((NUMBER, PAIR, TEXT))]
        self.drain = Drain(self.readers)
        for index, reader in enumerate(self.readers):
            self._listen(index, reader, runs)

    def _listen(self, index: int, reader: Reader, runs: bool) -> None:
        def handle(values: tuple[Any, ...]) -> None:
            self.how.append("one")
            self.seen.append((index, values))

        def lines(rows: Any) -> None:
            found = [(index, row) for row in rows]
            self.how.append(f"{len(found)}")
            self.seen += found

        reader.handle = handle
        if runs:
            reader.lines = lines

    def take(self, data: bytes, start: int = 0, end: int | None = None) -> int:
        view = memoryview(data)
        return self.drain.take(view, view.cast("I"), start, len(data) if end is None else end)


# ---------------------------------------------------------------------- order and values


@pytest.mark.parametrize("runs", [True, False])
def test_records_come_in_their_order(runs: bool) -> None:
    log = Log(runs)
    data = (
        record(number(1))
        + record(pair(2, b"ab\0\0\0\0\0\0"))
        + record(text(3, b"xyz", b""))
        + record(number(-4))
        + record(text(5, b"", b"q" * 16))
    )
    assert log.take(data) == len(data)
    assert log.seen == [
        (0, (1,)),
        (1, (2, "ab")),
        (2, (3, "xyz", "")),
        (0, (-4,)),
        (2, (5, "", "q" * 16 + "..")),
    ]


def test_a_run_of_equal_records_is_decoded_at_once() -> None:
    log = Log()
    data = b"".join(record(pair(value, b"comm")) for value in range(1000))
    assert log.take(data) == len(data)
    assert log.how == ["1000"]
    assert log.seen == [(1, (value, "comm")) for value in range(1000)]


def test_runs_and_single_records_give_the_same() -> None:
    parts = []
    for value in range(200):
        parts += [record(number(value))] * (value % 13) + [record(pair(value, b"x"))] * (value % 3)
        parts += [record(number(9), DISCARDED)] * (value % 5 == 0)
    data = b"".join(parts)
    fast, slow = Log(True), Log(False)
    assert fast.take(data) == slow.take(data) == len(data)
    assert fast.seen == slow.seen
    assert len(fast.how) < len(slow.how)


@pytest.mark.parametrize("count", [1, SHORTEST_RUN - 1, SHORTEST_RUN, 63, 64, 65, 64 + 256, 1000])
def test_length_of_a_run(count: int) -> None:
    data = b"".join(record(number(value)) for value in range(count)) + record(pair(0, b""))
    log = Log()
    assert log.take(data) == len(data)
    assert log.how == ([str(count)] if count >= SHORTEST_RUN else ["one"] * count) + ["one"]


@pytest.mark.parametrize("flag", [BUSY, DISCARDED])
@pytest.mark.parametrize("place", [0, 5, 63, 64, 99])
def test_a_flag_ends_a_run(flag: int, place: int) -> None:
    records = [record(number(value), flag if value == place else 0) for value in range(100)]
    view = memoryview(b"".join(records))
    assert equal_records(view.cast("I"), 0, 100, 24, 16, 0) == place


def test_values_of_no_bytes_keep_their_place() -> None:
    empty = Layout((Slot(Tuple(()), 4), Slot(INT32, 4), Slot(Array(INT32, 0), 8)), 8)
    reader = make_reader(0, empty)
    seen: list[tuple[Any, ...]] = []
    reader.handle = seen.append
    reader.lines = seen.extend
    data = record(struct.pack("=Ii", 0, 7)) * 20
    view = memoryview(data)
    assert Drain([reader]).take(view, view.cast("I"), 0, len(data)) == len(data)
    assert seen == [((), 7, [])] * 20


# ---------------------------------------------------------------------- busy, discarded, stopped


def test_a_busy_record_holds_back_what_follows() -> None:
    log = Log()
    first = record(number(1))
    data = first + record(number(2), BUSY) + record(number(3))
    assert log.take(data) == len(first)
    assert log.seen == [(0, (1,))]


def test_discarded_records_are_passed_over() -> None:
    log = Log()
    data = record(b"junk", DISCARDED) + record(number(1)) + record(b"", DISCARDED) + record(number(2))
    assert log.take(data) == len(data)
    assert log.seen == [(0, (1,)), (0, (2,))]


def stop_at(log: Log, wanted: int) -> None:
    def handle(values: tuple[Any, ...]) -> None:
        log.seen.append((0, values))
        if values[0] == wanted:
            log.drain.stopped = True

    log.readers[0].lines = None
    log.readers[0].handle = handle


def test_nothing_is_handled_once_it_was_stopped() -> None:
    log = Log()
    stop_at(log, 2)
    data = b"".join(record(number(value)) for value in range(10))
    assert log.take(data) == len(data)
    assert log.seen == [(0, (0,)), (0, (1,)), (0, (2,))]
    # What comes later is thrown away too.
    assert log.take(data) == len(data)
    assert len(log.seen) == 3
    # Until a new stretch begins.
    log.drain.stopped = False
    log.take(record(number(7)))
    assert log.seen[-1] == (0, (7,))


def test_what_is_thrown_away_may_be_busy() -> None:
    log = Log()
    stop_at(log, 0)
    first = record(number(0)) + record(number(1)) + record(number(1), DISCARDED)
    data = first + record(number(2), BUSY)
    assert log.take(data) == len(first)


def test_iterators_go_on_behind_exit() -> None:
    log = Log()
    stop_at(log, 0)
    log.drain.goes_on = True
    data = record(number(0)) + record(number(1))
    assert log.take(data) == len(data)
    assert log.seen == [(0, (0,)), (0, (1,))]


# ---------------------------------------------------------------------- bad bytes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (record(number(0, event=3)), "unknown event 3"),
        (record(number(0, event=2**32 - 1)), "unknown event"),
        (record(number(1)[:12]), "too short"),
        (record(b"\0\0\0\0"), "too short"),
        (record(b"\0\0"), "does not fit"),
        (record(b""), "does not fit"),
        (struct.pack("=II", 1000, 0) + bytes(16), "does not fit"),
        (struct.pack("=II", 1000 | DISCARDED, 0) + bytes(16), "does not fit"),
        (record(struct.pack("=IIII", 2, 1, 1, 0)), "too long"),
        (record(struct.pack("=IIII", 2, 1, 0, 2**32 - 1) + b"abc"), "too long"),
        (record(text(1, b"abc", b"")[:-1]), "too long"),
    ],
)
def test_bad_records(data: bytes, message: str) -> None:
    # A good record in front: the place in the message counts from the start.
    with pytest.raises(FormatError, match=message):
        Log().take(record(number(1)) + data)


def test_longer_records_than_their_event_are_no_run() -> None:
    """Their headers do not stand where those of a run would."""
    log = Log()
    data = b"".join(record(number(value) + bytes(8)) for value in range(20))
    assert log.take(data) == len(data)
    assert log.seen == [(0, (value,)) for value in range(20)]


def test_a_part_of_the_data() -> None:
    log = Log()
    one = record(number(1))
    data = b"\xff" * len(one) + one * 20 + b"\xff" * 64
    assert log.take(data, len(one), 21 * len(one)) == 21 * len(one)
    assert len(log.seen) == 20


def test_only_texts_that_fill_their_bytes_were_cut() -> None:
    layout = Layout((Slot(Str(4), 4, dynamic=True), Slot(Str(4), 8, dynamic=True)), 12)
    reader = make_reader(0, layout)
    data = memoryview(struct.pack("=III", 0, 3, 4) + b"abcdefg")
    assert reader.read(data, 0, len(data)) == ("abc", "defg..")


def test_buffers() -> None:
    varying = make_reader(0, Layout((Slot(Buffer(4), 4, dynamic=True), Slot(Buffer(4), 8, dynamic=True)), 12))
    data = memoryview(struct.pack("=III", 0, 3, 4) + b"a\0\xffdefg")
    assert varying.read(data, 0, len(data)) == (b"a\0\xff", b"defg")
    reader = make_reader(0, Layout((Slot(Buffer(8), 4),), 16))
    data = memoryview(struct.pack("=II8s", 0, 3, b"\x00\x01\xff junk"))
    assert reader.read(data, 0, 16) == (b"\x00\x01\xff",)
