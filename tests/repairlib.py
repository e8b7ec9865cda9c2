"""The programs of tests/data/repairs: what a kernel refuses, and the same with the change that is proposed.

NAME.bpf.c is refused, NAME.fixed.bpf.c is taken.  The second is the first with the edit of the explanation and no
other change.  Both were compiled, in that folder, by

    clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c NAME.bpf.c -o NAME.bpf.o && llvm-strip-14 -g NAME.bpf.o

and refusals.jsonl has what Linux 5.10, 6.1, 6.12 and 7.2 said of the first; tests/vm/inrepairs.py prints its lines.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tracebee.explain.chooser import explain_text
from tracebee.explain.explanation import Edit, Explanation
from tracebee.explain.facts import Facts, Source

FOLDER = Path(__file__).parent / "data" / "repairs"
NAMES = sorted(
    path.name.removesuffix(".bpf.c") for path in FOLDER.glob("*.bpf.c") if ".fixed." not in path.name
)
CAUSES = {
    "index": "index-unbounded",
    "license": "gpl-only",
    "maptype": "map-helper-mismatch",
    "mask": "index-unbounded",
    "null": "null-check-missing",
    "reserved": "null-check-missing",
    "section": "sleepable",
    "unset": "stack-uninit",
}
TAKEN_SINCE = {"unset": (6, 3)}
"""Kernels that take the program as it is."""


def refusals() -> list[dict[str, str]]:
    """Name, kernel, errno and log of each refusal that is on record."""
    return [json.loads(line) for line in (FOLDER / "refusals.jsonl").read_text().splitlines()]


def source_of(name: str) -> str:
    return (FOLDER / f"{name}.bpf.c").read_text()


def explained(name: str, kernel: str, errno: str, log: str) -> Explanation:
    """The explanation of a refusal, by what is known when the object is loaded as root."""
    text = source_of(name)
    section = re.search(r'SEC\("([^"]+)"\)\nint ', text)
    declared = re.search(r'SEC\("license"\) = "([^"]+)"', text)
    assert section is not None
    assert declared is not None
    facts = Facts(
        errno=errno,
        release=kernel,
        section=section[1],
        license=declared[1],
        privileges="root",
        source=Source.of(f"{name}.bpf.c", text),
    )
    return explain_text(log, facts)


def applied(edit: Edit, text: str) -> str:
    """The source with the lines replaced."""
    lines = text.splitlines()
    start = edit.line - 1
    assert tuple(lines[start : start + len(edit.old)]) == edit.old
    lines[start : start + len(edit.old)] = edit.new
    return "\n".join(lines) + "\n"
