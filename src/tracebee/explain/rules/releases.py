"""Objects that were given back, or must be: uses after the release, and what release functions accept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.case import ACQUIRERS, RELEASERS, Case
from tracebee.explain.rules.nullchecks import NULLABLE
from tracebee.explain.rules.record import LIKELY, Finding, Rule, plain, rule

if TYPE_CHECKING:
    import re

    from tracebee.explain.history import Origin


def released(case: Case, register: int, origin: Origin, into: str = "") -> Finding | None:
    """The object was given back before this use."""
    if origin.kind != "call":
        return None
    # Slices of a dynptr go with it.
    given = case.released_before(origin)
    if given is None and origin.name.startswith("bpf_dynptr_"):
        later = case.path.calls_between(origin.position or 0, case.end)
        given = next(((at, name) for at, name in reversed(later) if name in RELEASERS), None)
    if given is None:
        return None
    position, name = given
    variable = case.variable(origin.position)
    thing = ACQUIRERS.get(origin.name, ("", NULLABLE.get(origin.name, "object")))[1]
    if origin.name.startswith("bpf_ringbuf"):
        thing = "ringbuf record"
    who = f"`{variable}` (R{register})" if variable else f"R{register}"
    verb = "submitted" if "submit" in name else "discarded" if "discard" in name else "released"
    use = f"passed to {into}" if into else "used"
    return Finding(
        "use-after-release",
        f"{who}, the {thing} from {origin.name}, is {use} after {name} gave it back: once it is {verb} it is "
        f"gone, and "
        f"R{register} is a plain number.",
        f"do everything with the {thing} before {name}, and release it once only; copy what is needed "
        f"later into a local variable first",
        story=(
            *case.story(origin)[:-1],
            case.step(position, f"{name}: the {thing} is no longer valid"),
            case.step(case.end, "used here"),
        ),
        fix=(case.place(position), case.place(case.end)),
        evidence=(f"{name} got the same object",),
    )


def perhaps_released(case: Case, register: int, origin: Origin) -> Finding | None:
    """A number goes to a function that takes something back, and the log's start is not there to say why.

    A pointer turns into a number when what it points to is given back; programs hardly release plain numbers.
    """
    if not case.is_hidden(origin) or origin.changes or case.called not in RELEASERS or register != 1:
        return None
    if any(case.path.insns[at].after().references for at in range(max(case.end - 3, 0), case.end)):
        # Something is still held: it may be this, with its pointer lost.
        return None
    again = any(name == case.called for _, name in case.path.calls_between(-1, case.end))
    before = f"{case.called} was called shortly before" if again else "the log's start is missing"
    return Finding(
        "use-after-release",
        f"R1 is passed to {case.called} to be released, but it is a plain number: it was most likely given back "
        f"(released) before on this path, after which it is gone; {before}.",
        "release it once only on each path, and do everything with it before; load with a larger log buffer to "
        "see the whole path",
        LIKELY,
        False,
        story=case.story(origin),
        others=("helper-arg-type",),
    )


def not_acquired(case: Case, found: re.Match[str]) -> Finding | None:
    name = case.called or "the function"
    register = 1
    origin = case.trace(register)
    return Finding(
        "use-after-release",
        f"{name} releases something that this program did not acquire, or that it has released already.",
        "release exactly what an acquiring function returned, and once only; do not release a socket that "
        "was read from the context",
        LIKELY,
        False,
        story=case.story(origin),
        others=("helper-arg-type", "kfunc"),
    )


RULES: tuple[Rule, ...] = (
    rule("use-after-release", r".*reference has not been acquired before", not_acquired, "4.20..6.12"),
    plain(
        "modified-ctx",
        r"((?:R|arg#)\d+) must have zero offset when passed to release func",
        "{0}, the pointer that is to be released, was moved: a release function needs the pointer that was "
        "acquired, unchanged.",
        "keep the original pointer and pass that (without an added offset)",
        "5.19..",
        False,
    ),
    plain(
        "helper-arg-type",
        r"((?:R|arg#)\d+) must be referenced when passed to release function",
        "{0} is passed to a function that releases it, but this program holds no reference to it.",
        "pass what the acquiring function returned (bpf_ringbuf_reserve, bpf_sk_lookup_*), unchanged",
        "5.19..",
        False,
    ),
)
