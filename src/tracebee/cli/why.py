"""``tracebee why``: whether a probe can be put on a place here, why not, and what works in its place."""

from __future__ import annotations

import json
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING, Any

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from tracebee.session.helperuse import HelperAnswer
    from tracebee.session.why import Answer

USAGE = """\
  tracebee why kprobe:sys_connect
  tracebee why tracepoint:sched:sched_swich
  tracebee why uprobe:/usr/bin/bash:readline
  tracebee why bpf_override_return
  tracebee why fentry:vfs_open bpf_d_path

tracebee why: say whether a probe can be put on a place on this machine, why not, and which hooks nearby work.
Nothing is attached: the lists and settings of the kernel are read, and lists that cannot be read are named.

USAGE:
    tracebee why [options] PROBE|HELPER ...

A PROBE is written as in a script; a plain name is a function of the kernel.  A HELPER is the name of one of the
kernel's helper functions, bpf_d_path or helper:d_path: which programs may call it here is asked with small programs
that are gone at once; with probes on the same line, whether programs there may.

OPTIONS:
    -j               JSON, one object a line and probe
    -h, --help       print this help

EXIT STATUS:
    0 if every probe can be there and every helper be called, 1 if one cannot, 2 if it is not known of one
"""

VERDICTS = {"yes": "can be hooked here", "no": "cannot be hooked here", "unknown": "may not be hooked here"}


def run(words: list[str]) -> int:
    """Run ``tracebee why``; the exit status."""
    try:
        options, probes = gnu_getopt(words, "jh", ["json", "help"])
    except GetoptError as error:
        raise UsageError(f"why: {error.msg}", "tracebee why --help lists the options") from None
    names = {name for name, _ in options}
    if names & {"-h", "--help"}:
        print(USAGE, end="")
        return 0
    if not probes:
        raise UsageError("why: which probe?", "tracebee why kprobe:vfs_read")
    from tracebee.session.helperuse import about_helper, is_helper
    from tracebee.session.machine import LiveMachine
    from tracebee.session.why import parse_probe, why

    places = [parse_probe(word) for word in probes if not is_helper(word)]
    asked = [(place.kind, place.targets[0]) for place in places]
    live = LiveMachine()
    verdicts = set()
    try:
        for index, word in enumerate(probes):
            answer: Answer | HelperAnswer = (
                about_helper(word, live, asked) if is_helper(word) else why(word, live)
            )
            verdicts.add(answer.verdict)
            if names & {"-j", "--json"}:
                print(json.dumps(to_json(answer)))
            else:
                print(("\n" if index else "") + to_text(answer))
    finally:
        live.close()
    return 1 if "no" in verdicts else 2 if "unknown" in verdicts else 0


def helper_text(answer: HelperAnswer) -> str:
    """What is known of a helper, for a person."""
    who = ", ".join(answer.asked)
    verdict = {
        "yes": f"can be called here{f' from {who}' if who else ''}",
        "no": f"cannot be called here{f' from {who}' if who else ' by any program'}",
        "unknown": "may not be asked about: loading programs needs CAP_BPF and CAP_PERFMON",
    }[answer.verdict]
    facts = [answer.signature]
    if answer.since:
        facts.append(f"since Linux {answer.since}")
    if answer.needs_gpl is not None:
        facts.append("for GPL-compatible programs only" if answer.needs_gpl else "whatever the licence")
    lines = [f"{answer.name}: {verdict}", f"  {'; '.join(facts)}"]
    if answer.older:
        lines.append("  this kernel is older than the helper [helper-too-new]")
    elif answer.verdict == "no":
        lines.append("  programs of that type may not call it in this kernel [helper-not-allowed]")
    if answer.bound:
        lines.append(f"  {answer.bound}")
    for title, value in (
        ("may call it", "yes"),
        ("may not", "no"),
        ("refused as such by this kernel", "no such programs"),
    ):
        kinds = [kind for kind, found in answer.ways.items() if found == value]
        if kinds:
            lines.append(f"{title}: {', '.join(kinds)}")
    if answer.instead:
        lines.append(f"another way: {answer.instead}")
    return "\n".join(lines)


def to_text(answer: Answer | HelperAnswer) -> str:
    """The answer for a person: the verdict, what is in the way, what works, what could not be looked at."""
    from tracebee.session.helperuse import HelperAnswer

    if isinstance(answer, HelperAnswer):
        return helper_text(answer)
    verdict = VERDICTS[answer.verdict]
    if answer.verdict == "unknown" and not answer.obstacles:
        verdict = "nothing is known to be in its way, but not everything could be read"
    lines = [f"{answer.probe}: {verdict}"]
    for index, obstacle in enumerate(answer.obstacles):
        if index == 0:
            lines += [
                f"  {line}" for line in obstacle.text().splitlines() if not line.startswith("also possible")
            ]
        elif obstacle.sure:
            lines.append(f"also in the way: {obstacle.sentence} [{obstacle.cause}]")
        else:
            lines.append(f"perhaps also: {obstacle.sentence} [{obstacle.cause}]")
    if answer.instead:
        more = (
            " (with the rights for it)"
            if any(one.cause in ("no-capability",) for one in answer.obstacles)
            else ""
        )
        lines.append(f"what works in its place{more}:")
        lines += [f"  {hook}" for hook in answer.instead]
    if answer.unreadable:
        lines.append("could not be read, which is not to say that it is empty:")
        lines += [f"  {what}" for what in answer.unreadable]
    return "\n".join(lines)


def to_json(answer: Answer | HelperAnswer) -> dict[str, Any]:
    """Plain values under stable names."""
    from tracebee.session.helperuse import HelperAnswer

    if isinstance(answer, HelperAnswer):
        return {"helper": answer.name, "verdict": answer.verdict} | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in answer._asdict().items()
            if name != "name"
        }
    return {
        "probe": answer.probe,
        "verdict": answer.verdict,
        "obstacles": [obstacle.to_json() for obstacle in answer.obstacles],
        "instead": list(answer.instead),
        "unreadable": list(answer.unreadable),
    }
