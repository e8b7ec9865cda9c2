"""Every language case in a guest with another kernel: all of them in one boot, see inguest.py."""

from __future__ import annotations

import pytest

from ..caselib import Case
from .guests import KERNELS, PART, chosen_cases, started


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("case", chosen_cases(), ids=lambda case: case.id)
def test_case(case: Case, kernel: str) -> None:
    guest = started[kernel]
    if isinstance(guest, str):
        pytest.skip(guest)
    verdict, text = guest.result(case.id)
    if verdict == "unsupported":
        pytest.skip(text)
    assert verdict == "pass", text


@pytest.mark.skipif(PART > 1, reason="the live tier runs in guests with `make test-vm`")
@pytest.mark.parametrize("kernel", KERNELS)
def test_live_tier(kernel: str) -> None:
    """Its tests' names are not known here before they have run there."""
    guest = started[kernel]
    if isinstance(guest, str):
        pytest.skip(guest)
    found = guest.live_results()
    assert len(found) > 100
    failed = {name: text for name, (verdict, text) in found.items() if verdict == "fail"}
    assert not failed, "\n\n".join(f"{name}\n{text}" for name, text in failed.items())
