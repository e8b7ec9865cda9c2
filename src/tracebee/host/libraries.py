"""From a bare name, as a probe has it, to the library or program that is meant.

Libraries are looked up in /etc/ld.so.cache, whose layout is that of glibc's sysdeps/generic/dl-cache.h and
elf/cache.c, and then in the standard directories; programs in $PATH.
"""

from __future__ import annotations

import os
import struct

from tracebee.errors import FormatError
from tracebee.records import Frozen

_OLD_MAGIC = b"ld.so-1.7.0\0"
_NEW_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_ENTRY = 12
_NEW_HEADER = 48
_NEW_ENTRY = 24
_MAX_CACHE = 1 << 26

# What ldconfig puts into the flags for libraries of each machine: FLAG_ELF_LIBC6 (3) and a FLAG_*_LIB* value
# of dl-cache.h.
_FLAGS = {
    "x86_64": 0x0303,
    "aarch64": 0x0A03,
    "i686": 0x0003,
    "riscv64": 0x1003,
    "s390x": 0x0403,
    "ppc64le": 0x0503,
}
_TRIPLETS = {
    "x86_64": "x86_64-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "i686": "i386-linux-gnu",
    "riscv64": "riscv64-linux-gnu",
    "s390x": "s390x-linux-gnu",
    "ppc64le": "powerpc64le-linux-gnu",
}


class CacheEntry(Frozen):
    """A library that ldconfig knows: `name` is its soname, `flags` its kind and machine."""

    name: str
    path: str
    flags: int


def parse_ld_cache(data: bytes) -> list[CacheEntry]:
    """The content of ld.so.cache: old format, new format, or the new behind the old; else FormatError."""
    if data.startswith(_NEW_MAGIC):
        return _parse_new(data, 0)
    if not data.startswith(_OLD_MAGIC):
        raise FormatError("ld.so.cache: unknown magic", 0)
    if len(data) < 16:
        raise FormatError("ld.so.cache: cut short", len(data))
    (count,) = struct.unpack_from("=I", data, 12)
    strings_at = 16 + count * _OLD_ENTRY
    if strings_at > len(data):
        raise FormatError("ld.so.cache: more entries than bytes", 12)
    # Where both are there, the new one starts at the next multiple of 8 and is the one to use.
    new_at = (strings_at + 7) & ~7
    if data.startswith(_NEW_MAGIC, new_at):
        return _parse_new(data, new_at)
    return [
        CacheEntry(_string(data, strings_at + name), _string(data, strings_at + path), flags)
        for flags, name, path in struct.iter_unpack("=iII", data[16:strings_at])
    ]


def _parse_new(data: bytes, start: int) -> list[CacheEntry]:
    if start + _NEW_HEADER > len(data):
        raise FormatError("ld.so.cache: cut short", len(data))
    (count,) = struct.unpack_from("=I", data, start + len(_NEW_MAGIC))
    entries_at = start + _NEW_HEADER
    end = entries_at + count * _NEW_ENTRY
    if end > len(data):
        raise FormatError("ld.so.cache: more entries than bytes", start + len(_NEW_MAGIC))
    return [
        CacheEntry(_string(data, start + name), _string(data, start + path), flags)
        for flags, name, path, _os, _hwcap in struct.iter_unpack("=iIIIQ", data[entries_at:end])
    ]


def _string(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + 4096)
    if end < 0:
        raise FormatError("ld.so.cache: a string without end", offset)
    return os.fsdecode(data[offset:end])


def choose_library(name: str, entries: list[CacheEntry], machine: str) -> str | None:
    """The path of the library that `name` means: "libc.so.6", "libc" or "c"; None if `entries` lack it.

    ldconfig sorts newer versions first, so that "libfoo" is the newest libfoo.
    """
    flags = _FLAGS.get(machine)
    usable = [entry for entry in entries if flags is None or entry.flags == flags]
    for stem in (name, f"lib{name}"):
        for entry in usable:
            if entry.name == stem:
                return entry.path
        for entry in usable:
            if entry.name.startswith(f"{stem}.so"):
                return entry.path
    return None


def library_directories(machine: str) -> list[str]:
    triplet = _TRIPLETS.get(machine, f"{machine}-linux-gnu")
    parts = (f"lib/{triplet}", f"usr/lib/{triplet}", "lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib")
    return [f"/{part}" for part in parts]


def find_library(name: str, root: str = "") -> str | None:
    """The path of the library that a bare name means on this machine, or None.

    `root` is what everything lies below, such as "/proc/PID/root"; the result does not contain it.
    """
    if not name or "/" in name or "\0" in name:
        return None
    machine = os.uname().machine
    try:
        with open(f"{root}/etc/ld.so.cache", "rb") as stream:
            found = choose_library(name, parse_ld_cache(stream.read(_MAX_CACHE)), machine)
    except (OSError, FormatError):
        # No cache (musl has none), or one in a format of the future.
        found = None
    if found is not None and _is_elf(root + found):
        return found
    for directory in library_directories(machine):
        for stem in (name, f"lib{name}"):
            try:
                names = sorted(entry for entry in os.listdir(root + directory) if entry.startswith(stem))
            except OSError:
                break
            for entry in names:
                # "libc.so" may be a linker script, and "libc.so.6-gdb.py" no library at all.
                is_wanted = entry == stem or entry.startswith(f"{stem}.so")
                if is_wanted and _is_elf(f"{root}{directory}/{entry}"):
                    return f"{directory}/{entry}"
    return None


def find_program(name: str, search_path: str | None = None) -> str | None:
    """The first executable file of that name in `search_path` ($PATH if None), or None."""
    if search_path is None:
        search_path = os.environ.get("PATH", os.defpath)
    if not name or "/" in name or "\0" in name:
        return None
    for directory in search_path.split(os.pathsep):
        # An empty part is the working directory (POSIX, "Other Environment Variables").
        path = os.path.join(directory or ".", name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return None


def find_target(name: str) -> str | None:
    """The file that a uprobe's or usdt's target names: a path, a library or a program; None if there is none.

    A bare name that looks like a library is looked up as one first, any other as a program first.
    """
    if "\0" in name or not name:
        return None
    if "/" in name:
        return os.path.abspath(name) if os.path.isfile(name) else None
    if name.startswith("lib") or ".so" in name:
        return find_library(name) or find_program(name)
    return find_program(name) or find_library(name)


def _is_elf(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.read(fd, 4) == b"\x7fELF"
    except OSError:
        return False
    finally:
        os.close(fd)
