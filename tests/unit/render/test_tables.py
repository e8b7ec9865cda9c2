"""Tables and blocks of facts."""

from __future__ import annotations

import pytest

from tracebee.render.tables import Column, block, cut, printable, table

COLUMNS = (Column("ID", right=True), Column("NAME", free=True), Column("NOTE"), Column("WHERE", free=True))


def test_a_table() -> None:
    rows = [["7", "first", "", "here"], ["123", "a longer name", "", ""]]
    assert table(COLUMNS, rows) == [
        " ID  NAME           WHERE",
        "  7  first          here",
        "123  a longer name",
    ]


def test_no_rows() -> None:
    assert table(COLUMNS, []) == ["ID  NAME  NOTE  WHERE"]


@pytest.mark.parametrize("width", [20, 24, 30, 33, 60])
def test_a_table_fits(width: int) -> None:
    rows = [["1", "n" * 14, "x", "w" * 30], ["2", "short", "y", "z"]]
    lines = table(COLUMNS, rows, width)
    full = table(COLUMNS, rows)
    # ID, NOTE and the gaps take 12, and free columns keep 8 each.
    assert max(map(len, lines)) == max(min(width, max(map(len, full))), 28)
    if width >= 60:
        assert lines == full
    else:
        assert "…" in lines[1]
        assert lines[2].split() == ["2", "short", "y", "z"]


def test_the_widest_column_gives_first() -> None:
    lines = table(COLUMNS, [["1", "n" * 14, "x", "w" * 30]], 46)
    assert lines[1].split() == ["1", "n" * 14, "x", "w" * 19 + "…"]


def test_what_a_terminal_obeys_is_escaped() -> None:
    assert printable("a\x1b[31mb\n") == "a\\x1b[31mb\\x0a"
    assert printable("ä ü\u202e") == "ä ü\\u202e"
    assert printable("\udcff") == "\\xff"
    assert table((Column("N"),), [["\x07"]]) == ["N", "\\x07"]


def test_cut() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdef", 5) == "abcd…"
    assert cut("abcdef", 1) == "…"
    assert cut("abcdef", 5, end=True) == "…cdef"
    assert cut("abcdef", 1, end=True) == "…"
    assert table((Column("OWNERS", free=True, end=True),), [["a_process(1234)"]], 8)[1] == "…s(1234)"


def test_a_block() -> None:
    facts = [("name", "x"), ("empty", ""), ("long one", "a b"), ("lines", "one\ntwo")]
    assert block(facts) == ["    name      x", "    long one  a b", "    lines     one", "              two"]


def test_a_block_in_a_narrow_terminal() -> None:
    lines = block([("key", "aaaa bbbb cccc dddddddddddddddddddd")], width=20)
    assert lines == ["    key  aaaa bbbb", "         cccc", "         dddddddddddddddddddd"]


def test_columns_without_room_are_left_out() -> None:
    columns = (Column("ID"), Column("TAG", rank=2), Column("AGE", rank=1), Column("NAME", free=True))
    row = ["123", "t" * 16, "12 min", "a long name of something"]
    assert table(columns, [row], 60)[1] == f"123  {'t' * 16}  12 min  a long name of something"
    assert table(columns, [row], 40)[1] == f"123  {'t' * 16}  12 min  a long n…"
    assert table(columns, [row], 30) == ["ID   AGE     NAME", "123  12 min  a long name of so…"[:29] + "…"]
    assert table(columns, [row], 20) == ["ID   NAME", "123  a long name of…"]
