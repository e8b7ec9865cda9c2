"""Maps of this kernel as Python mappings and on the command line; bpftool says whether it sees the same."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.errors import MapError, TargetError, TracebeeError, UsageError
from tracebee.host.identity import read_cpus
from tracebee.kernel.maps import KernelMap
from tracebee.kernel.perfbuffer import PerfBuffer
from tracebee.session.objects.maps import Map
from tracebee.spec.objects import MapSpec
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent.parent
BPFFS = Path("/sys/fs/bpf")
CPUS = len(read_cpus("possible"))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

needs_bpftool = pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed")
needs_bpffs = pytest.mark.skipif(not os.path.ismount(BPFFS), reason="no BPF file system at /sys/fs/bpf")
EVENT = "struct event { u64 time; u32 pid; char comm[16]; }"


@pytest.fixture
def make() -> Iterator[Callable[..., Map]]:
    """Makes maps, and closes them afterwards."""
    made: list[Map] = []

    def create(kind: str, **more: Any) -> Map:
        made.append(Map.create(kind, **{"name": "tb_test", **more}))
        return made[-1]

    yield create
    for one in made:
        one.close()


@pytest.fixture
def pins() -> Iterator[Callable[[str], str]]:
    """Paths in the BPF file system, removed afterwards."""
    used: list[Path] = []

    def path(name: str) -> str:
        used.append(BPFFS / f"tb_test_{os.getpid()}_{name}")
        return str(used[-1])

    yield path
    for one in used:
        one.unlink(missing_ok=True)


def bpftool(*words: object) -> Any:
    done = subprocess.run(
        ["bpftool", "-j", "map", *map(str, words)], capture_output=True, text=True, timeout=30, check=False
    )
    return json.loads(done.stdout) if done.stdout.strip() else None


def run(*words: object, fails: bool = False) -> str:
    """What ``tracebee map`` prints, on standard error if it is to fail."""
    done = subprocess.run(
        [sys.executable, "-m", "tracebee", "map", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


# ---------------------------------------------------------------------- mappings


@pytest.mark.parametrize("kind", ["HASH", "LRU_HASH"])
def test_a_mapping(make: Callable[..., Map], kind: str) -> None:
    one = make(kind, key="u32", value=EVENT, max_entries=100)
    assert (len(one), dict(one), 7 in one, one.get(7), bool(one)) == (0, {}, False, None, True)
    one[7] = {"time": 1, "pid": 2, "comm": "cat"}
    assert one[7] == {"time": 1, "pid": 2, "comm": "cat"}
    assert one.lookup(7) == one[7]
    assert one.setdefault(8, {"pid": 5}) == {"pid": 5}
    assert one[8]["pid"] == 5
    assert sorted(one) == [7, 8]
    assert {key: value["pid"] for key, value in one.items()} == {7: 2, 8: 5}
    assert sorted(value["pid"] for value in one.values()) == [2, 5]
    del one[7]
    for wrong in (7, 99):
        with pytest.raises(KeyError):
            one[wrong]
        with pytest.raises(KeyError):
            del one[wrong]
    assert one.pop(8)["pid"] == 5
    assert one.pop(8, None) is None
    with pytest.raises(KeyError):
        one.pop(8)
    with pytest.raises(UsageError, match="key of tb_test: 'x' is no u32"):
        one["x"] = {}
    with pytest.raises(UsageError, match=r"value of tb_test\.comm"):
        one[1] = {"comm": "x" * 17}
    assert "x" not in one


def test_structures_as_keys(make: Callable[..., Map]) -> None:
    one = make("HASH", key="struct { u32 pid; char comm[8]; }", value="u64", max_entries=10)
    one[{"pid": 1, "comm": "a"}] = 5
    one[(2, "b")] = 6
    assert one[(1, "a")] == 5
    assert {(key.pid, key.comm): value for key, value in one.items()} == {(1, "a"): 5, (2, "b"): 6}
    # A key with something behind the end of its text can only be made of its bytes: they are remembered.
    one.kernel.put(struct.pack("<I8s", 3, b"c\0junk"), struct.pack("<Q", 7))
    found = {key.comm: one[key] for key in one}
    assert found == {"a": 5, "b": 6, "c": 7}


def test_values_of_each_cpu(make: Callable[..., Map]) -> None:
    one = make("PERCPU_HASH", key="u32", value="u32", max_entries=4)
    one[1] = list(range(CPUS))
    one[2] = 9
    assert dict(one) == {1: list(range(CPUS)), 2: [9] * CPUS}
    with pytest.raises(UsageError, match=f"{CPUS + 1} values, and {CPUS} possible CPUs"):
        one[1] = [0] * (CPUS + 1)
    lists = make("PERCPU_ARRAY", value="u16[3]", max_entries=1)
    lists[0] = [1, 2, 3]
    assert lists[0] == [[1, 2, 3]] * CPUS
    lists[0] = [[cpu] for cpu in range(CPUS)]
    assert lists[0] == [[cpu, 0, 0] for cpu in range(CPUS)]


@pytest.mark.parametrize("count", [10, 3000])
@pytest.mark.parametrize("kind", ["HASH", "PERCPU_HASH", "LPM_TRIE"])
def test_many_at_once(make: Callable[..., Map], kind: str, count: int) -> None:
    key = "struct { u32 bits; u32 number; }"
    one = make(kind, key=key, value="u64", max_entries=count)
    wanted = {(32, number): number for number in range(count)}
    one.update_many(wanted)
    each = {key: [value] * CPUS if one.is_per_cpu else value for key, value in wanted.items()}
    assert len(one) == count
    assert dict(one.items()) == each
    some = [(32, number) for number in (1, 3, count + 5)]
    assert one.get_many(some) == {key: each[key] for key in some[:2]}
    assert one.get_many(list(wanted)) == each
    assert one.remove_many(some) == 2
    assert len(one) == count - 2
    taken = one.take_all()
    assert taken == {key: value for key, value in each.items() if key not in some}
    assert len(one) == 0
    with pytest.raises(MapError, match=f"it is full: there are {count} entries") as caught:
        one.update_many({(32, number): 1 for number in range(count + 1 + 1000)})
    assert caught.value.errno in (errno.E2BIG, errno.ENOSPC)
    one.clear()
    assert list(one) == []


@pytest.mark.parametrize("kind", ["HASH", "LPM_TRIE"])
def test_items_while_another_thread_removes_and_adds(make: Callable[..., Map], kind: str) -> None:
    one = make(kind, key="struct { u32 bits; u32 number; }", value="u64", max_entries=2000)
    staying = {(32, number) for number in range(0, 1000, 2)}
    one.update_many(dict.fromkeys(((32, number) for number in range(1000)), 1))
    going = [(32, number) for number in range(1, 1000, 2)]
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for key in going[:100]:
                one.pop(key, None)
            for key in going[:100]:
                one[key] = 2

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5):
            keys = [tuple(key) for key, _ in one.items()]
            assert len(keys) == len(set(keys))
            if kind == "HASH":
                assert set(keys) >= staying
    finally:
        done.set()
        thread.join()


def test_removing_while_going_over_it(make: Callable[..., Map]) -> None:
    for kind in ("HASH", "LPM_TRIE", "LRU_HASH"):
        one = make(kind, key="struct { u32 bits; u32 number; }", value="u8", max_entries=4000)
        one.update_many({(32, number): 1 for number in range(500)})
        for key in one:
            del one[key]
        assert len(one) == 0


def test_arrays(make: Callable[..., Map]) -> None:
    one = make("ARRAY", value="s16", max_entries=3)
    one[2] = -5
    assert dict(one) == {0: 0, 1: 0, 2: -5}
    assert 3 not in one
    with pytest.raises(MapError, match="index 3 is beyond the last one, 2"):
        one[3] = 1
    with pytest.raises(MapError, match="always there") as caught:
        del one[1]
    assert caught.value.errno == errno.EINVAL
    one.clear()
    assert dict(one) == {0: 0, 1: 0, 2: 0}


@pytest.mark.parametrize(("kind", "order"), [("QUEUE", [1, 2]), ("STACK", [2, 1])])
def test_queues_and_stacks(make: Callable[..., Map], kind: str, order: list[int]) -> None:
    one = make(kind, value="u32", max_entries=2)
    assert (one.peek(), one.pop(None)) == (None, None)
    with pytest.raises(KeyError):
        one.pop()
    one.push(1)
    one.push(2)
    with pytest.raises(MapError, match="it is full"):
        one.push(3)
    assert one.peek() == order[0]
    assert [one.pop(), one.pop()] == order
    for number in (1, 2, 3):
        one.push(number, drop_oldest=True)
    assert sorted([one.pop(), one.pop()]) == [2, 3]
    for wrong in (lambda: one[1], lambda: one.put(1, 1), lambda: list(one), lambda: 1 in one or one[1]):
        with pytest.raises(TracebeeError, match="has no keys"):
            wrong()


def test_bloom_filters(make: Callable[..., Map]) -> None:
    if tuple(map(int, os.uname().release.split(".")[:2])) < (5, 16):
        with pytest.raises(MapError, match="this kernel does not take type BLOOM_FILTER"):
            make("BLOOM_FILTER", value="u64", max_entries=1000)
        return
    one = make("BLOOM_FILTER", value="u64", max_entries=1000)
    one.push(7)
    assert one.may_have(7)
    assert sum(one.may_have(number) for number in range(100, 200)) < 50
    with pytest.raises(TracebeeError):
        one.pop()


def test_tries(make: Callable[..., Map]) -> None:
    one = make("LPM_TRIE", key="struct { u32 bits; u8 address[4]; }", value="u32", max_entries=5)
    one[(8, b"\x0a\0\0\0")] = 8
    one[(16, [10, 1, 0, 0])] = 16
    assert (one[(32, [10, 1, 2, 3])], one[(32, [10, 2, 2, 3])]) == (16, 8)
    assert (32, [11, 0, 0, 0]) not in one
    with pytest.raises(MapError, match="a prefix of 33 bits is longer than its keys"):
        one[(33, [1, 2, 3, 4])] = 1


def test_flags_of_updates(make: Callable[..., Map]) -> None:
    one = make("HASH", key="u32", value="u32", max_entries=4)
    with pytest.raises(MapError, match="was to be"):
        one.put(1, 1, when="exist")
    one.put(1, 1, when="noexist")
    with pytest.raises(MapError, match="was not to be"):
        one.put(1, 2, when="noexist")
    one.put(1, 3, when="exist")
    assert one[1] == 3
    with pytest.raises(MapError, match="no lock"):
        one.put(1, 1, lock=True)
    with pytest.raises(UsageError):
        one.put(1, 1, when="never")


def test_frozen_and_guarded_maps(make: Callable[..., Map]) -> None:
    one = make("ARRAY", value="u32", max_entries=1)
    one[0] = 5
    assert not one.is_frozen
    one.freeze()
    assert one.is_frozen
    with pytest.raises(MapError, match="frozen"):
        one[0] = 6
    assert one[0] == 5
    with pytest.raises(MapError, match="BPF_F_RDONLY"):
        make("ARRAY", value="u32", max_entries=1, flags=["rdonly"])[0] = 1
    with pytest.raises(MapError, match="BPF_F_WRONLY"):
        make("ARRAY", value="u32", max_entries=1, flags=["wronly"])[0]


def test_by_id(make: Callable[..., Map]) -> None:
    one = make("HASH", key="u32", value=EVENT, max_entries=3, name="tb_by_id")
    one[1] = {"comm": "x"}
    with Map.from_id(one.id) as other:
        assert (other.name, other.type, other.id, other.max_entries) == ("tb_by_id", "HASH", one.id, 3)
        assert other[1] == {"time": 0, "pid": 0, "comm": "x"}
        other[2] = {"pid": 5}
        assert "struct event" in repr(other)
    assert one[2]["pid"] == 5
    number = one.id
    one.close()
    with pytest.raises(TargetError, match=f"no map with id {number}"):
        Map.from_id(number)


@needs_bpffs
def test_pins(make: Callable[..., Map], pins: Callable[[str], str]) -> None:
    one, other = (make("ARRAY", value="u32", max_entries=1) for _ in range(2))
    path = pins("one")
    one.pin(path)
    with Map.from_pin(path) as found:
        assert found.id == one.id
    with pytest.raises(MapError, match="something at that path"):
        other.pin(path)
    with pytest.raises(TargetError, match="another map"):
        other.unpin(path)
    one.unpin()
    assert not os.path.exists(path)
    for wrong in ("/tmp/tb_test", f"{path}.x"):
        with pytest.raises(MapError, match="BPF file system, under a name without a dot"):
            one.pin(wrong)


def test_tables_of_arrow(make: Callable[..., Map]) -> None:
    pa = pytest.importorskip("pyarrow")
    one = make(
        "HASH",
        key="s16",
        value="struct { u8 a; bool b; char c[4]; s64 d[2]; double e; u32 f : 3; }",
        max_entries=3,
    )
    one[-1] = {"a": 200, "b": True, "c": "x", "d": [-1, 2], "e": 1.5, "f": 5}
    table = one.to_arrow()
    assert table.schema.field("key").type == pa.int16()
    fields = {field.name: field.type for field in table.schema.field("value").type}
    assert fields == {
        "a": pa.uint8(),
        "b": pa.bool_(),
        "c": pa.string(),
        "d": pa.list_(pa.int64(), 2),
        "e": pa.float64(),
        "f": pa.uint32(),
    }
    assert table.to_pylist() == [
        {"key": -1, "value": {"a": 200, "b": True, "c": "x", "d": [-1, 2], "e": 1.5, "f": 5}}
    ]
    each = make("PERCPU_ARRAY", value="u64", max_entries=1)
    each[0] = list(range(CPUS))
    assert each.to_arrow().to_pylist() == [{"key": 0, "value": list(range(CPUS))}]
    assert each.to_arrow().schema.field("value").type == pa.list_(pa.uint64(), CPUS)
    empty = make("HASH", key="u32", value="u64", max_entries=1).to_arrow()
    assert (empty.num_rows, empty.schema.field("key").type) == (0, pa.uint32())


# ---------------------------------------------------------------------- maps of maps


def test_an_array_of_maps(make: Callable[..., Map]) -> None:
    template = make("ARRAY", value="u64", max_entries=4)
    outer = make("ARRAY_OF_MAPS", inner=template, max_entries=3)
    template.close()
    inner = make("ARRAY", value="u64", max_entries=4, name="tb_inner")
    assert (len(outer), dict(outer), 0 in outer, outer.get(0)) == (0, {}, False, None)
    with pytest.raises(KeyError):
        outer[0]
    outer[0] = inner
    outer[0][3] = 7
    assert (inner[3], outer[0].id, outer[0].name) == (7, inner.id, "tb_inner")
    # What is read is an id, what is written a descriptor.
    assert outer.kernel.get(bytes(4)) == struct.pack("<I", inner.id)
    outer[2] = inner.fd
    assert {key: one.id for key, one in outer.items()} == {0: inner.id, 2: inner.id}
    assert [one.id for one in outer.values()] == [inner.id] * 2
    del outer[2]
    with pytest.raises(MapError, match="index 3 is beyond"):
        outer[3] = inner
    number = inner.id
    inner.close()
    assert outer[0][3] == 7
    outer[0] = make("ARRAY", value="u64", max_entries=4)  # the last reference to the other goes
    for _ in range(200):
        try:
            Map.from_id(number).close()
        except TargetError:
            break
        threading.Event().wait(0.01)
    else:
        pytest.fail("the replaced map is still there")


def test_a_hash_of_maps(make: Callable[..., Map]) -> None:
    outer = make("HASH_OF_MAPS", key="char[8]", inner=MapSpec("t", "HASH", 4, 8, 1), max_entries=2)
    one, other = (make("HASH", key="u32", value="u64", max_entries=size) for size in (10, 20))
    outer["a"] = one
    outer["b"] = other
    outer["b"][5] = 6
    assert other[5] == 6
    assert {key: inner.id for key, inner in outer.items()} == {"a": one.id, "b": other.id}
    with pytest.raises(MapError, match="it is full"):
        outer["c"] = one
    with pytest.raises(MapError, match="was not to be"):
        outer.put("a", other, when="noexist")
    assert outer.pop("a").id == one.id
    assert list(outer) == ["b"]
    outer.clear()
    assert len(outer) == 0


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        ({"kind": "HASH", "key": "u32"}, "its type is HASH, and must be ARRAY"),
        ({"value": "u32"}, "its value size is 4 bytes, and must be 8 bytes"),
        ({"max_entries": 8}, "it has 8 entries, and must have 16"),
        ({"flags": ["mmapable"]}, "its flags are 0x400, and must be 0x0"),
    ],
)
def test_the_rules_are_told(make: Callable[..., Map], inner: dict[str, Any], reason: str) -> None:
    outer = make("ARRAY_OF_MAPS", inner=make("ARRAY", value="u64", max_entries=16), max_entries=2)
    wrong = make(**{"kind": "ARRAY", "value": "u64", "max_entries": 16, "name": "tb_wrong", **inner})
    with pytest.raises(MapError) as caught:
        outer[0] = wrong
    assert caught.value.errno == errno.EINVAL
    assert f"map 'tb_wrong' does not fit in: {reason}" in str(caught.value)
    # Opened by its id, nobody tells what its template was; what is in it does.
    outer[1] = make("ARRAY", value="u64", max_entries=16)
    with Map.from_id(outer.id) as found, pytest.raises(MapError, match=reason):
        found[0] = wrong


def test_entries_of_any_number_with_the_flag_for_it(make: Callable[..., Map]) -> None:
    flag = {"value": "u64", "flags": ["inner_map"]}
    outer = make("ARRAY_OF_MAPS", inner=make("ARRAY", max_entries=16, **flag), max_entries=1)
    outer[0] = make("ARRAY", max_entries=8, **flag)
    assert outer[0].max_entries == 8


def test_outer_maps_that_cannot_be(make: Callable[..., Map]) -> None:
    inner = make("ARRAY", value="u64", max_entries=1)
    outer = make("ARRAY_OF_MAPS", inner=inner, max_entries=1)
    for wanted, number, reason in (
        (None, errno.EINVAL, "needs an inner map"),
        (outer, errno.EINVAL, "one level is all"),
        (make("PROG_ARRAY", max_entries=1), 524, "cannot hold maps of type PROG_ARRAY"),
    ):
        with pytest.raises(MapError, match=reason) as caught:
            make("ARRAY_OF_MAPS", inner=wanted, max_entries=1)
        assert caught.value.errno == number
    with pytest.raises(MapError, match="only the flag ANY"):
        outer.put(0, inner, when="noexist")
    inner.close()
    with pytest.raises(MapError, match="closed") as caught:
        outer[0] = inner
    assert caught.value.errno == errno.EBADF
    with pytest.raises(MapError, match="is closed or none") as caught:
        make("ARRAY_OF_MAPS", inner=inner, max_entries=1)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(UsageError, match="is no descriptor"):
        outer[0] = "inner"


# ---------------------------------------------------------------------- as bpftool sees it

DUMPED: list[tuple[dict[str, Any], dict[Any, Any]]] = [
    ({"kind": "HASH", "key": "u32", "value": EVENT}, {7: {"time": 1 << 40, "pid": 3, "comm": "cat"}, 9: {}}),
    ({"kind": "ARRAY", "value": "enum state { IDLE, BUSY = 4 }"}, {1: 4, 2: 7}),
    (
        {"kind": "ARRAY", "value": "struct { u32 a : 3; s32 b : 5; bool c; void *p; s8 d; }"},
        {0: {"a": 5, "b": -3, "c": 1, "p": 1 << 47, "d": -1}},
    ),
    ({"kind": "HASH", "key": "struct { s16 a; u8 b[3]; }", "value": "s64"}, {(-1, (1, 2, 3)): -(1 << 60)}),
    ({"kind": "PERCPU_HASH", "key": "u64", "value": "u32"}, {1: 5, 2: 6}),
    ({"kind": "PERCPU_ARRAY", "value": "struct { u64 a; char b[4]; }"}, {1: {"a": 1, "b": "xyz"}}),
    ({"kind": "HASH", "key": 4, "value": 3}, {1: b"abc"}),
    ({"kind": "LPM_TRIE", "key": "struct { u32 bits; u8 a[4]; }", "value": "u16"}, {(8, (10, 0, 0, 0)): 1}),
    (
        {"kind": "HASH", "key": "u8", "value": "struct { union { u32 a; u16 b; } u; s32 x[2]; }"},
        {1: {"u": {"a": 70000}, "x": [1, -2]}},
    ),
]


def without_sums(elements: Any) -> Any:
    """What bpftool has, too."""
    for element in elements:
        element.get("formatted", {}).pop("sum", None)
    return elements


@needs_bpftool
@pytest.mark.parametrize(("facts", "elements"), DUMPED, ids=lambda one: str(one.get("value", ""))[:30])
def test_dumps_are_bpftools(
    make: Callable[..., Map], facts: dict[str, Any], elements: dict[Any, Any]
) -> None:
    one = make(**facts, max_entries=4)
    one.update_many(elements)
    ours = json.loads(run("-j", "dump", "id", one.id))
    assert without_sums(ours) == bpftool("dump", "id", one.id)
    pretty = run("-p", "dump", "id", one.id)
    assert len(pretty.splitlines()) > 5
    assert without_sums(json.loads(pretty)) == without_sums(ours)
    key = next(iter(elements))
    words = [str(byte) for byte in one.encode_key(key)]
    found = json.loads(run("-j", "lookup", "id", one.id, "key", *words))
    assert without_sums([found])[0] == bpftool("lookup", "id", one.id, "key", *words)
    following = json.loads(run("-j", "getnext", "id", one.id))
    following.pop("formatted", None)
    assert following == bpftool("getnext", "id", one.id)


@needs_bpftool
def test_what_one_writes_the_other_reads(make: Callable[..., Map]) -> None:
    one = make("HASH", key="u32", value=EVENT, max_entries=4)
    run("update", "id", one.id, "key", 1, "value", '{.pid = 3, .comm = "x"}')
    bpftool(
        "update",
        "id",
        one.id,
        "key",
        2,
        0,
        0,
        0,
        "value",
        *bytes(8),
        *[4, 0, 0, 0],
        *b"y",
        *bytes(15),
        *bytes(4),
    )
    assert run("dump", "id", one.id).splitlines()[-1] == "Found 2 elements"
    assert {key: (value["pid"], value["comm"]) for key, value in one.items()} == {1: (3, "x"), 2: (4, "y")}
    assert bpftool("lookup", "id", one.id, "key", 1, 0, 0, 0)["formatted"]["value"]["pid"] == 3
    run("delete", "id", one.id, "key", "0x1")
    assert list(one) == [2]
    assert "has no key 1" in run("delete", "id", one.id, "key", 1, fails=True)
    assert json.loads(bpftool_text("-j", "map", "show", "id", one.id))["id"] == one.id


def bpftool_text(*words: object) -> str:
    return subprocess.run(
        ["bpftool", *map(str, words)], capture_output=True, text=True, timeout=30, check=False
    ).stdout


# ---------------------------------------------------------------------- the commands


def test_text_of_dumps(make: Callable[..., Map]) -> None:
    one = make("ARRAY", value="struct { u32 pid; enum { IDLE, BUSY } state; char comm[8]; }", max_entries=2)
    one[1] = {"pid": 7, "state": 1, "comm": 'a"b'}
    assert run("dump", "id", one.id).splitlines() == [
        'key: 0  value: {.pid = 0, .state = IDLE, .comm = ""}',
        'key: 1  value: {.pid = 7, .state = BUSY, .comm = "a\\"b"}',
        "Found 2 elements",
    ]
    each = make("PERCPU_ARRAY", value="u64", max_entries=1)
    each[0] = [5] * CPUS
    assert run("dump", "id", each.id).startswith(f"key: 0  sum: {5 * CPUS}")
    raw = make("HASH", key=3, value=5, max_entries=1)
    raw[b"abc"] = b"12345"
    assert run("lookup", "id", raw.id, "key", "hex", "61 62 63") == "key: 61 62 63  value: 31 32 33 34 35\n"


@needs_bpffs
def test_the_life_of_a_map_on_the_command_line(pins: Callable[[str], str]) -> None:
    path, other, outer = pins("map"), pins("again"), pins("outer")
    run(
        "create",
        path,
        "type",
        "hash",
        "key",
        "u32",
        "value",
        EVENT,
        "entries",
        10,
        "name",
        "tb_life",
        "flags",
        "no_prealloc",
    )
    run("update", "pinned", path, "key", 5, "value", '{"pid": 1}', "noexist")
    assert "was not to be (NOEXIST)" in run("update", path, "key", 5, "value", "{}", "noexist", fails=True)
    assert "was to be (EXIST)" in run("update", path, "key", 6, "value", "{}", "exist", fails=True)
    run("pin", "pinned", path, other)
    with Map.from_pin(other) as one:
        assert (one[5]["pid"], one.max_entries, one.spec.flags, one.name) == (1, 10, 1, "tb_life")
        number = one.id
    assert run("-j", "lookup", path, "key", 9, fails=True) == ""
    run(
        "create",
        outer,
        "type",
        "hash_of_maps",
        "key",
        "u32",
        "entries",
        2,
        "name",
        "tb_outer",
        "inner_map",
        "pinned",
        path,
    )
    run("update", outer, "key", 1, "value", "id", number)
    assert run("dump", outer) == f"key: 1  value: map {number} (tb_life)\nFound 1 element\n"
    assert json.loads(run("-j", "dump", outer))[0]["inner_map_id"] == number
    run("freeze", path)
    assert "frozen" in run("update", path, "key", 5, "value", "{}", fails=True)


@needs_bpffs
def test_queues_on_the_command_line(pins: Callable[[str], str]) -> None:
    path = pins("queue")
    run("create", path, "type", "queue", "value", "u32", "entries", 2)
    assert "is empty" in run("pop", path, fails=True)
    run("enqueue", path, "value", 3)
    run("push", path, "value", "hex 04 00 00 00")
    assert "it is full" in run("push", path, "value", 5, fails=True)
    assert run("peek", path) == "value: 3\n"
    if shutil.which("bpftool"):
        assert json.loads(run("-j", "peek", path)) == bpftool("peek", "pinned", path)
    assert run("dequeue", path) == "value: 3\n"
    assert json.loads(run("-j", "dequeue", path)) == {"key": [], "value": ["0x04", "0x00", "0x00", "0x00"]}
    assert "has no keys" in run("dump", path, fails=True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["dump"], "which one?"),
        (["dump", "id", "4294967295"], "no map with id"),
        (["lookup", "name", "tb_none", "key", "1"], "no map with name tb_none"),
        (["create", "/sys/fs/bpf/tb_x"], "of which type?"),
        (["create", "/sys/fs/bpf/tb_x", "type", "hash", "key", "4", "value", "4"], "room for an entry"),
        (
            ["create", "/sys/fs/bpf/tb_x", "type", "hash", "key", "u33", "value", "4", "entries", "1"],
            "u33 is not known",
        ),
        (["create", "/sys/fs/bpf/tb_x", "kind", "hash"], "what is 'kind'?"),
        (["create", "/sys/fs/bpf/tb_x", "type", "hash", "type", "hash"], "said twice"),
        (["create", "/sys/fs/bpf/tb_x", "type", "array_of_maps", "entries", "1"], "needs an inner map"),
    ],
)
def test_mistakes_are_told(words: list[str], reason: str) -> None:
    assert reason in run(*words, fails=True)
    assert not os.path.exists("/sys/fs/bpf/tb_x")


def test_mistakes_in_keys_and_values(make: Callable[..., Map]) -> None:
    one = make("HASH", key="u32", value=EVENT, max_entries=4)
    for words, reason in (
        (["update", "id", one.id, "key", 1], "which value?"),
        (["update", "id", one.id, "value", 1], "which key?"),
        (["update", "id", one.id, "key", "x", "value", "{}"], "'x' is no u32"),
        (["update", "id", one.id, "key", 1, "value", "{.pd = 3}"], "did you mean 'pid'?"),
        (["update", "id", one.id, "key", "hex", "01", "value", "{}"], "there must be 4 bytes"),
        (["peek", "id", one.id], "only queues"),
        (["event_pipe", "id", one.id], "carries no records"),
    ):
        assert reason in run(*words, fails=True)
    assert len(one) == 0


# ---------------------------------------------------------------------- objects


@pytest.fixture
def pipes() -> Iterator[Any]:
    from tracebee.session.objects.object import Object

    with Object.from_elf(ROOT / "tests/data/objects/pipes.bpf.o") as sender:
        sender.load("kernel")
        sender.attach()
        yield sender


@pytest.fixture
def command(tmp_path: Path) -> str:
    """A command that the object's program looks at, by its name."""
    path = tmp_path / "tbpipe"
    shutil.copy(shutil.which("true") or "/bin/true", path)
    return str(path)


def test_event_pipe_of_a_perf_event_array(pipes: Any, command: str) -> None:
    number = pipes.maps["samples"].id
    found = json.loads(run("-j", "event_pipe", "id", number, "--as", "struct record", "-c", command))
    records = [one["formatted"] for one in found]
    assert len(records) > 5
    assert {one["comm"] for one in records} == {"tbpipe"}
    assert [one["number"] for one in records] == list(range(len(records)))
    assert len({one["pid"] for one in records}) == 1
    assert all(one["type"] == 9 and one["cpu"] == one["index"] for one in found)
    assert found[0]["timestamp"] <= found[-1]["timestamp"]
    assert bytes(found[0]["data"])[8:14] == b"tbpipe"
    lines = run("event_pipe", "id", number, "-c", command).splitlines()
    assert lines[0].startswith("== @")
    assert "CPU: " in lines[0]
    assert bytes.fromhex("".join(lines[1].split()))[8:14] == b"tbpipe"


def test_records_that_do_not_fit_are_counted(pipes: Any, command: str) -> None:
    """The kernel tells of losses with the next record that fits."""
    before = pipes.variables["sent"]
    taken: list[tuple[int, bytes]] = []
    with PerfBuffer(pipes.maps["samples"].fd, read_cpus("online"), 1) as buffer:
        for _ in range(10):
            subprocess.run([command], check=True, timeout=20)
        assert buffer.drain(lambda cpu, data: taken.append((cpu, data))) == len(taken)
        for cpu in read_cpus("online"):
            run_on(cpu, command)
        buffer.drain(lambda cpu, data: taken.append((cpu, data)))
        assert buffer.lost > 0
        assert len(taken) + buffer.lost == pipes.variables["sent"] - before
        numbers = [struct.unpack_from("<II", data)[1] for _, data in taken]
        assert numbers == sorted(numbers)
        assert {cpu for cpu, _ in taken} == set(read_cpus("online"))


def run_on(cpu: int, command: str) -> None:
    """Run a command on a processor, from its first instruction on."""
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        subprocess.run([command], check=True, timeout=20)
    finally:
        os.sched_setaffinity(0, here)


def test_event_pipe_goes_on_until_it_is_interrupted(pipes: Any, command: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tracebee", "map", "-j", "event_pipe", "id", str(pipes.maps["samples"].id)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as reader:
        assert reader.stdout is not None
        begin = reader.stdout.read(1)  # it is attached when it has begun
        subprocess.run([command], check=True, timeout=20)
        begin += os.read(reader.stdout.fileno(), 1 << 16)
        reader.send_signal(signal.SIGINT)
        rest = reader.stdout.read()
        assert reader.wait(timeout=20) == 0
    assert len(json.loads(begin + rest)) > 5


def test_event_pipe_of_a_ring_buffer(pipes: Any, command: str) -> None:
    number = pipes.maps["ring"].id
    text = run(
        "event_pipe", "id", number, "--as", "struct { u32 pid; u32 number; char comm[16]; }", "-c", command
    )
    values = [line for line in text.splitlines() if not line.startswith("==")]
    assert len(values) > 5
    assert values[1].endswith(', .number = 1, .comm = "tbpipe"}')
    refusal = run("event_pipe", "id", number, "--as", "struct nothing", fails=True)
    assert "there is no type 'struct nothing'" in refusal


def test_variables_are_dumped_by_name(pipes: Any, command: str) -> None:
    subprocess.run([command], check=True, timeout=20)
    sections = [one for one in json.loads(run("-j", "list")) if str(one.get("name", "")).endswith(".bss")]
    ids = [one["id"] for one in sections if one["id"] in {found.id for found in kernel_maps(pipes)}]
    text = run("dump", "id", ids[0])
    assert "latest = {.pid = " in text
    assert '.comm = "tbpipe"}' in text
    if shutil.which("bpftool"):
        ours = json.loads(run("-j", "dump", "id", ids[0]))
        assert ours[0]["formatted"] == bpftool("dump", "id", ids[0])[0]["formatted"]


def kernel_maps(loaded: Any) -> list[Map]:
    side = loaded._side
    return [Map(one) for one in side.maps.values() if isinstance(one, KernelMap)]


def test_the_example(tmp_path: Path) -> None:
    script = ROOT / "examples" / "map_in_map" / "map_in_map.py"
    shell = "for i in 1 2 3 4 5 6 7; do test -e /nowhere; done; kill -0 $$"
    done = subprocess.run(
        [sys.executable, str(script), "-i", "5", "-c", f"sh -c {shell!r}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, _, whole = done.stdout.partition("in all\n")
    assert first.startswith("since the last report\n")
    counts = {line.split()[1]: int(line.split()[0]) for line in whole.splitlines()}
    assert max(counts.values()) >= 7
    rules = subprocess.run(
        [sys.executable, str(script), "--rules"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (rules.returncode, rules.stderr) == (0, "")
    assert "what is put in is the map itself: {7: 1, 8: 2}" in rules.stdout
    assert rules.stdout.count("does not fit in") == 3


def test_static_entries_of_an_object() -> None:
    from tracebee.session.objects.object import Object

    with Object.from_elf(ROOT / "examples" / "map_in_map" / "map_in_map.bpf.o") as counter:
        counter.load("kernel")
        maps = counter.maps
        assert {key: one.id for key, one in maps["current"].items()} == {0: maps["first"].id}
        assert len(maps["watched"]) == 0
        maps["current"][0] = maps["second"]
        maps["current"][0][1] = 5
        assert dict(maps["second"]) == {1: 5}
        assert bpf.map_lookup(maps["current"].fd, bytes(4), 4) == struct.pack("<I", maps["second"].id)
