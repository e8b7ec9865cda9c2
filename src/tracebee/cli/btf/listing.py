"""``tracebee btf list`` and ``tracebee btf show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.cli import facts as say
from tracebee.cli.objectviews import View, run_view
from tracebee.errors import TracebeeError
from tracebee.render.tables import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.kernel.info import BtfInfo
    from tracebee.kernel.inventory import Inventory


def run_list(words: Sequence[str]) -> int:
    """A table of BTF objects, all or those selected.  Raises TracebeeError."""
    return run_view(VIEW, words, blocks=False)


def run_show(words: Sequence[str]) -> int:
    """BTF objects with all that is known of them.  Raises TracebeeError."""
    return run_view(VIEW, words, blocks=True)


_COLUMNS = (
    Column("ID", right=True),
    Column("OF"),
    Column("NAME", free=True),
    Column("SIZE", right=True),
    Column("PROGRAMS", free=True),
    Column("MAPS", free=True),
    Column("OWNERS", free=True, end=True),
)


def _row(info: BtfInfo, inventory: Inventory) -> list[str]:
    return [
        str(info.id),
        info.owner,
        info.name,
        say.size(info.size),
        say.ids(inventory.programs_of_btf(info.id)),
        say.ids(inventory.maps_of_btf(info.id)),
        say.owners(inventory.owners("btf", info.id)),
    ]


_OWNERS = {
    "kernel": "BTF of the kernel",
    "module": "BTF of the module",
    "process": "BTF that a process has loaded",
}


def _title(info: BtfInfo, inventory: Inventory) -> str:
    name = "" if info.owner == "kernel" else info.name
    return f"{info.id}: {_OWNERS[info.owner]} {name}".rstrip()


def _facts(info: BtfInfo, inventory: Inventory) -> list[tuple[str, str]]:
    return [
        ("name", info.name),
        ("size", say.size(info.size)),
        ("types", _types(info)),
        ("programs", say.programs_by_id(inventory.programs_of_btf(info.id), inventory)),
        ("maps", say.maps_by_id(inventory.maps_of_btf(info.id), inventory)),
        ("owners", say.owners(inventory.owners("btf", info.id))),
    ]


def _types(info: BtfInfo) -> str:
    """How many types there are."""
    from tracebee.kernel.info import btf_by_id

    try:
        btf = btf_by_id(info.id)
    except TracebeeError:
        return ""
    return f"{len(btf) - btf.first_id}" + (f", from id {btf.first_id} on" if btf.base is not None else "")


def btf_record(info: BtfInfo, inventory: Inventory) -> dict[str, Any]:
    """A BTF object in JSON: the members of ``bpftool -j btf``."""
    record: dict[str, Any] = {
        "id": info.id,
        "size": info.size,
        "prog_ids": inventory.programs_of_btf(info.id),
        "map_ids": inventory.maps_of_btf(info.id),
    }
    record |= say.json_whereabouts("btf", info.id, inventory)
    record["kernel"] = info.kernel_btf
    if info.name:
        record["name"] = info.name
    return record


VIEW = View("btf", _COLUMNS, _row, _title, _facts, btf_record)
