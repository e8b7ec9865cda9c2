"""Numbers to names, where no machine is needed for it."""

from __future__ import annotations

import os
import struct

import pytest

from tracebee.errors import FormatError
from tracebee.session.names import LOST_STACK, Names, format_time
from tracebee.spec.objects import Schema
from tracebee.spec.types import Stack

KERNEL = Stack(False, "bpftrace", 127)


def names(stacks: dict[int, bytes] | None = None, schema: Schema | None = None) -> Names:
    return Names(schema or Schema(), (stacks or {}).get)


@pytest.mark.parametrize(
    ("table", "number", "text"),
    [
        ("strerror", 2, "No such file or directory"),
        ("strerror", -2, "No such file or directory"),
        ("strerror", 0, "Success"),
        ("strerror", 99999, "Unknown error"),
        ("strerror", -(2**63), "Unknown error"),
        ("signal", 9, "Killed"),
        ("signal", 0, "N/A"),
        ("signal", 999, "N/A"),
        ("signal", -1, "N/A"),
        ("signal", 2**40, "N/A"),
        ("signal", -(2**63), "N/A"),
        ("syscall", -1, "Unknown syscall"),
        ("syscall", 2**40, "Unknown syscall"),
        ("probe", 0, "begin"),
        ("probe", 1, "end"),
        ("probe", 2, ""),
        ("probe", -1, ""),
    ],
)
def test_tables(table: str, number: int, text: str) -> None:
    assert names(schema=Schema(probes=("begin", "end"))).table(table)(number) == text


def test_system_calls() -> None:
    number = {"x86_64": 0, "aarch64": 63}.get(os.uname().machine)
    if number is None:
        pytest.skip(f"no table of system calls for {os.uname().machine}")
    assert names().table("syscall")(number) == "read"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("%Y", "2001"),
        ("%S.%f", "40.123456"),
        ("%%f", "%f"),
        ("%%%f", "%123456"),
        ("", ""),
        ("plain", "plain"),
    ],
)
def test_points_in_time(pattern: str, text: str) -> None:
    assert format_time(pattern, 1_000_000_000_123_456_789) == text


def test_a_format_that_the_script_does_not_have() -> None:
    with pytest.raises(FormatError):
        names(schema=Schema(strings=("%H",))).time(0, 1, 1)
    assert names(schema=Schema(strings=("%Y",))).time(10**18, 0, 1) == "2001"


def test_a_time_since_boot_is_a_time_of_the_day() -> None:
    """Clock 0 counts from boot: the same reading, later by when that was."""
    found = names(schema=Schema(strings=("%Y",))).time(0, 0, 0)
    assert int(found) > 2015


def test_stacks_that_are_gone_are_counted() -> None:
    lost = names()
    assert lost.stack(KERNEL, 5, 0, 3).frames == (LOST_STACK,)
    assert lost.stack(KERNEL, 6, 0, 3).frames == (LOST_STACK,)
    assert lost.stacks_lost == 2


def test_a_stack_without_frames() -> None:
    empty = names()
    assert empty.stack(KERNEL, 5, 0, 0).frames == ()
    assert empty.stacks_lost == 0


def test_more_frames_than_there_are() -> None:
    with pytest.raises(FormatError, match="100 frames"):
        names({5: bytes(16)}).stack(KERNEL, 5, 0, 100)
    with pytest.raises(FormatError):
        names({5: bytes(16)}).stack(KERNEL, 5, 0, 2**32 - 1)


def test_the_same_stack_is_the_same_object(monkeypatch: pytest.MonkeyPatch) -> None:
    found = names({5: struct.pack("=2Q", 0x10, 0x20)})
    monkeypatch.setattr(Names, "kernel", type("Symbols", (), {"resolve": lambda self, address: None})())
    first = found.stack(KERNEL, 5, 0, 2)
    assert [frame.address for frame in first.frames] == [0x10, 0x20]
    assert found.stack(KERNEL, 5, 0, 2) is first
    # A process has no part in a kernel stack.
    assert found.stack(KERNEL, 5, 77, 2) is first
    assert found.kernel_symbol(0x10) == "0x10"


def test_internet_addresses() -> None:
    assert names().internet(struct.pack("=I4s12x", 2, b"\x0a\0\0\1")) == "10.0.0.1"
    assert names().internet(struct.pack("=I16s", 10, b"\xfe\x80" + bytes(13) + b"\1")) == "fe80::1"
    # A family that is neither is shown as if it were the older.
    assert names().internet(struct.pack("=I4s12x", 77, b"\1\2\3\4")) == "1.2.3.4"
