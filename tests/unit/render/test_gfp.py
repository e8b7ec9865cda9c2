"""Names of page allocation flags.

Expected texts come from bpftrace 0.27.1 on Linux 6.18, but for __GFP_MOVABLE and __GFP_RECLAIMABLE, whose
names it does not know and the kernel does.
"""

from __future__ import annotations

import pytest

from tracebee.render.gfp import gfp_text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, "0"),
        (0x1, "GFP_DMA"),
        (0x2, "__GFP_HIGHMEM"),
        (0x8, "__GFP_MOVABLE"),
        (0x200, "0x200"),
        (0xCC0, "GFP_KERNEL"),
        (0xDC0, "GFP_KERNEL|__GFP_ZERO"),
        (0xC00, "GFP_NOIO"),
        (0xC40, "GFP_NOFS"),
        (0x820, "GFP_ATOMIC"),
        (0x2800, "GFP_NOWAIT"),
        (0x400CC0, "GFP_KERNEL_ACCOUNT"),
        (0x100CC0, "GFP_USER"),
        (0x100CC2, "GFP_HIGHUSER"),
        (0x100CCA, "GFP_HIGHUSER_MOVABLE"),
        (0x1C20CA, "GFP_TRANSHUGE_LIGHT"),
        (0x1C24CA, "GFP_TRANSHUGE"),
        (0x80000001, "GFP_DMA|0x80000000"),
    ],
)
def test_names(flags: int, expected: str) -> None:
    assert gfp_text(flags) == expected


def test_bits_whose_meaning_depends_on_the_kernel_stay_numbers() -> None:
    assert gfp_text(1 << 24) == "0x1000000"
    assert gfp_text((1 << 23) | (1 << 26)) == "__GFP_ZEROTAGS|0x4000000"
