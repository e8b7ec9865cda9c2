"""Decoders of infrared receivers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links.attachment import open_target, put
from tracebee.spec.objects import Lirc

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_PROG_ATTACH on the device (Linux 4.18, CONFIG_BPF_LIRC_MODE2)."""
    place = probe.attach
    assert isinstance(place, Lirc)
    device = open_target(place.path, os.O_NONBLOCK)
    try:
        return put(program, device, "LIRC_MODE2")
    except SyscallError as error:
        raise AttachError(
            probe.name, str(error), f"{place.path} must be a receiver of raw infrared (/dev/lircN)"
        ) from error
    finally:
        os.close(device)
