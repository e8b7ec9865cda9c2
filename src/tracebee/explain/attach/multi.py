"""Multi-kprobes: one link for a list of functions, of which every one must be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.attach import functions, versions
from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, TOLD, Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt

RIGHT_TYPES = {
    "kprobe.multi": ("BPF_TRACE_KPROBE_MULTI", "42"),
    "kprobe.session": ("BPF_TRACE_KPROBE_SESSION", "56"),
    "uprobe.multi": ("BPF_TRACE_UPROBE_MULTI", "48"),
}
"""By name and number (enum bpf_attach_type)."""


def _examine(attempt: Attempt) -> Iterator[Finding]:
    if attempt.kind not in ("kprobe.multi", "kprobe.session") or attempt.is_silent:
        return
    machine = attempt.machine
    since = versions.KINDS_SINCE[attempt.kind]
    errno = attempt.errno
    option = next((one for one in ("CONFIG_FPROBE", "CONFIG_KPROBES") if machine.lacks(one)), "")
    old = machine.is_older_than(since)
    ahead = not attempt.was_tried
    if (errno == "EINVAL" or ahead) and old:
        yield Finding(
            "kprobe-multi-unsupported",
            PROVEN,
            f"multi-kprobes came with Linux {since} (CONFIG_FPROBE), and this kernel is {machine.release}: too old",
            "attach to the functions one by one (kprobe, or fentry), or use a newer kernel",
            (f"the kernel is {machine.release}", f"the answer is {errno}"),
        )
        return
    if errno in ("EOPNOTSUPP", "ENOSYS", "ENOTSUPP") or (option and (errno == "EINVAL" or ahead)):
        built = f"was built without {option}" if option else "was built without CONFIG_FPROBE"
        yield Finding(
            "kprobe-multi-unsupported",
            PROVEN if option else LIKELY,
            f"this kernel {built}, which multi-kprobes are made of",
            "attach to the functions one by one (kprobe, or fentry), or use a kernel built with that config option",
            (f"{option} is not set",) if option else (f"the answer is {errno}",),
        )
        return
    if ahead and machine.features.get("kprobe_multi") is False and not old:
        yield Finding(
            "kprobe-multi-unsupported",
            PROVEN,
            "this kernel does not take links of many kprobes, which was tried",
            "attach to the functions one by one (kprobe, or fentry)",
            ("such a link was refused for another reason than its names",),
        )
        return
    if errno == "EINVAL" and _is_wrong_type(attempt):
        yield Finding(
            "program-type-mismatch",
            PROVEN,
            "the program was not loaded for this: its expected_attach_type is not "
            f"{RIGHT_TYPES[attempt.kind][0]}, which the link asks for",
            'load it with that attach type (libbpf: SEC("kprobe.multi/...")), or attach it as a plain kprobe',
            (f"expected_attach_type is {attempt.attach_type}",),
        )
        return
    if errno in ("ESRCH", "ENOENT", "EADDRNOTAVAIL", "EINVAL") or ahead:
        yield from _names(attempt)


def _is_wrong_type(attempt: Attempt) -> bool:
    """Whether the attach type was noted, and is not the one of the link."""
    given = attempt.attach_type.upper()
    return (
        bool(given)
        and given not in RIGHT_TYPES[attempt.kind]
        and not given.startswith(RIGHT_TYPES[attempt.kind][0])
    )


def _names(attempt: Attempt) -> Iterator[Finding]:
    """Which of the names cannot be hooked."""
    machine = attempt.machine
    bad: list[str] = []
    for name in dict.fromkeys(attempt.targets):
        if machine.symbols is not None and not machine.named(name):
            bad.append(f"{name} (unknown: no such symbol)")
        elif machine.is_blacklisted(name) and machine.is_traceable(name) is not True:
            bad.append(f"{name} (blacklisted)")
        elif machine.is_traceable(name) is False:
            bad.append(f"{name} (notrace: not in available_filter_functions)")
        elif sum(symbol.is_code for symbol in machine.named(name)) > 1:
            bad.append(f"{name} (ambiguous: several functions are called so)")
    twice = [name for name in dict.fromkeys(attempt.targets) if attempt.targets.count(name) > 1]
    bad += [f"{name} (given twice)" for name in twice]
    if not attempt.was_tried and not bad:
        return
    if attempt.errno == "EINVAL" and not bad:
        yield Finding(
            "kprobe-multi-symbol",
            GUESS,
            "the list of functions or its flags are not taken: a name that is unknown, not traceable or a duplicate "
            "fails all of them",
            "filter the list by available_filter_functions and drop duplicates",
            ("the answer is EINVAL",),
        )
        return
    single = len(set(attempt.targets)) == 1 and not twice
    if single and bad and machine.symbols is not None and not attempt.was_tried:
        yield from functions.judge_name(attempt, attempt.target)
        return
    which = f"one of the list cannot be hooked, which fails the whole list: {', '.join(bad[:5])}"
    yield Finding(
        "kprobe-multi-symbol",
        PROVEN if bad else TOLD if attempt.errno == "ESRCH" else LIKELY,
        which
        if bad
        else "at least one name of the list is an unknown symbol, not a traceable function, or a duplicate, and "
        "one such name fails the whole list",
        "take that name out: filter the list by available_filter_functions and drop duplicates; tracebee does so "
        "with a pattern",
        tuple(bad[:5]) or (f"the answer is {attempt.errno}",),
    )


RULES = (Rule("multi-kprobes", _examine),)
