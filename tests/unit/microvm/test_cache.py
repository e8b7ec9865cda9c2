"""The folder of fetched kernels: whole or not there, and checked."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import TargetError
from tracebee.microvm import cache
from tracebee.microvm.archive import Package
from tracebee.microvm.cache import (
    cache_folder,
    damage_of,
    kernel_folder,
    kernels_folder,
    locked,
    make,
    place_of,
    read_manifest,
    silence,
    write_whole,
)
from tracebee.microvm.offers import Offer

from .fakearchive import FakeArchive, image_of, named, tar_of, use

RELEASE = named("6.1.0-50")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    archive = FakeArchive(tmp_path)
    use(archive, monkeypatch)
    return archive


FILES = {
    f"./boot/vmlinuz-{RELEASE}": image_of(RELEASE),
    f"./boot/config-{RELEASE}": b"CONFIG_BPF=y\n",
    f"./lib/modules/{RELEASE}/kernel/a.ko": b"a" * 10,
    f"./lib/modules/{RELEASE}/kernel/b.ko": b"b" * 20,
    "./usr/share/doc/linux/copyright": b"text",
}


def offer_of(name: str = "linux-image") -> Offer:
    return Offer("6.1.176", RELEASE, "bookworm", 100, 400, True, (Package(name, "1", "bookworm", 100, 400),))


def made(files: dict[str, bytes] = FILES) -> Path:
    """A kernel in the cache, of a package with these files."""

    def fetch(folder: str) -> list[str]:
        path = os.path.join(folder, "x.deb")
        Path(path).write_bytes(tar_of(files))
        return [path]

    with locked(silence):
        make(offer_of(), fetch, silence)
    return Path(kernel_folder(RELEASE))


# ---------------------------------------------------------------------- where


@pytest.mark.parametrize(
    ("value", "folder"),
    [
        ("/c", "/c/tracebee"),
        ("", "/h/.cache/tracebee"),
        ("relative", "/h/.cache/tracebee"),
        (None, "/h/.cache/tracebee"),
    ],
)
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, value: str | None, folder: str) -> None:
    monkeypatch.setenv("HOME", "/h")
    if value is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_folder() == folder


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("./boot/vmlinuz-R", "boot/vmlinuz-R"),
        ("./boot/config-R", "boot/config-R"),
        ("./boot/System.map-R", None),
        ("./lib/modules/R/kernel/fs/x.ko", "lib/modules/R/kernel/fs/x.ko"),
        ("./usr/lib/modules/R/kernel/fs/x.ko.xz", "lib/modules/R/kernel/fs/x.ko.xz"),
        ("usr/lib/modules/R/vmlinuz", "boot/vmlinuz-R"),
        ("./usr/lib/modules/R/config", "boot/config-R"),
        ("./usr/lib/modules/R/System.map", None),
        ("./usr/lib/modules/R/modules.builtin", "lib/modules/R/modules.builtin"),
        ("./lib/modules/R/../../../../etc/passwd", None),
        ("./lib/modules/R//etc/passwd", None),
        ("./lib/modules/R/", None),
        ("./lib/modules/OTHER/x.ko", None),
        ("./boot/vmlinuz-OTHER", None),
        ("/boot/vmlinuz-R", None),
        ("./usr/share/doc/x", None),
    ],
)
def test_place_of(name: str, place: str | None) -> None:
    assert place_of(name, "R") == place


@given(st.text(alphabet="./abR\0-", max_size=30))
def test_no_place_is_outside(end: str) -> None:
    for start in ("./lib/modules/R/", "./usr/lib/modules/R", "./boot/", ""):
        place = place_of(start + end, "R")
        assert place is None or os.path.normpath(place) == place
        assert place is None or place.startswith(("boot/", "lib/modules/R/"))


# ---------------------------------------------------------------------- a kernel in the cache


def test_made(fake: FakeArchive) -> None:
    folder = made()
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    modules = {f"lib/modules/{RELEASE}/kernel/{name}.ko" for name in "ab"}
    assert found == {f"boot/vmlinuz-{RELEASE}", f"boot/config-{RELEASE}", "kernel.json", *modules}
    manifest = read_manifest(RELEASE)
    assert manifest is not None
    assert manifest["modules"] == [2, 30]
    assert damage_of(RELEASE) == ""
    assert sorted(os.listdir(kernels_folder())) == [RELEASE, "lock"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "harm", "complaint"),
    [
        ("boot/vmlinuz-R", cut, "instead of 1536"),
        ("boot/vmlinuz-R", flip, "is not what was fetched"),
        ("boot/vmlinuz-R", Path.unlink, "No such file"),
        ("boot/config-R", empty, "has 0 bytes"),
        ("lib/modules/R/kernel/a.ko", Path.unlink, "modules are missing"),
        ("lib/modules/R/kernel/a.ko", empty, "other sizes"),
        ("kernel.json", Path.unlink, "record is missing"),
        ("kernel.json", cut, "record is missing"),
        ("kernel.json", empty, "record is missing"),
    ],
)
def test_damage_is_seen(fake: FakeArchive, name: str, harm: Any, complaint: str) -> None:
    folder = made()
    harm(folder / name.replace("R", RELEASE))
    assert complaint in damage_of(RELEASE)
    # Made again, it takes the place of what was damaged.
    made()
    assert damage_of(RELEASE) == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(["format", "version", "files", "modules"]), json_values)
def test_any_record(key: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        kernel = Path(kernel_folder("R"))
        kernel.mkdir(parents=True)
        record = {"format": 1, "version": "1", "files": {"boot/vmlinuz-R": [1, "0"]}, "modules": [0, 0]}
        (kernel / "kernel.json").write_text(json.dumps(record | {key: value}))
        assert damage_of("R") != ""


# ---------------------------------------------------------------------- what fails leaves nothing


def test_a_package_of_another_kernel(fake: FakeArchive) -> None:
    for files in ({}, {f"./boot/config-{RELEASE}": b""}):
        with pytest.raises(TargetError, match="linux-image: holds no kernel image"):
            made(files)
    assert os.listdir(kernels_folder()) == ["lock"]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only a bzImage tells its release")
@pytest.mark.parametrize("data", [b"", b"MZ" * 1000, image_of("6.1.0-51-cloud-amd64")])
def test_an_image_of_another_kernel(fake: FakeArchive, data: bytes) -> None:
    made()
    with pytest.raises(TargetError, match="linux-image: holds an image of"):
        made({f"./boot/vmlinuz-{RELEASE}": data})
    # What was there before stays.
    assert damage_of(RELEASE) == ""


class Usage(NamedTuple):
    free: int


def test_too_little_room(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: Usage(499))
    with pytest.raises(TargetError, match=r"the disk is full; 0\.0 MB are needed") as caught:
        made()
    assert "vm clean" in caught.value.hint
    assert os.listdir(kernels_folder()) == ["lock"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def copy(contents: Any, path: str) -> str:
        if path.endswith("b.ko"):
            raise OSError(number, os.strerror(number), path)
        return original(contents, path)

    original = cache._copy
    monkeypatch.setattr(cache, "_copy", copy)
    with pytest.raises(TargetError, match="the disk is full") as caught:
        made()
    assert caught.value.target == cache_folder()
    assert os.listdir(kernels_folder()) == ["lock"]
    monkeypatch.setattr(cache, "_copy", original)
    made()
    assert damage_of(RELEASE) == ""


def test_an_interrupt(fake: FakeArchive) -> None:
    def fetch(folder: str) -> list[str]:
        Path(folder, "half.deb").write_bytes(b"")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), locked(silence):
        make(offer_of(), fetch, silence)
    assert os.listdir(kernels_folder()) == ["lock"]


def test_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "makedirs", _refuse)
    with pytest.raises(TargetError, match="cannot be written: Permission denied") as caught, locked(silence):
        pass
    assert "XDG_CACHE_HOME" in caught.value.hint


def _refuse(path: str, exist_ok: bool) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def test_write_whole(tmp_path: Path) -> None:
    path = tmp_path / "below" / "x.json"
    write_whole(str(path), "one")
    write_whole(str(path), "two")
    assert path.read_text() == "two"
    with pytest.raises(UnicodeEncodeError):
        write_whole(str(path), "half \ud800")
    assert path.read_text() == "two"
    assert os.listdir(path.parent) == ["x.json"]


# ---------------------------------------------------------------------- the lock


def test_what_a_crash_left_is_swept(fake: FakeArchive) -> None:
    folder = made()
    left = folder.parent / "new-crashed"
    (left / "made" / "boot").mkdir(parents=True)
    with locked(silence):
        assert sorted(os.listdir(kernels_folder())) == [RELEASE, "lock"]


HOLDER = """
import fcntl, sys
lock = open(sys.argv[1])
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time(fake: FakeArchive) -> None:
    with locked(silence):
        path = os.path.join(kernels_folder(), "lock")
        with open(path, "rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        said: list[str] = []

        def tell(text: str, share: float) -> None:
            said.append(text)
            assert holder.stdin is not None
            holder.stdin.close()

        with locked(tell):
            assert holder.wait() == 0
    assert said == ["waiting for another tracebee that uses the cache"]
