"""``tracebee vm``: kernels to run things on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tracebee.cli.progress import Progress
from tracebee.errors import TracebeeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HELP = """\
  tracebee vm run --kernel 6.1 -- uname -r
  tracebee vm fetch 5.10 6.1 6.12 7.2
  tracebee vm list

tracebee vm: run commands on a Linux kernel of your choice, in a virtual machine that is gone afterwards.

USAGE:
    tracebee vm run [options] -- COMMAND ...   run COMMAND on another kernel; `tracebee vm run --help`
    tracebee vm list [--refresh]               kernels that can be fetched, and those that are here
    tracebee vm fetch VERSION ...              fetch kernels into the cache; `run` does so by itself
    tracebee vm clean [VERSION ...]            remove these kernels from the cache, or all that is in it

VERSION is 6.1, 6.12 or 7 for the newest of a series, or a whole release such as 6.1.0-50-cloud-amd64.
Kernels are Debian packages; they come through this machine's apt, which checks their signatures, and are
unpacked, never installed.  The cache is $XDG_CACHE_HOME/tracebee or ~/.cache/tracebee.

OPTIONS:
    --refresh        read the package lists again, also those younger than three days
    -h, --help       print this help

ENVIRONMENT:
    TRACEBEE_DEBIAN_ARCHIVE=URL     the archive, where apt knows no Debian archive itself
    TRACEBEE_DEBIAN_KEYRING=FILE    the keyring of that archive
    XDG_CACHE_HOME=DIR              where caches are
"""


def run(words: Sequence[str]) -> int:
    """Run ``tracebee vm`` with the words after it; the exit status.  Raises TracebeeError."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] == "run":
        from importlib import import_module

        status: int = import_module("tracebee.cli.vmrun").run(list(words[1:]))
        return status
    command = COMMANDS.get(words[0])
    if command is None:
        known = ", ".join(("run", *COMMANDS))
        raise UsageError(f"unknown command: tracebee vm {words[0]}", f"the commands are {known}")
    if any(word in ("-h", "--help") for word in words[1:]):
        print(HELP, end="")
        return 0
    return command(words[1:])


def list_kernels(words: Sequence[str]) -> int:
    """Print a table of kernels."""
    from tracebee.microvm.archive import megabytes
    from tracebee.microvm.kernels import Offer, available_kernels, cached_kernels, size_of
    from tracebee.microvm.offers import version_key

    for word in words:
        if word != "--refresh":
            raise UsageError(
                f"tracebee vm list takes no {word}", "`tracebee vm list --refresh` reads lists again"
            )
    cached = {kernel.release: kernel for kernel in cached_kernels()}
    try:
        with Progress() as progress:
            offers, problems = available_kernels(progress, "--refresh" in words)
    except TracebeeError as error:
        if not cached:
            raise
        # What is here can be used without an archive.
        offers, problems = [], [str(error)]
    for problem in problems:
        print(f"WARNING: {problem}", file=sys.stderr)
    offered = {offer.release for offer in offers}
    for kernel in cached.values():
        if kernel.release not in offered:
            offers.append(Offer(kernel.version, kernel.release, "-", 0, 0, bool(kernel.modules), ()))
    offers.sort(key=lambda offer: version_key(offer.version, offer.release), reverse=True)
    rows = [("VERSION", "RELEASE", "SUITE", "TO FETCH", "CACHED")]
    for offer in offers:
        here = cached.get(offer.release)
        rows.append(
            (
                offer.version,
                offer.release,
                offer.suite,
                (megabytes(offer.size) if offer.size else "-")
                + ("" if offer.has_modules else ", no modules"),
                megabytes(size_of(here)) if here is not None else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def fetch(words: Sequence[str]) -> int:
    """Fetch kernels into the cache."""
    from tracebee.microvm.kernels import fetch_kernel
    from tracebee.microvm.offers import check_name

    if not words:
        raise UsageError("which kernel?", "`tracebee vm fetch 6.1`; `tracebee vm list` shows what there is")
    for word in words:
        check_name(word)
    for word in words:
        with Progress() as progress:
            kernel = fetch_kernel(word, progress)
        print(f"{word}: {kernel.release}, {kernel.image}")
    return 0


def clean(words: Sequence[str]) -> int:
    """Remove kernels, or everything, from the cache."""
    from tracebee.microvm.archive import megabytes
    from tracebee.microvm.kernels import clean
    from tracebee.microvm.offers import check_name

    for word in words:
        check_name(word)
    print(f"freed {megabytes(clean(words))}")
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"list": list_kernels, "fetch": fetch, "clean": clean}
