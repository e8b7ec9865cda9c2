"""``tracebee why``: whether a probe can be put on a place here, why not, and what works in its place."""

from __future__ import annotations

import json
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING, Any

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from tracebee.session.why import Answer

USAGE = """\
  tracebee why kprobe:sys_connect
  tracebee why tracepoint:sched:sched_swich
  tracebee why uprobe:/usr/bin/bash:readline

tracebee why: say whether a probe can be put on a place on this machine, why not, and which hooks nearby work.
Nothing is attached: the lists and settings of the kernel are read, and lists that cannot be read are named.

USAGE:
    tracebee why [options] PROBE ...

A PROBE is written as in a script; a plain name is a function of the kernel.

OPTIONS:
    -j               JSON, one object a line and probe
    -h, --help       print this help

EXIT STATUS:
    0 if every probe can be there, 1 if one cannot, 2 if it is not known of one
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
    from tracebee.session.machine import LiveMachine
    from tracebee.session.why import why

    live = LiveMachine()
    try:
        answers = [why(probe, live) for probe in probes]
    finally:
        live.close()
    for index, answer in enumerate(answers):
        if names & {"-j", "--json"}:
            print(json.dumps(to_json(answer)))
        else:
            print(("\n" if index else "") + to_text(answer))
    verdicts = {answer.verdict for answer in answers}
    return 1 if "no" in verdicts else 2 if "unknown" in verdicts else 0


def to_text(answer: Answer) -> str:
    """The answer for a person: the verdict, what is in the way, what works, what could not be looked at."""
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


def to_json(answer: Answer) -> dict[str, Any]:
    """Plain values under stable names."""
    return {
        "probe": answer.probe,
        "verdict": answer.verdict,
        "obstacles": [obstacle.to_json() for obstacle in answer.obstacles],
        "instead": list(answer.instead),
        "unreadable": list(answer.unreadable),
    }
