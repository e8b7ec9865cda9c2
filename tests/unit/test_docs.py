"""The documents: their scripts parse, and the language reference names all that the tables hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tracebee.errors import SourceError
from tracebee.explain.causes import CAUSES
from tracebee.language.builtins import builtin_names, find_builtin
from tracebee.language.config import OPTIONS
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.parser import parse
from tracebee.language.probes import KINDS, get_kind
from tracebee.language.source import Source
from tracebee.language.stdlib import NAMES as LIBRARY

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "language.md"
DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.is_file()]


def scripts_of(path: Path) -> list[tuple[int, str, str]]:
    """Line of the first line, what stands behind the word bpftrace, and text of each fenced script."""
    found = []
    fence = ""
    start, words, lines = 0, "", list[str]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not fence and (opening := re.match(r"(`{3,}|~{3,})\s*(\S*)\s*(.*)", line)):
            fence = opening[1]
            language, words, start, lines = opening[2], opening[3], number + 1, []
        elif fence and line.strip() == fence:
            if language == "bpftrace":
                found.append((start, words, "\n".join(lines) + "\n"))
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence, f"{path.name}:{start - 1}: the fence is never closed"
    return found


SCRIPTS = [
    pytest.param(path, line, text, id=f"{path.name}:{line}")
    for path in DOCUMENTS
    for line, _, text in scripts_of(path)
]


@pytest.mark.parametrize(("path", "line", "text"), SCRIPTS)
def test_scripts_of_the_documents_parse(path: Path, line: int, text: str) -> None:
    # Empty lines in front, so that a message names the line of the document.
    source = Source(str(path.relative_to(ROOT)), "\n" * (line - 1) + text)
    try:
        parse(source, Diagnostics())
    except SourceError as error:
        pytest.fail(str(error), pytrace=False)


def test_the_reference_has_scripts() -> None:
    assert sum(path == REFERENCE for path in (script.values[0] for script in SCRIPTS)) > 20


def test_a_script_that_does_not_parse_is_found(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("text\n\n```sh\nls\n```\n\n```bpftrace --test\nbegin { 1 +; }\n```\n")
    [(line, words, text)] = scripts_of(document)
    assert (line, words) == (8, "--test")
    with pytest.raises(SourceError, match=r"page\.md:8:"):
        parse(Source("page.md", "\n" * (line - 1) + text), Diagnostics())


def rows() -> list[list[str]]:
    """The cells of every table row of the reference."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in REFERENCE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]


def codes(cell: str) -> list[str]:
    """What stands between backquotes in a cell."""
    return re.findall(r"`([^`]+)`", cell)


NAMED = {code.partition("(")[0] for row in rows() for code in codes(row[0])}
"""What the first cells of the reference's tables explain."""


@pytest.mark.parametrize("name", builtin_names())
def test_every_builtin_is_explained(name: str) -> None:
    builtin = find_builtin(name)
    assert builtin is not None
    shown = builtin.forms[0].partition("(")[0] if builtin.forms else name
    assert shown in NAMED


@pytest.mark.parametrize("name", sorted({name for names in LIBRARY.values() for name in names} | {"getopt"}))
def test_every_function_of_the_library_is_explained(name: str) -> None:
    assert name in NAMED


def test_no_function_is_explained_that_is_not_there() -> None:
    known = set(builtin_names()) | {name for names in LIBRARY.values() for name in names} | {"getopt"}
    calls = {
        code.partition("(")[0]
        for row in rows()
        for code in codes(row[0])
        if re.match(r"[a-z_]+\(", code) and row[1:] and "type" not in row[1]
    }
    assert calls - known == set()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_probe_is_explained(name: str) -> None:
    [row] = [row for row in rows() if len(row) == 4 and codes(row[0]) == [name]]
    assert codes(row[1]) == list(KINDS[name][2]) == list(get_kind(name).aliases)
    assert codes(row[2]) == list(get_kind(name).forms)


@pytest.mark.parametrize("key", OPTIONS)
def test_every_configuration_variable_is_explained(key: str) -> None:
    [row] = [row for row in rows() if codes(row[0]) == [key]]
    option = OPTIONS[key]
    default = str(option.default).lower() if option.kind == "bool" else str(option.default)
    assert codes(row[1]) == [default]


def test_no_configuration_variable_is_explained_that_is_not_there() -> None:
    tables = REFERENCE.read_text(encoding="utf-8").partition("\n## Configuration\n")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `([a-z_]+)` \|", tables, re.MULTILINE)
    assert sorted(keys) == sorted(OPTIONS)


def test_the_ids_of_causes_are_all_listed() -> None:
    text = (ROOT / "docs" / "refusals.md").read_text(encoding="utf-8")
    table = text[text.index("| About | Ids |") :]
    listed = re.findall(r"`([a-z0-9-]+)`", table.partition("\n\n")[0])
    assert sorted(listed) == sorted(CAUSES)


def test_the_page_on_attaching_has_every_id() -> None:
    from tracebee.explain.attach.causes import CAUSES as ATTACH_CAUSES

    text = (ROOT / "docs" / "attaching.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([a-z-]+)`", text.partition("## Causes")[2]))
    assert listed == set(ATTACH_CAUSES)
