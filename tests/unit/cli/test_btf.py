"""The words of ``tracebee btf dump``, and types out of files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tracebee.btf import Btf
from tracebee.btf.writer import BtfBuilder
from tracebee.cli.btf import dump
from tracebee.cli.main import main
from tracebee.errors import UsageError

OBJECTS = Path(__file__).parents[2] / "data" / "objects"
CLANG = shutil.which("clang") or shutil.which("clang-14")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A kernel's BTF, and that of a module."""
    builder = BtfBuilder()
    builder.add_struct("pair", 8)
    (tmp_path / "kernel").write_bytes(builder.to_bytes())
    module = BtfBuilder(Btf.from_bytes(builder.to_bytes()))
    module.add_typedef("pair_t", 1)
    (tmp_path / "module").write_bytes(module.to_bytes())
    return tmp_path


def test_settings_are_told_from_the_source() -> None:
    split = dump._settings
    assert split(["id", "3", "format", "c"]) == (["id", "3"], {"format": "c"})
    assert split(["name", "type", "type", "struct", "file"]) == (["name", "type"], {"type": "struct file"})
    assert split(["type", "file"]) == ([], {"type": "file"})
    assert split(["file", "base", "base", "x"]) == (["file", "base"], {"base": "x"})
    with pytest.raises(UsageError, match="format wants a value"):
        split(["3", "format"])


def test_a_module_continues_its_base(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel, module = str(files / "kernel"), str(files / "module")
    for words in (["base", kernel], ["-B", kernel], ["--base-btf", kernel]):
        assert main(["btf", "dump", "file", module, *words]) == 0
        assert capsys.readouterr().out == "[2] TYPEDEF 'pair_t' type_id=1\n"
    assert main(["btf", "dump", "file", module, "base", kernel, "format", "c"]) == 0
    assert "typedef struct pair pair_t;" in capsys.readouterr().out
    assert main(["btf", "dump", "file", module]) == 1
    assert "base /sys/kernel/btf/vmlinux" in capsys.readouterr().err


def test_types_by_path_by_number_and_as_json(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = str(files / "kernel")
    assert main(["btf", "dump", "-j", kernel]) == 0
    assert capsys.readouterr().out == (
        '{"types":[{"id":1,"kind":"STRUCT","name":"pair","size":8,"vlen":0,"members":[]}]}\n'
    )
    assert main(["btf", "dump", kernel, "type", "1"]) == 0
    assert capsys.readouterr().out == "struct pair {  /* 8 bytes */\n        /* 8 bytes unused */\n};\n"
    assert main(["btf", "dump", kernel, "type", "pait"]) == 1
    assert "did you mean 'pair'?" in capsys.readouterr().err
    assert main(["btf", "dump", kernel, "type", "pair", "format", "raw"]) == 1
    assert "one type is shown as C" in capsys.readouterr().err


@pytest.mark.skipif(CLANG is None, reason="clang is not installed")
@pytest.mark.parametrize("path", sorted(OBJECTS.glob("*.bpf.o")), ids=lambda path: path.name)
def test_headers_of_objects_compile(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if main(["btf", "dump", "file", str(path), "format", "c"]):
        assert "there is no section .BTF" in capsys.readouterr().err
        return
    (tmp_path / "object.c").write_text(capsys.readouterr().out)
    target = "bpfeb" if "-eb" in path.name else "bpfel"
    command = [str(CLANG), "-target", target, "-g", "-c", "object.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
