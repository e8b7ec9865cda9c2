"""Where bpf file systems are mounted, and the files in them: each may be a pinned object."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.host.mountinfo import parse_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILES = 1 << 20


def read_bpf_mounts() -> list[str]:
    """The directories on which a bpf file system is mounted; empty where there is no /proc."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
            text = stream.read()
    except OSError:
        return []
    return list(dict.fromkeys(mount.path for mount in parse_mounts(text) if mount.kind == "bpf"))


def bpf_files(mount: str) -> Iterator[str]:
    """The paths of all files below a mount, in order, directories of the same mount only.

    What may not be read, and what goes meanwhile, is left out.
    """
    pending = [mount]
    seen = 0
    try:
        device = os.stat(mount).st_dev
    except OSError:
        return
    while pending and seen < MAX_FILES:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        deeper = []
        for entry in found:
            seen += 1
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.stat(follow_symlinks=False).st_dev == device:
                        deeper.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path
            except OSError:
                continue
        pending += reversed(deeper)
