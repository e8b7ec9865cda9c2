"""Libraries and programs by bare name: caches written by the test, and the machine's own."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from tracebee.errors import FormatError
from tracebee.host import libraries
from tracebee.host.libraries import (
    CacheEntry,
    choose_library,
    find_library,
    find_program,
    find_target,
    parse_ld_cache,
)

if TYPE_CHECKING:
    from pathlib import Path

X86_64, X32, AARCH64 = 0x0303, 0x0803, 0x0A03
ENTRIES = [
    CacheEntry("libfoo.so.2", "/lib/libfoo.so.2", X86_64),
    CacheEntry("libfoo.so.1", "/lib/libfoo.so.1", X86_64),
    CacheEntry("libc.so.6", "/libx32/libc.so.6", X32),
    CacheEntry("libc.so.6", "/lib/libc.so.6", X86_64),
    CacheEntry("libc.so.6", "/lib/aarch64/libc.so.6", AARCH64),
    CacheEntry("libcrypt.so.1", "/lib/libcrypt.so.1", X86_64),
]


def old_cache(entries: list[CacheEntry]) -> bytes:
    strings = bytearray()
    table = b""
    for entry in entries:
        table += struct.pack("=iII", entry.flags, len(strings), len(strings) + len(entry.name) + 1)
        strings += f"{entry.name}\0{entry.path}\0".encode()
    return b"ld.so-1.7.0\0" + struct.pack("=I", len(entries)) + table + bytes(strings)


def new_cache(entries: list[CacheEntry]) -> bytes:
    strings = bytearray()
    start = 48 + 24 * len(entries)
    table = b""
    for entry in entries:
        at = start + len(strings)
        table += struct.pack("=iIIIQ", entry.flags, at, at + len(entry.name) + 1, 0, 0)
        strings += f"{entry.name}\0{entry.path}\0".encode()
    header = b"glibc-ld.so.cache1.1" + struct.pack("=II", len(entries), len(strings)) + bytes(20)
    return header + table + bytes(strings)


def test_formats() -> None:
    assert parse_ld_cache(new_cache(ENTRIES)) == ENTRIES
    assert parse_ld_cache(old_cache(ENTRIES)) == ENTRIES
    # Both: the old header claims entries of its own, and the new one is what counts.
    old = b"ld.so-1.7.0\0" + struct.pack("=I", 1) + bytes(12)
    assert parse_ld_cache(old + bytes(-len(old) % 8) + new_cache(ENTRIES)) == ENTRIES
    assert parse_ld_cache(new_cache([])) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ld.so-1.7.0\0",
        b"glibc-ld.so.cache1.1",
        b"glibc-ld.so.cache9.9" + bytes(64),
        b"ld.so-1.7.0\0" + struct.pack("=I", 0xFFFFFFFF),
        b"glibc-ld.so.cache1.1" + struct.pack("=I", 0xFFFFFFFF) + bytes(24),
        new_cache(ENTRIES)[:-1],
        old_cache(ENTRIES)[:-1],
    ],
)
def test_bad_caches(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_ld_cache(data)


@pytest.mark.parametrize(
    ("name", "machine", "path"),
    [
        ("libc.so.6", "x86_64", "/lib/libc.so.6"),
        ("libc", "x86_64", "/lib/libc.so.6"),
        ("c", "x86_64", "/lib/libc.so.6"),
        ("libc", "aarch64", "/lib/aarch64/libc.so.6"),
        ("libfoo", "x86_64", "/lib/libfoo.so.2"),
        ("foo", "x86_64", "/lib/libfoo.so.2"),
        ("libfoo.so.1", "x86_64", "/lib/libfoo.so.1"),
        ("libfoo", "aarch64", None),
        ("libfo", "x86_64", None),
        ("libc", "vax", "/libx32/libc.so.6"),
    ],
)
def test_choice(name: str, machine: str, path: str | None) -> None:
    assert choose_library(name, ENTRIES, machine) == path


def put(root: Path, path: str, data: bytes) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def test_below_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1", "#1", "x86_64")))
    root = str(tmp_path)
    assert find_library("libfoo", root) is None
    put(tmp_path, "/usr/lib/libfoo.so", b"/* GNU ld script */")
    put(tmp_path, "/usr/lib/libfoo.so.2", b"\x7fELF")
    put(tmp_path, "/usr/lib/libfoo.so.2-gdb.py", b"import gdb")
    assert find_library("libfoo", root) == "/usr/lib/libfoo.so.2"
    assert find_library("foo", root) == "/usr/lib/libfoo.so.2"
    # The cache comes first, unless what it says is not there.
    put(tmp_path, "/etc/ld.so.cache", new_cache([CacheEntry("libfoo.so.2", "/opt/libfoo.so.2", X86_64)]))
    assert find_library("libfoo", root) == "/usr/lib/libfoo.so.2"
    put(tmp_path, "/opt/libfoo.so.2", b"\x7fELF")
    assert find_library("libfoo", root) == "/opt/libfoo.so.2"
    put(tmp_path, "/etc/ld.so.cache", b"of the future")
    assert find_library("libfoo", root) == "/usr/lib/libfoo.so.2"
    for name in ("", "lib/foo", "a\0b"):
        assert find_library(name, root) is None


def test_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "tool").write_text("not executable")
    (tmp_path / "two" / "tool").write_text("")
    (tmp_path / "two" / "tool").chmod(0o755)
    search = f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"
    assert find_program("tool", search) == str(tmp_path / "two" / "tool")
    assert find_program("two", str(tmp_path)) is None  # a directory
    assert find_program("nothing", search) is None
    assert find_program("", search) is None
    assert find_program("one/tool", search) is None
    monkeypatch.chdir(tmp_path / "two")
    assert find_program("tool", "") == str(tmp_path / "two" / "tool")
    monkeypatch.setenv("PATH", search)
    assert find_program("tool") == str(tmp_path / "two" / "tool")


def test_targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(libraries, "find_library", lambda name: f"library {name}" if name != "tool" else None)
    monkeypatch.setattr(libraries, "find_program", lambda name: f"program {name}" if name != "z" else None)
    assert find_target("libtool") == "library libtool"
    assert find_target("x.so.1") == "library x.so.1"
    assert find_target("tool") == "program tool"
    assert find_target("z") == "library z"
    (tmp_path / "here").write_text("")
    assert find_target(f"{tmp_path}/here") == f"{tmp_path}/here"
    monkeypatch.chdir(tmp_path)
    assert find_target("./here") == f"{tmp_path}/here"
    assert find_target("./nothing") is None
    assert find_target("") is None
    assert find_target("a\0b") is None


def test_as_ldconfig_prints_it() -> None:
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    if not os.path.exists(ldconfig) or not os.path.exists("/etc/ld.so.cache"):
        pytest.skip("no ldconfig or no cache here")
    text = subprocess.run([ldconfig, "-p"], check=True, capture_output=True, text=True).stdout
    expected = [line.strip() for line in text.splitlines() if "=>" in line]
    with open("/etc/ld.so.cache", "rb") as stream:
        entries = parse_ld_cache(stream.read())
    assert [(e.name, e.path) for e in entries] == [
        (line.split(" ")[0], line.rpartition(" => ")[2]) for line in expected
    ]


def test_the_c_library_of_this_machine() -> None:
    if not os.path.exists("/etc/ld.so.cache"):
        pytest.skip("no ld.so.cache here")
    found = find_library("libc")
    assert found is not None
    assert os.path.basename(found).startswith("libc.so")
