"""Kernels from the cache, from an archive (a fake one here), and from a path."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracebee.errors import NotSupportedError, TargetError, UsageError
from tracebee.microvm import catalogue
from tracebee.microvm.kernels import (
    available_kernels,
    cache_folder,
    cached_kernels,
    clean,
    fetch_kernel,
    find_kernel,
    kernel_at,
    size_of,
)

from .fakearchive import FakeArchive, image_of, is_running, named, use

PATIENCE_S = 60
"""For what another process will do at once, on a host that is not overloaded."""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    archive = FakeArchive(tmp_path)
    use(archive, monkeypatch)
    archive.add_kernel("bookworm", "6.1.0-47", "6.1.170")
    archive.add_kernel("bookworm", "6.1.0-50", "6.1.176")
    archive.add_kernel("trixie", "6.12.107+deb13", "6.12.107")
    return archive


class Told:
    """Collects what progress is told: each text once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.shares: list[float] = []

    def __call__(self, text: str, share: float) -> None:
        self.shares.append(share)
        if text not in self.texts:
            self.texts.append(text)


# ---------------------------------------------------------------------- finding and fetching


def test_fetched_then_cached(fake: FakeArchive) -> None:
    told = Told()
    kernel = find_kernel("6.1", told)
    release = named("6.1.0-50")
    folder = f"{fake.folder}/cache/tracebee/kernels/{release}"
    assert (kernel.name, kernel.release, kernel.version) == ("6.1", release, "6.1.176")
    assert kernel.image == f"{folder}/boot/vmlinuz-{release}"
    assert kernel.modules == f"{folder}/lib/modules/{release}"
    assert kernel.config == f"{folder}/boot/config-{release}"
    assert Path(kernel.image).read_bytes() == image_of(release)
    assert os.listdir(f"{kernel.modules}/kernel") == ["a.ko"]
    assert [text.split()[0] for text in told.texts] == ["reading", "fetching", "unpacking"]
    assert told.texts[0] == "reading the package lists of bookworm"
    assert min(told.shares) >= 0
    assert max(told.shares) == 1
    # From now on neither a network nor apt is needed.
    for name in ("apt-get", "dpkg-deb"):
        (fake.bin / name).unlink()
    assert find_kernel("6.1") == kernel
    assert find_kernel("6.1.176").image == kernel.image
    assert [one.release for one in cached_kernels()] == [release]
    assert size_of(kernel) == 1536 + len("CONFIG_BPF=y\n") + 300 + len("kernel/a.ko\n")


def test_only_the_lists_that_are_needed(fake: FakeArchive) -> None:
    find_kernel("6.1")
    find_kernel("6.12")
    read = [f.name.split("_dists_")[1].split("_")[0] for f in Path(cache_folder()).glob("apt/lists-*/*.gz")]
    assert sorted(read) == ["bookworm", "trixie"]
    assert len(fake.commands("update")) == 2


def test_elsewhere_than_thought(fake: FakeArchive) -> None:
    fake.add_kernel("sid", "6.12.200", "6.12.200")
    assert find_kernel("6.12.200").release == named("6.12.200")


def test_a_kernel_of_several_packages(fake: FakeArchive) -> None:
    release = named("7.2.13+deb14")
    top = f"./usr/lib/modules/{release}"
    fake.add("sid", f"linux-base-{release}", "7.2.13-1", {f"{top}/config": b"C", f"{top}/System.map": b"x"})
    fake.add("sid", f"linux-modules-{release}", "7.2.13-1", {f"{top}/kernel/a.ko.xz": b"ko"})
    fake.add("sid", f"linux-binary-{release}", "7.2.13-1", {f"{top}/vmlinuz": image_of(release)})
    fake.add(
        "sid", f"linux-image-{release}", "7.2.13-1", {"./usr/share/doc/x": b""}, f"linux-binary-{release}"
    )
    kernel = find_kernel("7")
    assert kernel.release == release
    assert Path(kernel.image).read_bytes() == image_of(release)
    assert Path(kernel.config).read_bytes() == b"C"
    assert os.listdir(kernel.modules) == ["kernel"]


def test_a_kernel_without_modules(fake: FakeArchive) -> None:
    release = named("7.0.13+deb13")
    fake.add(
        "trixie-backports",
        f"linux-binary-{release}",
        "7.0.13-1",
        {f"./usr/lib/modules/{release}/vmlinuz": image_of(release)},
    )
    kernel = find_kernel("7.0")
    assert (kernel.modules, kernel.config) == ("", "")


def test_unknown(fake: FakeArchive) -> None:
    with pytest.raises(UsageError, match=r"^no kernel 4\.19: there are 6\.12, 6\.1$"):
        find_kernel("4.19")
    with pytest.raises(UsageError, match="neither a kernel version nor"):
        find_kernel("newest")


def test_fetch_takes_the_newest(fake: FakeArchive) -> None:
    fetch_kernel("6.1.0-47")
    assert find_kernel("6.1").release == named("6.1.0-47")
    assert fetch_kernel("6.1").release == named("6.1.0-50")
    assert find_kernel("6.1").release == named("6.1.0-50")
    assert fetch_kernel("6.1").release == named("6.1.0-50")
    assert len(fake.commands("download")) == 2


def test_a_damaged_kernel_is_fetched_again(fake: FakeArchive) -> None:
    kernel = find_kernel("6.1.0-47")
    Path(kernel.image).write_bytes(b"")
    told = Told()
    # The very same release, though there is a newer one.
    assert find_kernel("6.1", told).release == named("6.1.0-47")
    assert told.texts[0] == (
        f"{kernel.release}: the cached copy is damaged (boot/vmlinuz-{kernel.release} has 0 bytes instead of 1536); "
        "fetching it again"
    )
    assert -1.0 in told.shares
    assert Path(kernel.image).read_bytes() == image_of(kernel.release)


def test_a_damaged_kernel_that_the_archive_has_no_more(fake: FakeArchive) -> None:
    Path(find_kernel("6.1.0-47").image).write_bytes(b"")
    fake.suites["bookworm"] = [one for one in fake.suites["bookworm"] if "-47-" not in one[0]]
    fake.write()
    Path(cache_folder(), "apt", "catalogue.json").unlink()
    assert find_kernel("6.1").release == named("6.1.0-50")


def test_a_list_that_is_out_of_date(fake: FakeArchive) -> None:
    available_kernels()
    # A point release has replaced what the list names.
    old = f"linux-image-{named('6.1.0-50')}=6.1.176-1"
    del fake.debs[old]
    fake.suites["bookworm"] = []
    fake.add_kernel("bookworm", "6.1.0-51", "6.1.180")
    assert find_kernel("6.1").release == named("6.1.0-51")
    assert len(fake.commands("update")) == 2


def test_a_download_that_fails(fake: FakeArchive) -> None:
    fake.fail = {"download": "say E: Failed to fetch x  Hash Sum mismatch"}
    fake.write()
    with pytest.raises(
        TargetError, match="cannot be fetched: Failed to fetch x  Hash Sum mismatch"
    ) as caught:
        find_kernel("6.1")
    assert "in reach" in caught.value.hint
    assert cached_kernels() == []
    fake.fail = {}
    fake.write()
    assert find_kernel("6.1").release == named("6.1.0-50")


def test_a_corrupt_package(fake: FakeArchive) -> None:
    release = named("6.1.0-60")
    fake.add_raw("bookworm", f"linux-image-{release}", "6.1.190-1", b"no tar at all")
    with pytest.raises(TargetError, match="cannot be unpacked"):
        find_kernel("6.1")
    assert find_kernel("6.1.0-50").release == named("6.1.0-50")
    assert sorted(os.listdir(f"{cache_folder()}/kernels")) == [named("6.1.0-50"), "lock"]


def test_no_network(fake: FakeArchive) -> None:
    fake.fail = {"update": "say W: Failed to fetch http://a/dists/bookworm/InRelease  Could not resolve 'a'"}
    fake.write()
    with pytest.raises(TargetError, match="lists of bookworm cannot be read: Could not resolve 'a'"):
        find_kernel("6.1")


def test_strange_keys(fake: FakeArchive) -> None:
    fake.fail = {"update": "say W: GPG error: http://a bookworm InRelease: no public key"}
    fake.write()
    with pytest.raises(TargetError, match="no public key") as caught:
        find_kernel("6.1")
    assert "TRACEBEE_DEBIAN_KEYRING" in caught.value.hint


def test_no_apt(fake: FakeArchive) -> None:
    (fake.bin / "apt-get").unlink()
    with pytest.raises(NotSupportedError, match="apt-get, which is not here"):
        find_kernel("6.1")


def test_a_cache_that_apt_cannot_name(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", f'{fake.folder}/a"b')
    with pytest.raises(TargetError, match="apt takes no folder of such a name"):
        find_kernel("6.1")


# ---------------------------------------------------------------------- what there is


def test_available(fake: FakeArchive) -> None:
    offers, problems = available_kernels()
    assert problems == []
    assert [(one.version, one.suite) for one in offers] == [
        *(("6.12.107", "trixie"), ("6.1.176", "bookworm"), ("6.1.170", "bookworm")),
    ]
    assert all(one.size > 0 and one.installed > 0 for one in offers)
    again = available_kernels()
    assert again == (offers, [])
    assert len(fake.commands("update")) == 1
    available_kernels(refresh=True)
    assert len(fake.commands("update")) == 2


def test_lists_age(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    available_kernels()
    now = time.time()
    for shift, updates in ((0, 1), (catalogue.FRESH - 60, 1), (catalogue.FRESH + 60, 2), (-10, 3)):
        monkeypatch.setattr(catalogue.time, "time", lambda shift=shift: now + shift)
        available_kernels()
        assert len(fake.commands("update")) == updates


def test_a_suite_that_is_gone(fake: FakeArchive) -> None:
    del fake.suites["bullseye"]
    fake.write()
    offers, problems = available_kernels()
    assert len(offers) == 3
    assert problems == ["the package lists of bullseye cannot be read: 404  Not Found"]


def test_old_lists_serve_where_there_is_no_network(fake: FakeArchive) -> None:
    offers, _ = available_kernels()
    fake.fail = {"update": "say E: no network"}
    fake.write()
    found, problems = available_kernels(refresh=True)
    assert found == offers
    assert problems == [
        "the package lists of bullseye, bookworm, trixie, trixie-backports, sid cannot be read: no network"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 0}',
        '{"format": 1, "architecture": "ARCH", "archive": "", "suites": {"sid": {"read": 1, "packages": [["a"]]}}}',
        '{"format": 1, "architecture": "ARCH", "archive": "", "suites": {"sid": {"read": "x", "packages": []}}}',
        '{"format": 1, "architecture": "ARCH", "archive": "", "suites": []}',
        "[" * 100_000,
    ],
)
def test_a_damaged_catalogue(fake: FakeArchive, text: str) -> None:
    path = Path(cache_folder(), "apt", "catalogue.json")
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("ARCH", named("").removeprefix("-cloud-")))
    offers, problems = available_kernels()
    assert (len(offers), problems) == (3, [])


def test_another_archive_has_another_catalogue(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    available_kernels()
    monkeypatch.setenv("TRACEBEE_DEBIAN_ARCHIVE", "http://other.invalid/debian")
    available_kernels()
    assert len(fake.commands("update")) == 2


# ---------------------------------------------------------------------- removing


def test_clean_some(fake: FakeArchive) -> None:
    for name in ("6.1.0-47", "6.1.0-50", "6.12"):
        fetch_kernel(name)
    before = {kernel.release: size_of(kernel) for kernel in cached_kernels()}
    with pytest.raises(UsageError, match=r"no kernel 5\.10 in the cache: there are 6\.12"):
        clean(["6.12", "5.10"])
    assert len(cached_kernels()) == 3
    # What a record says, and the record itself.
    freed = clean(["6.1"])
    assert freed > before[named("6.1.0-47")] + before[named("6.1.0-50")]
    assert [kernel.release for kernel in cached_kernels()] == [named("6.12.107+deb13")]
    assert sorted(os.listdir(f"{cache_folder()}/kernels")) == [named("6.12.107+deb13"), "lock"]


def test_clean_all(fake: FakeArchive) -> None:
    find_kernel("6.1")
    images = Path(cache_folder(), "images")
    images.mkdir()
    (images / "a.cpio").write_bytes(bytes(5000))
    (Path(cache_folder()) / "notes").write_text("not ours")
    freed = clean()
    assert freed > 5000 + 1536
    left = {
        str(path.relative_to(cache_folder())) for path in Path(cache_folder()).rglob("*") if path.is_file()
    }
    assert left == {"kernels/lock", "notes"}
    assert clean() == 0
    assert find_kernel("6.1").release == named("6.1.0-50")


def test_clean_nothing(fake: FakeArchive) -> None:
    assert clean() == 0
    assert not os.path.exists(cache_folder())
    with pytest.raises(UsageError, match=r"no kernel 6\.1 in the cache: it has no kernels"):
        clean(["6.1"])


def test_clean_follows_no_link(fake: FakeArchive) -> None:
    elsewhere = fake.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    os.makedirs(cache_folder())
    os.symlink(elsewhere, f"{cache_folder()}/images")
    clean()
    assert (elsewhere / "precious").exists()


# ---------------------------------------------------------------------- several processes

FETCH = """
import signal, sys
from tracebee.microvm.kernels import find_kernel
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored from the start where tests run in the background
def tell(text, share):
    print(text, flush=True)
print("found", find_kernel("6.1", tell).release, flush=True)
"""


def fetching(fake: FakeArchive) -> subprocess.Popen[str]:
    source = Path(catalogue.__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", FETCH],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(source)},
    )


def hanging_apt(fake: FakeArchive) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while (pid := fake.hanging()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return pid


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ended_in_the_middle(fake: FakeArchive, how: signal.Signals) -> None:
    fake.fail = {"download": "hang"}
    fake.write()
    with fetching(fake) as child:
        apt = hanging_apt(fake)
        child.send_signal(how)
        assert child.wait(PATIENCE_S) != 0
    deadline = time.monotonic() + PATIENCE_S
    while is_running(apt):
        assert time.monotonic() < deadline, "apt-get is still there"
        time.sleep(0.01)
    assert cached_kernels() == []
    fake.fail = {}
    fake.write()
    assert find_kernel("6.1").release == named("6.1.0-50")
    assert sorted(os.listdir(f"{cache_folder()}/kernels")) == [named("6.1.0-50"), "lock"]


def test_two_at_once(fake: FakeArchive) -> None:
    fake.fail = {"download": "hang"}
    fake.write()
    with fetching(fake) as first:
        hanging_apt(fake)
        with fetching(fake) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "waiting for another tracebee that uses the cache\n"
            fake.let_go()
            assert second.stdout.read() == f"found {named('6.1.0-50')}\n"
        assert first.stdout is not None
        assert first.stdout.read().splitlines()[-1] == f"found {named('6.1.0-50')}"
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(fake.commands("download")) == 1


# ---------------------------------------------------------------------- by path


def unpacked(top: Path, release: str = "6.9.0-mine") -> Path:
    """A folder as a package unpacks; the image in it."""
    (top / "boot").mkdir(parents=True)
    image = top / "boot" / f"vmlinuz-{release}"
    image.write_bytes(image_of(release))
    (top / "boot" / f"config-{release}").write_text("C")
    (top / "lib" / "modules" / release).mkdir(parents=True)
    return image


pytest_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="only a bzImage tells its release")


@pytest_x86
def test_a_path(tmp_path: Path) -> None:
    image = unpacked(tmp_path)
    for name in (str(image), str(tmp_path)):
        kernel = find_kernel(name)
        assert (kernel.name, kernel.release, kernel.image) == (name, "6.9.0-mine", str(image))
        assert kernel.modules == str(tmp_path / "lib" / "modules" / "6.9.0-mine")
        assert kernel.config == str(tmp_path / "boot" / "config-6.9.0-mine")


@pytest_x86
def test_a_path_of_newer_packages(tmp_path: Path) -> None:
    folder = tmp_path / "usr" / "lib" / "modules" / "7.2.13"
    folder.mkdir(parents=True)
    (folder / "vmlinuz").write_bytes(image_of("7.2.13"))
    (folder / "config").write_text("C")
    for name in (str(folder / "vmlinuz"), str(tmp_path)):
        kernel = find_kernel(name)
        assert (kernel.image, kernel.modules) == (str(folder / "vmlinuz"), str(folder))
        assert kernel.config == str(folder / "config")


@pytest_x86
def test_a_lonely_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bzImage").write_bytes(image_of("6.9.0"))
    monkeypatch.chdir(tmp_path)
    kernel = find_kernel("bzImage")
    assert (kernel.name, kernel.image) == ("bzImage", str(tmp_path / "bzImage"))
    assert (kernel.release, kernel.modules, kernel.config) == ("6.9.0", "", "")


@pytest_x86
def test_paths_that_are_no_kernels(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF" + bytes(5000))
    with pytest.raises(TargetError, match="is not a bzImage") as caught:
        find_kernel(str(tmp_path / "vmlinux"))
    assert "arch/x86/boot/bzImage" in caught.value.hint
    with pytest.raises(TargetError, match="No such file or directory"):
        find_kernel(str(tmp_path / "missing"))
    with pytest.raises(TargetError, match="one kernel image is wanted there; there is no vmlinuz"):
        kernel_at(str(tmp_path))


def test_a_folder_with_two(tmp_path: Path) -> None:
    unpacked(tmp_path)
    (tmp_path / "boot" / "vmlinuz-other").write_bytes(image_of("other"))
    with pytest.raises(TargetError, match=r"there is .*vmlinuz-6\.9\.0-mine, .*vmlinuz-other"):
        kernel_at(str(tmp_path))
