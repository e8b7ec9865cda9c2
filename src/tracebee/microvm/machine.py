"""One command in one guest: started, its output passed on as it comes, and everything gone afterwards."""

from __future__ import annotations

import os
import re
import selectors
import signal
import tempfile
import time
from typing import TYPE_CHECKING

from tracebee.errors import GuestError
from tracebee.microvm.accelerator import KVM, TCG, choose_accelerator, remember
from tracebee.microvm.cpio import write_archive
from tracebee.microvm.image import job_tree, package_layer, python_layer
from tracebee.microvm.kernels import cache_folder
from tracebee.microvm.qemu import Qemu, find_qemu
from tracebee.records import Mutable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from tracebee.microvm.image import Job
    from tracebee.microvm.kernels import Kernel

CONSOLE, OUTPUT, ERRORS, CONTROL = range(4)

FAILED = 125
"""Exit status when the guest itself fails, as docker(1) and chroot(1) give it."""
TIMED_OUT = 124
"""Exit status when the command runs past its time, as timeout(1) gives it."""

BOOT_SECONDS = {TCG: 120, KVM: 20}
"""By accelerator.  Emulated, booting takes 3 to 5 seconds, and a busy host makes that several times longer."""
SILENT_SECONDS = 60
"""A guest that gives no sign for so long hangs; it gives one every two seconds."""
TRIES = 3
"""A guest that dies before its command starts is started again: emulation has faults of its own."""
CONSOLE_LINES = 40
HEADLINE = re.compile(r"(Kernel panic - .*|BUG: .*|init: .*)")
"""What in the console says why a guest ended."""
MEMORY = 1024
"""MiB: what the archives take twice while they are unpacked, and what a command may need."""


class Limits(Mutable):
    """`seconds` for the command, 0 for any; `memory` in MiB, 0 for what is usual; `cpus`."""

    seconds: float = 0
    memory: int = 0
    cpus: int = 1


def run_job(
    kernel: Kernel,
    job: Job,
    limits: Limits,
    write: Callable[[int, bytes], None],
    warn: Callable[[str], None],
) -> int:
    """Run a command in a guest; its exit status, or TIMED_OUT.

    `write` gets OUTPUT or ERRORS and what the command wrote there.  Raises GuestError, UsageError,
    NotSupportedError; nothing is left running then either.
    """
    images = os.path.join(cache_folder(), "images")
    layers = [python_layer(images), package_layer(images)]
    tree, warnings = job_tree(job, kernel, layers)
    for warning in warnings:
        warn(warning)
    memory = limits.memory or MEMORY + 3 * (tree.size >> 20)
    with tempfile.TemporaryDirectory(prefix="tracebee-vm-") as folder:
        initramfs = os.path.join(folder, "initramfs")
        with open(initramfs, "wb") as file:
            for layer in layers:
                append_file(file, layer.archive)
            write_archive(tree.entries(), file)
        accelerator = choose_accelerator(find_qemu(), cache_folder())
        for attempt in range(TRIES):
            guest = Guest(kernel, initramfs, memory, limits, accelerator)
            try:
                return guest.run(write)
            except GuestError:
                if guest.started or attempt == TRIES - 1:
                    raise
                if accelerator == KVM:
                    accelerator = TCG
                    remember(cache_folder(), TCG)
            finally:
                guest.close()
    raise AssertionError("unreachable")


def append_file(stream: BinaryIO, path: str) -> None:
    """Copy a file to the end of another, inside the kernel."""
    stream.flush()
    with open(path, "rb") as source:
        while os.sendfile(stream.fileno(), source.fileno(), None, 1 << 30):
            pass
    stream.seek(0, os.SEEK_END)


class Guest:
    """A machine with its ports being listened to."""

    def __init__(
        self, kernel: Kernel, initramfs: str, memory: int, limits: Limits, accelerator: str = TCG
    ) -> None:
        self.kernel = kernel
        self.limits = limits
        self.started = False
        self.console = bytearray()
        self._status: int | None = None
        self._control = b""
        self._signals: list[int] = []
        self._boot_seconds = BOOT_SECONDS[accelerator]
        self.qemu = Qemu(kernel.image, initramfs, memory, limits.cpus, accelerator)

    def run(self, write: Callable[[int, bytes], None]) -> int:
        """Listen until the command has ended; its status, or TIMED_OUT."""
        previous = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            previous[number] = signal.signal(number, lambda got, frame: self._signals.append(got))
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        old_wake = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        try:
            return self._listen(write, wake_read)
        finally:
            signal.set_wakeup_fd(old_wake)
            os.close(wake_read)
            os.close(wake_write)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _listen(self, write: Callable[[int, bytes], None], wake: int) -> int:
        selector = selectors.DefaultSelector()
        for index, port in enumerate(self.qemu.ports):
            selector.register(port, selectors.EVENT_READ, index)
        selector.register(wake, selectors.EVENT_READ, -1)
        begin = heard = time.monotonic()
        end = 0.0
        interrupts = 0
        with selector:
            while selector.get_map():
                for key, _ in selector.select(1.0):
                    if key.data == -1:
                        os.read(wake, 512)
                        continue
                    try:
                        data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    except ConnectionResetError:
                        data = b""
                    if not data:
                        selector.unregister(key.fileobj)
                        if key.data == CONTROL and self._status is None:
                            raise self._failure(
                                "it ended before its command did" if self.started else "it did not start"
                            )
                        continue
                    heard = time.monotonic()
                    if key.data == CONSOLE:
                        self.console += data
                        del self.console[: -(1 << 16)]
                    elif key.data == CONTROL:
                        self._hear(data)
                    else:
                        write(key.data, data)
                now = time.monotonic()
                if self.started and not end and self.limits.seconds:
                    end = now + self.limits.seconds
                if self._status is not None:
                    self._drain(selector, write)
                    return self._status
                while self._signals:
                    number = self._signals.pop(0)
                    interrupts += 1
                    if not self.started or interrupts > 2:
                        raise KeyboardInterrupt
                    self.qemu.ports[CONTROL].sendall(b"signal %d\n" % number)
                if end and now > end:
                    return TIMED_OUT
                if not self.started and now - begin > self._boot_seconds:
                    raise self._failure(f"it did not come up within {self._boot_seconds} seconds")
                if self.started and now - heard > SILENT_SECONDS:
                    raise self._failure(f"it has given no sign of life for {SILENT_SECONDS} seconds")
        raise self._failure("it is gone")

    def _drain(self, selector: selectors.BaseSelector, write: Callable[[int, bytes], None]) -> None:
        """The guest sends its status last, but each port has a socket of its own."""
        while True:
            ready = [key for key, _ in selector.select(0) if key.data in (OUTPUT, ERRORS)]
            if not ready:
                return
            for key in ready:
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if data:
                    write(key.data, data)
                else:
                    selector.unregister(key.fileobj)

    def _hear(self, data: bytes) -> None:
        *lines, self._control = (self._control + data).split(b"\n")
        for line in lines:
            word, _, rest = line.strip().partition(b" ")
            if word == b"ready":
                self.started = True
            elif word == b"exit":
                self._status = int(rest)

    def _failure(self, reason: str) -> GuestError:
        lines = self.console.decode(errors="replace").replace("\r", "").splitlines()
        headline = HEADLINE.findall("\n".join(lines))
        if headline:
            reason += f" ({headline[-1].strip()})"
        said = self.qemu.errors()
        console = "\n".join([line for line in lines if line.strip()][-CONSOLE_LINES:])
        if said:
            reason += f": {said.splitlines()[-1]}"
        return GuestError(self.kernel.release, reason, console)

    def close(self) -> None:
        self.qemu.close()
