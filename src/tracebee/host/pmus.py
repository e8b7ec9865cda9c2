"""The sources of perf events that got their number when they were registered (sysfs-bus-event_source-devices)."""

from __future__ import annotations

import os

FOLDER = "/sys/bus/event_source/devices"


def read_pmus(folder: str = FOLDER) -> dict[int, str]:
    """The names of event sources by the number that perf_event_attr.type has; empty without sysfs."""
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    found: dict[int, str] = {}
    for name in sorted(names):
        try:
            with open(f"{folder}/{name}/type", encoding="ascii") as stream:
                found[int(stream.read(32))] = name
        except (OSError, ValueError):
            continue
    return found
