"""What `check` says of an object, with a machine and a program made of values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tracebee.btf.writer import BtfBuilder
from tracebee.cli import staticcheck
from tracebee.errors import UsageError
from tracebee.host.tracefs import parse_format
from tracebee.insn import Builder
from tracebee.spec.objects import (
    LineInfo,
    ObjectSpec,
    ProbeSpec,
    ProgramSpec,
    RawTracepoint,
    Schema,
    Tracepoint,
)

if TYPE_CHECKING:
    from tracebee.spec.objects import Attach

FORMAT = """name: hunt
ID: 9
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;

	field:int snark;	offset:8;	size:4;	signed:1;
	field:u32 boojum;	offset:12;	size:4;	signed:0;
"""


class Machine:
    """As much of a machine as an object's check asks for."""

    def __init__(self) -> None:
        builder = BtfBuilder()
        pointer = builder.add_ptr(0)
        parameters = [("", pointer), ("one", pointer), ("two", pointer)]
        builder.add_typedef("btf_trace_hunt", builder.add_ptr(builder.add_func_proto(0, parameters)))
        from tracebee.btf import Btf

        self.types = Btf.from_bytes(builder.to_bytes())

    def tracepoint_format(self, category: str, name: str) -> Any:
        return parse_format(FORMAT) if (category, name) == ("sea", "hunt") else None

    def btf(self) -> Any:
        return self.types


def complaints(
    place: Attach, offset: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> list[staticcheck.Complaint]:
    """What is said of a program that reads its context once."""
    builder = Builder()
    builder.mov_imm(0, 0)
    builder.load(size, 2, 1, offset)
    builder.exit()
    texts = BtfBuilder()
    lines = [LineInfo(0, texts.add_string("a.c"), texts.add_string("return 0;"), 3, 1)]
    lines.append(LineInfo(1, texts.add_string("a.c"), texts.add_string("x = ctx->x;"), 7, 2))
    texts.add_int("int", 4)
    program = ProgramSpec("p", "TRACEPOINT", tuple(builder.finish()), line_info=tuple(lines))
    spec = ObjectSpec((program,), (), (ProbeSpec("tp/sea/hunt", "p", place),), Schema(), texts.to_bytes())
    monkeypatch.setattr(staticcheck, "of_place", lambda *_: iter(()))
    return list(staticcheck.of_object("a.bpf.o", spec, Machine()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("offset", "size", "count"), [(12, 4, 0), (8, 8, 0), (12, 8, 1), (16, 4, 1), (256, 8, 1)]
)
def test_reads_behind_the_record(offset: int, size: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = complaints(Tracepoint("sea", "hunt"), offset, size, monkeypatch)
    assert len(found) == count
    for one in found:
        assert (one.id, one.file, one.line, one.excerpt) == ("past-the-record", "a.c", 7, "x = ctx->x;")
        assert f"offset {offset}" in one.message
        assert "has 16" in one.message
        assert one.text().startswith("a.c:7: WARNING: ")


@pytest.mark.parametrize(("offset", "count"), [(8, 0), (16, 1)])
def test_arguments_of_raw_tracepoints(offset: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(complaints(RawTracepoint("hunt"), offset, 8, monkeypatch)) == count


def test_an_unknown_event_is_not_complained_about(monkeypatch: pytest.MonkeyPatch) -> None:
    assert complaints(Tracepoint("sea", "other"), 4096, 8, monkeypatch) == []


def test_no_script() -> None:
    with pytest.raises(UsageError, match="no script given"):
        staticcheck.check_statically([], "text")
