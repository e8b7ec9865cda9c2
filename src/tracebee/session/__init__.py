"""Running a script: the backends, the order of things, draining, decoding.

machine    facts about the machine we stand on, for the compiler
backend    the seam: what a session needs of whatever runs programs
kernel     the backend that is the running kernel
session    the order of a run: load, begin, attach, release the target, drain, detach, end
child      the command that -c starts, held until everything is attached
drain      records to decoded values, one by one or in runs
decode     bytes to values by their types
aggregate  one value out of those of all CPUs
dwarf      arguments of user functions, from debug information
names      addresses, ids and numbers to text
refused    why the kernel refused a program, with what is known of this machine
maps       live maps as typed mappings
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import VerifierError

if TYPE_CHECKING:
    from tracebee.explain.explanation import Explanation


def _explain(error: VerifierError) -> Explanation:
    from tracebee.session.refused import explain_refusal

    return explain_refusal(error)


VerifierError.explainer = _explain
