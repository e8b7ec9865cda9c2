"""Kernels by version: which of those on offer is meant, and what packages it is made of.

A version is asked for by its first parts: "6.1" means the newest of 6.1.170 and 6.1.176, and never 6.12.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from tracebee.errors import NotSupportedError, UsageError
from tracebee.microvm.archive import SUITES, Package
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Offer(Frozen):
    """A kernel that can be fetched."""

    version: str
    release: str
    suite: str
    size: int
    """Of the packages, in bytes."""
    installed: int
    """Of what they unpack to, in bytes."""
    has_modules: bool
    packages: tuple[Package, ...]


def is_path(name: str) -> bool:
    """Whether a kernel is asked for by its path rather than by its version."""
    return "/" in name or (not name[:1].isdigit() and os.path.exists(name))


def check_name(name: str) -> None:
    """Raises UsageError for what can be no version."""
    # The characters of a Debian version, and of a package's name.
    if not re.fullmatch(r"[0-9][0-9A-Za-z.+~-]*", name):
        raise UsageError(
            f"{name!r} is neither a kernel version nor the path of a vmlinuz",
            "a version is written as 6.1 or 6.1.0-50-cloud-amd64; `tracebee vm list` shows what there is",
        )


def means(asked: str, version: str, release: str) -> bool:
    """Whether `asked` is the version or the release, or the first parts of one of them."""
    return any(
        text == asked or (text.startswith(asked) and text[len(asked)] in ".-+~")
        for text in (version, release)
    )


def version_key(version: str, release: str) -> tuple[list[int], list[int]]:
    """What kernels are ordered by: the numbers of the version, then those of the release."""
    of_version, of_release = (
        [int(number) for number in re.findall("[0-9]+", text)] for text in (version, release)
    )
    return of_version, of_release


def newest_first(offers: Iterable[Offer]) -> list[Offer]:
    """Offers in order, each release once (from the newest suite that has it)."""
    by_release = {}
    for offer in sorted(offers, key=lambda offer: SUITES.index(offer.suite)):
        by_release[offer.release] = offer
    return sorted(
        by_release.values(), key=lambda offer: version_key(offer.version, offer.release), reverse=True
    )


def likely_suites(name: str) -> Sequence[str]:
    """The suites that are worth reading for a version, to save fetching the lists of all.

    Each stable release of Debian stays with one kernel series.  Where none of these has the version, all are
    read.
    """
    numbers = [int(number) for number in re.findall("[0-9]+", name)][:2]
    series = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}.get(".".join(map(str, numbers)))
    if series is not None:
        return (series,)
    return ("trixie-backports", "sid") if numbers > [6, 12] else SUITES


def architecture() -> str:
    """Debian's name for this machine.  Raises NotSupportedError."""
    machine = os.uname().machine
    name = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine)
    if name is None:
        raise NotSupportedError(
            f"Debian has no kernel for virtual machines on {machine}", hint="give a vmlinuz by its path"
        )
    return name


def package_pattern(arch: str) -> str:
    """A regular expression for the packages that kernels are made of."""
    return rf"linux-(?:image|binary|modules|base)-[0-9][^\s]*-cloud-{arch}(?:-unsigned)?\n"


def offers_of(packages: Sequence[Package]) -> list[Offer]:
    """The kernels that the packages of one suite make up.

    Up to 6.18 a kernel is one package, linux-image.  Since then that is an empty one, and the image is in
    linux-binary, the modules in linux-modules, the configuration in linux-base; of superseded kernels the
    archive keeps only the image.  Where the signed package lags behind, the unsigned one has the same image.
    """
    by_name = {package.name: package for package in packages}
    found = []
    for release in {
        m[1]: None for name in by_name if (m := re.match(r"linux-[a-z]+-(.*?)(?:-unsigned)?$", name))
    }:
        parts = {}
        for part in ("image", "binary", "modules", "base"):
            full = f"linux-{part}-{release}"
            package = by_name.get(full) or by_name.get(f"{full}-unsigned")
            if package is not None:
                parts[part] = package
        if "binary" in parts:
            parts.pop("image", None)
        elif "image" not in parts or any(name.startswith("linux-binary-") for name in parts["image"].depends):
            continue
        chosen = tuple(parts.values())
        # 6.1.176-1, 7.2.12-1~bpo13+1: what stands before the first dash is upstream's.
        version = chosen[0].version.partition("-")[0]
        size, installed = sum(one.size for one in chosen), sum(one.installed for one in chosen)
        has_modules = "image" in parts or "modules" in parts
        found.append(Offer(version, release, chosen[0].suite, size, installed, has_modules, chosen))
    return found


def unknown_kernel(name: str, known: Sequence[tuple[str, str]]) -> UsageError:
    """The error for a version that no suite has; `known` are versions and releases, newest first."""
    series = dict.fromkeys(".".join(version.split(".")[:2]) for version, _ in known)
    there = f"there are {', '.join(series)}" if series else "there is none to fetch"
    return UsageError(f"no kernel {name}: {there}", "`tracebee vm list` shows every release")
