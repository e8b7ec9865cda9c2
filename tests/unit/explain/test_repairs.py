"""The change that an explanation proposes is the one that was compiled and that kernels take (see repairlib)."""

from __future__ import annotations

import pytest

from ...repairlib import CAUSES, FOLDER, NAMES, applied, explained, refusals, source_of

REFUSALS = [
    pytest.param(one, id=f"{one['name']}-{'.'.join(one['kernel'].split('.')[:2])}") for one in refusals()
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_the_repaired_source_is_the_refused_one_with_the_edit(refusal: dict[str, str]) -> None:
    name = refusal["name"]
    told = explained(name, refusal["kernel"], refusal["errno"], refusal["log"])
    assert (told.cause, told.sure) == (CAUSES[name], True)
    assert told.edit is not None
    assert applied(told.edit, source_of(name)) == source_of(f"{name}.fixed")


def test_all_of_them_are_here() -> None:
    assert {one["name"] for one in refusals()} == set(NAMES) == set(CAUSES)
    for name in NAMES:
        refused, repaired = (FOLDER / f"{name}{kind}.bpf.o" for kind in ("", ".fixed"))
        assert refused.read_bytes() != repaired.read_bytes()
