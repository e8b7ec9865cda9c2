"""/proc/PID/maps: recorded lines, odd paths, bad lines."""

from __future__ import annotations

import os

import pytest

from tracebee.errors import FormatError
from tracebee.host.procmaps import Mapping, parse_maps, read_maps

RECORDED = b"""\
55a4d8de9000-55a4d8deb000 r--p 00000000 fe:00 260131                     /usr/bin/cat
55a4d8deb000-55a4d8df0000 r-xp 00002000 fe:00 260131                     /usr/bin/cat
55a4fcbbf000-55a4fcbe0000 rw-p 00000000 00:00 0                          [heap]
7f33a0db9000-7f33a0ddb000 rw-p 00000000 00:00 0\x20
7f33a0e64000-7f33a0fba000 r-xp 00026000 fe:00 339380                     /usr/lib/x86_64-linux-gnu/libc.so.6
7f33a1031000-7f33a1033000 r-xp 00000000 00:00 0                          [vdso]
7f33a1033000-7f33a1034000 rwxs 00000000 00:01 5                          /memfd:jit code (deleted)
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""


def test_recorded() -> None:
    maps = parse_maps(RECORDED)
    assert len(maps) == 8
    assert list(maps)[1] == Mapping(
        0x55A4D8DEB000, 0x55A4D8DF0000, "r-xp", 0x2000, (0xFE, 0), 260131, "/usr/bin/cat"
    )
    assert [m.path for m in maps if m.is_executable] == [
        "/usr/bin/cat",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "[vdso]",
        "/memfd:jit code",
        "[vsyscall]",
    ]
    assert [m.is_file for m in maps] == [True, True, False, False, True, False, True, False]
    assert [m.is_deleted for m in maps] == [False] * 6 + [True, False]
    assert list(maps)[3].path == ""


def test_find() -> None:
    maps = parse_maps(RECORDED)
    code = maps.find(0x55A4D8DEB123)
    assert code is not None
    assert code.file_offset(0x55A4D8DEB123) == 0x2123
    assert maps.find(0x55A4D8DEB000) is code
    assert maps.find(0x55A4D8DEAFFF) is maps.mappings[0]
    assert maps.find(0x55A4D8DF0000) is None
    assert maps.find(0) is None
    assert maps.find(0xFFFFFFFFFF600400) is maps.mappings[-1]
    assert maps.find(0xFFFFFFFFFFFFFFFF) is None


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b"/tmp/a b  c", "/tmp/a b  c"),
        (b"/tmp/new\\012line", "/tmp/new\nline"),
        (b"/tmp/a\x0bb", "/tmp/a\vb"),
        (b"/tmp/\xff\xfe", os.fsdecode(b"/tmp/\xff\xfe")),
        (b"/tmp/trailing ", "/tmp/trailing "),
        (b"[anon:arena name]", "[anon:arena name]"),
        (b"anon_inode:[perf_event]", "anon_inode:[perf_event]"),
    ],
)
def test_paths(text: bytes, path: str) -> None:
    (mapping,) = parse_maps(b"1000-2000 r-xp 00000000 fe:00 1      " + text + b"\n")
    assert mapping.path == path


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"1000-2000",
        b"1000 r-xp 00000000 fe:00 1",
        b"1000-2000 r-xp zzzz fe:00 1",
        b"1000-2000 r-xp 00000000 fe 1",
        b"1000-2000 r-xp 00000000 fe:00 one",
        b"2000-1000 r-xp 00000000 fe:00 1",
        b"1000-2000 r-xp 00000000 fe:00 -1",
        b"1000-20000000000000000 r-xp 00000000 fe:00 1",
        b"1000-2000 \xff 00000000 fe:00 1",
    ],
)
def test_bad_lines(line: bytes) -> None:
    with pytest.raises(FormatError):
        parse_maps(line + b"\n")


def test_empty() -> None:
    assert len(parse_maps(b"")) == 0


def test_our_own() -> None:
    maps = read_maps(os.getpid())
    assert any(mapping.path == "[stack]" for mapping in maps)
    starts = [mapping.start for mapping in maps]
    assert starts == sorted(starts)
