"""Loads the objects of tests/data/repairs in a guest and attaches nothing; prints a line of JSON for each.

A line has the object's name without suffixes, the kernel's release, and errno and log of a refusal, which are
empty where the kernel takes the program.  Run as a program it loads those of the folder in its argument.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tracebee.errors import TracebeeError, VerifierError
from tracebee.object import read_object
from tracebee.session.kernel import KernelBackend
from tracebee.session.machine import LiveMachine
from tracebee.session.places import abilities

if TYPE_CHECKING:
    from collections.abc import Iterator


def load_all(folder: Path, machine: LiveMachine) -> Iterator[dict[str, str]]:
    """What the kernel says of each object."""
    for path in sorted(folder.glob("*.bpf.o")):
        found = {
            "name": path.name.removesuffix(".bpf.o"),
            "kernel": os.uname().release,
            "errno": "",
            "log": "",
        }
        spec = read_object(path.read_bytes(), path.name, machine.btf(), kconfig=abilities(machine))
        try:
            KernelBackend(spec, machine).close()
        except VerifierError as error:
            found |= {"errno": errno.errorcode.get(error.errno, str(error.errno)), "log": error.log}
        except TracebeeError as error:
            found |= {"errno": "no errno", "log": str(error)}
        yield found


if __name__ == "__main__":
    for row in load_all(Path(sys.argv[1]), LiveMachine()):
        print(json.dumps(row), flush=True)
