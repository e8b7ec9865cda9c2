"""tracebee.host.kconfig"""

from __future__ import annotations

from tracebee.host.kconfig import parse_kconfig, version_code

TEXT = """\
#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_BPF=y
CONFIG_HZ=250
CONFIG_DEFAULT_HOSTNAME="(none)"
CONFIG_PATH="a=b"
# CONFIG_KPROBES is not set
# CONFIG_ONLY_A_WORD
CONFIG_BROKEN
"""


def test_settings() -> None:
    assert parse_kconfig(TEXT) == {
        "CONFIG_BPF": "y",
        "CONFIG_HZ": "250",
        "CONFIG_DEFAULT_HOSTNAME": '"(none)"',
        "CONFIG_PATH": '"a=b"',
        "CONFIG_KPROBES": "n",
    }


def test_versions() -> None:
    assert version_code("6.18.2", "#1 SMP") == 0x061202
    assert version_code("7.2-rc1", "") == 0x070200
    assert version_code("4.19.300-x", "") == 0x0413FF
    assert version_code("strange", "") == 0


def test_versions_of_distributions() -> None:
    """Debian's release has no patch level of its own; Ubuntu's is its own."""
    assert version_code("4.9.0-8-amd64", "#1 SMP Debian 4.9.144-3 (2019-02-02)") == 0x040990
    assert (
        version_code("5.4.0-42-generic", "#46-Ubuntu SMP", "Ubuntu 5.4.0-42.46-generic 5.4.44\n") == 0x05042C
    )
