"""``tracebee map peek``, ``push``, ``pop``, ``enqueue`` and ``dequeue``: maps without keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.cli.map.shown import plain_value
from tracebee.cli.map.words import Words, open_one, value_of
from tracebee.cli.selection import no_more, print_json, print_lines
from tracebee.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.cli.selection import Options
    from tracebee.session.objects.maps import Map


def run_push(words: Sequence[str]) -> int:
    """Put a value into a stack, a queue or a Bloom filter.  Raises TracebeeError."""
    options, one, rest = open_one(words)
    more = Words(rest)
    when = more.when()
    value = value_of(one, more.section("value"))
    more.done()
    one.push(value, drop_oldest=when == "exist")
    if options.wants_json:
        print("null")
    return 0


def run_pop(words: Sequence[str]) -> int:
    """Take the next value out.  Raises TracebeeError."""
    options, one, rest = open_one(words)
    no_more(rest)
    return _show(one, one.kernel.pop(), options)


def run_peek(words: Sequence[str]) -> int:
    """The next value, which stays; of a Bloom filter whether a value may be in it.  Raises TracebeeError."""
    options, one, rest = open_one(words)
    if one.type == "BLOOM_FILTER":
        more = Words(rest)
        value = value_of(one, more.section("value"))
        more.done()
        found = one.may_have(value)
        if options.wants_json:
            print_json(found, options)
        else:
            print_lines(["it may be in" if found else "it is not in"])
        return 0 if found else 1
    no_more(rest)
    return _show(one, one.kernel.peek(), options)


run_enqueue = run_push
run_dequeue = run_pop


def _show(one: Map, value: bytes | None, options: Options) -> int:
    if options.wants_json:
        print_json(None if value is None else plain_value(one, value), options)
        return 0 if value is not None else 1
    if value is None:
        raise TargetError("", f"map {one.name!r} is empty")
    print_lines([f"value: {one.value_codec.text(one.value_codec.decode(value))}"])
    return 0
