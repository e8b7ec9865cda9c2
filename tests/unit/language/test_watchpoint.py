"""Where a watchpoint can be: at a number, or at a symbol of the kernel."""

from __future__ import annotations

import pytest

from tracebee.spec.objects import Breakpoint

from .fixtures import build, complaints, messages, spec_of

VFS_READ = 0xFFFFFFFF81000000


@pytest.mark.parametrize(
    ("point", "place"),
    [
        ("watchpoint:0x1000:4:rw", Breakpoint(0x1000, 4, "rw")),
        ("watchpoint:4096:2:w", Breakpoint(0x1000, 2, "w")),
        ("watchpoint:vfs_read:8:x", Breakpoint(VFS_READ, 8, "x")),
        ("w:vfs_read:1:r", Breakpoint(VFS_READ, 1, "r")),
    ],
)
def test_place(point: str, place: Breakpoint) -> None:
    (probe,) = spec_of(f"{point} {{ @ = 1; }}").probes
    assert probe.attach == place


def test_name_is_what_was_written() -> None:
    (probe,) = spec_of("watchpoint:vfs_read:8:x { @ = 1; }").probes
    assert probe.name == "watchpoint:vfs_read:8:x"


def test_no_such_symbol() -> None:
    assert messages("watchpoint:nothing:8:x { @ = 1; }")[0] == "No matches for watchpoint nothing:8:x."
    text = "config = { missing_probes = ignore } begin { print(1); } watchpoint:nothing:8:x { @ = 1; }"
    assert [point.name for unit in build(text).units for point in unit.points] == ["begin"]


def test_neither_number_nor_symbol() -> None:
    (found,) = complaints("watchpoint:0xzz:8:x { @ = 1; }")
    assert found.message == "watchpoint address and length must be numbers: 0xzz:8"
