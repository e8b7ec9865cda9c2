"""Histograms.  Labels were compared with what bpftrace 0.27.1 prints."""

from __future__ import annotations

import pytest

from tracebee.render.histogram import buckets, histogram_text
from tracebee.spec.types import Hist, LHist

FULL = "@" * 52


def index_of(value: int, bits: int) -> int:
    """The bucket of a value, as `Hist` says."""
    if value < 0:
        return 0
    if value < 1 << bits:
        return value + 1
    top = value.bit_length() - 1
    return 1 + ((top - bits + 1) << bits) + ((value >> (top - bits)) & ((1 << bits) - 1))


def log(values: list[int], bits: int = 0) -> list[int]:
    counts = [0] * Hist(bits).buckets
    for value in values:
        counts[index_of(value, bits)] += 1
    return counts


def labels(text: str) -> list[str]:
    return [line[:16].rstrip() for line in text.splitlines()]


def test_rows_from_the_first_to_the_last_count() -> None:
    assert histogram_text(Hist(0), log([-1, 2, 3, 5, 16])) == (
        f"(..., 0)               1 |{'@' * 26:<52}|\n"
        f"[0]                    0 |{'':<52}|\n"
        f"[1]                    0 |{'':<52}|\n"
        f"[2, 4)                 2 |{FULL}|\n"
        f"[4, 8)                 1 |{'@' * 26:<52}|\n"
        f"[8, 16)                0 |{'':<52}|\n"
        f"[16, 32)               1 |{'@' * 26:<52}|\n"
    )


def test_nothing_counted_has_no_rows() -> None:
    assert histogram_text(Hist(0), log([])) == ""
    assert histogram_text(LHist(0, 10, 5), [0] * 4) == ""
    assert buckets(Hist(0), log([])) == []


@pytest.mark.parametrize(
    ("value", "bits", "label"),
    [
        (0, 0, "[0]"),
        (1, 0, "[1]"),
        (2, 0, "[2, 4)"),
        (700, 0, "[512, 1K)"),
        (1024, 0, "[1K, 2K)"),
        (1 << 40, 0, "[1T, 2T)"),
        (1 << 50, 0, "[1P, 2P)"),
        ((1 << 63) - 1, 0, "[4E, 8E)"),
        ((1 << 64) - 1, 0, "[8E, 16E)"),
        (100, 3, "[96, 104)"),
        (8, 3, "[8]"),
        (1200, 3, "[1152, 1280)"),
        (1025, 5, "[1024, 1056)"),
        (5000000000, 2, "[4G, 5G)"),
        (70, 1, "[64, 96)"),
        (1000000, 5, "[976K, 992K)"),
        (1 << 30, 1, "[1024M, 1536M)"),
        (3 << 29, 1, "[1536M, 2G)"),
        (-7, 3, "(..., 0)"),
    ],
)
def test_logarithmic_labels(value: int, bits: int, label: str) -> None:
    assert histogram_text(Hist(bits), log([value], bits)) == f"{label:<16}       1 |{FULL}|\n"


@pytest.mark.parametrize(
    ("type_", "index", "label"),
    [
        (LHist(0, 10, 3), 0, "(..., 0)"),
        (LHist(0, 10, 3), 2, "[3, 6)"),
        (LHist(0, 10, 3), 4, "[9]"),
        (LHist(0, 11, 3), 4, "[9, 11)"),
        (LHist(0, 10, 3), 5, "[10, ...)"),
        (LHist(0, 10, 1), 6, "[5]"),
        (LHist(0, 10240, 1024), 1, "[0, 1K)"),
        (LHist(0, 10240, 1024), 11, "[10K, ...)"),
        (LHist(0, 16384, 2048), 3, "[4K, 6K)"),
        (LHist(0, 16384000, 1048576), 5, "[4M, 5M)"),
        (LHist(0, 15728640, 1572864), 3, "[3M, 4608K)"),
        (LHist(1024, 10485760, 1048576), 2, "[1025K, 2049K)"),
        (LHist(100, 16384, 1024), 4, "[3172, 4196)"),
        (LHist(1024, 8192, 1024), 0, "(..., 1K)"),
        (LHist(0, 10000, 512), 10, "[4608, 5120)"),
        (LHist(0, 100000, 1000), 6, "[5000, 6000)"),
        (LHist(-10, 10, 5), 1, "[-10, -5)"),
    ],
)
def test_linear_labels(type_: LHist, index: int, label: str) -> None:
    counts = [0] * type_.buckets
    counts[index] = 1
    assert labels(histogram_text(type_, counts)) == [label]


def test_bars_are_truncated() -> None:
    text = histogram_text(LHist(0, 3, 1), [0, 3, 2, 1, 0])
    assert [line.count("@") for line in text.splitlines()] == [52, 34, 17]


def test_large_counts_push_the_bar() -> None:
    assert histogram_text(LHist(0, 1, 1), [0, 1 << 40, 0]) == f"[0]             1099511627776 |{FULL}|\n"


@pytest.mark.parametrize("bits", range(6))
def test_every_value_lies_in_the_range_of_its_bucket(bits: int) -> None:
    edges = {
        base + near for power in range(64) for base in (1 << power, 3 << power >> 1) for near in (-1, 0, 1)
    }
    for value in (*range(200), *edges, (1 << 64) - 1):
        ((low, high, count),) = buckets(Hist(bits), log([value], bits))
        assert count == 1
        assert low is not None and high is not None
        assert low <= value < high


def test_buckets_join_without_gaps() -> None:
    for bits in range(6):
        found = buckets(Hist(bits), [1] * Hist(bits).buckets)
        assert found[0][:2] == (None, 0)
        assert [high for _, high, _ in found[:-1]] == [low for low, _, _ in found[1:]]
        assert found[-1][1] == 1 << 64
    linear = buckets(LHist(3, 17, 4), [1] * LHist(3, 17, 4).buckets)
    assert [(low, high) for low, high, _ in linear] == [
        (None, 3),
        (3, 7),
        (7, 11),
        (11, 15),
        (15, 17),
        (17, None),
    ]
