"""Archives for a guest's first file system, read back by a small reader of the format's description."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from tracebee.microvm.cpio import TRAILER, Entry, write_archive


class Read(NamedTuple):
    name: str
    mode: int
    mtime: int
    data: bytes


def read_archive(data: bytes) -> list[Read]:
    """Entries up to the trailer; asserts what the kernel's unpacker relies on."""
    found = []
    at = 0
    while True:
        assert at % 4 == 0
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        _, mode, uid, gid, _, mtime, size, *_, name_size, checksum = fields
        assert (uid, gid, checksum) == (0, 0, 0)
        name = data[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        at = (at + 110 + name_size + 3) & ~3
        content = data[at : at + size]
        assert len(content) == size
        at = (at + size + 3) & ~3
        if name[:-1].decode() == TRAILER:
            assert at == len(data)
            return found
        found.append(Read(name[:-1].decode(), mode, mtime, content))


def archive(*entries: Entry) -> bytes:
    stream = io.BytesIO()
    size = write_archive(entries, stream)
    data = stream.getvalue()
    assert size == len(data)
    return data


names = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=40)


@given(st.lists(st.tuples(names, st.binary(max_size=50), st.integers(0, 0xFFFFFFFF)), max_size=6))
def test_what_is_written_is_read(files: list[tuple[str, bytes, int]]) -> None:
    entries = [Entry(f"/{name}", stat.S_IFREG | 0o640, mtime, data) for name, data, mtime in files]
    expected = [Read(name, stat.S_IFREG | 0o640, mtime, data) for name, data, mtime in files]
    assert read_archive(archive(*entries)) == expected


def test_links_and_folders() -> None:
    data = archive(Entry("/bin", stat.S_IFLNK | 0o777, data=b"usr/bin"), Entry("/usr", stat.S_IFDIR | 0o755))
    link, folder = read_archive(data)
    assert (link.name, link.mode, link.data) == ("bin", stat.S_IFLNK | 0o777, b"usr/bin")
    assert (folder.name, folder.mode, folder.data) == ("usr", stat.S_IFDIR | 0o755, b"")


def test_content_comes_from_a_file_and_a_lost_file_is_left_out(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"content")
    entries = [Entry("/a", stat.S_IFREG, source=str(there)), Entry("/b", stat.S_IFREG, source=f"{there}.not")]
    assert [(entry.name, entry.data) for entry in read_archive(archive(*entries))] == [("a", b"content")]
