"""The records that are made up lie where the shipped formats say."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.host.tracepoints import ShippedTracepoints
from tracebee.session.user import records

if TYPE_CHECKING:
    from tracebee.host.tracefs import TracepointField

FORMATS = ShippedTracepoints("x86_64")
THREAD: Any = SimpleNamespace(
    tid=77, number=0, arguments=(1, 2, 3, 4, 5, 1 << 63), result=-2, comm=lambda: b"name of fifteen"
)
SIGINFO = struct.pack("=iii", 11, 0, 1) + bytes(116)


def value(record: bytes, field: TracepointField) -> int | bytes:
    raw = record[field.offset : field.offset + field.size]
    assert len(raw) == field.size, f"{field.name} is not in the record"
    return raw if field.count else int.from_bytes(raw, "little", signed=field.signed)


@pytest.mark.parametrize(
    ("event", "record", "expected"),
    [
        (
            "syscalls:sys_enter_read",
            records.sys_enter(THREAD),
            {"__syscall_nr": 0, "fd": 1, "buf": 2, "count": 3},
        ),
        ("syscalls:sys_exit_read", records.sys_exit(THREAD), {"__syscall_nr": 0, "ret": -2}),
        ("syscalls:sys_enter_futex", records.sys_enter(THREAD), {"uaddr": 1, "op": 2, "val3": 1 << 63}),
        (
            "raw_syscalls:sys_enter",
            records.raw_sys_enter(THREAD),
            {"id": 0, "args": struct.pack("=6Q", *THREAD.arguments)},
        ),
        ("raw_syscalls:sys_exit", records.raw_sys_exit(THREAD), {"id": 0, "ret": -2}),
        (
            "sched:sched_process_fork",
            records.process_fork(THREAD, SimpleNamespace(tid=78)),  # type: ignore[arg-type]
            {
                "parent_comm": b"name of fifteen\0",
                "parent_pid": 77,
                "child_comm": b"name of fifteen\0",
                "child_pid": 78,
            },
        ),
        ("sched:sched_process_exec", records.process_exec(THREAD, 76, "/bin/ä"), {"pid": 77, "old_pid": 76}),
        (
            "sched:sched_process_exit",
            records.process_exit(THREAD, 120),
            {"comm": b"name of fifteen\0", "pid": 77, "prio": 120},
        ),
        (
            "signal:signal_deliver",
            records.signal_deliver(THREAD, SIGINFO, 1, 4),
            {"sig": 11, "errno": 0, "code": 1, "sa_handler": 1, "sa_flags": 4},
        ),
    ],
)
def test_fields(event: str, record: bytes, expected: dict[str, int | bytes]) -> None:
    format_ = FORMATS.format(*event.split(":"))
    found = {field.name: value(record, field) for field in format_.fields if field.name in expected}
    assert found == expected
    common = format_.find_field("common_pid")
    assert common is not None
    assert value(record, common) == 77


def test_every_field_is_there() -> None:
    """A program may read whatever its format has."""
    records_of = {"syscalls": {"sys_enter": records.sys_enter(THREAD), "sys_exit": records.sys_exit(THREAD)}}
    for category, event in FORMATS.events():
        if category == "syscalls":
            record = records_of[category]["sys_enter" if event.startswith("sys_enter") else "sys_exit"]
            end = max(field.offset + field.size for field in FORMATS.format(category, event).fields)
            assert end <= len(record), event


def test_the_file_that_is_executed() -> None:
    record = records.process_exec(THREAD, 77, "/bin/ä")
    field = FORMATS.format("sched", "sched_process_exec").find_field("filename")
    assert field is not None and field.data_loc == "data_loc"
    where = int.from_bytes(record[field.offset : field.offset + 4], "little")
    assert record[where & 0xFFFF :][: where >> 16] == "/bin/ä".encode() + b"\0"
