"""What a guest's root file system holds, and that the cache of its layers is kept right."""

from __future__ import annotations

import importlib.util
import marshal
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracebee.errors import UsageError
from tracebee.microvm import image
from tracebee.microvm.image import (
    Job,
    bytecode,
    cached_layer,
    distribution_files,
    find_command,
    is_shown,
    job_tree,
    shown_size,
)
from tracebee.microvm.kernels import Kernel
from tracebee.microvm.tree import Tree

KERNEL = Kernel("6.1", "6.1.0-test", "/nowhere/vmlinuz", "", "")


def job(folder: Path, *words: str, show_folder: bool = True) -> Job:
    return Job(list(words) or ["true"], str(folder), {"A": "b"}, (), show_folder)


def test_the_job_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    tree, warnings = job_tree(job(tmp_path, "sh", "-c", "true"), KERNEL, [])
    found = {entry.path: entry for entry in tree.entries()}
    spec = marshal.loads(found["/run.spec"].data)
    assert spec["words"] == ["sh", "-c", "true"]
    assert os.path.basename(spec["program"]) == "sh"
    assert spec["folder"] == str(tmp_path)
    assert spec["environment"] == {"A": "b"}
    assert found["/init"].data.startswith(b"#!/.python -IS\n")
    assert found["/init"].mode & 0o111
    assert os.path.realpath(tmp_path / "data") in found
    assert warnings == []


def test_the_configuration_lies_where_it_does_on_debian(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("CONFIG_BPF=y\n")
    kernel = Kernel("6.1", "6.1.0-test", "/nowhere/vmlinuz", "", str(tmp_path / "config"))
    tree, _ = job_tree(job(tmp_path, show_folder=False), kernel, [])
    found = {entry.path: entry for entry in tree.entries()}
    assert found["/boot/config-6.1.0-test"].data == b"CONFIG_BPF=y\n"


def test_a_folder_that_is_too_large_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_bytes(bytes(10_000))
    monkeypatch.setattr(image, "MOST_SHOWN", 5_000)
    tree, warnings = job_tree(job(tmp_path), KERNEL, [])
    assert len(warnings) == 1 and "--share" in warnings[0]
    assert os.path.realpath(tmp_path / "large") not in set(tree.paths())


def test_what_tools_make_for_themselves_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/objects").write_bytes(bytes(100_000))
    (tmp_path / "file").write_bytes(bytes(1000))
    assert 1000 <= shown_size(str(tmp_path)) < 3000


def test_what_is_mounted_in_a_folder_is_not_shown() -> None:
    """/dev/shm and /dev/pts are mounts; what is beside them in their folder is none."""
    with os.scandir("/dev") as found:
        entries = {entry.name: entry for entry in found}
    mounts = [name for name in ("shm", "pts") if os.path.ismount(f"/dev/{name}")]
    if not mounts:
        pytest.skip("nothing is mounted below /dev")
    assert not any(is_shown("/dev", entries[name]) for name in mounts)
    assert is_shown("/dev", entries["null"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-command-anywhere", "there is no such command on PATH"),
        ("./nothing", "no such file"),
        ("./plain", "is not executable"),
    ],
)
def test_a_command_that_is_none(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(UsageError, match=message):
        find_command(job(tmp_path, name))


def test_the_guest_has_this_python_and_this_tracebee(tmp_path: Path) -> None:
    assert find_command(job(tmp_path, "python3")) == sys.executable
    assert find_command(job(tmp_path, "tracebee")) == "/usr/local/bin/tracebee"


def test_python_runs_what_was_compiled_for_it(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("answer = 6 * 7\n")
    data = bytecode(str(source))
    (tmp_path / "compiled.pyc").write_bytes(data)
    spec = importlib.util.spec_from_file_location("compiled", tmp_path / "compiled.pyc")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.answer == 42
    # The guest compares these with the source beside it: seconds of the last change, and the size.
    status = source.stat()
    assert int.from_bytes(data[8:12], "little") == int(status.st_mtime) & 0xFFFFFFFF
    assert int.from_bytes(data[12:16], "little") == status.st_size


def test_a_module_with_mistakes_is_not_compiled(tmp_path: Path) -> None:
    source = tmp_path / "wrong.py"
    source.write_text("def (:\n")
    assert bytecode(str(source)) == b""
    assert bytecode(str(tmp_path / "nothing.py")) == b""


def test_a_layer_is_made_once_and_again_when_its_files_change(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.write_text("1")
    folder = str(tmp_path / "images")
    made = []

    def make() -> Tree:
        made.append(1)
        tree = Tree()
        tree.add_data("/file", watched.read_bytes())
        return tree

    first = cached_layer(folder, "kind", "facts", [str(watched)], make)
    assert cached_layer(folder, "kind", "facts", [str(watched)], make) == first
    assert len(made) == 1
    assert first.paths == {"/file"}
    watched.write_text("other")
    second = cached_layer(folder, "kind", "facts", [str(watched)], make)
    assert second.archive != first.archive and len(made) == 2
    # The first may be in use by another process; it goes when nobody has used it for long.
    assert Path(first.archive).exists()
    old = time.time() - image.UNUSED - 10
    os.utime(first.archive, (old, old))
    # As a run leaves it that is killed between the two.
    Path(f"{first.archive}.paths").unlink()
    cached_layer(folder, "kind", "more", [str(watched)], make)
    assert not Path(first.archive).exists()
    assert Path(second.archive).exists()


def test_a_layer_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "images"

    def make() -> Tree:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        cached_layer(str(folder), "kind", "facts", [], make)
    assert list(folder.iterdir()) == []


def test_files_of_a_package() -> None:
    found = distribution_files("pyelftools")
    assert any(path.endswith("elftools/elf/elffile.py") for path in found)
    assert not any(path.endswith(".pyc") for path in found)
    assert distribution_files("no-such-package-at-all") == []


def test_the_launcher_needs_no_environment() -> None:
    tree = Tree()
    image.add_launcher(tree)
    (entry,) = [entry for entry in tree.entries() if entry.path == "/usr/local/bin/tracebee"]
    first, _, body = entry.data.decode().partition("\n")
    assert first == f"#!{sys.executable}"
    done = subprocess.run(
        [sys.executable, "-c", body, "--version"], capture_output=True, text=True, env={}, check=False
    )
    assert done.stdout.startswith("tracebee v"), done.stderr
