"""The kernel's helper functions, which programs call by number.

Names, numbers and types come from the uapi header (see tools/gen_insn_tables.py).  Whether a kernel has a
helper, for which types of program, and whether it asks for a GPL-compatible licence, is not in the header.
"""

from __future__ import annotations

from functools import cache

from tracebee.errors import UsageError
from tracebee.insn._helper_names import NAMES
from tracebee.records import Frozen

PREFIX = "bpf_"


class HelperArg(Frozen):
    """An argument of a helper: its C `type`, and what `kind` of thing it is.

    ========== ==========================================================================
    map        a map
    key, value memory of the size of that map's key or value
    ctx        what the program got in r1
    mem        memory, whose number of bytes is the next argument
    size       the number of bytes of the argument before
    string     a constant string that ends in NUL
    number     memory for one integer
    address    any address, of which a bad one makes an error result and no fault
    func       a function of the program, to be called back
    record     what bpf_ringbuf_reserve returned
    timer, lock, dynptr  a struct bpf_timer, bpf_spin_lock or bpf_dynptr
    pointer    any other pointer: a kernel object, or memory of a fixed size
    scalar     a number
    ========== ==========================================================================
    """

    kind: str
    name: str
    type: str


class HelperProto(Frozen):
    """A helper: `returns` is the C type of its result, `variadic` whether more arguments may follow."""

    id: int
    short: str
    returns: str
    args: tuple[HelperArg, ...]
    variadic: bool
    summary: str

    @property
    def name(self) -> str:
        """The name that programs use, such as bpf_ktime_get_ns; `short` is it without the prefix."""
        return PREFIX + self.short

    @property
    def signature(self) -> str:
        """The prototype as C."""
        texts = [f"{arg.type}{'' if arg.type.endswith('*') else ' '}{arg.name}" for arg in self.args]
        if self.variadic:
            texts.append("...")
        gap = "" if self.returns.endswith("*") else " "
        return f"{self.returns}{gap}{self.name}({', '.join(texts) or 'void'})"


def helper_id(name: str) -> int:
    """The number of the helper `name`, which may lack the prefix.  Raises UsageError if there is none."""
    number = _ids().get(name.removeprefix(PREFIX))
    if number is None:
        raise UsageError(f"no helper function is called {name!r}", _similar(name))
    return number


def helper_name(number: int) -> str | None:
    """The name of helper `number`, with the prefix; None if the header knows no such helper."""
    names = _names()
    return PREFIX + names[number] if 0 < number < len(names) else None


def describe(name: str) -> HelperProto:
    """The prototype of the helper `name`.  Raises UsageError if there is none."""
    from tracebee.insn._helper_protos import PROTOS
    from tracebee.insn._helper_summaries import summary

    number = helper_id(name)
    short = _names()[number]
    returns, *arguments = PROTOS[short]
    args = [HelperArg(*argument.split(" ", 2)) for argument in arguments]
    variadic = bool(args) and args[-1].kind == "variadic"
    return HelperProto(
        number, short, returns, tuple(args[:-1] if variadic else args), variadic, summary(short)
    )


def helper_names() -> tuple[str, ...]:
    """All helpers in the order of their numbers, with the prefix."""
    return tuple([PREFIX + name for name in _names()[1:]])


@cache
def _names() -> tuple[str, ...]:
    return tuple(NAMES.split())


@cache
def _ids() -> dict[str, int]:
    return {name: number for number, name in enumerate(_names()) if number}


def _similar(name: str) -> str:
    """A hint with the name that was probably meant, or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(name.removeprefix(PREFIX), _ids(), 1)
    return f"did you mean {PREFIX}{near[0]}?" if near else ""
