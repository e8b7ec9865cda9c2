"""Names of compiled-at-run-time functions, which JIT compilers write to /tmp/perf-PID.map.

Each line is ``START SIZE name``, numbers in hex (tools/perf/Documentation/jit-interface.txt in the kernel).
A compiler that reuses memory appends another line for it; the last one counts.
"""

from __future__ import annotations

from bisect import bisect_right

MAX_SIZE = 1 << 28
"""Bytes of a map that are read."""

_LOOK_BACK = 64


class PerfMap:
    """The functions of one map, by address."""

    __slots__ = ("_entries", "_starts")

    def __init__(self, entries: list[tuple[int, int, bytes]]) -> None:
        """`entries` are (start, end, name) in the order of the file."""
        # Sorting is stable: of several entries with one start the last is the newest.
        self._entries = sorted(entries, key=lambda entry: entry[0])
        self._starts = [entry[0] for entry in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def at(self, address: int) -> tuple[str, int] | None:
        """(name, offset) of the function that covers `address`."""
        index = bisect_right(self._starts, address)
        for start, end, name in reversed(self._entries[max(0, index - _LOOK_BACK) : index]):
            if address < end:
                return name.decode("utf-8", "replace"), address - start
        return None


def parse_perf_map(data: bytes) -> PerfMap:
    """The content of a map.  Lines of another form are left out: the last one may be half written."""
    entries = []
    for line in data.split(b"\n"):
        parts = line.split(b" ", 2)
        if len(parts) != 3 or not parts[2]:
            continue
        try:
            start, size = int(parts[0], 16), int(parts[1], 16)
        except ValueError:
            continue
        if 0 <= start < 1 << 64 and 0 < size < 1 << 48:
            entries.append((start, start + size, parts[2].strip()))
    return PerfMap(entries)
