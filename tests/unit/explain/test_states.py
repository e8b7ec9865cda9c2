"""The verifier's states, in the words of several kernels."""

from __future__ import annotations

import pytest

from tracebee.explain.states import State, parse_state, parse_value


@pytest.mark.parametrize(
    ("text", "kind", "const"),
    [
        ("inv", "scalar", None),
        ("inv5", "scalar", 5),
        ("invP0", "scalar", 0),
        ("inv(id=0,umax_value=7)", "scalar", None),
        ("scalar()", "scalar", None),
        ("Pscalar()", "scalar", None),
        ("-1", "scalar", -1),
        ("0xfe36", "scalar", 0xFE36),
        ("P7", "scalar", 7),
        ("fp-16", "fp", -16),
        ("fp0", "fp", 0),
        ("fp", "fp", 0),
        ("ctx(off=0,imm=0)", "ctx", None),
    ],
)
def test_kinds_and_constants(text: str, kind: str, const: int | None) -> None:
    value = parse_value(text)
    assert (value.kind, value.const) == (kind, const)


@pytest.mark.parametrize(
    "text",
    ["map_value_or_null(id=1,off=0,ks=4,vs=8,imm=0)", "map_value_or_null(id=1,map=calls,ks=4,vs=8)"],
)
def test_a_value_that_may_be_null(text: str) -> None:
    value = parse_value(text)
    assert value.kind == "map_value"
    assert value.maybe_null
    assert value.number("vs") == 8


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("inv(id=0,umax_value=4294967295,var_off=(0x0; 0xffffffff))", 0, 0xFFFFFFFF),
        ("scalar(smin=smin32=0,smax=umax=smax32=umax32=128,var_off=(0x0; 0xff))", 0, 128),
        ("scalar(var_off=(0x0; 0x3f))", 0, 63),
        ("inv(id=0,smin_value=-2147483648,smax_value=63)", -2147483648, None),
        ("scalar()", None, None),
        ("12", 12, 12),
    ],
)
def test_bounds(text: str, low: int | None, high: int | None) -> None:
    value = parse_value(text)
    assert (value.lower_signed(), value.upper()) == (low, high)


def test_a_whole_state() -> None:
    state = parse_state(
        "frame1: R0_w=map_value_or_null(id=2,off=0,ks=4,vs=8,imm=0) R1=inv(id=0,var_off=(0x0; 0xff)) R10=fp0 "
        "fp-8_w=mmmm???? fp-16=ctx refs=2,4 cb"
    )
    assert state.frame == 1
    assert set(state.registers) == {0, 1, 10}
    assert state.registers[1].upper() == 255
    assert state.slots[-8].raw == "mmmm????"
    assert state.slots[-16].kind == "ctx"
    assert state.references == (2, 4)


@pytest.mark.parametrize(
    "text", ["", "R", "R=", "R1=((((", "fp-=x", "R99999=1", "refs=a,,9", "R1=scalar(umax=,=3)"]
)
def test_broken_states_are_read_as_far_as_they_go(text: str) -> None:
    assert isinstance(parse_state(text), State)
