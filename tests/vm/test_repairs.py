"""The advice is proved: guests refuse the programs of tests/data/repairs, and take them with the edit."""

from __future__ import annotations

import pytest

from tracebee.explain.versions import release_number
from tracebee.microvm.kernels import find_kernel

from ..repairlib import CAUSES, NAMES, TAKEN_SINCE, applied, explained, source_of
from .guests import KERNELS, GuestCases, started


def guest_of(kernel: str) -> GuestCases:
    guest = started[kernel]
    if isinstance(guest, str):
        pytest.skip(guest)
    return guest


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", NAMES)
def test_a_repaired_program_is_taken(name: str, kernel: str) -> None:
    assert guest_of(kernel).result(f"repairs/{name}.fixed") == ("taken", "")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", NAMES)
def test_what_this_kernel_refuses_is_repaired_by_the_edit(name: str, kernel: str) -> None:
    errno, log = guest_of(kernel).result(f"repairs/{name}")
    release = find_kernel(kernel).release
    if errno == "taken":
        assert (release_number(release) or (0, 0)) >= TAKEN_SINCE[name]
        return
    told = explained(name, release, errno, log)
    assert told.cause == CAUSES[name], log
    assert told.edit is not None, log
    assert applied(told.edit, source_of(name)) == source_of(f"{name}.fixed")
