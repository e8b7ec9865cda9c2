"""Kernels to boot: from the cache, from Debian's archive, or from a path."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from tracebee.errors import NotSupportedError, TargetError, UsageError
from tracebee.microvm.archive import SUITES, DownloadError
from tracebee.microvm.bzimage import parse_release
from tracebee.microvm.cache import (
    cache_folder,
    damage_of,
    kernel_folder,
    kernels_folder,
    locked,
    make,
    read_manifest,
    recorded_size,
    remove,
    silence,
)
from tracebee.microvm.catalogue import Catalogue, choose, open_archive
from tracebee.microvm.offers import Offer, architecture, check_name, is_path, means, newest_first, version_key
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.microvm.archive import Progress

__all__ = [
    "Kernel",
    "Offer",
    "available_kernels",
    "cache_folder",
    "cached_kernels",
    "clean",
    "fetch_kernel",
    "find_kernel",
    "kernel_at",
    "size_of",
]


class Kernel(Frozen):
    """A kernel that can be booted."""

    name: str
    """As it was asked for: "6.1", or a path."""
    release: str
    """What `uname -r` says in it."""
    image: str
    """The path of the bzImage."""
    modules: str
    """The path of the folder lib/modules/RELEASE, or "" if there is none."""
    config: str
    """The path of the kernel's configuration, or ""."""
    version: str = ""
    """The upstream version, where the package told it: 6.1.176 for the release 6.1.0-50-cloud-amd64."""


def find_kernel(name: str, progress: Progress | None = None) -> Kernel:
    """The newest kernel in the cache that `name` means, else one fetched; or that of a path.

    `progress` is told what is being done, and which share of it is done: 0 to 1, or below 0 for a remark that
    stands alone.  Raises UsageError for a name that means nothing, TargetError for a path that is no kernel
    or a fetch that failed, NotSupportedError where apt is missing.
    """
    if is_path(name):
        return kernel_at(name)
    check_name(name)
    for kernel in cached_kernels():
        if means(name, kernel.version, kernel.release):
            if not damage_of(kernel.release):
                return _named(kernel, name)
            try:
                # The very same again, so that a repaired cache is the old cache.
                return _named(fetch_kernel(kernel.release, progress), name)
            except UsageError:
                # The archive has it no more.
                break
    return fetch_kernel(name, progress)


def fetch_kernel(name: str, progress: Progress | None = None) -> Kernel:
    """The newest kernel of the archive that `name` means, fetched unless the cache has it.  Raises as find_kernel."""
    check_name(name)
    tell = progress or silence
    with locked(tell):
        offer = choose(name, tell)
        why = damage_of(offer.release)
        if why:
            if os.path.lexists(kernel_folder(offer.release)):
                tell(f"{offer.release}: the cached copy is damaged ({why}); fetching it again", -1.0)
            try:
                _fetch(offer, tell)
            except DownloadError:
                # The list may name a package that a newer one has replaced since.
                offer = choose(name, tell, refresh=[offer.suite])
                _fetch(offer, tell)
        kernel = _read_cached(offer.release)
    if kernel is None:
        raise TargetError(kernel_folder(offer.release), "went away while it was used")
    return _named(kernel, name)


def _fetch(offer: Offer, progress: Progress) -> None:
    archive = open_archive()
    make(offer, lambda folder: archive.download(offer.release, offer.packages, folder, progress), progress)


def cached_kernels() -> list[Kernel]:
    """What the cache has, newest first."""
    try:
        names = os.listdir(kernels_folder())
    except FileNotFoundError:
        return []
    found = [kernel for kernel in map(_read_cached, names) if kernel is not None]
    return sorted(found, key=lambda kernel: version_key(kernel.version, kernel.release), reverse=True)


def available_kernels(
    progress: Progress | None = None, refresh: bool = False
) -> tuple[list[Offer], list[str]]:
    """What can be fetched, newest first, and what was wrong with suites that could not be read.

    The lists are fetched where they are missing, older than FRESH, or `refresh` is set.  Raises
    NotSupportedError without apt or an archive, TargetError where nothing at all could be read.
    """
    tell = progress or silence
    catalogue = Catalogue()
    wanted = [suite for suite in SUITES if refresh or not catalogue.is_fresh(suite)]
    problems = []
    if wanted:
        with locked(tell):
            catalogue = Catalogue()
            try:
                problems = catalogue.update(wanted, tell)
            except NotSupportedError as error:
                # Without apt nothing can be fetched, but old lists still tell what there is.
                if not catalogue.suites:
                    raise
                problems = [str(error)]
    return newest_first(catalogue.offers(SUITES)), problems


def clean(names: Sequence[str] = ()) -> int:
    """Remove from the cache the kernels that `names` mean, or all that is in it; the bytes that it freed.

    Raises UsageError for a name that means no cached kernel; then nothing is removed.
    """
    if not os.path.isdir(cache_folder()):
        if names:
            raise _not_cached(names[0], [])
        return 0
    with locked(silence):
        if not names:
            freed = 0
            for name in ("kernels", "apt", "images"):
                freed += remove(os.path.join(cache_folder(), name), keep="lock")
            return freed
        releases: dict[str, None] = {}
        cached = cached_kernels()
        for name in names:
            matching = [kernel for kernel in cached if means(name, kernel.version, kernel.release)]
            if not matching:
                raise _not_cached(name, cached)
            releases |= {kernel.release: None for kernel in matching}
        freed = 0
        for release in releases:
            # Renamed first: a kernel is never seen half removed.
            doomed = os.path.join(tempfile.mkdtemp(prefix="new-", dir=kernels_folder()), release)
            os.rename(kernel_folder(release), doomed)
            freed += remove(os.path.dirname(doomed))
        return freed


def size_of(kernel: Kernel) -> int:
    """The bytes that a cached kernel takes on disk."""
    manifest = read_manifest(kernel.release)
    return 0 if manifest is None else recorded_size(manifest)


def kernel_at(path: str) -> Kernel:
    """The kernel at a path: a vmlinuz, or a folder with boot/vmlinuz-… as a package unpacks.

    Modules and configuration are those beside it, where a package would have put them.  Raises TargetError.
    """
    image = os.path.abspath(path)
    if os.path.isdir(image):
        image = _image_in(image)
    try:
        with open(image, "rb") as file:
            release = parse_release(file.read(1 << 16))
    except OSError as error:
        raise TargetError(path, error.strerror or str(error)) from error
    stem = os.path.basename(image)
    if release is None:
        if architecture() == "amd64":
            raise TargetError(
                path,
                "is not a bzImage",
                "the file that boots is arch/x86/boot/bzImage of a build, not vmlinux",
            )
        release = stem.partition("-")[2]
    folder = os.path.dirname(image)
    above = os.path.dirname(folder)
    modules = [f"{top}lib/modules/{release}" for top in (f"{above}/", f"{above}/usr/", f"{folder}/")]
    if os.path.basename(folder) == release:
        modules.insert(0, folder)
    configs = [f"{folder}/config-{release}", f"{folder}/config", *(f"{one}/config" for one in modules)]
    return Kernel(
        path,
        release,
        image,
        next(filter(os.path.isdir, modules if release else []), ""),
        next(filter(os.path.isfile, configs), ""),
    )


def _image_in(folder: str) -> str:
    """The only kernel image in a folder where a package was unpacked, or that was built in."""
    found = []
    for place in ("boot", "", "usr/lib/modules", "lib/modules"):
        top = os.path.join(folder, place)
        if not os.path.isdir(top):
            continue
        if place.endswith("modules"):
            found += [os.path.join(top, name, "vmlinuz") for name in os.listdir(top)]
        else:
            found += [os.path.join(top, name) for name in os.listdir(top) if name.startswith("vmlinuz")]
    found.append(os.path.join(folder, "arch/x86/boot/bzImage"))
    images = {os.path.realpath(path): None for path in found if os.path.isfile(path)}
    if len(images) != 1:
        many = ", ".join(sorted(images)) if images else "no vmlinuz"
        raise TargetError(
            folder, f"one kernel image is wanted there; there is {many}", "give the path of the image"
        )
    return next(iter(images))


def _read_cached(release: str) -> Kernel | None:
    """A kernel of the cache, taken at its record's word."""
    manifest = read_manifest(release)
    if manifest is None:
        return None
    folder = kernel_folder(release)
    config = f"boot/config-{release}"
    return Kernel(
        release,
        release,
        os.path.join(folder, "boot", f"vmlinuz-{release}"),
        os.path.join(folder, "lib", "modules", release) if manifest["modules"][0] else "",
        os.path.join(folder, config) if config in manifest["files"] else "",
        manifest["version"],
    )


def _named(kernel: Kernel, name: str) -> Kernel:
    return Kernel(name, kernel.release, kernel.image, kernel.modules, kernel.config, kernel.version)


def _not_cached(name: str, cached: Sequence[Kernel]) -> UsageError:
    there = f"there are {', '.join(kernel.release for kernel in cached)}" if cached else "it has no kernels"
    return UsageError(f"no kernel {name} in the cache: {there}")
