"""``tracebee map list`` and ``tracebee map show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.cli import facts as say
from tracebee.cli.link.places import place_of
from tracebee.cli.objectviews import View, run_view
from tracebee.errors import TracebeeError
from tracebee.render.tables import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.kernel.info import MapInfo
    from tracebee.kernel.inventory import Inventory


def run_list(words: Sequence[str]) -> int:
    """A table of maps, all or those selected.  Raises TracebeeError."""
    return run_view(VIEW, words, blocks=False)


def run_show(words: Sequence[str]) -> int:
    """Maps with all that is known of them.  Raises TracebeeError."""
    return run_view(VIEW, words, blocks=True)


_COLUMNS = (
    Column("ID", right=True),
    Column("TYPE"),
    Column("NAME", free=True),
    Column("KEY", right=True),
    Column("VALUE", right=True),
    Column("ENTRIES", right=True),
    Column("MEMORY", right=True, rank=1),
    Column("FLAGS", free=True, rank=2),
    Column("PROGRAMS", free=True),
    Column("INSIDE", free=True),
    Column("OWNERS", free=True, end=True),
    Column("PINNED", free=True, end=True),
)


def _row(info: MapInfo, inventory: Inventory) -> list[str]:
    flags = say.map_flags(info.map_flags).replace("BPF_F_", "").replace(" | ", ",").lower()
    return [
        str(info.id),
        say.word(info.type),
        info.name,
        str(info.key_size),
        str(info.value_size),
        str(info.max_entries),
        say.size(info.memlock),
        ",".join(part for part in (flags, "frozen" if info.frozen else "") if part),
        say.ids(inventory.programs_of_map(info.id)),
        say.ids(inventory.inner_maps_of(info.id) or inventory.programs_in_map(info.id)),
        say.owners(inventory.owners("map", info.id)),
        " ".join(inventory.pinned("map", info.id)),
    ]


_RINGS = ("RINGBUF", "USER_RINGBUF")
"""Maps whose max_entries is their size in bytes."""


def _title(info: MapInfo, inventory: Inventory) -> str:
    return f"{info.id}: {say.word(info.type)} map {info.name}".rstrip()


def _facts(info: MapInfo, inventory: Inventory) -> list[tuple[str, str]]:
    return [
        ("name", f"cut to {info.kernel_name} by the kernel" if info.name != info.kernel_name else ""),
        ("key", _typed(info.key_size, info.btf_id, info.btf_key_type_id)),
        ("value", _value(info)),
        ("ring", say.size(info.max_entries) if info.type in _RINGS else ""),
        ("entries", f"at most {info.max_entries}" if info.max_entries and info.type not in _RINGS else ""),
        ("flags", say.map_flags(info.map_flags)),
        ("extra", f"{info.map_extra:#x}" if info.map_extra else ""),
        ("memory", say.size(info.memlock)),
        ("frozen", "user space can no longer write to it" if info.frozen else ""),
        ("takes", _takes(info)),
        ("device", say.device(info.ifindex, info.netns_dev, info.netns_ino)),
        ("programs", say.programs_by_id(inventory.programs_of_map(info.id), inventory)),
        ("maps in it", say.maps_by_id(inventory.inner_maps_of(info.id), inventory)),
        ("programs in it", say.programs_by_id(inventory.programs_in_map(info.id), inventory)),
        ("in maps", say.maps_by_id(inventory.outer_maps_of(info.id), inventory)),
        ("links", _links(info, inventory)),
        ("BTF", str(info.btf_id) if info.btf_id else ""),
        ("owners", say.owners(inventory.owners("map", info.id))),
        ("pinned", "\n".join(inventory.pinned("map", info.id))),
    ]


def _typed(size: int, btf_id: int, type_id: int) -> str:
    text = say.plural(size, "byte")
    if not size or not btf_id or not type_id:
        return text if size else "none"
    name = type_in_c(btf_id, type_id)
    return f"{text}, {name}" if name else text


def _value(info: MapInfo) -> str:
    if info.btf_vmlinux_value_type_id:
        return _typed(info.value_size, info.btf_vmlinux_id or info.btf_id, info.btf_vmlinux_value_type_id)
    text = _typed(info.value_size, info.btf_id, info.btf_value_type_id)
    return f"{text}, for each CPU" if info.type.startswith(("PERCPU", "LRU_PERCPU")) else text


def type_in_c(btf_id: int, type_id: int) -> str:
    """A type as C writes it, or "" if it cannot be known (any more)."""
    from tracebee.btf.format import declaration
    from tracebee.kernel.info import btf_by_id

    try:
        return declaration(btf_by_id(btf_id), type_id)
    except TracebeeError:
        return ""


def _takes(info: MapInfo) -> str:
    if not info.owner_prog_type:
        return ""
    compiled = "" if info.owner_jited is None else ", compiled" if info.owner_jited else ", interpreted"
    return f"programs of type {say.word(info.owner_prog_type)}{compiled}"


def _links(info: MapInfo, inventory: Inventory) -> str:
    return "\n".join(
        f"{link} {place_of(inventory.links[link], inventory)}" for link in inventory.links_of_map(info.id)
    )


def map_record(info: MapInfo, inventory: Inventory) -> dict[str, Any]:
    """A map in JSON: the members of ``bpftool -j map``, and behind them what it does not tell."""
    record: dict[str, Any] = {"id": info.id, "type": say.json_word(info.type)}
    if info.name:
        record["name"] = info.name
    record["flags"] = info.map_flags
    record |= say.json_device(info.ifindex, info.netns_dev, info.netns_ino)
    record |= {
        "bytes_key": info.key_size,
        "bytes_value": info.value_size,
        "max_entries": info.max_entries,
    }
    if info.memlock is not None:
        record["bytes_memlock"] = info.memlock
    if info.owner_prog_type:
        record["owner_prog_type"] = say.json_word(info.owner_prog_type)
    if info.owner_jited is not None:
        record["owner_jited"] = info.owner_jited
    if info.frozen is not None:
        record["frozen"] = int(info.frozen)
    if info.btf_id:
        record["btf_id"] = info.btf_id
    record |= say.json_whereabouts("map", info.id, inventory)
    if info.map_flags:
        record["flag_names"] = say.map_flags(info.map_flags).split(" | ")
    for field in ("btf_key_type_id", "btf_value_type_id", "btf_vmlinux_value_type_id", "map_extra"):
        if getattr(info, field):
            record[field] = getattr(info, field)
    return record | say.json_lists(
        prog_ids=inventory.programs_of_map(info.id),
        link_ids=inventory.links_of_map(info.id),
        inner_map_ids=inventory.inner_maps_of(info.id),
        outer_map_ids=inventory.outer_maps_of(info.id),
        inner_prog_ids=inventory.programs_in_map(info.id),
    )


VIEW = View("map", _COLUMNS, _row, _title, _facts, map_record)
