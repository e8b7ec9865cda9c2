"""apt with folders of its own: what it is asked, and what is made of its answers."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import NotSupportedError, TargetError
from tracebee.microvm import archive as room
from tracebee.microvm.archive import (
    Archive,
    DownloadError,
    Package,
    Source,
    find_address,
    find_source,
    megabytes,
    parse_packages,
    read_package,
    run_apt,
)

from .fakearchive import ARCHITECTURE, FakeArchive, is_running, tar_of, use

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    archive = FakeArchive(tmp_path)
    use(archive, monkeypatch)
    return archive


def silence(text: str, share: float) -> None:
    pass


# ---------------------------------------------------------------------- where the archive is

MAIN = "Debian|Debian|main|bookworm|http://one.invalid/debian/"


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ([MAIN], "http://one.invalid/debian/"),
        (
            ["Debian|Debian-Security|main|bookworm-security|http://s.invalid/", MAIN],
            "http://one.invalid/debian/",
        ),
        (["Ubuntu|Ubuntu|main|noble|http://u.invalid/ubuntu/"], ""),
        (
            [
                "Google|x|main|cloud-sdk|http://g.invalid/",
                "Debian Backports|Debian Backports|main|x|http://b/",
            ],
            "",
        ),
        (["Debian|Debian|contrib|bookworm|http://one.invalid/debian/"], ""),
        (["Debian|Debian|main|bookworm|cdrom://[Debian]/"], ""),
        (
            ["Debian|Debian|main|bookworm|mirror+file:/etc/apt/mirrors/debian.list"],
            "mirror+file:/etc/apt/mirrors/debian.list",
        ),
        # Before the first update apt knows no origin.
        (["$(ORIGIN)|$(LABEL)|main|bookworm|http://one.invalid/debian/"], "http://one.invalid/debian/"),
        (["||main|sid|http://one.invalid/debian/"], "http://one.invalid/debian/"),
        (["$(ORIGIN)|$(LABEL)|main|noble|http://u.invalid/ubuntu/"], ""),
        (["$(ORIGIN)|$(LABEL)|stable|bookworm|http://docker.invalid/linux/debian/"], ""),
        (["||main|bookworm|http://s.invalid/debian-security/"], ""),
        (["", "|", "|||||||", "no such option"], ""),
        ([], ""),
    ],
)
def test_find_address(lines: list[str], address: str) -> None:
    assert find_address(lines) == address


def test_the_address_comes_from_apt(fake: FakeArchive) -> None:
    assert find_source().address == "http://archive.invalid/debian/"


def test_the_address_comes_from_the_environment(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = fake.folder / "keys.gpg"
    keyring.touch()
    monkeypatch.setenv("TRACEBEE_DEBIAN_ARCHIVE", "http://mine.invalid/debian")
    monkeypatch.setenv("TRACEBEE_DEBIAN_KEYRING", str(keyring))
    assert find_source() == Source("http://mine.invalid/debian", str(keyring))
    assert fake.commands("indextargets") == []


def test_no_debian(fake: FakeArchive) -> None:
    fake.targets = ["Ubuntu|Ubuntu|main|noble|http://u.invalid/ubuntu/"]
    fake.write()
    with pytest.raises(NotSupportedError, match="needs a Debian archive, and apt knows none here") as caught:
        find_source()
    assert "TRACEBEE_DEBIAN_ARCHIVE" in caught.value.hint
    assert "TRACEBEE_DEBIAN_KEYRING" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("TRACEBEE_DEBIAN_KEYRING", "/nonexistent/keys.gpg", "no such keyring"),
        ("TRACEBEE_DEBIAN_ARCHIVE", "http://x.invalid/ bookworm\nTrusted: yes", "no spaces or line breaks"),
    ],
)
def test_bad_environment(
    fake: FakeArchive, monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TargetError, match=complaint):
        find_source()


def test_missing_programs(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake.folder))
    with pytest.raises(NotSupportedError, match="apt-get, which is not here") as caught:
        find_source()
    assert "install apt" in caught.value.hint
    with pytest.raises(NotSupportedError, match="dpkg-deb, which is not here"):
        read_package("x.deb", lambda *_: None)


# ---------------------------------------------------------------------- package lists

PACKAGES = b"""\
Package: linux-image-6.1.0-50-cloud-amd64
Source: linux-signed-amd64 (6.1.176+1)
Version: 6.1.176-1
Installed-Size: 105110
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120) | linux-initramfs-tool
Description: Linux 6.1
 Package: linux-image-in-a-description
Size: 26484304

Package: linux-image-6.1.0-47-cloud-amd64
Version: 6.1.170-1
Size: 7

Package: bash
Version: 5
Size: 1

Package: linux-image-no-size
Version: 1

Package: linux-image-odd-size
Version: 1
Size: -4

Package: linux-image-last
Version: 2
Size: 3"""


def test_parse_packages() -> None:
    first, second, last = parse_packages(PACKAGES, "bookworm", "linux-image-")
    depends = ("kmod", "linux-base", "initramfs-tools")
    assert first == Package(
        *("linux-image-6.1.0-50-cloud-amd64", "6.1.176-1", "bookworm", 26484304, 105110 * 1024, depends)
    )
    assert second == Package("linux-image-6.1.0-47-cloud-amd64", "6.1.170-1", "bookworm", 7, 0)
    assert last.name == "linux-image-last"


@given(st.binary(max_size=200), st.sampled_from([b"\n", b"\n\n", b": ", b"Size: 5\n", b"Version: \n"]))
def test_any_list(noise: bytes, between: bytes) -> None:
    text = b"Package: linux-image-1\n" + noise + between + noise + b"\n\n" + PACKAGES
    names = [package.name for package in parse_packages(text, "sid", "linux-image-")]
    assert names[-1] == "linux-image-last"


def files_of(path: str) -> list[tuple[str, int, bytes]]:
    found = []
    read_package(path, lambda name, size, contents: found.append((name, size, contents.read())))
    return found


def archive_in(fake: FakeArchive) -> Archive:
    return Archive(str(fake.folder / "apt"), Source("http://archive.invalid/debian", ""), ARCHITECTURE)


def test_update_and_download(fake: FakeArchive) -> None:
    fake.add("sid", "linux-image-7", "7.0-1", {"./x": b"abc"})
    archive = archive_in(fake)
    steps: list[tuple[str, float]] = []
    assert archive.update(["sid", "trixie"], lambda text, share: steps.append((text, share))) == {}
    assert steps[0] == ("reading the package lists of sid, trixie", 0.0)
    assert steps[-1] == ("reading the package lists of sid, trixie", 1.0)
    assert archive.packages("trixie", "linux-") == []
    assert archive.packages("bookworm", "linux-") == []
    (package,) = archive.packages("sid", "linux-")
    (fake.folder / "to").mkdir()
    (path,) = archive.download("7.0", [package], str(fake.folder / "to"), silence)
    assert os.path.basename(path) == "linux-image-7_7.0-1_amd64.deb"
    assert files_of(path) == [("./x", 3, b"abc")]
    # The system's apt is told of nothing of ours, and the other way round.
    configuration = (fake.folder / "apt" / "apt.conf").read_text()
    for key in (
        "Dir::State",
        "Dir::State::Lists",
        "Dir::State::Status",
        "Dir::Cache",
        "Dir::Etc::SourceList",
    ):
        assert f'\n{key} "{fake.folder}/apt' in configuration
    assert ('APT::Sandbox::User "root"' in configuration) is (os.geteuid() == 0)


def test_lists_of_another_address_are_another_s(fake: FakeArchive) -> None:
    fake.add("sid", "linux-image-7", "7.0-1", {})
    archive = archive_in(fake)
    archive.update(["sid"], silence)
    other = Archive(archive.folder, Source("http://other.invalid/debian", ""), ARCHITECTURE)
    assert other.packages("sid", "linux-") == []
    assert len(archive.packages("sid", "linux-")) == 1


def test_a_suite_that_is_not_there(fake: FakeArchive) -> None:
    del fake.suites["sid"]
    fake.write()
    failed = archive_in(fake).update(["bookworm", "sid"], silence)
    assert failed == {"sid": "404  Not Found"}


def test_an_error_that_names_no_suite(fake: FakeArchive) -> None:
    fake.fail = {"update": "say E: The method driver could not be found."}
    fake.write()
    failed = archive_in(fake).update(["bookworm", "sid"], silence)
    assert failed == dict.fromkeys(["bookworm", "sid"], "The method driver could not be found.")


def test_a_damaged_list(fake: FakeArchive) -> None:
    fake.add("sid", "linux-image-7", "7.0-1", {})
    archive = archive_in(fake)
    archive.update(["sid"], silence)
    (path,) = (fake.folder / "apt").glob("lists-*/*_sid_*")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(TargetError, match="is damaged") as caught:
        archive.packages("sid", "linux-")
    assert "--refresh" in caught.value.hint


def test_no_room_for_lists(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LIST_BYTES", 1 << 62)
    with pytest.raises(TargetError, match=r"the disk is full; .* MB are needed"):
        archive_in(fake).update(["sid"], silence)
    assert fake.commands("update") == []


# ---------------------------------------------------------------------- apt-get


def ran(fake: FakeArchive, failure: str) -> list[str]:
    """What run_apt says of an apt-get that fails."""
    fake.fail = {"download": failure}
    fake.write()
    return run_apt(["download"], str(fake.folder), lambda share: None)


def test_reasons(fake: FakeArchive) -> None:
    said = "W: Target Packages is configured twice\nE: one\nE: one\nW: GPG error: two\nE: three"
    assert ran(fake, f"say {said}") == ["one", "GPG error: two", "three"]
    assert ran(fake, "say mumble") == ["apt-get ended with status 100"]


def test_a_full_disk_is_told_apart(fake: FakeArchive) -> None:
    for text in (
        "E: Write error - write (28: No space left on device)",
        "E: You don't have enough free space in /x",
    ):
        with pytest.raises(OSError, match="No space left") as caught:
            ran(fake, f"say {text}")
        assert caught.value.errno == errno.ENOSPC


def test_apt_that_stands_still(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "STALLED_S", 0)
    with pytest.raises(DownloadError, match="has done nothing for 0 s"):
        ran(fake, "hang")
    pid = fake.hanging()
    assert pid is None or not is_running(pid)


def test_apt_is_ended_on_an_interrupt(fake: FakeArchive) -> None:
    fake.fail = {"download": "hang"}
    fake.write()

    def interrupt(share: float) -> None:
        deadline = time.monotonic() + 60
        while fake.hanging() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_apt(["download"], str(fake.folder), interrupt)
    pid = fake.hanging()
    assert pid is not None
    assert not is_running(pid)


# ---------------------------------------------------------------------- packages


def contents_of(fake: FakeArchive, data: bytes) -> list[tuple[str, int, bytes]]:
    path = fake.folder / "some.deb"
    path.write_bytes(data)
    return files_of(str(path))


def test_only_regular_files(fake: FakeArchive) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind in (
            ("./d", tarfile.DIRTYPE),
            ("./l", tarfile.SYMTYPE),
            ("./h", tarfile.LNKTYPE),
            ("./f", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd"
            tar.addfile(member)
    assert contents_of(fake, out.getvalue()) == [("./f", 0, b"")]


@pytest.mark.parametrize("end", [100, 600, 1100])
def test_a_package_that_ends_early(fake: FakeArchive, end: int) -> None:
    data = tar_of({"./a": b"a" * 3000, "./b": b"b" * 3000})
    with pytest.raises(TargetError, match=r"some\.deb: cannot be unpacked"):
        contents_of(fake, data[:end])


def test_dpkg_that_fails(fake: FakeArchive) -> None:
    (fake.bin / "dpkg-deb").write_text("#!/bin/sh\necho 'not a Debian format archive' >&2\nexit 2\n")
    with pytest.raises(TargetError, match="cannot be unpacked: not a Debian format archive"):
        contents_of(fake, b"")


def test_megabytes() -> None:
    assert [megabytes(size) for size in (0, 26_484_304, 260_000_000)] == ["0.0 MB", "26.5 MB", "260 MB"]
