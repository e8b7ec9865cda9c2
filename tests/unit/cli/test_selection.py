"""Options and selectors of the commands about objects."""

from __future__ import annotations

import json

import pytest

from tracebee.cli.selection import no_more, print_json, print_lines, split_options, split_selector
from tracebee.errors import UsageError


def test_options_anywhere() -> None:
    options = split_options(["id", "-j", "7", "-f"], ("bpffs",))
    assert options.words == ("id", "7")
    assert options.json
    assert not options.pretty
    assert options.wants_json
    assert options.given == {"json", "bpffs"}


def test_options_together() -> None:
    options = split_options(["-pf"], ("bpffs",))
    assert options.given == {"pretty", "bpffs"}


@pytest.mark.parametrize("words", [["-x"], ["-f"], ["--bpffs"], ["--nothing"], ["-jx"]])
def test_unknown_options(words: list[str]) -> None:
    with pytest.raises(UsageError, match="unknown option") as caught:
        split_options(words)
    assert caught.value.hint == "the options here are -j, -p"


def test_what_is_no_option() -> None:
    options = split_options(["value", "-7", "-", "--", "-j", "--all"])
    assert options.words == ("value", "-7", "-", "-j", "--all")
    assert not options.wants_json


def test_selectors() -> None:
    assert split_selector(["id", "7", "key", "1"]) == (["id", "7"], ["key", "1"])
    assert split_selector(["7", "key"]) == (["7"], ["key"])
    assert split_selector(["id"]) == (["id"], [])
    with pytest.raises(UsageError, match="which one"):
        split_selector([])
    no_more([])
    with pytest.raises(UsageError, match="what is 'x y'"):
        no_more(["x", "y"])


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = [{"a": 1, "b": "\udcff"}]
    print_json(value, split_options(["-j"]))
    line = capsys.readouterr().out
    assert line == '[{"a":1,"b":"\\udcff"}]\n'
    print_json(value, split_options(["-p"]))
    pretty = capsys.readouterr().out
    assert pretty.count("\n") == 6
    assert json.loads(pretty) == json.loads(line) == value


def test_lines_keep_their_bytes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print_lines(["a\udcff", "b"])
    assert capfdbinary.readouterr().out == b"a\xff\nb\n"
