"""How facts of loaded objects read for people and in JSON: dates, ages, sizes, flags, owners, devices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tracebee.syscalls._uapi import MAP_FLAGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.host.holders import Holder
    from tracebee.kernel.inventory import Inventory

# ---------------------------------------------------------------------- text


def date(seconds: float) -> str:
    """Seconds since 1970 as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def age(seconds: float) -> str:
    """How long ago something was, in its largest unit: ``3 min``."""
    for size, unit in ((86400 * 2, "d"), (3600 * 2, "h"), (60 * 2, "min")):
        if seconds >= size:
            return f"{int(seconds // (size // 2))} {unit}"
    return f"{max(0, int(seconds))} s"


def duration(nanoseconds: float) -> str:
    """A time in a unit that keeps it short: ``320 ns``, ``5.61 µs``."""
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if nanoseconds >= size:
            return (
                f"{nanoseconds / size:.3g} {unit}"
                if nanoseconds < 1000 * size
                else f"{nanoseconds / size:.0f} {unit}"
            )
    return f"{nanoseconds:.0f} ns"


def size(count: int | None) -> str:
    """A number of bytes: ``4096``, ``12 KiB``; empty for None."""
    if count is None:
        return ""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 10 << power:
            return f"{count >> power} {unit}"
    return f"{count} B"


def plural(count: int, word: str, many: str = "") -> str:
    """``1 map``, ``2 maps``."""
    return f"{count} {word if count == 1 else many or word + 's'}"


def ids(numbers: Sequence[int]) -> str:
    return ",".join(str(number) for number in numbers)


def word(name: str) -> str:
    """An enumerator as bpftool writes it, in small letters; numbers without a name say that they are such."""
    return f"type {name}" if name.isdigit() else name.lower()


def map_flags(flags: int) -> str:
    """The flags of a map by name, as the uapi header has them; what has no name in hexadecimal."""
    names = [f"BPF_F_{name}" for name, bit in MAP_FLAGS.items() if flags & bit]
    unknown = flags & ~sum(MAP_FLAGS.values())
    return " | ".join([*names, *([f"{unknown:#x}"] if unknown else [])])


def owners(holders: Sequence[Holder]) -> str:
    return ", ".join(f"{holder.comm}({holder.pid})" for holder in holders)


def titled(number: int, name: str) -> str:
    """An id with the name of its object: ``12 events``."""
    return f"{number} {name}" if name else str(number)


def maps_by_id(numbers: Sequence[int], inventory: Inventory) -> str:
    """Maps with their names and types."""
    return "\n".join(
        f"{titled(number, inventory.maps[number].name)} ({word(inventory.maps[number].type)})"
        if number in inventory.maps
        else f"{number} (gone)"
        for number in numbers
    )


def programs_by_id(numbers: Sequence[int], inventory: Inventory) -> str:
    """Programs with their names and types."""
    return "\n".join(
        f"{titled(number, inventory.programs[number].name)} ({word(inventory.programs[number].type)})"
        if number in inventory.programs
        else f"{number} (gone)"
        for number in numbers
    )


def device(ifindex: int, netns_dev: int, netns_ino: int) -> str:
    """The network device that a program or map is on, for which it was made; empty for none."""
    if not ifindex:
        return ""
    name = interface_name(ifindex)
    return f"{name or 'interface'} ({ifindex}) in the network namespace {netns_ino}"


def cgroup_place(path: str, attach_type: str) -> str:
    """A place at a control group: ``cgroup /web inet_egress``."""
    return f"cgroup {path} {word(attach_type).removeprefix('cgroup_')}"


def interface_name(ifindex: int) -> str:
    """The name of an interface of this network namespace, or ""."""
    import socket

    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return ""


def interface(ifindex: int) -> str:
    """An interface in words."""
    return f"{interface_name(ifindex) or 'interface'}({ifindex})" if ifindex else "an interface that is gone"


# ---------------------------------------------------------------------- JSON


def json_word(name: str) -> str | int:
    """An enumerator as bpftool writes it in JSON: its name, or the number of one without."""
    return int(name) if name.isdigit() else name.lower()


def json_device(ifindex: int, netns_dev: int, netns_ino: int) -> dict[str, Any]:
    """The member "dev" of a program or map that belongs to a device, if it does."""
    if not ifindex:
        return {}
    record: dict[str, Any] = {"ifindex": ifindex, "ns_dev": netns_dev, "ns_inode": netns_ino}
    name = interface_name(ifindex)
    return {"dev": record | ({"ifname": name} if name else {})}


def json_whereabouts(kind: str, object_id: int, inventory: Inventory) -> dict[str, Any]:
    """The members "pinned" and "pids", where there is something to tell."""
    pinned = inventory.pinned(kind, object_id)
    holders = inventory.owners(kind, object_id)
    record: dict[str, Any] = {"pinned": list(pinned)} if pinned else {}
    if holders:
        record["pids"] = [holder._asdict() for holder in holders]
    return record


def json_lists(**lists: Sequence[int]) -> dict[str, Any]:
    """Lists of ids, without those that are empty."""
    return {name: list(numbers) for name, numbers in lists.items() if numbers}
