"""What a session does when places cannot be attached to."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from tracebee.errors import AttachError, SyscallError
from tracebee.session.session import Session, describe_skipped
from tracebee.spec.objects import Kprobe, KprobeMulti, ProbeSpec, RunOnce


def session(probes: list[ProbeSpec], refusals: dict[str, Any]) -> tuple[Session, list[str], list[Any]]:
    """A session whose backend gives or raises what `refusals` says; the order of attaching; what is said."""
    order: list[str] = []
    said: list[Any] = []

    def attach(probe: ProbeSpec) -> Any:
        order.append(probe.name)
        answer = refusals.get(probe.name, ())
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = Session.__new__(Session)
    made.spec = SimpleNamespace(probes=tuple(probes))  # type: ignore[assignment]
    made.backend = SimpleNamespace(attach=attach, follow=bytes)  # type: ignore[assignment]
    renderer = SimpleNamespace(attached=said.append)
    made.output = SimpleNamespace(renderer=renderer, flush=lambda: None, warn=said.append)  # type: ignore[assignment]
    return made, order, said


def kprobe(name: str, optional: bool = True) -> ProbeSpec:
    return ProbeSpec(name, "program", Kprobe(name), optional=optional)


BEGIN = ProbeSpec("begin", "begin", RunOnce("begin"))


def test_places_of_a_wildcard_are_skipped_and_told() -> None:
    made, order, said = session([BEGIN, kprobe("a"), kprobe("b")], {"b": AttachError("b", "busy")})
    made.attach_all()
    assert order == ["b", "a"]
    assert said == ["WARNING: 1 of 3 probes could not be attached: b: busy", 2]


def test_a_plain_place_is_an_error() -> None:
    made, _, _ = session([kprobe("a"), kprobe("b", optional=False)], {"b": AttachError("b", "busy")})
    with pytest.raises(AttachError, match="busy"):
        made.attach_all()


def test_a_wildcard_of_which_nothing_can_be_attached_is_an_error() -> None:
    made, _, _ = session([BEGIN, kprobe("a")], {"a": AttachError("a", "busy")})
    with pytest.raises(AttachError, match="busy"):
        made.attach_all()


def test_no_room_is_an_error_wherever_the_place_is_from() -> None:
    refusal = AttachError("b", "no room")
    refusal.__cause__ = SyscallError("perf_event_open", errno.EMFILE)
    made, _, _ = session([kprobe("a"), kprobe("b")], {"b": refusal})
    with pytest.raises(AttachError, match="no room"):
        made.attach_all()


def test_what_a_link_for_many_left_out_is_counted() -> None:
    many = ProbeSpec("k", "p", KprobeMulti((Kprobe("a"), Kprobe("b"))), covers=2, optional=True)
    made, _, said = session([many], {"k": [("kprobe:b", "gone")]})
    made.attach_all()
    assert said == ["WARNING: 1 of 2 probes could not be attached: kprobe:b: gone", 1]


def test_only_some_reasons_are_shown() -> None:
    text = describe_skipped([(f"p{number}", "no") for number in range(10)], 20)
    assert text == "WARNING: 10 of 20 probes could not be attached: p0: no; p1: no; p2: no; and 7 more"
