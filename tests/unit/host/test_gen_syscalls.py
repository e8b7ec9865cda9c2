"""The generator of the system call table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tracebee.host._syscalls import SYSCALLS


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    path = Path(__file__).parents[3] / "tools" / "gen_syscalls.py"
    spec = importlib.util.spec_from_file_location("gen_syscalls", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_output(generator: ModuleType, tmp_path: Path) -> None:
    version, header = tmp_path / "version.h", tmp_path / "unistd_64.h"
    version.write_text(
        "#define LINUX_VERSION_CODE 1\n#define LINUX_VERSION_MAJOR 6\n#define LINUX_VERSION_PATCHLEVEL 9\n"
    )
    header.write_text(
        "#ifndef _G\n#define _G\n\n#define __NR_write 1\n#define __NR_read 0\n\n#endif /* _G */\n"
    )
    text = generator.main([str(version), f"vax={header}"])
    assert "Linux 6.9" in text
    found: dict[str, object] = {}
    exec(text, found)
    assert found["SYSCALLS"] == {"vax": {0: "read", 1: "write"}}


@pytest.mark.parametrize(
    "text", ["#if X\n#define __NR_a 1\n", "#define __NR_a 1\n#define __NR_b 1\n", "#include <x>\n"]
)
def test_headers_that_need_a_compiler(generator: ModuleType, text: str) -> None:
    with pytest.raises(SystemExit):
        generator.read_numbers(text)


def test_the_table() -> None:
    assert set(SYSCALLS) == {"x86_64", "aarch64"}
    for names in SYSCALLS.values():
        assert len(set(names.values())) == len(names) > 300
        assert list(names) == sorted(names)
