"""What is loaded: any bytes and texts give values; tables fit and cannot steer a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracebee.host.holders import parse_id
from tracebee.host.mountinfo import parse_mounts
from tracebee.kernel.info.btf import decode_btf_info
from tracebee.kernel.info.fields import parse_fdinfo
from tracebee.kernel.info.link import decode_link_info
from tracebee.kernel.info.map import decode_map_info
from tracebee.kernel.info.program import decode_program_info
from tracebee.render.tables import CUT, NARROWEST, Column, block, printable, table
from tracebee.syscalls import _uapi as uapi

CELLS = st.text(max_size=40)


@given(st.binary(max_size=300), st.text(), st.text(max_size=200))
def test_any_bytes_are_facts(data: bytes, name: str, fdinfo: str) -> None:
    lines = parse_fdinfo(fdinfo)
    program = decode_program_info(data, (), lines, name)
    assert len(program.tag) <= 16
    table_info = decode_map_info(data, lines, name)
    assert table_info.id == program.id or len(data) < 8
    assert decode_btf_info(data).owner in ("kernel", "module", "process")
    texts = {field: field for field in ("raw_tracepoint_tp_name", "iter_target_name", "uprobe_multi_path")}
    for kind in uapi.BPF_LINK_TYPE.values():
        info = decode_link_info(kind.to_bytes(4, "little") + data[4:], texts)
        assert (info.target is None) == (info.type == "UNSPEC")


@given(st.text())
def test_any_text_is_mounts_and_ids(text: str) -> None:
    assert len(parse_mounts(text)) <= text.count("\n") + 1
    found = parse_id(text, "map_id")
    assert found is None or 0 <= found < 10**10


@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.integers(1, 100),
)
def test_a_table_fits(rows: list[tuple[str, str, str]], free: tuple[bool, ...], width: int) -> None:
    columns = [
        Column(heading, free=may, rank=index, end=index == 1)
        for index, (heading, may) in enumerate(zip(("A", "B", "C"), free, strict=True))
    ]
    lines = table(columns, rows, width)
    assert len(lines) == len(rows) + 1
    # The first column alone stays whatever its width, unless it may be cut.
    widest = max([1, *(len(printable(row[0])) for row in rows)])
    assert max(map(len, lines)) <= max(width, min(widest, NARROWEST) if free[0] else widest)
    for line in lines:
        assert line.isprintable()
        assert line == line.rstrip()
    if width == 100 and not any(free):
        assert CUT not in "".join(lines) or any(CUT in cell for row in rows for cell in row)


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_printed_steers_nothing(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@given(st.lists(st.tuples(st.text("ab", min_size=1), st.text("abc \n")), max_size=4), st.integers(1, 60))
def test_a_block_keeps_every_word(facts: list[tuple[str, str]], width: int) -> None:
    words = " ".join(block(facts, width=width)).split()
    expected = [word for name, text in facts if text for word in [name, *text.split()]]
    assert words == expected
