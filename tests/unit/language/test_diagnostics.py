"""Complaints: their text, their order, and that each is made once."""

from __future__ import annotations

import pytest

from tracebee.errors import SourceError
from tracebee.language.diagnostics import LONG_LINE, Diagnostic, Diagnostics, nearest
from tracebee.language.source import Source, Span

from .fixtures import complaints, hint, messages

SOURCE = Source("a.bt", "BEGIN { $x = 1; }")


def test_a_message_has_its_place_the_line_marks_and_the_hint() -> None:
    shown = Diagnostic("ERROR", "no such thing", Span(SOURCE, 8, 10), "try another").render()
    assert shown == "a.bt:1:9-11: ERROR: no such thing\nBEGIN { $x = 1; }\n        ~~\nHINT: try another"


def test_a_message_without_a_place() -> None:
    assert Diagnostic("WARNING", "hm").render() == "WARNING: hm"


def test_a_message_inside_a_macro_names_each_call() -> None:
    source = Source("a.bt", "macro f() { @x }\nmacro g() { f() }\nBEGIN { g() }")
    outer = Span(source, 43, 46)
    middle = Span(source, 29, 32, outer)
    shown = Diagnostic("ERROR", "bad", Span(source, 12, 14, middle)).render()
    assert shown.split("\n") == [
        "a.bt:1:13-15: ERROR: bad",
        "macro f() { @x }",
        "            ~~",
        "a.bt:2:13-16: ERROR: expanded from",
        "macro g() { f() }",
        "            ~~~",
        "a.bt:3:9-12: ERROR: expanded from",
        "BEGIN { g() }",
        "        ~~~",
    ]


def test_of_a_long_line_the_part_around_the_marks_is_shown() -> None:
    source = Source("a.bt", "x" * 5000 + "HERE" + "y" * 5000)
    shown = Diagnostic("ERROR", "bad", Span(source, 5000, 5004)).render()
    heading, line, marks = shown.split("\n")
    assert heading == "a.bt:1:5001-5005: ERROR: bad"
    assert len(line) <= LONG_LINE + 4
    at = marks.index("~")
    assert line[at : at + marks.count("~")] == "HERE"


def test_many_long_lines_are_shown_in_part() -> None:
    source = Source("a.bt", ("z" * 1000 + "\n") * 50)
    shown = Diagnostic("ERROR", "bad", Span(source, 0, len(source.text) - 1)).render()
    assert len(shown) < 25 * (LONG_LINE + 3)


def test_complaints_come_in_source_order_and_once() -> None:
    diagnostics = Diagnostics()
    diagnostics.error("late", Span(SOURCE, 13, 14))
    diagnostics.warning("early", Span(SOURCE, 0, 5))
    diagnostics.error("late", Span(SOURCE, 13, 14))
    diagnostics.error("nowhere", None)
    assert [one.message for one in diagnostics.all] == ["nowhere", "early", "late"]
    assert [one.severity for one in diagnostics.all] == ["ERROR", "WARNING", "ERROR"]


def test_the_place_of_a_macros_call_decides_the_order() -> None:
    diagnostics = Diagnostics()
    diagnostics.error("inside", Span(SOURCE, 0, 1, Span(SOURCE, 13, 14)))
    diagnostics.error("outside", Span(SOURCE, 8, 10))
    assert [one.message for one in diagnostics.all] == ["outside", "inside"]


def test_warnings_alone_do_not_stop() -> None:
    diagnostics = Diagnostics()
    diagnostics.warning("hm", None)
    diagnostics.stop_if_errors()
    assert not diagnostics.has_errors
    diagnostics.error("no", None)
    with pytest.raises(SourceError) as caught:
        diagnostics.stop_if_errors()
    assert [one.message for one in caught.value.diagnostics] == ["hm", "no"]
    assert str(caught.value) == "WARNING: hm\nERROR: no"


def test_after_many_errors_it_stops() -> None:
    diagnostics = Diagnostics()
    with pytest.raises(SourceError) as caught:
        for number in range(1000):
            diagnostics.error(f"error {number}", None)
    assert len(caught.value.diagnostics) == Diagnostics.MOST_ERRORS


@pytest.mark.parametrize(
    ("name", "expected"),
    [("prntf", "did you mean 'printf'?"), ("cont", "did you mean 'count'?"), ("zzz", ""), ("", "")],
)
def test_the_nearest_known_word(name: str, expected: str) -> None:
    assert nearest(name, ["printf", "count", "print"]) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('BEGIN { prntf("a"); }', "did you mean 'printf'?"),
        ("BEGIN { print(usernam); }", "did you mean 'username'?"),
        ("BEGIN { $count = 1; print($coumt); }", "did you mean '$count'?"),
        ("kpobe:f { }", "did you mean 'kprobe'?"),
        ("BEGIN { print(curtask.pidd); }", "did you mean 'pid'?"),
        ("let @a = hsh(5); BEGIN { @a[1] = 1; }", "did you mean 'hash'?"),
        ("t:sched:sched_switch { print(args.next_pdi); }", "did you mean 'next_pid'?"),
        ("BEGIN { print(offsetof(struct task_struct, com)); }", "did you mean 'comm'?"),
        ("BEGIN { $r = (size=1, name=2); print($r.sise); }", "did you mean 'size'?"),
    ],
)
def test_a_misspelt_word_is_answered_by_a_known_one(script: str, expected: str) -> None:
    assert hint(script) == expected


def test_one_run_shows_the_mistakes_of_all_probes() -> None:
    script = "BEGIN { $x = ; @a = 1 }\nEND { print(1 }\ni:s:1 { foo( }"
    assert len(messages(script)) == 3
    script = 'BEGIN { @a = 1; @a = "x"; $x = 1; $x = "y"; }\nEND { @a[1] = 2; nosuch(); }'
    # An unknown function stops before types are asked about.
    assert messages(script) == ["Unknown function: 'nosuch'"]
    found = complaints(script.replace("nosuch();", ""))
    assert [(one.span.source.position(one.span.start)[0] if one.span else 0) for one in found] == [1, 1, 2]
