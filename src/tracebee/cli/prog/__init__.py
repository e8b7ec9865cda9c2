"""``tracebee prog``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.verbs import Verb, run_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: dict[str, Verb] = {
    "list": Verb("listing", "[id ID | tag TAG | name NAME | pinned PATH]", "a table of programs"),
    "show": Verb("listing", "[id ID | tag TAG | name NAME | pinned PATH]", "programs with all facts"),
    "dump": Verb(
        "dump",
        "xlated|jited PROG [linum] [opcodes] [visual|intel] [file FILE]",
        "the code of a program, as the verifier left it or as machine code",
    ),
    "profile": Verb(
        "profile",
        "[PROG] [duration SECONDS] [METRIC…] [-c COMMAND]",
        "how often programs run and for how long; all without PROG",
    ),
    "run": Verb(
        "testrun",
        "PROG [data_in FILE] [ctx_in FILE] [data_out FILE] [ctx_out FILE] [repeat N]",
        "runs a program by hand: its result and its time",
    ),
    "pin": Verb("attaching", "PROG PATH", "gives a program a path, which keeps it loaded"),
    "attach": Verb("attaching", "PROG TYPE [MAP]", "attaches to a map of sockets, or as flow dissector"),
    "detach": Verb("attaching", "PROG TYPE [MAP]", "takes away what attach put there"),
    "tracelog": Verb("tracelog", "[-c COMMAND]", "what programs print with bpf_trace_printk()"),
}
"""The verbs, and where each is."""


def run(words: Sequence[str]) -> int:
    """Run ``tracebee prog`` with the words after it; the exit status.  Raises TracebeeError."""
    return run_verb("prog", "programs loaded into the kernel", VERBS, words)
