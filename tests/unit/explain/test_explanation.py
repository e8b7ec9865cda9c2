"""The value that is told of a refusal."""

from __future__ import annotations

from tracebee.explain.explanation import Explanation


def test_what_a_terminal_would_obey_is_written_out() -> None:
    told = Explanation(cause="", sentence="no\x1b[31m \x07rule", sure=False, kernel_says=("a\x00b\tc",))
    assert told.text().startswith("no\\x1b[31m \\x07rule")
    assert "a\\x00b\tc" in told.text()
