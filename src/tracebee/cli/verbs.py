"""Commands of two words, such as ``tracebee map dump``: each verb is a module of the noun's package."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Verb(NamedTuple):
    """What a verb is: the module whose function ``run_<verb>`` takes the words behind it, and a line of help.

    `usage` is what is written behind the verb.
    """

    module: str
    usage: str
    help: str


def run_verb(noun: str, about: str, verbs: Mapping[str, Verb], words: Sequence[str]) -> int:
    """Run the verb that `words` begin with, ``list`` without one; the exit status.

    -j and -p may stand anywhere, also before the verb.  Raises TracebeeError.
    """
    first = next(
        (index for index, word in enumerate(words) if word not in ("-j", "-p", "--json", "--pretty")), None
    )
    name = "list" if first is None else words[first]
    if name in ("-h", "--help", "help"):
        print(help_text(noun, about, verbs), end="")
        return 0
    verb = verbs.get(name)
    if verb is None:
        from tracebee.language.diagnostics import nearest

        known = ", ".join(verbs)
        raise UsageError(
            f"unknown command: tracebee {noun} {name}", nearest(name, verbs) or f"the commands are {known}"
        )
    rest = [word for index, word in enumerate(words) if index != first]
    if any(word in ("-h", "--help") for word in rest):
        print(f"USAGE:\n    tracebee {noun} {name} {verb.usage}\n\n{verb.help}")
        return 0
    module = import_module(f"tracebee.cli.{noun}.{verb.module}")
    status: int = getattr(module, f"run_{name.replace('-', '_')}")(rest)
    return status


def help_text(noun: str, about: str, verbs: Mapping[str, Verb]) -> str:
    """The help of a noun: a line for each verb."""
    calls = [f"tracebee {noun} {name} {verb.usage}".rstrip() for name, verb in verbs.items()]
    width = min(max(map(len, calls)), 58)
    lines = [f"tracebee {noun}: {about}", "", "USAGE:"]
    lines += [f"    {call:<{width}}  {verb.help}" for call, verb in zip(calls, verbs.values(), strict=True)]
    return "\n".join([*lines, "", "    -j prints JSON, -p prints it over many lines.", ""])
