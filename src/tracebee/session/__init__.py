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
maps       live maps as typed mappings
places     what an object names by pattern or function, as this machine has it
waiting    waiting for descriptors, also with asyncio
refused    why the kernel refused a program, with what is known of this machine
unattached why a probe could not be attached
described  this machine as `explain.attach` wants it; `why` and `doctor` are what is asked of it
helperuse  which programs may call a helper function here
checking   the machine of `tracebee check`, which loads nothing

objects    clang's objects, and all maps of the machine, for Python programs
user       the user backend
testing    made-up events
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
