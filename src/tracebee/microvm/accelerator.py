"""KVM, where it is shown to work: having /dev/kvm is not enough.

On some hosts, nested ones among them, a guest under KVM starts and then hangs, or crawls, in its firmware.  So a boot
sector of five bytes is booted first, with KVM and without; with KVM it must end, and not be much slower.  The answer
is kept until this machine is booted again.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time

from tracebee.errors import UsageError

KVM, TCG = "kvm", "tcg"
VARIABLE = "TRACEBEE_VM_ACCELERATOR"
DEVICE = "/dev/kvm"
BOOT_ID = "/proc/sys/kernel/random/boot_id"

EXIT_PORT = 0xF4
CODE = bytes([0xB0, 0x10, 0xE6, EXIT_PORT, 0xF4])
"""mov al, 0x10; out EXIT_PORT, al; hlt"""
STATUS = 0x10 << 1 | 1
"""What QEMU's isa-debug-exit makes of the value 0x10."""

PATIENCE = 3.0
"""Seconds for a boot of the sector, which takes a tenth of one."""


def choose_accelerator(qemu: str, folder: str) -> str:
    """KVM or TCG: as the environment says, or as was found out since this machine was booted, or is now.

    `folder` keeps the answer.  Raises UsageError for an environment that names neither.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted:
        if wanted not in (KVM, TCG):
            raise UsageError(f"{VARIABLE}={wanted}: accelerators are {KVM} and {TCG}")
        return wanted
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return TCG
    try:
        with open(_path(folder)) as file:
            answer, _, boot = file.read().partition(" ")
        if boot == boot_id() and answer in (KVM, TCG):
            return answer
    except OSError:
        pass
    answer = KVM if is_shown_to_work(qemu) else TCG
    remember(folder, answer)
    return answer


def remember(folder: str, answer: str) -> None:
    """Keep an answer until the next boot of this machine."""
    os.makedirs(folder, exist_ok=True)
    with open(_path(folder), "w") as file:
        file.write(f"{answer} {boot_id()}")


def _path(folder: str) -> str:
    return os.path.join(folder, "accelerator")


def boot_id() -> str:
    with open(BOOT_ID) as file:
        return file.read().strip()


def is_shown_to_work(qemu: str) -> bool:
    """Boot a sector with KVM and without, and compare."""
    with tempfile.NamedTemporaryFile(prefix="tracebee-boot-") as file:
        file.write(CODE.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
        file.flush()
        emulated = boot_seconds(qemu, TCG, file.name)
        return boot_seconds(qemu, KVM, file.name) <= min(2 * emulated + 0.2, PATIENCE)


def boot_seconds(qemu: str, accelerator: str, image: str) -> float:
    """How long a boot of the sector takes; PATIENCE and more if it did not end well."""
    words = [qemu, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-m", "32"]
    words += ["-accel", accelerator, "-drive", f"file={image},format=raw,if=ide,snapshot=on"]
    words += ["-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4"]
    begin = time.monotonic()
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 2 * PATIENCE + 1
    return time.monotonic() - begin if done.returncode == STATUS else 2 * PATIENCE + 1
