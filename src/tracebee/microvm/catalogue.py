"""What the package lists offer, remembered in a small file: the lists themselves have 200 MB."""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any

from tracebee.errors import TargetError
from tracebee.microvm.archive import (
    ADDRESS_VARIABLE,
    SUITES,
    UNREACHABLE,
    UNSIGNED,
    Archive,
    Package,
    find_source,
)
from tracebee.microvm.cache import cache_folder, write_whole
from tracebee.microvm.offers import (
    architecture,
    likely_suites,
    means,
    newest_first,
    offers_of,
    package_pattern,
    unknown_kernel,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.microvm.archive import Progress
    from tracebee.microvm.offers import Offer

FORMAT = 1
"""Of catalogue.json; what another release wrote differently is made again."""

FRESH = 3 * 24 * 3600
"""Seconds for which a package list is believed; Debian's stable suites change every two months."""


class Catalogue:
    """What the suites offered when their package lists were last read."""

    def __init__(self) -> None:
        self.path = os.path.join(cache_folder(), "apt", "catalogue.json")
        self.suites: dict[str, Any] = {}
        try:
            with open(self.path, encoding="utf-8") as file:
                written = json.load(file)
            if all(written[key] == value for key, value in _identity().items()):
                self.suites = {name: one for name, one in written["suites"].items() if _is_suite(name, one)}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # Missing or damaged, it is made again.
            self.suites = {}

    def is_fresh(self, suite: str) -> bool:
        """Whether a suite was read within the last FRESH seconds; a clock that went back makes it old."""
        return suite in self.suites and 0 <= time.time() - self.suites[suite]["read"] < FRESH

    def offers(self, suites: Iterable[str]) -> list[Offer]:
        """The kernels of suites, those with old lists too."""
        found = []
        for suite in suites:
            packages = self.suites.get(suite, {}).get("packages", [])
            found += offers_of(
                [
                    Package(package, version, suite, size, installed, tuple(depends))
                    for package, version, size, installed, depends in packages
                ]
            )
        return found

    def update(self, suites: Sequence[str], progress: Progress) -> list[str]:
        """Read suites anew; what was wrong with some.  Raises TargetError where all failed and none is known."""
        archive = open_archive()
        failed = archive.update(suites, progress)
        problems = []
        for suite in suites:
            if suite not in failed:
                packages = archive.packages(suite, package_pattern(archive.architecture))
                self.suites[suite] = {
                    "read": time.time(),
                    "packages": [
                        [one.name, one.version, one.size, one.installed, list(one.depends)]
                        for one in packages
                    ],
                }
        for reason in dict.fromkeys(failed.values()):
            names = ", ".join(suite for suite in suites if failed.get(suite) == reason)
            problems.append(f"the package lists of {names} cannot be read: {reason}")
        if problems and not self.suites:
            unsigned = "public key" in problems[0] or "not signed" in problems[0]
            raise TargetError("", problems[0], UNSIGNED if unsigned else UNREACHABLE)
        write_whole(
            self.path,
            json.dumps(_identity() | {"suites": self.suites}),
        )
        return problems


def choose(name: str, progress: Progress, refresh: Sequence[str] = ()) -> Offer:
    """The newest kernel on offer that a name means; the lists are read as far as needed.  Raises UsageError."""
    catalogue = Catalogue()
    problems: list[str] = []
    likely = likely_suites(name)
    for suites in (likely, SUITES):
        stale = [suite for suite in suites if suite in refresh or not catalogue.is_fresh(suite)]
        if stale:
            problems += catalogue.update(stale, progress)
            refresh = ()
        offers = newest_first(catalogue.offers(suites))
        for offer in offers:
            if means(name, offer.version, offer.release):
                return offer
    if problems:
        raise TargetError(f"kernel {name}", f"is not in the lists that could be read; {problems[0]}")
    raise unknown_kernel(
        name, [(offer.version, offer.release) for offer in newest_first(catalogue.offers(SUITES))]
    )


def _identity() -> dict[str, Any]:
    """What a catalogue must have been written for."""
    return {
        "format": FORMAT,
        "architecture": architecture(),
        "archive": os.environ.get(ADDRESS_VARIABLE, ""),
    }


def open_archive() -> Archive:
    """apt with its folder in the cache.  Raises NotSupportedError."""
    folder = os.path.join(cache_folder(), "apt")
    if re.search(r'["\n;{}]', folder):
        raise TargetError(repr(folder), "apt takes no folder of such a name", "set XDG_CACHE_HOME to another")
    return Archive(folder, find_source(), architecture())


def _is_suite(name: str, one: Any) -> bool:
    return (
        name in SUITES
        and isinstance(one["read"], (int, float))
        and all(
            isinstance(package, str)
            and isinstance(version, str)
            and isinstance(size, int)
            and isinstance(installed, int)
            and all(isinstance(other, str) for other in depends)
            for package, version, size, installed, depends in one["packages"]
        )
    )
