"""The schema's small values: layouts, places, maps, programs; and how a record class behaves."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tracebee.records import Frozen, Mutable
from tracebee.spec.events import Event, Exit, Layout, Location, Printf, Slot
from tracebee.spec.objects import Globals, MapInfo, MapSpec, ObjectSpec, ProbeSpec, RunOnce, Schema
from tracebee.spec.printf import parse_format
from tracebee.spec.types import INT64, Str
from tracebee.spec.values import AverageValue, Frame, StackTrace


def test_a_layout_is_fixed_without_dynamic_slots() -> None:
    assert Layout((), 4).is_fixed
    assert Layout((Slot(INT64, 8),), 16).is_fixed
    assert not Layout((Slot(INT64, 8), Slot(Str(64), 16, dynamic=True)), 20).is_fixed


def test_events_are_values() -> None:
    def made() -> Event:
        place = Location("stdin", 1, 9, "stdin:1:9-62")
        return Event(0, Printf("printf", parse_format("%d"), place), Layout((Slot(INT64, 8),), 16))

    assert made() == made()
    assert hash(made()) == hash(made())
    assert made() != Event(0, Exit(), made().layout)


def test_an_object_is_comparable_as_a_whole() -> None:
    def made(name: str) -> ObjectSpec:
        schema = Schema(maps=(MapInfo("@", "AT_", None, INT64, False),), strings=("%H",))
        maps = (MapSpec(name, "HASH", 8, 8, 1),)
        return ObjectSpec((), maps, (ProbeSpec("begin", "begin", RunOnce("begin")),), schema)

    assert made("a") == made("a")
    assert made("a") != made("b")
    assert made("a").probes[0].covers == 1


def test_the_globals_do_not_overlap() -> None:
    places = [(Globals.EXITING, 4), (Globals.EXIT_CODE, 4)]
    words = (Globals.LOST, Globals.STACKS_LOST, Globals.START, Globals.CHILD_PID, Globals.WALL_OFFSET)
    places += [(offset, 8) for offset in words]
    places.sort()
    for (offset, size), (following, _) in pairwise(places):
        assert offset % size == 0
        assert offset + size <= following
    assert sum(places[-1]) <= Globals.SIZE
    assert Globals.SIZE % 8 == 0


@pytest.mark.parametrize(
    ("count", "total", "average"), [(0, 0, 0), (0, 7, 0), (2, 7, 3), (2, -7, -3), (3, -9, -3), (1, 5, 5)]
)
def test_averages_are_cut_toward_zero(count: int, total: int, average: int) -> None:
    assert AverageValue(count, total).average == average


def test_stacks_are_equal_by_frames_and_mode() -> None:
    frames = (Frame(0x10, "main", 4),)
    a, b = StackTrace(frames, "bpftrace", True), StackTrace(frames, "bpftrace", True)
    a.text = "kept"
    assert a == b
    assert hash(a) == hash(b)
    assert a != StackTrace(frames, "perf", True)
    assert a != StackTrace((), "bpftrace", True)
    assert repr(StackTrace((*frames, Frame(0x20)), "raw", True)) == "StackTrace(['main', '0x20'])"


# ---------------------------------------------------------------------- record classes


class Point(Frozen):
    x: int
    y: int = 2


class Point3(Point):
    z: int = 3


class Node(Mutable):
    value: int
    children: tuple[int, ...] = ()


def test_fields_by_position_name_and_default() -> None:
    assert repr(Point(1)) == "Point(x=1, y=2)"
    assert Point(1, y=5) == Point(1, 5) == Point(y=5, x=1)
    assert repr(Point3(1, z=9)) == "Point3(x=1, y=2, z=9)"
    assert Point3.__match_args__ == ("x", "y", "z")
    assert not hasattr(Point(1), "__dict__")


def test_wrong_fields() -> None:
    with pytest.raises(TypeError, match="lacks 'x'"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="takes 2 values, got 3"):
        Point(1, 2, 3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected q"):
        Point(1, q=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected x"):
        Point(1, 2, x=1)  # type: ignore[misc]


def test_a_class_is_part_of_the_value() -> None:
    assert Point(1) != Point3(1)
    assert Node(1) != Node(1)
    node = Node(1)
    node.value = 2
    assert node.value == 2
