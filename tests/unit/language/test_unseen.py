"""What a machine says that it cannot see is refused with its place in the script, before anything is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tracebee.errors import SourceError
from tracebee.spec.objects import Tracepoint

from .fixtures import FakeMachine, build, spec_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class Blind(FakeMachine):
    """Sees no kernel functions, and has no random numbers."""

    attaches_cheaply = True

    def why_unseen(self, kind: str, place: Sequence[str]) -> tuple[str, str]:
        if kind == "kprobe":
            return f"no {kind} on {':'.join(place)}", "look elsewhere"
        return "", ""

    def why_no_helper(self, helper: str) -> tuple[str, str]:
        return ("no dice here", "bring some") if helper == "get_prandom_u32" else ("", "")


def refusal(script: str) -> str:
    with pytest.raises(SourceError) as raised:
        build(script, Blind())
    return str(raised.value)


def test_a_kind_of_probe() -> None:
    said = refusal("BEGIN { } kprobe:vfs_read { @ = count(); }")
    assert "1:11-26: ERROR: no kprobe on vfs_read" in said
    assert "HINT: look elsewhere" in said


def test_a_helper_function() -> None:
    said = refusal("BEGIN { $x = 1; print(rand); }")
    assert ": ERROR: no dice here" in said
    assert "~" in said
    assert "HINT: bring some" in said


def test_a_wildcard_over_kinds_passes_over_it() -> None:
    spec = spec_of("*:syscalls:sys_enter_read { @ = count(); }", Blind())
    assert [type(probe.attach) for probe in spec.probes] == [Tracepoint]


def test_many_system_calls_stay_tracepoints_where_that_is_cheap() -> None:
    script = "tracepoint:syscalls:sys_* { @ = count(); }"
    assert all(isinstance(probe.attach, Tracepoint) for probe in spec_of(script, Blind()).probes)
    assert not any(isinstance(probe.attach, Tracepoint) for probe in spec_of(script).probes)
