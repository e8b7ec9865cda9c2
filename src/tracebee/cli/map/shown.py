"""How an element of a map reads: as text, typed by BTF as far as it is known, and as bpftool's JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.btf.values import NumberCodec, SectionCodec
from tracebee.errors import TracebeeError
from tracebee.kernel.maprules import OUTER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tracebee.session.objects.maps import Map

_LONG = 100
"""Columns of text from which on a value stands on lines of its own."""


def hexadecimal(data: bytes) -> list[str]:
    """Bytes as bpftool's JSON has them."""
    return [f"{byte:#04x}" for byte in data]


def is_typed(one: Map) -> bool:
    """Whether anybody has said what is in the map."""
    return one.btf is not None


def plain_element(one: Map, key: bytes, value: bytes) -> dict[str, Any]:
    """An element as bpftool's JSON has it: bytes, and with BTF "formatted"; and what it does not have.

    That is the sum of the numbers of all CPUs, and the id of the map or the program that a value stands for.
    """
    found: dict[str, Any] = {"key": hexadecimal(key)}
    formatted: dict[str, Any] = {"key": one.key_codec.plain(one.decode_key(key))}
    codec = one.value_codec
    if one.is_per_cpu:
        values = one.decode_value(value)
        slot, size = one.store.slot, codec.size
        found["values"] = [
            {"cpu": cpu, "value": hexadecimal(value[cpu * slot : cpu * slot + size])}
            for cpu in range(one.cpus)
        ]
        formatted["values"] = [{"cpu": cpu, "value": codec.plain(part)} for cpu, part in enumerate(values)]
        if isinstance(codec, NumberCodec):
            formatted["sum"] = sum(values)
    else:
        found["value"] = hexadecimal(value)
        formatted["value"] = codec.plain(one.decode_value(value))
    if is_typed(one):
        found["formatted"] = formatted
    if one.type in OUTER:
        found["inner_map_id"] = int.from_bytes(value, "little")
    elif one.type == "PROG_ARRAY":
        found["prog_id"] = int.from_bytes(value, "little")
    return found


def plain_value(one: Map, value: bytes) -> dict[str, Any]:
    """A value of a map without keys, likewise."""
    found: dict[str, Any] = {"key": [], "value": hexadecimal(value)}
    if is_typed(one):
        found["formatted"] = {"value": one.value_codec.plain(one.decode_value(value))}
    return found


def text_elements(one: Map, elements: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """Lines for all elements, with the values below each other where the keys are short."""
    if isinstance(one.value_codec, SectionCodec):
        for _, value in elements:
            yield from text_variables(one, value)
        return
    rows = [(one.key_codec.text(one.decode_key(key)), value) for key, value in elements]
    width = min(max((len(key) for key, _ in rows), default=0), 40)
    for key, value in rows:
        yield from text_element(one, key, value, width)


def text_element(one: Map, key: str, value: bytes, width: int = 0) -> Iterator[str]:
    """Lines for an element whose key reads `key`."""
    head = f"key: {key:<{width}}  "
    if one.is_per_cpu:
        yield from _per_cpu(one, head, one.decode_value(value))
        return
    text = text_value(one, value)
    if len(head) + len(text) <= _LONG or "\n" not in text:
        yield f"{head}value: {text}".rstrip()
    else:
        yield head.rstrip()
        yield from (f"  {line}" for line in text.splitlines())


def _per_cpu(one: Map, head: str, values: list[Any]) -> Iterator[str]:
    texts = [one.value_codec.text(part) for part in values]
    if isinstance(one.value_codec, NumberCodec):
        parts = "  ".join(f"cpu {cpu}: {text}" for cpu, text in enumerate(texts))
        line = f"{head}sum: {sum(values)}  {parts}"
        if len(line) <= _LONG:
            yield line
            return
        yield f"{head}sum: {sum(values)}"
    else:
        yield head.rstrip()
    yield from (f"  cpu {cpu}: {text}" for cpu, text in enumerate(texts))


def text_value(one: Map, value: bytes) -> str:
    """A value; of a map of maps or programs, what it stands for."""
    if one.type in OUTER:
        return _named("map", int.from_bytes(value, "little"))
    if one.type == "PROG_ARRAY":
        return _named("prog", int.from_bytes(value, "little"))
    if one.type == "STACK_TRACE":
        addresses = [value[at : at + 8] for at in range(0, len(value), 8)]
        return " ".join(f"{int.from_bytes(part, 'little'):#x}" for part in addresses if any(part))
    return one.value_codec.text(one.decode_value(value))


def _named(kind: str, number: int) -> str:
    """An id with the name of what has it."""
    import os

    from tracebee.kernel.ids import WORDS, open_if_there
    from tracebee.kernel.info import names_of

    try:
        fd = open_if_there(kind, number)
    except TracebeeError:
        fd = None
    if fd is None:
        return f"{WORDS[kind]} {number}"
    try:
        names = names_of(kind, fd)
    finally:
        os.close(fd)
    return f"{WORDS[kind]} {number} ({names[-1]})" if names else f"{WORDS[kind]} {number}"


def text_variables(one: Map, value: bytes) -> Iterator[str]:
    """A line for each variable of a section."""
    codec = one.value_codec
    assert isinstance(codec, SectionCodec)
    found = codec.decode(value)
    width = max((len(name) for name in codec.names), default=0)
    for place in codec.places:
        yield f"{place.name:<{width}} = {place.codec.text(found[place.name])}"
