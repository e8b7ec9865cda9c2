"""The encodings that the other tests rely on, held against other assemblers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROWS = [
    (bytes.fromhex(row[:47]), row[49:51], row[53:])
    for row in (Path(__file__).parent / "encodings.txt").read_text().splitlines()
    if not row.startswith("#")
]


def known_to(letter: str) -> list[tuple[bytes, str]]:
    return [(data, text) for data, agree, text in ROWS if letter in agree]


def their_dialect(text: str) -> str:
    """Our text as LLVM and binutils write it."""
    text = re.sub(r"pc([-+])", r"\1", text)
    text = re.sub(r"call \w+#", "call ", text)
    text = re.sub(r"(?<=[<>=] )0x[0-9a-f]{8}(?= goto)", lambda m: str(int(m[0], 16) - (1 << 32)), text)
    if "u32" in text and ("lock" in text or "atomic" in text):
        text = re.sub(r"r(\d+)(?=$| =|\)$)", r"w\1", text)
    text = text.replace("atomic64", "atomic")
    return re.sub(r"(?<=r[0-9] |10 )([-+])(?=\d+\))", r"\1 ", text)


def test_llvm_agrees() -> None:
    tool = shutil.which("llvm-mc")
    if tool is None:
        pytest.skip("llvm-mc is not installed")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    if "bpfel" not in version:
        pytest.skip("llvm-mc was built without the BPF target")
    rows = known_to("l")
    source = "".join(f"{their_dialect(text)}\n" for _, text in rows)
    command = [tool, "-triple=bpfel", "-mcpu=v3", "--show-encoding"]
    output = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    encodings = [bytes.fromhex(hex.replace(",0x", "")) for hex in re.findall(r"encoding: \[0x(.*)\]", output)]
    assert encodings == [data for data, _ in rows]


def test_binutils_agree(tmp_path: Path) -> None:
    assembler = shutil.which("bpf-as") or shutil.which("bpf-unknown-none-as")
    copier = shutil.which("bpf-objcopy") or shutil.which("bpf-unknown-none-objcopy")
    if assembler is None or copier is None:
        pytest.skip("the BPF assembler of binutils is not installed")
    rows = known_to("g")
    source, built, text = tmp_path / "all.s", tmp_path / "all.o", tmp_path / "all.bin"
    source.write_text("".join(f"{their_dialect(row)}\n" for _, row in rows))
    subprocess.run([assembler, "-EL", "-mdialect=pseudoc", "-misa-spec=v4", source, "-o", built], check=True)
    subprocess.run([copier, "-O", "binary", "-j", ".text", built, text], check=True)
    assert text.read_bytes() == b"".join(data for data, _ in rows)
