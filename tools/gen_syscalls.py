"""Writes src/tracebee/host/_syscalls.py from exported Linux headers.

    python3 tools/gen_syscalls.py VERSION_H x86_64=UNISTD_64_H aarch64=UNISTD_64_H >_syscalls.py

The headers are linux/version.h and, for each machine, the asm/unistd_64.h that `make headers_install ARCH=…`
makes (arm64 has one since Linux 6.11).  The wheel of `ziglang` on PyPI carries them for many machines, below
ziglang/lib/libc/include: any-linux-any/linux/version.h, x86-linux-any and aarch64-linux-any.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_DEFINE = re.compile(r"#define __NR_(\w+) (\d+)")
_VERSION = re.compile(r"#define LINUX_VERSION_(MAJOR|PATCHLEVEL) (\d+)")


def read_numbers(text: str) -> dict[int, str]:
    """Number → name.  A header with conditions besides its guard needs a preprocessor, and is refused."""
    numbers: dict[int, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if found := _DEFINE.fullmatch(line):
            number = int(found[2])
            if number in numbers:
                raise SystemExit(f"two names for {number}: {numbers[number]} and {found[1]}")
            numbers[number] = found[1]
        elif line.startswith(("#if ", "#else", "#elif", "#undef", "#include")):
            raise SystemExit(f"not a plain list of numbers: {line}")
    return dict(sorted(numbers.items()))


def main(arguments: list[str]) -> str:
    version_path, *machines = arguments
    parts = dict(_VERSION.findall(Path(version_path).read_text(encoding="ascii")))
    version = f"{parts['MAJOR']}.{parts['PATCHLEVEL']}"
    lines = [
        '"""System call numbers by machine, as uname(2) names it.',
        "",
        f"Made by tools/gen_syscalls.py from asm/unistd_64.h as Linux {version} exports it.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "SYSCALLS: dict[str, dict[int, str]] = {",
    ]
    for argument in machines:
        machine, _, path = argument.partition("=")
        lines.append(f'    "{machine}": {{')
        numbers = read_numbers(Path(path).read_text(encoding="ascii"))
        lines += [f'        {number}: "{name}",' for number, name in numbers.items()]
        lines.append("    },")
    lines.append("}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))
