"""Declarations of maps: kinds, sizes and types."""

from __future__ import annotations

import pytest

from tracebee.spec.objects import MapInfo, MapSpec
from tracebee.spec.types import INT32, UINT32, UINT64, Int, Str, Tuple

from ..fixtures import build, messages, spec_of


def maps(text: str) -> dict[str, tuple[MapInfo, MapSpec]]:
    spec = spec_of(text)
    made = {one.name: one for one in spec.maps}
    return {info.name: (info, made[info.map]) for info in spec.schema.maps}


def test_types_make_a_map_that_nobody_writes_to() -> None:
    found = maps("let @pid: uint32; begin { if (pid == @pid) { exit(); } }")
    info, spec = found["@pid"]
    assert (info.key, info.value) == (None, UINT32)
    assert spec.max_entries == 1


def test_a_map_that_no_probe_mentions_is_there_all_the_same() -> None:
    assert maps("let @answer: int64; begin { exit(); }")["@answer"][0].value == Int(8, True)


def test_keys() -> None:
    info, spec = maps("let @seen[uint32, string[16]]: uint64; begin { print(@seen[1, comm]); }")["@seen"]
    assert info.key == Tuple((UINT32, Str(16)))
    assert info.value == UINT64
    assert (spec.type, spec.key_size, spec.value_size) == ("HASH", 20, 8)


def test_types_and_a_kind() -> None:
    info, spec = maps("let @seen[int32]: uint64 = lruhash(7); begin { @seen[1] = 2; }")["@seen"]
    assert info.key == INT32
    assert (spec.type, spec.max_entries) == ("LRU_HASH", 7)


def test_a_kind_alone_leaves_the_types_to_the_script() -> None:
    info, spec = maps("let @seen = hash(7); begin { @seen[pid] = 2; }")["@seen"]
    assert info.key == UINT32
    assert (spec.type, spec.max_entries) == ("HASH", 7)


def test_a_declared_type_does_not_widen() -> None:
    assert messages("let @a: uint8; begin { @a = nsecs; }")
    build("let @a: uint64; begin { @a = (uint8)1; }")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("let @a: nothing; begin { }", 'Cannot resolve unknown type "nothing"'),
        ("let @a[nothing]: int64; begin { }", 'Cannot resolve unknown type "nothing"'),
        ("let @a: int8; let @a: int8; begin { }", "Duplicate map declaration: @a"),
        ("let @a: int8 = hash(4); begin { }", "@a has no keys, so it has no entries"),
        ("let @a = hashish(4); begin { }", "Invalid bpf map type: hashish"),
        ("let @a = hash(0); begin { }", "the number of entries must be a positive constant"),
        ("let @a[int8]; begin { }", "syntax: expected ':'"),
        ("let @a; begin { }", "syntax: expected '='"),
        ('let @a: int8; begin { @a["x"] = 1; }', "@a used as a map with an explicit key"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    assert any(found.startswith(message) for found in messages(text)), messages(text)
