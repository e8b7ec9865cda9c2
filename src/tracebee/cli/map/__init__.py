"""``tracebee map``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.verbs import Verb, run_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: dict[str, Verb] = {
    "list": Verb("listing", "[id ID | name NAME | pinned PATH]", "a table of maps"),
    "show": Verb("listing", "[id ID | name NAME | pinned PATH]", "maps with all facts"),
    "dump": Verb("elements", "MAP", "all elements, typed by BTF"),
    "lookup": Verb("elements", "MAP key KEY", "one element"),
    "update": Verb("elements", "MAP key KEY value VALUE [any|exist|noexist]", "set an element"),
    "delete": Verb("elements", "MAP key KEY", "remove an element"),
    "getnext": Verb("elements", "MAP [key KEY]", "the key behind a key, or the first"),
    "peek": Verb("queues", "MAP", "the next value of a queue or stack"),
    "push": Verb("queues", "MAP value VALUE", "put a value into a stack or Bloom filter"),
    "pop": Verb("queues", "MAP", "take a value out of a stack"),
    "enqueue": Verb("queues", "MAP value VALUE", "put a value into a queue"),
    "dequeue": Verb("queues", "MAP", "take a value out of a queue"),
    "create": Verb("making", "FILE type TYPE key K value V entries N name NAME …", "make a map and pin it"),
    "pin": Verb("making", "MAP FILE", "pin a map"),
    "freeze": Verb("making", "MAP", "have user space only read it from now on"),
    "event_pipe": Verb("eventpipe", "MAP [cpu N index N] [-c CMD] [--as TYPE]", "records that programs send"),
}
"""The verbs, and where each is."""


def run(words: Sequence[str]) -> int:
    """Run ``tracebee map`` with the words after it; the exit status.  Raises TracebeeError."""
    return run_verb("map", "maps in the kernel", VERBS, words)
