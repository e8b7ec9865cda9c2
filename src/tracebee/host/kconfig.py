"""The configuration that the running kernel was built with, and its version as the kernel counts it."""

from __future__ import annotations

import errno
import os
import re

LARGEST = 8 << 20
"""Bytes of configuration that are read; kernels have a quarter of a megabyte."""


def read_kconfig() -> dict[str, str]:
    """The settings by name, such as ``{"CONFIG_HZ": "250", "CONFIG_BPF": "y"}``; empty where they cannot be read."""
    try:
        return find_kconfig()
    except OSError:
        return {}


def find_kconfig() -> dict[str, str]:
    """As `read_kconfig`, but OSError tells why no file could be read, in preference to files that are not there.

    Settings are in /proc/config.gz (CONFIG_IKCONFIG_PROC), or where distributions put them beside the kernel.
    """
    folder = f"/lib/modules/{os.uname().release}"
    paths = (
        "/proc/config.gz",
        f"/boot/config-{os.uname().release}",
        f"{folder}/config",
        f"{folder}/build/.config",
    )
    failure: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), paths[0])
    for path in paths:
        try:
            return parse_kconfig(_read(path))
        except EOFError as error:
            failure = OSError(errno.EIO, str(error), path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                failure = error
    raise failure


def _read(path: str) -> str:
    import gzip

    with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
        data = file.read(LARGEST)
    return str(data, "utf-8", "replace")


def parse_kconfig(text: str) -> dict[str, str]:
    """Lines ``NAME=value``; what is said to be not set is ``n``."""
    found = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, equals, value = line.partition("=")
            if equals:
                found[name] = value
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            found[line[2 : -len(" is not set")]] = "n"
    return found


def kernel_version() -> int:
    """The running kernel's LINUX_VERSION_CODE.

    Debian and Ubuntu count another number in their release: what it was made from is elsewhere.
    """
    system = os.uname()
    try:
        with open("/proc/version_signature", encoding="ascii", errors="replace") as file:
            signature = file.read()
    except OSError:
        signature = ""
    return version_code(system.release, system.version, signature)


def version_code(release: str, build: str, signature: str = "") -> int:
    """A version's code out of uname(2)'s `release` and `build`, and Ubuntu's /proc/version_signature; 0 if none.

    The patch level takes eight bits and stays at 255 (include/linux/version.h, made by the kernel's Makefile).
    """
    text = release
    if signature.split()[2:]:
        text = signature.split()[2]
    debian = re.search(r"Debian (\d+\.\d+\.\d+)", build)
    if debian:
        text = debian[1]
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if match is None:
        return 0
    major, minor, patch = int(match[1]), int(match[2]), int(match[3] or 0)
    return major << 16 | minor << 8 | min(patch, 255)
