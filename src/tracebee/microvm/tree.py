"""Which files of this machine a guest sees: each at the path that it has here, with the links on the way."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.microvm.cpio import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_LINKS = 40
"""As many symbolic links as the kernel follows in one path (include/linux/namei.h)."""

SHEBANG_BYTES = 256
"""BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h"""


def loaded_bytes(data: bytes) -> int:
    """Where the last segment of a 64-bit little-endian ELF file ends in the file; 0 if it is another kind."""
    import struct

    if data[:6] != b"\x7fELF\x02\x01" or len(data) < 64:
        return 0
    at: int = struct.unpack_from("<Q", data, 0x20)[0]
    size, count = struct.unpack_from("<HH", data, 0x36)
    end: int = at + size * count
    for number in range(count):
        offset, length = struct.unpack_from("<8xQ16xQ", data, at + number * size)
        end = max(end, int(offset) + int(length))
    return end


class Tree:
    """Files by the path that they have in the guest.  What cannot be read here is left out."""

    def __init__(self, strip: bool = False, known: frozenset[str] = frozenset()) -> None:
        """With `strip` programs come without debug information.  Programs at paths that are `known` are there."""
        self._strip = strip
        self._known = known
        self._entries: dict[str, Entry] = {}
        self._libraries: dict[str, str | None] = {}
        self._programs: set[str] = set()
        self.size = 0

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def entries(self) -> Iterator[Entry]:
        """Every entry, folders before what is in them."""
        yield from self._entries.values()

    def paths(self) -> Iterator[str]:
        """The path of every entry."""
        yield from self._entries

    def _put(self, entry: Entry) -> None:
        self.size += entry.size - (self._entries[entry.path].size if entry.path in self._entries else 0)
        self._entries[entry.path] = entry

    def remove(self, path: str) -> None:
        self.size -= self._entries.pop(path).size

    def add_folder(self, path: str, mode: int = 0o755) -> None:
        """A folder and those above it, empty."""
        if path not in self._entries and path not in ("", "/"):
            self.add_folder(os.path.dirname(path))
            self._put(Entry(path, stat.S_IFDIR | mode))

    def add_data(self, path: str, data: bytes, mode: int = 0o644, mtime: int = 0) -> None:
        """A file that is not on this machine."""
        self.add_folder(os.path.dirname(path))
        self._put(Entry(path, stat.S_IFREG | mode, mtime, data, size=len(data)))

    def add_link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self.add_folder(os.path.dirname(path))
        self._put(Entry(path, stat.S_IFLNK | 0o777, data=os.fsencode(target)))

    def add(self, path: str) -> str | None:
        """A file or an empty folder, with the symbolic links on the way to it as they are here.

        Its path without links, or None where there is nothing that can be read.
        """
        real = self._walk(os.path.abspath(path))
        if real is None:
            return None
        if real in self._entries or real == "/":
            return real
        try:
            status = os.stat(real)
        except OSError:
            return None
        self.add_folder(os.path.dirname(real))
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            self._put(Entry(real, stat.S_IFDIR | mode, int(status.st_mtime)))
        elif stat.S_ISREG(status.st_mode) and os.access(real, os.R_OK):
            kind = stat.S_IFREG | mode
            self._put(Entry(real, kind, int(status.st_mtime), source=real, size=status.st_size))
        else:
            return None
        return real

    def _walk(self, path: str) -> str | None:
        """Add the links among a path's parts; the path that is left when all are followed."""
        done = ""
        parts = [part for part in path.split("/") if part]
        links = 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                done = os.path.dirname(done)
                continue
            here = f"{done}/{part}"
            try:
                target = os.readlink(here)
            except OSError:
                done = here
                continue
            links += 1
            if links > MOST_LINKS:
                return None
            if here not in self._entries:
                self.add_link(here, target)
            if target.startswith("/"):
                done = ""
            parts = [word for word in target.split("/") if word not in ("", ".")] + parts
        return done or "/"

    def add_tree(self, path: str, wanted: Callable[[str, os.DirEntry[str]], bool] | None = None) -> None:
        """A folder with everything below it that `wanted` keeps, which gets the folder and an entry of it."""
        top = self.add(path)
        if top is None:
            return
        pending = [top]
        while pending:
            folder = pending.pop()
            try:
                found = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in found:
                if wanted is not None and not wanted(folder, entry):
                    continue
                if entry.is_symlink():
                    self.add_link(entry.path, os.readlink(entry.path))
                elif entry.is_dir():
                    if self.add(entry.path) is not None:
                        pending.append(entry.path)
                elif entry.is_file():
                    self.add(entry.path)

    def add_program(self, path: str) -> None:
        """A program or library with all that it needs to run: libraries, loader, a script's interpreter."""
        if path in self._known:
            return
        real = self.add(path)
        if real is None or real in self._programs or real in self._known:
            return
        self._programs.add(real)
        try:
            with open(real, "rb") as file:
                start = file.read(SHEBANG_BYTES)
        except OSError:
            return
        if start.startswith(b"#!"):
            self._add_interpreter(start)
        elif start.startswith(b"\x7fELF"):
            self._add_libraries(real)
            if self._strip:
                self._shorten(real)

    def _add_interpreter(self, start: bytes) -> None:
        from tracebee.host.libraries import find_program

        words = os.fsdecode(start[2:].partition(b"\n")[0]).split()
        if not words:
            return
        self.add_program(words[0])
        if os.path.basename(words[0]) == "env":
            for word in words[1:]:
                found = None if word.startswith("-") or "=" in word else find_program(word)
                if found is not None:
                    self.add_program(found)
                    return

    def _add_libraries(self, path: str) -> None:
        from tracebee.host.elf import ElfFile

        try:
            with ElfFile.open(path) as elf:
                loader = elf.interpreter
                needed = elf.needed
                folders = [folder.replace("$ORIGIN", os.path.dirname(path)) for folder in elf.library_path]
        except (OSError, FormatError):
            return
        if loader:
            self.add_program(loader)
        for name in needed:
            beside = next(
                (f"{folder}/{name}" for folder in folders if os.path.isfile(f"{folder}/{name}")), None
            )
            found = beside or self._find_library(name)
            if found is not None:
                self.add_program(found)

    def _shorten(self, path: str) -> None:
        """Keep of a program what its segments cover; the table of sections goes, and with it the names of functions.

        So it is done only where most of the file is debug information.
        """
        entry = self._entries[path]
        with open(path, "rb") as file:
            data = bytearray(file.read())
        end = loaded_bytes(bytes(data))
        if end and end < len(data) // 2:
            del data[end:]
            # e_shoff, and e_shnum with e_shstrndx (elf.h, Elf64_Ehdr)
            data[0x28:0x30] = bytes(8)
            data[0x3C:0x40] = bytes(4)
            self._put(Entry(path, entry.mode, entry.mtime, bytes(data), size=len(data)))

    def _find_library(self, name: str) -> str | None:
        from tracebee.host.libraries import find_library

        if name not in self._libraries:
            self._libraries[name] = name if "/" in name else find_library(name)
        return self._libraries[name]
