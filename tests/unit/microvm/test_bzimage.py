"""The header of a kernel image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracebee.microvm.bzimage import parse_release

from .fakearchive import image_of


def test_release() -> None:
    assert parse_release(image_of("6.1.0-50-cloud-amd64")) == "6.1.0-50-cloud-amd64"
    assert parse_release(image_of("7.2.13+deb14-cloud-amd64")) == "7.2.13+deb14-cloud-amd64"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF" + bytes(0x1000),
        image_of("6.1")[:0x20F],
        image_of("6.1")[:0x400],
        image_of("\0"),
        image_of("../../etc/passwd"),
        image_of(".."),
        image_of("\x1b[2J"),
    ],
)
def test_no_release(data: bytes) -> None:

    assert parse_release(data) is None


@given(st.binary(max_size=64), st.binary(max_size=64), st.integers(0, 0xFFFF))
def test_any_bytes(before: bytes, text: bytes, pointer: int) -> None:
    data = bytearray(before.ljust(0x400, b"\0") + text)
    data[0x202:0x206] = b"HdrS"
    data[0x20E:0x210] = pointer.to_bytes(2, "little")
    release = parse_release(bytes(data))
    assert release is None or ("/" not in release and not release.startswith(".") and release.isprintable())
