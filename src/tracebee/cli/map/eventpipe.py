"""``tracebee map event_pipe``: the records that programs send through a perf event array or a ring buffer."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.cli.map.words import open_one
from tracebee.cli.selection import no_more
from tracebee.errors import UsageError
from tracebee.kernel.perfbuffer import PerfBuffer
from tracebee.kernel.ring import BUSY, DISCARDED, HEADER, Ring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.btf.values import ValueCodec
    from tracebee.session.child import Child
    from tracebee.session.objects.maps import Map

USAGE = "MAP [cpu N index N] [-c CMD] [--as TYPE]"


class Wanted(NamedTuple):
    """What the command line says: the command to run, the type of records, and the words that are left."""

    command: str
    type: str
    words: list[str]


def split_wanted(words: Sequence[str]) -> Wanted:
    """Raises UsageError."""
    found = {"-c": "", "--as": ""}
    rest = []
    left = iter(words)
    for word in left:
        if word in found:
            value = next(left, None)
            if value is None:
                raise UsageError(f"{word} wants a word behind it", f"tracebee map event_pipe {USAGE}")
            found[word] = value
        elif word.startswith("--as="):
            found["--as"] = word.removeprefix("--as=")
        else:
            rest.append(word)
    return Wanted(found["-c"], found["--as"], rest)


def run_event_pipe(words: Sequence[str]) -> int:
    """Print records until the command ends, or for ever; the command's exit status.  Raises TracebeeError."""
    wanted = split_wanted(words)
    options, one, rest = open_one(wanted.words)
    codec = find_type(one, wanted.type) if wanted.type else None
    writer = JsonWriter(codec, options.pretty) if options.wants_json else TextWriter(codec)
    source = open_source(one, rest, writer)
    child: Child | None = None
    status = 0
    try:
        if wanted.command:
            from tracebee.session.child import Child

            child = Child(wanted.command)
        writer.begin()
        if child is not None:
            child.release()
        _pump(source, child)
        if child is not None:
            status = child.exit_status()
        source.drain()  # what was sent before the end is told
    finally:
        source.close()
        writer.end()
    return status


def _pump(source: PerfSource | RingSource, child: Child | None) -> None:
    """Print until the command ends, or until Ctrl-C, which comes by a pipe: no record is left half told."""
    interrupted, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGINT, lambda *_: os.write(wake, b"!"))
    poll = select.poll()
    for fd in (*source.fds, interrupted):
        poll.register(fd, select.POLLIN)
    ends = {interrupted}
    if child is not None:
        poll.register(child.pidfd, select.POLLIN)
        ends.add(child.pidfd)
    try:
        while not any(fd in ends for fd, _ in poll.poll()):
            source.drain()
    finally:
        # What is left takes no time, and should not be cut off by a second Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(interrupted)
        os.close(wake)


# --- where they come from


def open_source(one: Map, words: Sequence[str], writer: Writer) -> PerfSource | RingSource:
    """The reader of a map.  Raises UsageError for other kinds of map."""
    if one.type == "RINGBUF":
        no_more(words)
        return RingSource(one, writer)
    if one.type != "PERF_EVENT_ARRAY":
        raise UsageError(
            f"map {one.name!r} of type {one.type} carries no records",
            "event_pipe reads maps of type PERF_EVENT_ARRAY and RINGBUF",
        )
    from tracebee.host.identity import read_cpus

    if not words:
        cpus = [cpu for cpu in read_cpus("online") if cpu < one.max_entries]
        return PerfSource(one, cpus, None, writer)
    numbers = {
        name: number for name, number in zip(words[::2], words[1::2], strict=False) if number.isdigit()
    }
    if set(numbers) != {"cpu", "index"} or len(words) != 4:
        raise UsageError(f"what is {' '.join(words)!r}?", f"tracebee map event_pipe {USAGE}")
    return PerfSource(one, [int(numbers["cpu"])], int(numbers["index"]), writer)


class PerfSource:
    """A perf event array."""

    def __init__(self, one: Map, cpus: Sequence[int], index: int | None, writer: Writer) -> None:
        self.writer = writer
        self.index = index
        self.map = one
        self.buffer = PerfBuffer(one.fd, cpus, index=index)
        self._lost = 0

    @property
    def fds(self) -> Sequence[int]:
        return self.buffer.fds

    def drain(self) -> None:
        self.buffer.drain(self._take)
        if self.buffer.lost > self._lost:
            self.writer.lost(self.buffer.lost - self._lost)
            self._lost = self.buffer.lost

    def _take(self, cpu: int, data: bytes) -> None:
        self.writer.record(self.buffer.time, cpu, cpu if self.index is None else self.index, data)

    def close(self) -> None:
        self.buffer.close()
        self.map.close()


class RingSource:
    """A ring buffer.  It has one reader: what is printed here, its own program does not see."""

    def __init__(self, one: Map, writer: Writer) -> None:
        self.writer = writer
        self.map = one
        self.ring = Ring.open(one.fd, one.max_entries)

    @property
    def fds(self) -> Sequence[int]:
        return (self.ring.fd,)

    def drain(self) -> None:
        found: list[bytes] = []

        def take(data: memoryview, words: memoryview, start: int, end: int, limit: int) -> int:
            while start < end and not words[start >> 2] & BUSY:
                length = words[start >> 2] & ~DISCARDED
                if not words[start >> 2] & DISCARDED:
                    found.append(bytes(data[start + HEADER : start + HEADER + length]))
                start += (length + HEADER + 7) & ~7
            return start

        self.ring.drain(take)
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for data in found:
            self.writer.record(now, None, None, data)

    def close(self) -> None:
        self.ring.close()
        self.map.close()


# --- what they are


def find_type(one: Map, text: str) -> ValueCodec:
    """The type of records: in words of C, or one of the programs that write to the map, or of the kernel.

    Raises UsageError.
    """
    from tracebee.btf.types import Composite, Enumeration, Int, Typedef
    from tracebee.btf.typetext import types_of
    from tracebee.btf.values import value_codec

    name = text.removeprefix("struct ").removeprefix("union ").strip()
    if "{" not in text:
        for btf in _types_nearby(one):
            type_id = btf.find(name, Composite) or btf.find(name, (Typedef, Enumeration, Int))
            if type_id is not None and btf.size_of(type_id):
                return value_codec(btf, type_id, btf.size_of(type_id))
    try:
        made, _, ((type_id, size),) = types_of(text)
    except UsageError as error:
        hint = (
            error.hint if "{" in text else "neither the programs that write to the map nor the kernel have it"
        )
        raise UsageError(
            f"no type {text!r}: {error}" if "{" in text else f"there is no type {text!r}", hint
        ) from None
    return value_codec(made, type_id, size)


def _types_nearby(one: Map) -> Any:
    """BTF of the map, of the programs that use it, and of the kernel."""
    from tracebee.btf.reader import Btf
    from tracebee.errors import TracebeeError
    from tracebee.kernel.ids import walk
    from tracebee.kernel.info import btf_by_id, program_info

    if one.btf is not None:
        yield one.btf
    wanted = one.id
    seen = {one.info.btf_id}
    for _, fd in walk("prog"):
        info = program_info(fd, full_name=False)
        if wanted in info.map_ids and info.btf_id and info.btf_id not in seen:
            seen.add(info.btf_id)
            try:
                yield btf_by_id(info.btf_id)
            except TracebeeError:
                continue
    try:
        yield Btf.from_file("/sys/kernel/btf/vmlinux")
    except TracebeeError:
        return


# --- how they read


class TextWriter:
    """Records as text: a line that says when and where, then the bytes, or the value."""

    def __init__(self, codec: ValueCodec | None) -> None:
        self.codec = codec

    def begin(self) -> None:
        pass

    def record(self, nanoseconds: int, cpu: int | None, index: int | None, data: bytes) -> None:
        place = "" if cpu is None else f" CPU: {cpu} index: {index}"
        print(f"== @{nanoseconds // 10**9}.{nanoseconds % 10**9:09}{place} =====")
        if self.codec is not None and len(data) >= self.codec.size:
            text = self.codec.text(self.codec.decode(data))
            sys.stdout.flush()
            sys.stdout.buffer.write(f"{text}\n".encode("utf-8", "surrogateescape"))
        else:
            for at in range(0, len(data), 16):
                print(
                    data[at : at + 8].hex(" ")
                    + ("  " + data[at + 8 : at + 16].hex(" ") if len(data) > at + 8 else "")
                )
        sys.stdout.flush()

    def lost(self, count: int) -> None:
        print(f"lost {count} events", flush=True)

    def end(self) -> None:
        pass


class JsonWriter:
    """Records as bpftool's JSON: one array, an element at a time."""

    def __init__(self, codec: ValueCodec | None, pretty: bool) -> None:
        self.codec = codec
        self.indent = 4 if pretty else None
        self.count = 0

    def begin(self) -> None:
        print("[", end="", flush=True)

    def _put(self, value: dict[str, Any]) -> None:
        separators = None if self.indent else (",", ":")
        print(
            "," if self.count else "",
            json.dumps(value, indent=self.indent, separators=separators),
            sep="",
            end="",
        )
        sys.stdout.flush()
        self.count += 1

    def record(self, nanoseconds: int, cpu: int | None, index: int | None, data: bytes) -> None:
        # A perf event array's are PERF_RECORD_SAMPLE; a record of a ring buffer has no type and no CPU.
        found: dict[str, Any] = {} if cpu is None else {"type": 9, "cpu": cpu, "index": index}
        found |= {"timestamp": nanoseconds, "data": list(data)}
        if self.codec is not None and len(data) >= self.codec.size:
            found["formatted"] = self.codec.plain(self.codec.decode(data))
        self._put(found)

    def lost(self, count: int) -> None:
        self._put({"type": 2, "lost": {"count": count}})

    def end(self) -> None:
        print("]", flush=True)


Writer = TextWriter | JsonWriter
