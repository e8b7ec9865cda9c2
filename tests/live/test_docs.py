"""The scripts of the documents, compiled and attached for a moment on the kernel at hand."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tracebee.language.diagnostics import Diagnostics
from tracebee.language.parser import parse
from tracebee.language.passes.points import split_point
from tracebee.language.probes import kind_name
from tracebee.language.source import Source

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="attaching probes needs root"),
    pytest.mark.skipif(
        not os.access("/sys/kernel/btf/vmlinux", os.R_OK), reason="the kernel's BTF cannot be read"
    ),
]

MISSING = {
    "kprobe": "kprobes are not possible here",
    "kretprobe": "kretprobes are not possible here",
    "fentry": "this kernel refuses fentry and fexit programs",
    "fexit": "this kernel refuses fentry and fexit programs",
}
"""What tracebee says where the kernel does not have a kind."""


def _unit_module() -> ModuleType:
    """The test of the documents' syntax, which knows how to find their scripts."""
    spec = importlib.util.spec_from_file_location("docs_syntax", ROOT / "tests" / "unit" / "test_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_syntax = _unit_module()
SCRIPTS = [
    (path, line, words.split(), text)
    for path in _syntax.DOCUMENTS
    for line, words, text in _syntax.scripts_of(path)
]
NAMED = [(path, words, text) for path, _, words, text in SCRIPTS if words and words[0].endswith(".bt")]
WHOLE = [
    pytest.param(path, words, text, id=f"{path.name}:{line}")
    for path, line, words, text in SCRIPTS
    if not words or not words[0].endswith(".bt")
]
"""Behind the word bpftrace of a fence stand options, or the name of the file that others import."""


@pytest.fixture(scope="module")
def lacking() -> set[str]:
    """The kinds of probes that this kernel does not have, as ``--info`` says."""
    report = subprocess.run(
        [sys.executable, "-m", "tracebee", "--info"], capture_output=True, text=True, timeout=60, check=True
    )
    answers = dict(line.strip().partition(": ")[::2] for line in report.stdout.splitlines())
    lacks = {kind for kind in ("kprobe", "fentry") if answers[kind] == "no"}
    return lacks | {{"kprobe": "kretprobe", "fentry": "fexit"}[kind] for kind in lacks}


@pytest.mark.parametrize(("path", "words", "text"), WHOLE)
def test_scripts_of_the_documents_attach(
    path: Path, words: list[str], text: str, lacking: set[str], tmp_path: Path
) -> None:
    for origin, name, content in NAMED:
        if origin == path:
            (tmp_path / name[0]).write_text(content, encoding="utf-8")
    script = tmp_path / "script.bt"
    script.write_text(text, encoding="utf-8")
    mode = "--dry-run" if not words else words[0]
    run = subprocess.run(
        [sys.executable, "-m", "tracebee", mode, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    program = parse(Source("script.bt", text), Diagnostics())
    kinds = {kind_name(split_point(point.text)[0]) for probe in program.probes for point in probe.points}
    if missing := kinds & lacking:
        assert run.returncode == 1
        assert any(MISSING[kind] in run.stderr for kind in missing if kind is not None), run.stderr
    elif newer := re.search(r"ERROR: (.* \(since Linux (\d+)\.(\d+)\))", run.stderr):
        here = tuple(int(part) for part in os.uname().release.split(".")[:2])
        assert here < (int(newer[2]), int(newer[3]))
        pytest.skip(newer[1])
    else:
        assert run.returncode == 0, run.stderr
        assert "ERROR" not in run.stderr
