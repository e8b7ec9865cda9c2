"""Typed mappings over the maps of the engine: no kernel is asked."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import pytest

from tracebee.btf.typetext import types_of
from tracebee.engine.maps import Shared, make_map
from tracebee.engine.memory import Memory
from tracebee.errors import MapError, NotSupportedError, UsageError
from tracebee.session.objects.maps import Map, flags_of
from tracebee.spec.objects import MapSpec
from tracebee.testing import load_object

EXAMPLE = Path(__file__).parents[4] / "examples" / "map_in_map" / "map_in_map.bpf.o"


def made(kind: str, key: str, value: str, entries: int = 4, cpus: int = 2, **more: Any) -> Map:
    btf, _, ((key_type, key_size), (value_type, value_size)) = types_of(key, value)
    spec = MapSpec("m", kind, key_size, value_size, entries, key_type=key_type, value_type=value_type, **more)
    memory = Memory()
    return Map(make_map(spec, memory, shared=Shared(memory, cpus)), btf)


def test_a_mapping() -> None:
    one = made("HASH", "struct { u32 a; char b[4]; }", "struct { u64 x; s8 y; }")
    one[(1, "b")] = {"x": 5, "y": -1}
    assert one[{"a": 1, "b": "b"}] == {"x": 5, "y": -1}
    assert [(key.a, key.b, value["x"]) for key, value in one.items()] == [(1, "b", 5)]
    assert (len(one), (1, "b") in one, (2, "b") in one, {"a": 9} in one) == (1, True, False, False)
    assert one.pop((1, "b"))["x"] == 5
    assert one.pop((1, "b"), 3) == 3
    assert one.pop((1, "b"), default=4) == 4
    with pytest.raises(KeyError):
        one[(1, "b")]
    with pytest.raises(KeyError):
        one.pop((1, "b"))
    with pytest.raises(KeyError):
        del one[(1, "b")]
    assert repr(one) == "<Map 'm', HASH: struct {…} → struct {…}, 4 entries>"


def test_values_of_each_cpu() -> None:
    one = made("PERCPU_HASH", "u32", "u32")
    one[1] = [7, 8]
    one[2] = 9
    assert dict(one) == {1: [7, 8], 2: [9, 9]}
    with pytest.raises(UsageError, match="3 values, and 2 possible CPUs"):
        one[1] = [1, 2, 3]
    with pytest.raises(UsageError, match="value of m, CPU 1"):
        one[1] = [1, "x"]
    lists = made("PERCPU_ARRAY", "u32", "u16[2]")
    lists[0] = [1, 2]
    assert lists[0] == [[1, 2], [1, 2]]
    lists[0] = [[1], [3, 4]]
    assert lists[0] == [[1, 0], [3, 4]]


def test_many_at_once() -> None:
    one = made("HASH", "u32", "u32", 100)
    one.update_many((number, 2 * number) for number in range(50))
    assert one.get_many([3, 99, 4]) == {3: 6, 4: 8}
    assert one.get_many(range(40, 60)) == {number: 2 * number for number in range(40, 50)}
    assert one.remove_many([1, 2, 99]) == 2
    assert len(one.take_all()) == 48
    assert dict(one) == {}
    with pytest.raises(UsageError):
        one.update_many({1: 1, 2: "x"})
    assert dict(one) == {}


def test_refusals_are_explained() -> None:
    one = made("HASH", "u32", "u32", 2)
    one.update_many({1: 1, 2: 2})
    with pytest.raises(MapError, match="it is full: there are 2 entries") as caught:
        one[3] = 3
    assert caught.value.errno == errno.E2BIG
    for when, number in (("noexist", errno.EEXIST), ("exist", errno.ENOENT)):
        with pytest.raises(MapError) as caught:
            one.put(1 if when == "noexist" else 9, 1, when=when)
        assert caught.value.errno == number
    one.put(1, 7, when="exist")
    one.freeze()
    assert one.is_frozen
    with pytest.raises(MapError, match="frozen"):
        one[1] = 1
    array = made("ARRAY", "u32", "u64")
    with pytest.raises(MapError, match="index 9 is beyond the last one, 3"):
        array[9] = 1
    with pytest.raises(MapError, match="always there"):
        del array[1]


def test_what_only_the_kernel_has() -> None:
    one = made("HASH", "u32", "u32")
    for wrong in (
        lambda: one.id,
        lambda: one.fd,
        lambda: one.info,
        lambda: one.pin("/x"),
        lambda: one.push(1),
    ):
        with pytest.raises(UsageError, match="not in the kernel"):
            wrong()


def test_names_of_flags() -> None:
    assert flags_of(["no_prealloc", "BPF_F_MMAPABLE"]) == 1 | 1 << 10
    with pytest.raises(UsageError, match="no flag 'lock'"):
        flags_of(["lock"])


def test_tables_need_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NotSupportedError) as caught:
        made("HASH", "u32", "u32").to_arrow()
    assert "tracebee[arrow]" in caught.value.hint


def test_text_that_is_none_in_a_table() -> None:
    pytest.importorskip("pyarrow")
    one = made("HASH", "char[4]", "u128")
    one["\udcff"] = 1 << 127
    (row,) = one.to_arrow().to_pylist()
    assert row == {"key": "\ufffd", "value": 1 << 127}


def test_maps_of_maps() -> None:
    """The example's program in the engine: what Python puts in, it counts in."""
    bench = load_object(EXAMPLE)
    maps = bench.maps
    assert {key: one.name for key, one in maps["current"].items()} == {0: "first"}
    assert len(maps["watched"]) == 0
    assert 5 not in maps["watched"]
    maps["watched"][bench.world.pid] = maps["second"]
    for number in (1, 1, 3):
        bench.fire("count", context=struct.pack("<QQ", 0, number))
    assert dict(maps["watched"][bench.world.pid]) == {1: 2, 3: 1}
    assert dict(maps["first"]) == {1: 2, 3: 1}
    maps["current"][0] = maps["second"]
    bench.fire("count", context=struct.pack("<QQ", 0, 9))
    assert (maps["second"][9], 9 in maps["first"]) == (2, False)
    with pytest.raises(MapError, match="does not fit in: its type is HASH_OF_MAPS, and must be HASH"):
        maps["current"][0] = maps["watched"]
    with pytest.raises(MapError, match="index 1 is beyond the last one, 0"):
        maps["current"][1] = maps["first"]
    with pytest.raises(MapError, match="only the flag ANY"):
        maps["current"].put(0, maps["first"], when="noexist")
    with pytest.raises(UsageError, match="cannot be put into map watched"):
        maps["watched"][1] = "first"
    del maps["watched"][bench.world.pid]
    bench.fire("count", context=struct.pack("<QQ", 0, 9))
    assert maps["second"][9] == 2
