"""``tracebee map dump``, ``lookup``, ``update``, ``delete`` and ``getnext``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.btf.values import SectionCodec
from tracebee.cli.map.shown import (
    hexadecimal,
    is_typed,
    plain_element,
    text_element,
    text_elements,
    text_variables,
)
from tracebee.cli.map.words import Words, key_of, open_all, open_one, value_of
from tracebee.cli.selection import print_json, print_lines
from tracebee.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.session.objects.maps import Map

NOT_FOUND = 1


def run_dump(words: Sequence[str]) -> int:
    """All elements of a map, or of all maps of one name.  Raises TracebeeError."""
    options, maps = open_all(words)
    if options.wants_json:
        dumps = [_plain_dump(one) for one in maps]
        if len(maps) == 1:
            print_json(dumps[0], options)
        else:
            print_json([_with_facts(one, dump) for one, dump in zip(maps, dumps, strict=True)], options)
        return 0
    for number, one in enumerate(maps):
        if len(maps) > 1:
            print_lines([*([""] if number else []), f"map {one.id} ({one.name}, {one.type.lower()})"])
        elements = list(one.store.items())
        lines = list(text_elements(one, elements))
        if not isinstance(one.value_codec, SectionCodec):
            lines.append(f"Found {len(elements)} element{'' if len(elements) == 1 else 's'}")
        print_lines(lines)
    return 0


def _plain_dump(one: Map) -> list[dict[str, Any]]:
    found = [plain_element(one, key, value) for key, value in one.store.items()]
    if isinstance(one.value_codec, SectionCodec):
        # As bpftool has sections: they have no key to speak of.
        for element in found:
            element["formatted"] = {"value": element["formatted"]["value"]}
    return found


def _with_facts(one: Map, elements: list[dict[str, Any]]) -> dict[str, Any]:
    info = one.info
    return {"id": info.id, "type": info.type.lower(), "name": info.name, "elements": elements}


def run_lookup(words: Sequence[str]) -> int:
    """One element.  Raises TracebeeError."""
    options, one, rest = open_one(words)
    more = Words(rest)
    key = key_of(one, more.section("key"))
    more.done()
    data = one.encode_key(key)
    found = one.store.get(data)
    if options.wants_json:
        print_json(None if found is None else plain_element(one, data, found), options)
        return 0 if found is not None else NOT_FOUND
    if found is None:
        raise TargetError("", f"map {one.name!r} has no key {one.key_codec.text(key)}")
    if isinstance(one.value_codec, SectionCodec):
        print_lines(list(text_variables(one, found)))
    else:
        print_lines(list(text_element(one, one.key_codec.text(key), found)))
    return 0


def run_update(words: Sequence[str]) -> int:
    """Set an element.  Raises TracebeeError."""
    options, one, rest = open_one(words)
    more = Words(rest)
    when = more.when()
    key = key_of(one, more.section("key", ("value",)))
    value = value_of(one, more.section("value"))
    more.done()
    one.put(key, value, when=when)
    return _done(options.wants_json)


def run_delete(words: Sequence[str]) -> int:
    """Remove an element.  Raises TracebeeError."""
    options, one, rest = open_one(words)
    more = Words(rest)
    key = key_of(one, more.section("key"))
    more.done()
    try:
        del one[key]
    except KeyError:
        raise TargetError("", f"map {one.name!r} has no key {one.key_codec.text(key)}") from None
    return _done(options.wants_json)


def run_getnext(words: Sequence[str]) -> int:
    """The key behind a key in the kernel's order, or the first one.  Raises TracebeeError."""
    options, one, rest = open_one(words)
    more = Words(rest)
    text = more.section("key")
    more.done()
    before = None if text is None else one.encode_key(key_of(one, text))
    following = one.kernel.next_key(before)
    if following is None:
        if options.wants_json:
            print_json(None, options)
            return NOT_FOUND
        raise TargetError(
            "", f"map {one.name!r} has no key behind it" if before else f"map {one.name!r} is empty"
        )
    if options.wants_json:
        found: dict[str, Any] = {
            "key": None if before is None else hexadecimal(before),
            "next_key": hexadecimal(following),
        }
        if is_typed(one):
            plain = [
                None if key is None else one.key_codec.plain(one.decode_key(key))
                for key in (before, following)
            ]
            found["formatted"] = {"key": plain[0], "next_key": plain[1]}
        print_json(found, options)
    else:
        shown = "none" if before is None else one.key_codec.text(one.decode_key(before))
        print_lines([f"key: {shown}", f"next key: {one.key_codec.text(one.decode_key(following))}"])
    return 0


def _done(wants_json: bool) -> int:
    """As bpftool has it, there is nothing to say, and in JSON that is null."""
    if wants_json:
        print("null")
    return 0
