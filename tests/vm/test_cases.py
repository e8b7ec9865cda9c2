"""Every language case in a guest with another kernel: all of them in one boot, see inguest.py."""

from __future__ import annotations

import pytest

from ..caselib import Case
from .guests import KERNELS, chosen_cases, started


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
