"""Whether KVM is used: as the environment says, as was found out before, or as a small boot shows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tracebee.errors import UsageError
from tracebee.microvm import accelerator
from tracebee.microvm.accelerator import CODE, STATUS, boot_seconds, choose_accelerator, remember


@pytest.fixture(autouse=True)
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of /dev/kvm."""
    path = tmp_path / "kvm"
    path.write_text("")
    monkeypatch.setattr(accelerator, "DEVICE", str(path))
    monkeypatch.delenv("TRACEBEE_VM_ACCELERATOR", raising=False)
    return path


def qemu(folder: Path, body: str) -> str:
    """A program in QEMU's place; it counts its runs, and its behaviour is a piece of Python."""
    path = folder / "qemu"
    path.write_text(
        f"#!{sys.executable}\nimport sys, time\nopen({str(folder / 'runs')!r}, 'a').write('x')\n{body}\n"
    )
    path.chmod(0o755)
    return str(path)


def runs(folder: Path) -> int:
    path = folder / "runs"
    return len(path.read_text()) if path.exists() else 0


def test_both_boot_alike(tmp_path: Path) -> None:
    program = qemu(tmp_path, f"sys.exit({STATUS})")
    assert choose_accelerator(program, str(tmp_path / "cache")) == "kvm"
    assert runs(tmp_path) == 2
    # The answer is kept.
    assert choose_accelerator(program, str(tmp_path / "cache")) == "kvm"
    assert runs(tmp_path) == 2


@pytest.mark.parametrize(
    "how", ["time.sleep(60)", "time.sleep(1)", "sys.exit(1)"], ids=["hangs", "crawls", "fails"]
)
def test_kvm_that_is_there_and_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(accelerator, "PATIENCE", 2.0)
    program = qemu(tmp_path, f"if 'kvm' in sys.argv: {how}\nsys.exit({STATUS})")
    assert choose_accelerator(program, str(tmp_path / "cache")) == "tcg"


def test_no_kvm(tmp_path: Path, device: Path) -> None:
    device.unlink()
    assert choose_accelerator("/no/such/program", str(tmp_path / "cache")) == "tcg"
    assert not (tmp_path / "cache").exists()


def test_an_answer_of_an_earlier_boot_is_none(tmp_path: Path) -> None:
    program = qemu(tmp_path, "sys.exit(1)")
    remember(str(tmp_path), "kvm")
    assert choose_accelerator(program, str(tmp_path)) == "kvm"
    (tmp_path / "accelerator").write_text("kvm of-another-boot")
    assert choose_accelerator(program, str(tmp_path)) == "tcg"


def test_the_environment_overrules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for word in ("kvm", "tcg"):
        monkeypatch.setenv("TRACEBEE_VM_ACCELERATOR", word)
        assert choose_accelerator("/no/such/program", str(tmp_path)) == word
    monkeypatch.setenv("TRACEBEE_VM_ACCELERATOR", "hvf")
    with pytest.raises(UsageError, match="accelerators are kvm and tcg"):
        choose_accelerator("/no/such/program", str(tmp_path))


def test_the_sector_ends_a_real_machine(tmp_path: Path) -> None:
    from tracebee.errors import NotSupportedError
    from tracebee.microvm.qemu import find_qemu

    try:
        program = find_qemu()
    except NotSupportedError as error:
        pytest.skip(str(error))
    image = tmp_path / "image"
    image.write_bytes(CODE.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    assert 0 < boot_seconds(program, "tcg", str(image)) < accelerator.PATIENCE
    image.write_bytes(os.urandom(510) + bytes(1 << 20))  # no signature: nothing to boot
    assert boot_seconds(program, "tcg", str(image)) > accelerator.PATIENCE
