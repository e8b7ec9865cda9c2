"""Versions, and the packages that a kernel is made of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.errors import UsageError
from tracebee.microvm.archive import SUITES, Package
from tracebee.microvm.offers import (
    Offer,
    check_name,
    is_path,
    likely_suites,
    means,
    newest_first,
    offers_of,
    package_pattern,
    unknown_kernel,
    version_key,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("asked", "version", "release", "meant"),
    [
        ("6.1", "6.1.176", "6.1.0-50-cloud-amd64", True),
        ("6.1", "6.12.107", "6.12.107+deb13-cloud-amd64", False),
        ("6.12", "6.1.12", "6.1.0-12-cloud-amd64", False),
        ("6", "6.12.107", "6.12.107+deb13-cloud-amd64", True),
        ("7", "7.2.13", "7.2.13+deb14-cloud-amd64", True),
        ("6.1.176", "6.1.176", "6.1.0-50-cloud-amd64", True),
        ("6.1.0-50", "6.1.176", "6.1.0-50-cloud-amd64", True),
        ("6.1.0-5", "6.1.176", "6.1.0-50-cloud-amd64", False),
        ("6.1.0-50-cloud-amd64", "6.1.176", "6.1.0-50-cloud-amd64", True),
        ("7.2.13+deb14", "7.2.13", "7.2.13+deb14-cloud-amd64", True),
        ("7.2.13+deb13", "7.2.13", "7.2.13+deb14-cloud-amd64", False),
        ("6.1.", "6.1.176", "6.1.0-50-cloud-amd64", False),
        ("6.1.0-50-cloud-amd64-dbg", "6.1.176", "6.1.0-50-cloud-amd64", False),
    ],
)
def test_means(asked: str, version: str, release: str, meant: bool) -> None:
    assert means(asked, version, release) is meant


numbers = st.lists(st.integers(0, 300), min_size=1, max_size=4)


@given(numbers, numbers)
def test_a_series_is_told_by_whole_numbers(asked: list[int], version: list[int]) -> None:
    text, whole = (".".join(map(str, parts)) for parts in (asked, version))
    assert means(text, whole, f"{whole}-cloud-amd64") is (version[: len(asked)] == asked)


@given(numbers, numbers)
def test_order_is_that_of_the_numbers(one: list[int], other: list[int]) -> None:
    keys = [version_key(".".join(map(str, parts)), "") for parts in (one, other)]
    assert (keys[0] < keys[1]) is (one < other)


@pytest.mark.parametrize("name", ["6.1", "6", "6.1.0-50-cloud-amd64", "7.2.12+deb13-cloud-amd64", "7.3~rc4"])
def test_names_that_are_versions(name: str) -> None:
    assert not is_path(name)
    check_name(name)


@pytest.mark.parametrize("name", ["", "latest", "6.1 ", "6.1;ls", "v6.1", "6.1\n", "-x", "6.*"])
def test_names_that_are_none(name: str) -> None:
    assert not is_path(name)
    with pytest.raises(UsageError, match="neither a kernel version nor the path"):
        check_name(name)


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("vmlinuz", "6.1"):
        with open(name, "w", encoding="ascii"):
            pass
    assert is_path("vmlinuz")
    assert is_path("./6.1")
    assert is_path("/boot/vmlinuz-6.1")
    # A file that happens to be called as a version does not hide the version.
    assert not is_path("6.1")


def package(
    name: str, version: str = "6.1.176-1", size: int = 1000, depends: tuple[str, ...] = ()
) -> Package:
    return Package(name, version, "bookworm", size, 4 * size, depends)


def test_a_kernel_of_one_package() -> None:
    (offer,) = offers_of([package("linux-image-6.1.0-50-cloud-amd64", depends=("kmod",))])
    assert (offer.version, offer.release, offer.suite) == ("6.1.176", "6.1.0-50-cloud-amd64", "bookworm")
    assert (offer.size, offer.installed, offer.has_modules) == (1000, 4000, True)


def test_a_kernel_of_several_packages() -> None:
    release = "7.2.13+deb14-cloud-amd64"
    depends = (f"linux-binary-{release}", f"linux-modules-{release}")
    (offer,) = offers_of(
        [
            package(f"linux-base-{release}", "7.2.13-1", 1),
            package(f"linux-modules-{release}", "7.2.13-1", 20),
            package(f"linux-binary-{release}", "7.2.13-1", 300),
            package(f"linux-image-{release}", "7.2.13-1", 4000, depends),
        ]
    )
    assert [one.name for one in offer.packages] == [
        f"linux-{part}-{release}" for part in ("binary", "modules", "base")
    ]
    assert (offer.size, offer.has_modules) == (321, True)


def test_a_superseded_kernel_is_its_image() -> None:
    release = "7.0.13+deb13-cloud-amd64"
    (offer,) = offers_of(
        [
            package(f"linux-binary-{release}", "7.0.13-1~bpo13+1"),
            package(f"linux-image-{release}", "7.0.13-1~bpo13+1", 2, (f"linux-binary-{release}",)),
        ]
    )
    assert [one.name for one in offer.packages] == [f"linux-binary-{release}"]
    assert (offer.version, offer.has_modules) == ("7.0.13", False)


def test_what_cannot_boot_is_no_kernel() -> None:
    release = "7.2.13+deb14-cloud-amd64"
    assert offers_of([package(f"linux-image-{release}", depends=(f"linux-binary-{release}",))]) == []
    assert offers_of([package(f"linux-modules-{release}"), package(f"linux-base-{release}")]) == []
    assert offers_of([]) == []


def test_unsigned_stands_in_for_signed() -> None:
    both = [package("linux-image-6.1.0-50-cloud-amd64-unsigned"), package("linux-image-6.1.0-50-cloud-amd64")]
    assert [one.name for one in offers_of(both)[0].packages] == ["linux-image-6.1.0-50-cloud-amd64"]
    (offer,) = offers_of(both[:1])
    assert offer.release == "6.1.0-50-cloud-amd64"
    assert offer.packages == (both[0],)


def test_newest_first() -> None:
    def offer(version: str, release: str, suite: str) -> Offer:
        return Offer(version, release, suite, 1, 1, True, ())

    offers = [
        offer("6.1.176", "6.1.0-50-cloud-amd64", "bookworm"),
        offer("6.12.9", "6.12.9-cloud-amd64", "trixie"),
        offer("7.2.13", "7.2.13-cloud-amd64", "trixie-backports"),
        offer("6.12.10", "6.12.10-cloud-amd64", "trixie"),
        offer("7.2.13", "7.2.13-cloud-amd64", "sid"),
        offer("6.1.176", "6.1.0-51-cloud-amd64", "bookworm"),
    ]
    found = newest_first(offers)
    assert [one.release.removesuffix("-cloud-amd64") for one in found] == [
        *("7.2.13", "6.12.10", "6.12.9", "6.1.0-51", "6.1.0-50"),
    ]
    assert found[0].suite == "sid"


@pytest.mark.parametrize(
    ("name", "suites"),
    [
        ("5.10", ("bullseye",)),
        ("6.1.0-50-cloud-amd64", ("bookworm",)),
        ("6.12", ("trixie",)),
        ("7.2", ("trixie-backports", "sid")),
        ("6.16.3", ("trixie-backports", "sid")),
        ("7", ("trixie-backports", "sid")),
        ("6", SUITES),
        ("4.19", SUITES),
    ],
)
def test_likely_suites(name: str, suites: tuple[str, ...]) -> None:
    assert tuple(likely_suites(name)) == suites


def test_pattern() -> None:
    pattern = re.compile(package_pattern("amd64"))
    assert pattern.match("linux-image-6.1.0-50-cloud-amd64\n")
    assert pattern.match("linux-binary-7.2.13+deb14-cloud-amd64\n")
    assert pattern.match("linux-image-6.1.0-50-cloud-amd64-unsigned\n")
    for other in (
        "image-6.1.0-50-amd64",
        "image-6.1.0-50-cloud-amd64-dbg",
        "image-cloud-amd64",
        "headers-6.1-cloud-amd64",
    ):
        assert not pattern.match(f"linux-{other}\n")


def test_unknown_kernel() -> None:
    known = [("7.2.13", "7.2.13+deb14"), ("7.2.12", "7.2.12+deb13"), ("6.1.176", "6.1.0-50")]
    assert str(unknown_kernel("4.19", known)) == "no kernel 4.19: there are 7.2, 6.1"
    assert str(unknown_kernel("4.19", [])) == "no kernel 4.19: there is none to fetch"
