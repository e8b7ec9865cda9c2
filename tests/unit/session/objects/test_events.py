"""tracebee.session.objects.events: streams over a made-up buffer."""

from __future__ import annotations

import asyncio
import os
import struct
from pathlib import Path

import pytest

from tracebee.btf.reader import Btf
from tracebee.object import ObjectFile
from tracebee.session.objects.events import EventStream, Lost, event_codec

OBJECTS = Path(__file__).parents[3] / "data/objects"


class MadeUp:
    """A buffer whose records a test puts in."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.fds = (self.reader,)
        self.waiting: list[bytes] = []
        self.lost = 0
        self.settled = 0
        self.is_open = True

    def put(self, *records: bytes, lost: int = 0) -> None:
        self.waiting += records
        self.lost += lost
        os.write(self.writer, b"x")

    def read(self) -> tuple[list[bytes], int]:
        if self.waiting or self.lost:
            os.read(self.reader, 100)
        found, self.waiting = self.waiting, []
        lost, self.lost = self.lost, 0
        return found, lost

    def settle(self) -> None:
        self.settled += 1

    def close(self) -> None:
        self.is_open = False
        os.close(self.reader)
        os.close(self.writer)


class Ending:
    """Whether the target has ended: says so when it was asked `rounds` times."""

    def __init__(self, rounds: int = -1) -> None:
        self.rounds = rounds

    def __call__(self) -> bool:
        self.rounds -= 1
        return self.rounds == -1


def stream(
    source: MadeUp, *, typed: bool = False, timeout: float | None = None, rounds: int = -1
) -> EventStream:
    file = ObjectFile((OBJECTS / "watch.bpf.o").read_bytes())
    codec = event_codec(Btf.from_bytes(file.settled_btf), "opened") if typed else None
    return EventStream("buffer", source, codec, "opened" * typed, timeout, -1, Ending(rounds))


def test_records_without_a_type_are_bytes() -> None:
    source = MadeUp()
    with stream(source) as events:
        source.put(b"one", b"two")
        assert events.poll() == [b"one", b"two"]
        assert events.poll() == []
    assert not source.is_open
    events.close()
    assert list(events) == []


def test_losses_are_values_in_their_place() -> None:
    source = MadeUp()
    with stream(source, rounds=1) as events:
        source.put(b"one", lost=3)
        assert list(events) == [Lost(3), b"one"]
        assert events.lost == 3


def test_a_short_record_is_filled_up() -> None:
    source = MadeUp()
    with stream(source, typed=True) as events:
        source.put(struct.pack("<II5s", 7, 1, b"/etc"))
        (event,) = events.poll()
    assert (event.pid, event.count, event.path) == (7, 1, "/etc")


def test_what_comes_last_is_there_when_the_target_has_ended() -> None:
    """The end is seen first, then all is read that was written before."""
    source = MadeUp()
    with stream(source, rounds=0) as events:
        source.put(b"last")
        assert list(events) == [b"last"]
        assert source.settled == 1


def test_time_runs_out() -> None:
    source = MadeUp()
    with stream(source, timeout=0.0) as events:
        source.put(b"there")
        assert list(events) == [b"there"]


def test_an_event_loop_gets_the_same() -> None:
    source = MadeUp()

    async def read() -> list[object]:
        with stream(source, rounds=2) as events:
            asyncio.get_running_loop().call_soon(source.put, b"one")
            return [event async for event in events]

    assert asyncio.run(read()) == [b"one"]


def test_cancelling_leaves_the_stream_usable() -> None:
    source = MadeUp()

    async def read() -> list[object]:
        with stream(source) as events:

            async def forever() -> None:
                async for _ in events:
                    pass

            task = asyncio.ensure_future(forever())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            source.put(b"later")
            return events.poll()

    assert asyncio.run(read()) == [b"later"]


def test_arrow_has_a_column_for_each_member() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    source = MadeUp()
    with stream(source, typed=True, rounds=1) as events:
        source.put(struct.pack("<II56s", 7, 1, b"/etc"), struct.pack("<II56s", 8, 2, b"\xff"), lost=2)
        table = events.to_arrow()
    assert table.schema.field("pid").type == pyarrow.uint32()
    assert table.column("pid").to_pylist() == [7, 8]
    assert table.column("path").to_pylist()[0] == "/etc"
    assert table.schema.metadata[b"lost"] == b"2"


def test_arrow_without_types_and_without_events() -> None:
    pytest.importorskip("pyarrow")
    for typed in (False, True):
        source = MadeUp()
        with stream(source, typed=typed, rounds=0) as events:
            table = events.to_arrow()
        assert table.num_rows == 0
        assert table.column_names == (["pid", "count", "path"] if typed else ["value"])
