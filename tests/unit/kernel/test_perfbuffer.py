"""Records of a perf buffer, as bytes."""

from __future__ import annotations

import struct

import pytest

from tracebee.errors import UsageError
from tracebee.kernel.perfbuffer import PerfBuffer, records_of


def sample(time: int, data: bytes) -> bytes:
    padded = data.ljust((len(data) + 4 + 7) // 8 * 8 - 4, b"\0")
    return struct.pack("=IHHQI", 9, 0, 8 + 8 + 4 + len(padded), time, len(padded)) + padded


def lost(count: int) -> bytes:
    return struct.pack("=IHHQQ", 2, 0, 24, 1, count)


def test_records() -> None:
    data = sample(5, b"abcd") + lost(3) + sample(6, b"12345678abcd") + struct.pack("=IHHQ", 77, 0, 16, 0)
    assert records_of(data) == ([(5, b"abcd"), (6, b"12345678abcd")], 3)
    assert records_of(b"") == ([], 0)


def test_what_is_cut_off_is_left() -> None:
    whole = sample(5, b"abcd") + sample(6, b"efgh")
    for length in range(len(whole)):
        found, missing = records_of(whole[:length])
        assert (len(found) <= 2, missing) == (True, 0)
        assert all(len(data) <= 4 for _, data in found)
    assert records_of(struct.pack("=IHH", 9, 0, 0) * 4) == ([], 0)


def test_a_length_that_lies_stays_in_its_record() -> None:
    bad = struct.pack("=IHHQI", 9, 0, 24, 5, 1 << 30) + b"abcd"
    assert records_of(bad + sample(6, b"efgh")) == ([(5, b"abcd"), (6, b"efgh")], 0)


def test_pages_are_a_power_of_two() -> None:
    for pages in (0, 3, -1):
        with pytest.raises(UsageError):
            PerfBuffer(-1, [], pages)
