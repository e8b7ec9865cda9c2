"""The types of the schema: sizes, alignments, layouts as C has them, and their names."""

from __future__ import annotations

import ctypes

import pytest

from tracebee.spec.types import (
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Array,
    Average,
    Bool,
    Buffer,
    CgroupPath,
    Count,
    Enum,
    Extreme,
    Field,
    Hist,
    Inet,
    Int,
    KSym,
    LHist,
    MacAddr,
    Named,
    Pointer,
    Record,
    Stack,
    Str,
    Struct,
    Sum,
    Timestamp,
    TSeries,
    Tuple,
    Type,
    Username,
    USym,
    Void,
    align_up,
)

C_TYPES = {
    INT8: ctypes.c_int8,
    INT16: ctypes.c_int16,
    INT32: ctypes.c_int32,
    INT64: ctypes.c_int64,
    UINT8: ctypes.c_uint8,
    UINT16: ctypes.c_uint16,
    UINT32: ctypes.c_uint32,
    UINT64: ctypes.c_uint64,
}


@pytest.mark.parametrize(
    ("value", "alignment", "result"), [(0, 8, 0), (1, 8, 8), (8, 8, 8), (9, 4, 12), (7, 1, 7)]
)
def test_align_up(value: int, alignment: int, result: int) -> None:
    assert align_up(value, alignment) == result


@pytest.mark.parametrize(
    ("type_", "size", "align", "is_scalar", "text"),
    [
        (Void(), 0, 1, False, "void"),
        (Void(4), 4, 1, False, "void"),
        (INT8, 1, 1, True, "int8"),
        (UINT64, 8, 8, True, "uint64"),
        (Bool(), 1, 1, True, "bool"),
        (Enum("state", 4, False, ((0, "IDLE"),)), 4, 4, True, "enum state"),
        (Enum("", 8, True, ()), 8, 8, True, "enum"),
        (Str(64), 64, 1, False, "string[64]"),
        (Buffer(10), 14, 4, False, "buffer[10]"),
        (Pointer(INT32), 8, 8, True, "int32 *"),
        (Pointer(Pointer(Void()), "user"), 8, 8, True, "void * *"),
        (Array(INT16, 3), 6, 2, False, "int16[3]"),
        (Array(INT64, 0), 0, 8, False, "int64[0]"),
        (Tuple(()), 0, 1, False, "()"),
        (Tuple((UINT8, INT64)), 16, 8, False, "(uint8,int64)"),
        (Record(("a", "b"), (INT32, Str(3))), 8, 4, False, "(.a=int32,.b=string[3])"),
        (KSym(), 8, 8, False, "ksym_t"),
        (USym(), 16, 8, False, "usym_t"),
        (Stack(True, "perf", 6), 16, 8, False, "ustack_perf_6"),
        (Stack(False, "bpftrace", 127), 16, 8, False, "kstack_bpftrace_127"),
        (Timestamp(), 16, 8, False, "timestamp"),
        (Inet(), 20, 4, False, "inet"),
        (MacAddr(), 6, 1, False, "macaddr"),
        (Username(), 4, 4, False, "username"),
        (CgroupPath(), 16, 8, False, "cgroup_path_t"),
        (Named("signal"), 8, 8, False, "string[64]"),
        (Count(), 8, 8, False, "count_t"),
        (Sum(True), 8, 8, False, "sum_t"),
        (Sum(False), 8, 8, False, "usum_t"),
        (Extreme(True, False), 16, 8, False, "umax_t"),
        (Extreme(False, True), 16, 8, False, "min_t"),
        (Average(True, False), 16, 8, False, "avg_t"),
        (Average(False, True), 16, 8, False, "ustats_t"),
        (TSeries(10**9, 5, "last", True), 120, 8, False, "tseries_t"),
    ],
    ids=str,
)
def test_facts(type_: Type, size: int, align: int, is_scalar: bool, text: str) -> None:
    assert (type_.size, type_.align, type_.is_scalar, str(type_)) == (size, align, is_scalar, text)


@pytest.mark.parametrize("type_", C_TYPES, ids=str)
def test_integers(type_: Int) -> None:
    c_type = C_TYPES[type_]
    assert type_.size == type_.align == ctypes.sizeof(c_type)
    assert type_.bits == 8 * ctypes.sizeof(c_type)
    assert (c_type(-1).value < 0) == type_.signed
    assert c_type(type_.minimum).value == type_.minimum
    assert c_type(type_.maximum).value == type_.maximum
    assert c_type(type_.maximum + 1).value == type_.minimum


@pytest.mark.parametrize(
    "elements",
    [
        (INT8, INT64, INT8),
        (INT8, INT16, INT32, INT64),
        (INT64, INT8),
        (UINT16, UINT8, UINT16),
        (INT32,),
    ],
    ids=str,
)
def test_tuples_lie_as_c_structures_do(elements: tuple[Int, ...]) -> None:
    fields = [(f"m{index}", C_TYPES[element]) for index, element in enumerate(elements)]
    c_struct = type("S", (ctypes.Structure,), {"_fields_": fields})
    for type_ in (Tuple(elements), Record(tuple(name for name, _ in fields), elements)):
        assert type_.size == ctypes.sizeof(c_struct)
        assert type_.align == ctypes.alignment(c_struct)
        assert list(type_.offsets) == [getattr(c_struct, name).offset for name, _ in fields]


def test_a_tuple_in_a_tuple_keeps_its_padding() -> None:
    inner = Tuple((INT64, INT8))
    assert Tuple((INT8, inner, INT8)).offsets == (0, 8, 24)
    assert Tuple((INT8, inner, INT8)).size == 32


# ---------------------------------------------------------------------- histograms


def bucket_of(value: int, bits: int) -> int:
    """As the docstring of Hist says it."""
    if value < 1 << bits:
        return value + 1
    e = value.bit_length() - 1
    return 1 + ((e - bits + 1) << bits) + ((value >> (e - bits)) & ((1 << bits) - 1))


@pytest.mark.parametrize("bits", range(6))
def test_hist_has_a_bucket_for_every_value(bits: int) -> None:
    type_ = Hist(bits)
    assert type_.size == 8 * type_.buckets
    assert bucket_of(0, bits) == 1
    assert bucket_of((1 << 64) - 1, bits) == type_.buckets - 1
    # Growing values never skip a bucket at the bounds of powers of two.
    for power in range(1, 64):
        below, above = bucket_of((1 << power) - 1, bits), bucket_of(1 << power, bits)
        assert above - below == 1


@pytest.mark.parametrize(
    ("type_", "buckets"),
    [(LHist(0, 10, 1), 12), (LHist(0, 10, 3), 6), (LHist(-10, 10, 5), 6), (LHist(0, 100, 100), 3)],
    ids=repr,
)
def test_lhist_has_two_buckets_more(type_: LHist, buckets: int) -> None:
    assert (type_.buckets, type_.size) == (buckets, 8 * buckets)


@pytest.mark.parametrize(
    ("type_", "signed"),
    [
        (Count(), False),
        (Sum(True), True),
        (Sum(False), False),
        (Extreme(True, False), False),
        (Average(True, True), True),
        (Hist(0), True),
    ],
    ids=repr,
)
def test_signs_of_aggregations(type_: Count, signed: bool) -> None:
    assert type_.signed_result == signed


# ---------------------------------------------------------------------- structures


def struct(name: str, *fields: Field, origin: object = None, size: int = 16) -> Struct:
    return Struct("struct", name, size, 8, origin, lambda: fields)


def test_members_are_loaded_once_and_late() -> None:
    calls = []

    def load() -> tuple[Field, ...]:
        calls.append(1)
        return (Field("a", INT32, 0),)

    type_ = Struct("struct", "s", 4, 4, None, load)
    assert (type_.size, type_.align, str(type_)) == (4, 4, "struct s")
    assert calls == []
    assert type_.find("a") == Field("a", INT32, 0)
    assert type_.find("b") is None
    assert type_.fields == (Field("a", INT32, 0),)
    assert calls == [1]


def test_members_of_anonymous_members_are_found() -> None:
    inner = struct("", Field("x", INT16, 2), Field("flag", UINT32, 4, bits=3, bit_offset=5))
    outer = struct("outer", Field("a", INT64, 0), Field("", inner, 8), Field("x", INT8, 30))
    assert outer.find("flag") == Field("flag", UINT32, 12, 3, 5)
    # The first of two members of a name counts, as it is the only one that C would allow.
    assert outer.find("x") == Field("x", INT16, 10)


def test_identity_of_structures() -> None:
    assert struct("s") == struct("s")
    assert hash(struct("s")) == hash(struct("s"))
    assert struct("s") != struct("t")
    assert struct("s", origin="vmlinux") != struct("s", origin="script")
    assert struct("s", size=8) != struct("s", size=16)


def test_a_structure_that_was_only_named_can_be_completed() -> None:
    forward = Struct("union", "u", 0, 1, None, lambda: ())
    pointer = Pointer(forward)
    forward.complete(8, 8, "script", lambda: (Field("value", UINT64, 0),))
    assert isinstance(pointer.target, Struct)
    assert pointer.target.size == 8
    assert pointer.target.find("value") == Field("value", UINT64, 0)
    assert str(Struct("union", "", 0, 1, None, lambda: ())) == "union"


def test_types_are_values() -> None:
    assert Array(INT32, 4) == Array(Int(4, True), 4)
    assert Array(INT32, 4) != Array(UINT32, 4)
    assert Tuple((INT32,)) != Record(("a",), (INT32,))
    assert len({Str(4), Str(4), Buffer(4)}) == 2
    # Equal fields do not make equal types.
    assert Str(4) != Buffer(4)
    assert KSym() == KSym() != USym()
