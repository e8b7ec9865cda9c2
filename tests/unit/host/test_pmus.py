"""Sources of perf events by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.host.pmus import read_pmus

if TYPE_CHECKING:
    from pathlib import Path


def test_sources(tmp_path: Path) -> None:
    for name, text in (("software", "1\n"), ("uprobe", "8\n"), ("broken", "x\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(text)
    (tmp_path / "empty").mkdir()
    assert read_pmus(str(tmp_path)) == {1: "software", 8: "uprobe"}
    assert read_pmus(str(tmp_path / "none")) == {}
