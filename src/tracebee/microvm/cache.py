"""The folder of what can be made again: kernels, package lists, images.

A fetched kernel is a folder in it that appears whole or not at all::

    cache_folder()/
      kernels/lock                      held (flock) by whoever fetches or cleans
      kernels/6.1.0-50-cloud-amd64/     boot/vmlinuz-…, boot/config-…, lib/modules/…/, kernel.json
      kernels/new-…/                    one that is being made; after a crash, swept by the next who has the lock
      apt/                              lists and configuration of apt, and catalogue.json: what there is to fetch
      images/                           made elsewhere

kernel.json records the size and digest of every file but the modules, and the number and bytes of those: a
file that was damaged since is noticed, and the kernel fetched again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tracebee.errors import TargetError
from tracebee.microvm.archive import disk_full, read_package
from tracebee.microvm.bzimage import parse_release
from tracebee.microvm.offers import architecture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO

    from tracebee.microvm.archive import Progress
    from tracebee.microvm.offers import Offer

FORMAT = 1
"""Of kernel.json; a folder that another release wrote differently is made again."""

MANIFEST = "kernel.json"
COPY_BYTES = 1 << 20


def cache_folder() -> str:
    """The folder of everything that can be made again: $XDG_CACHE_HOME/tracebee, or ~/.cache/tracebee."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored (XDG Base Directory Specification).
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "tracebee")


def kernels_folder() -> str:
    return os.path.join(cache_folder(), "kernels")


def kernel_folder(release: str) -> str:
    return os.path.join(kernels_folder(), release)


def silence(text: str, share: float) -> None:
    pass


@contextmanager
def locked(progress: Progress) -> Iterator[None]:
    """Hold the cache for writing; waits for others, and sweeps what a crash has left.

    The lock goes with the descriptor (flock(2)), also when the process is killed.
    """
    folder = kernels_folder()
    try:
        os.makedirs(folder, exist_ok=True)
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise cache_trouble(error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another tracebee that uses the cache", -1.0)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for name in os.listdir(folder):
            # Invariant: only who has the lock has such a folder.
            if name.startswith("new-"):
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        try:
            yield
        except OSError as error:
            raise cache_trouble(error) from error
    finally:
        os.close(lock)


def cache_trouble(error: OSError) -> Exception:
    """An OSError of work on the cache, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(cache_folder())
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return TargetError(
            cache_folder(),
            f"cannot be written: {error.strerror}",
            "XDG_CACHE_HOME names another folder for caches",
        )
    return error


def make(offer: Offer, fetch: Callable[[str], list[str]], progress: Progress) -> None:
    """Fetch and unpack a kernel; its folder appears at the end, by a rename.  For who holds the lock.

    `fetch` puts the packages of the offer into a folder, and returns their paths.  Raises TargetError for
    packages that hold something else and for a full disk.
    """
    work = tempfile.mkdtemp(prefix="new-", dir=kernels_folder())
    try:
        if shutil.disk_usage(work).free < offer.size + offer.installed:
            raise disk_full(cache_folder(), offer.size + offer.installed)
        fetched = os.path.join(work, "fetched")
        made = os.path.join(work, "made")
        os.mkdir(fetched)
        os.mkdir(made)
        manifest = _unpack(fetch(fetched), made, offer, progress)
        _check_image(made, offer)
        with open(os.path.join(made, MANIFEST), "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
        final = kernel_folder(offer.release)
        if os.path.lexists(final):
            os.rename(final, os.path.join(work, "old"))
        # No fsync: what a power failure takes away, the digests tell.
        os.rename(made, final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack(packages: Sequence[str], folder: str, offer: Offer, progress: Progress) -> dict[str, Any]:
    """Put the files of packages where they belong in `folder`; the record of them."""
    text = f"unpacking {offer.release}"
    files: dict[str, tuple[int, str]] = {}
    modules = [0, 0]
    unpacked = 0

    def take(name: str, size: int, contents: IO[bytes]) -> None:
        nonlocal unpacked
        progress(text, min(unpacked / max(offer.installed, 1), 1.0))
        unpacked += size
        place = place_of(name, offer.release)
        if place is None:
            return
        digest = _copy(contents, os.path.join(folder, place))
        if place.startswith("boot/"):
            files[place] = (size, digest)
        else:
            modules[0] += 1
            modules[1] += size

    for path in packages:
        read_package(path, take)
    progress(text, 1.0)
    return {
        "format": FORMAT,
        "version": offer.version,
        "suite": offer.suite,
        "packages": [[package.name, package.version] for package in offer.packages],
        "files": files,
        "modules": modules,
    }


def place_of(name: str, release: str) -> str | None:
    """Where a file of a package goes in the folder of its kernel; None for what is not wanted."""
    path = name.removeprefix("./").removeprefix("usr/")
    modules = f"lib/modules/{release}/"
    if path in (f"boot/vmlinuz-{release}", f"boot/config-{release}"):
        return path
    if not path.startswith(modules):
        return None
    rest = path.removeprefix(modules)
    if rest in ("vmlinuz", "config"):
        return f"boot/{rest}-{release}"
    if rest == "System.map" or any(part in ("", ".", "..") for part in rest.split("/")):
        return None
    return path


def _copy(contents: IO[bytes], path: str) -> str:
    """Write a file; its SHA-256."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        while piece := contents.read(COPY_BYTES):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _check_image(folder: str, offer: Offer) -> None:
    """Raises TargetError where a package did not hold the kernel that it is named for."""
    path = os.path.join(folder, "boot", f"vmlinuz-{offer.release}")
    try:
        with open(path, "rb") as file:
            release = parse_release(file.read(1 << 16))
    except FileNotFoundError:
        raise TargetError(offer.packages[0].name, "holds no kernel image") from None
    if release != offer.release and architecture() == "amd64":
        raise TargetError(offer.packages[0].name, f"holds an image of {release or 'no known kind'}")


def read_manifest(release: str) -> dict[str, Any] | None:
    """What is recorded of a cached kernel; None if there is none, or a record that makes no sense."""
    if release.startswith("new-"):
        return None
    try:
        with open(os.path.join(kernel_folder(release), MANIFEST), encoding="utf-8") as file:
            manifest = json.load(file)
        sound = (
            manifest["format"] == FORMAT
            and isinstance(manifest["version"], str)
            and all(isinstance(number, int) for number in manifest["modules"])
            and len(manifest["modules"]) == 2
            and all(
                isinstance(size, int) and isinstance(text, str) for size, text in manifest["files"].values()
            )
            and f"boot/vmlinuz-{release}" in manifest["files"]
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return manifest if sound else None


def recorded_size(manifest: dict[str, Any]) -> int:
    sizes: list[int] = [size for size, _ in manifest["files"].values()]
    return sum(sizes) + int(manifest["modules"][1])


def damage_of(release: str) -> str:
    """What is wrong with a cached kernel, or "": sizes and digests are compared with its record."""
    manifest = read_manifest(release)
    if manifest is None:
        return "its record is missing"
    folder = kernel_folder(release)
    for name, (size, digest) in manifest["files"].items():
        try:
            with open(os.path.join(folder, name), "rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    return f"{name} has {found} bytes instead of {size}"
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return f"{name} is not what was fetched"
        except OSError as error:
            return f"{name}: {error.strerror}"
    # The modules' contents are not read: 100 MB before each boot.
    sizes = [size for _, size in _files_below(os.path.join(folder, "lib"))]
    if [len(sizes), sum(sizes)] != manifest["modules"]:
        return "modules are missing or have other sizes"
    return ""


def _files_below(folder: str) -> Iterator[tuple[str, int]]:
    """Path and bytes of all that is not a folder; nothing where there is no such folder."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(entry.path)
        else:
            yield entry.path, entry.stat(follow_symlinks=False).st_size


def remove(folder: str, keep: str = "") -> int:
    """Remove what is in a folder, and the folder unless a file `keep` is in it; the bytes that it freed."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        return 0
    freed = sum(size for _, size in _files_below(folder))
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != keep:
            os.unlink(entry.path)
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    return freed


def write_whole(path: str, text: str) -> None:
    """Write a file that others see whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd, name = tempfile.mkstemp(dir=os.path.dirname(path))
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(name, path)
    except BaseException:
        os.unlink(name)
        raise
