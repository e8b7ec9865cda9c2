"""Who holds what: made-up folders of processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tracebee.host.holders import Holder, PerfEvent, parse_id, read_holders

if TYPE_CHECKING:
    from pathlib import Path


def process(proc: Path, pid: int, comm: bytes, files: dict[int, tuple[str, str]]) -> None:
    """A process whose descriptors show these names and have this fdinfo."""
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "fdinfo").mkdir()
    (folder / "comm").write_bytes(comm + b"\n")
    for fd, (name, info) in files.items():
        os.symlink(name, folder / "fd" / str(fd))
        (folder / "fdinfo" / str(fd)).write_text(info)


def test_processes_and_their_objects(tmp_path: Path) -> None:
    process(
        tmp_path,
        20,
        b"loader",
        {
            0: ("/dev/null", "pos:\t0\n"),
            5: ("anon_inode:bpf-prog", "pos:\t0\nprog_type:\t5\nprog_id:\t7\n"),
            6: ("anon_inode:bpf-map", "map_type:\t1\nmap_id:\t8\n"),
            # A link tells its program too; what counts is the link.
            7: ("anon_inode:bpf_link", "link_type:\titer\nlink_id:\t9\nprog_id:\t70\n"),
            8: ("anon_inode:btf", "btf_id:\t10\n"),
            9: ("anon_inode:[perf_event]", "pos:\t0\n"),
            10: ("anon_inode:bpf-map", "map_type:\t1\nmap_id:\t8\n"),
        },
    )
    process(tmp_path, 3, b"other \xff", {4: ("anon_inode:bpf-map", "map_id:\t8\n")})
    (tmp_path / "self").mkdir()
    found = read_holders(str(tmp_path))
    loader, other = Holder(20, "loader"), Holder(3, os.fsdecode(b"other \xff"))
    assert dict(found.by_object) == {
        ("prog", 7): (loader,),
        ("map", 8): (other, loader),
        ("link", 9): (loader,),
        ("btf", 10): (loader,),
    }
    assert found.of("map", 8) == (other, loader)
    assert found.of("prog", 70) == ()
    assert found.perf_events == (PerfEvent(loader, 9),)
    assert found.unseen == 0


def test_a_new_name_of_links(tmp_path: Path) -> None:
    process(tmp_path, 4, b"x", {4: ("anon_inode:bpf-link", "link_id:\t3\n")})
    assert read_holders(str(tmp_path)).of("link", 3) == (Holder(4, "x"),)


def test_processes_that_go_meanwhile(tmp_path: Path) -> None:
    process(tmp_path, 5, b"x", {4: ("anon_inode:bpf-map", "map_id:\t8\n")})
    (tmp_path / "5" / "fdinfo" / "4").unlink()
    (tmp_path / "6").mkdir()
    found = read_holders(str(tmp_path))
    assert dict(found.by_object) == {}
    assert found.unseen == 0


def test_processes_that_may_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process(tmp_path, 5, b"x", {4: ("anon_inode:bpf-map", "map_id:\t8\n")})
    process(tmp_path, 6, b"y", {4: ("anon_inode:bpf-map", "map_id:\t8\n")})
    listdir = os.listdir

    def guarded(path: str) -> list[str]:
        if path.endswith("/5/fd"):
            raise PermissionError(13, "no")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", guarded)
    found = read_holders(str(tmp_path))
    assert found.unseen == 1
    assert found.of("map", 8) == (Holder(6, "y"),)


def test_no_proc(tmp_path: Path) -> None:
    assert read_holders(str(tmp_path / "none")).by_object == {}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("map_id:\t12\n", 12),
        ("xmap_id:\t12\nmap_id:\t3", 3),
        ("map_id:\t-1\n", None),
        ("map_id:\t99999999999\n", None),
        ("map_id\n", None),
        ("", None),
    ],
)
def test_lines_of_fdinfo(text: str, number: int | None) -> None:
    assert parse_id(text, "map_id") == number
