"""The command ``tracebee explain``."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from tracebee.cli.explain import errno_name, run
from tracebee.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

LOG = """\
0: R1=ctx(id=0,off=0,imm=0) R10=fp0
; struct conn *c = bpf_map_lookup_elem(&conns, &id);
0: (85) call bpf_map_lookup_elem#1
; c->hits++;
1: (61) r1 = *(u32 *)(r0 +12)
R0 invalid mem access 'map_value_or_null'
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
SOURCE = """\
int f(void *ctx)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &id);

	c->hits++;
	return 0;
}
"""


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "verifier.log"
    path.write_text(LOG)
    return str(path)


def test_a_log_with_its_source(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "prog.bpf.c"
    source.write_text(SOURCE)
    assert run(["--source", str(source), log]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "`c` (R0), the map value that bpf_map_lookup_elem returned from map conns, may be NULL"
    )
    assert "at: prog.bpf.c:5: c->hits++; [instruction 1]" in out
    assert "    + \tif (!c)\n    + \t\treturn 0;\n" in out


def test_json(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-j", log]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cause"] == "null-check-missing"
    assert told["sure"] is True
    assert told["insn"] == 1
    assert told["stop"] == {"text": "c->hits++;"}
    assert told["kernel_says"] == ["R0 invalid mem access 'map_value_or_null'"]


def test_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log: str
) -> None:
    with open(log, "rb") as file:
        real = open

        def fake(path: object, *rest: object, **options: object) -> io.TextIOBase:
            return io.StringIO(file.read().decode()) if path == 0 else real(path, *rest, **options)  # type: ignore[call-overload, no-any-return]

        monkeypatch.setattr("builtins.open", fake)
        assert run(["-"]) == 0
    assert "id: null-check-missing" in capsys.readouterr().out


def test_what_is_not_known_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "odd.log"
    path.write_bytes(b"0: (95) exit\nwords of a kernel to come \xff\n")
    assert run([str(path)]) == 1
    out = capsys.readouterr().out
    assert "the cause is not explained: words of a kernel to come" in out
    assert "id:" not in out


def test_facts_change_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text("back-edge from insn 9 to 2\n")
    assert run(["--kernel", "4.19.2", str(path)]) == 0
    assert "older than Linux 5.3" in capsys.readouterr().out
    assert run(["--kernel", "5.10", "--unprivileged", str(path)]) == 0
    assert "without CAP_BPF" in capsys.readouterr().out
    path.write_text("")
    assert run(["--errno", "1", str(path)]) == 0
    assert "EPERM" in capsys.readouterr().out


def test_a_corpus_is_answered_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cases").mkdir()
    source = {"file": "p.c", "text": SOURCE}
    case = {
        "id": "one",
        "input": {"log": LOG, "errno": "EACCES", "kernel": {"release": "5.10.1"}, "source": source},
    }
    (tmp_path / "cases" / "one.json").write_text(json.dumps(case))
    empty = {"id": "two", "input": {"log": None, "program": None, "loader": None, "kernel": None}}
    (tmp_path / "cases" / "two.json").write_text(json.dumps(empty))
    assert run(["--corpus", str(tmp_path)]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["id"], first["cause"], first["insn"], first["line"]) == ("one", "null-check-missing", 1, 5)
    assert second["id"] == "two"
    assert "cause" not in second
    assert second["sure"] is False


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "b"],
        ["--nonsense"],
        ["/no/such/file"],
        ["--errno", "x", "-"],
        ["--corpus", "/no/such/folder"],
    ],
)
def test_wrong_words(words: list[str]) -> None:
    with pytest.raises(UsageError):
        run(words)


@pytest.mark.parametrize(
    ("text", "name"), [("13", "EACCES"), ("-22", "EINVAL"), ("eperm", "EPERM"), ("524", "524")]
)
def test_errnos(text: str, name: str) -> None:
    assert errno_name(text) == name
