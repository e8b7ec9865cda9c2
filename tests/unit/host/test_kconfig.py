"""Configurations of kernels, as text."""

from __future__ import annotations

from tracebee.host.kconfig import parse_kconfig


def test_values_and_what_is_not_set() -> None:
    text = '# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D="a=b \\"x"\n'
    text += 'CONFIG_E=0x10\nCONFIG_F=""\nnoise\n#\n'
    assert parse_kconfig(text) == {
        "CONFIG_A": "n",
        "CONFIG_B": "y",
        "CONFIG_C": "m",
        "CONFIG_D": 'a=b \\"x',
        "CONFIG_E": "0x10",
        "CONFIG_F": "",
    }


def test_a_broken_line_is_nothing() -> None:
    assert parse_kconfig('CONFIG_X\nCONFIG_Y="\n# CONFIG_Z is set\n') == {"CONFIG_Y": '"'}
