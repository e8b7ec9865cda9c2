"""Perf maps, with what compilers and interrupted writes leave in them."""

from __future__ import annotations

import pytest

from tracebee.host.perfmap import parse_perf_map

RECORDED = b"""\
7f0000001000 40 LazyCompile:~main /srv/app.js:1
0x7f0000002000 0x80 py::fib:/srv/fib.py
7f0000001000 20 RegExp:a b
not a line
7f0000009000 0 empty
7f0000009000 zz bad
7f0000009000 10
ffffffffffffffffff 10 too_far
7f0000003000 10 ha"""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (0x7F0000001010, ("RegExp:a b", 0x10)),
        (0x7F0000001030, ("LazyCompile:~main /srv/app.js:1", 0x30)),
        (0x7F0000001040, None),
        (0x7F0000002001, ("py::fib:/srv/fib.py", 1)),
        (0x7F0000003000, ("ha", 0)),
        (0x7F0000009000, None),
        (0, None),
    ],
)
def test_addresses(address: int, expected: tuple[str, int] | None) -> None:
    assert parse_perf_map(RECORDED).at(address) == expected


def test_nothing() -> None:
    assert len(parse_perf_map(b"")) == 0
    assert parse_perf_map(b"").at(5) is None
