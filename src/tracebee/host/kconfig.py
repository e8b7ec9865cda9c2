"""How the running kernel was built: the options of its configuration, where it is kept.

A configuration has a line ``CONFIG_NAME=value`` for each option that is set, and ``# CONFIG_NAME is not set`` for
one that is not; values are y, m, a number or a string in quotes.
"""

from __future__ import annotations

import gzip
import os

_MAX_TEXT = 1 << 22
"""A configuration has 300 KiB."""


def parse_kconfig(text: str) -> dict[str, str]:
    """Option → value, strings without their quotes; "n" for an option that is not set."""
    options: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, separator, value = line.partition("=")
            if separator:
                options[name] = value[1:-1] if value[:1] == '"' == value[-1:] and len(value) > 1 else value
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            options[line[2 : -len(" is not set")]] = "n"
    return options


def read_kconfig(release: str = "") -> tuple[dict[str, str], str]:
    """The running kernel's options, and the file that they are from.

    OSError where none of the usual files can be read: distributions keep it in /boot or below /lib/modules, and
    kernels with CONFIG_IKCONFIG_PROC have it in /proc.
    """
    release = release or os.uname().release
    paths = [
        "/proc/config.gz",
        f"/boot/config-{release}",
        f"/lib/modules/{release}/config",
        f"/lib/modules/{release}/build/.config",
    ]
    failure: OSError | None = None
    for path in paths:
        try:
            if path.endswith(".gz"):
                with gzip.open(path, "rt", encoding="utf-8", errors="replace") as packed:
                    return parse_kconfig(packed.read(_MAX_TEXT)), path
            with open(path, encoding="utf-8", errors="replace") as plain:
                return parse_kconfig(plain.read(_MAX_TEXT)), path
        except (OSError, EOFError) as error:
            failed = error if isinstance(error, OSError) else OSError(5, str(error), path)
            if failure is None or failed.errno != 2:
                failure = failed
    raise failure or FileNotFoundError(2, os.strerror(2), paths[0])
