"""QEMU's command line for one small machine, with four serial ports on sockets of ours.

Why the options are as they are was found by trial and is told beside each.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile

from tracebee.errors import NotSupportedError, TargetError
from tracebee.microvm.accelerator import KVM, TCG

PROGRAMS = {"x86_64": "qemu-system-x86_64"}
PACKAGES = {"x86_64": "qemu-system-x86"}

# I/O address and interrupt of each port.  The first four of a PC share two lines in pairs, and shared lines
# lose interrupts; the kernel takes the lines of these from the firmware's tables.
PORTS = ((0x3F8, 4), (0x2F8, 3), (0x3E8, 5), (0x2E8, 7))

COMMAND_LINE = (
    "console=ttyS0 quiet rdinit=/init panic=-1 oops=panic",
    # A slow host must not look like a broken guest.
    "tsc=reliable no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1",
    # What costs time at every switch into the kernel and guards nothing here.
    "mitigations=off audit=0 random.trust_cpu=on net.ifnames=0",
    "8250.nr_uarts=4 cryptomgr.notests=1",
)

PROCESSORS = {KVM: "host", TCG: "max,-cx16,-la57"}
"""By accelerator.  Before QEMU 8.0 flags are set wrongly after cmpxchg16b, which the kernel's slab allocator uses
where it is there; tables of five levels are slower to walk."""

ACCELERATORS = {KVM: "kvm", TCG: "tcg,thread=single,tb-size=256"}
"""Under emulation one thread for all CPUs: before 8.1 QEMU can run stale code on one CPU while another patches
kernel text."""


def find_qemu() -> str:
    """The path of QEMU for this processor.  Raises NotSupportedError."""
    machine = os.uname().machine
    name = PROGRAMS.get(machine)
    if name is None:
        raise NotSupportedError(
            f"running other kernels on {machine}", "", f"supported so far: {', '.join(PROGRAMS)}"
        )
    found = shutil.which(name)
    if found is None:
        raise NotSupportedError(
            f"QEMU ({name}) is not installed",
            "",
            f"install it: apt install --no-install-recommends {PACKAGES[machine]}",
        )
    return found


class Qemu:
    """A running machine.  `ports` are the host's ends of its serial ports, in their order."""

    def __init__(
        self, image: str, initramfs: str, memory: int, cpus: int = 1, accelerator: str = TCG
    ) -> None:
        """Start it; `memory` is in MiB.  Raises NotSupportedError, TargetError."""
        program = find_qemu()
        self.ports: list[socket.socket] = []
        theirs: list[socket.socket] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the machine
        words = [program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        words += [
            "-machine",
            "pc,vmport=off,smbus=off,hpet=off,usb=off",
            "-accel",
            ACCELERATORS[accelerator],
            "-cpu",
            PROCESSORS[accelerator],
        ]
        words += ["-smp", str(cpus), "-m", f"{memory}M", "-kernel", image, "-initrd", initramfs]
        words += ["-append", " ".join(COMMAND_LINE)]
        for index, (address, line) in enumerate(PORTS):
            ours, guest = socket.socketpair()
            self.ports.append(ours)
            theirs.append(guest)
            words += ["-chardev", f"socket,id=port{index},fd={guest.fileno()}"]
            words += [
                "-device",
                f"isa-serial,index={index},chardev=port{index},iobase={address:#x},irq={line}",
            ]
        try:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=[port.fileno() for port in theirs],
                # Ctrl-C at the terminal is for the command in the guest, which gets it through us.
                start_new_session=True,
                # Nothing of ours is threaded, and a machine must not outlive us even after SIGKILL.
                preexec_fn=_die_with_parent,  # noqa: PLW1509
            )
        except OSError as error:
            raise TargetError(program, error.strerror or str(error)) from error
        finally:
            for port in theirs:
                port.close()

    def errors(self) -> str:
        """What QEMU itself had to say."""
        self._errors.seek(0)
        return self._errors.read(1 << 16).decode(errors="replace").strip()

    def close(self) -> None:
        """End the machine, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for port in self.ports:
            port.close()
        self._errors.close()


def _die_with_parent() -> None:
    from tracebee.syscalls.process import die_with_parent

    die_with_parent(signal.SIGKILL)
