"""What a program says of itself: constants ``bpf_metadata_*`` in its .rodata, such as a version (Linux 5.10)."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

from tracebee.errors import TracebeeError
from tracebee.kernel.ids import open_id
from tracebee.kernel.info import btf_by_id
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.kernel.info import MapInfo, ProgramInfo

PREFIX = "bpf_metadata_"

_MAX_BYTES = 1 << 20


def read_metadata(program: ProgramInfo, maps: Mapping[int, MapInfo]) -> dict[str, Any]:
    """The constants of a program by name without the prefix, as JSON has them; empty for most programs.

    `maps` are the facts of its maps.  What goes meanwhile, or cannot be read, is left out.
    """
    found: dict[str, Any] = {}
    for map_id in program.map_ids:
        info = maps.get(map_id)
        if info is not None and _is_rodata(info):
            try:
                found |= _constants(info)
            except TracebeeError:
                continue
    return found


def _is_rodata(info: MapInfo) -> bool:
    shape = (info.type, info.key_size, info.max_entries)
    return shape == ("ARRAY", 4, 1) and ".rodata" in info.name and info.btf_value_type_id != 0


def _constants(info: MapInfo) -> dict[str, Any]:
    from tracebee.btf.types import Datasec
    from tracebee.btf.values import value_codec

    btf = btf_by_id(info.btf_id)
    section = btf.type(info.btf_value_type_id)
    if not isinstance(section, Datasec) or info.value_size > _MAX_BYTES:
        return {}
    names = [btf.name_of(variable.type_id) for variable in section.variables]
    if not any(name.startswith(PREFIX) for name in names):
        return {}
    fd = open_id("map", info.id)
    try:
        value = bpf.map_lookup(fd, struct.pack("=I", 0), info.value_size)
    finally:
        os.close(fd)
    if value is None:
        return {}
    codec = value_codec(btf, info.btf_value_type_id, info.value_size)
    # As bpftool writes a section: its name, then a list with an object for each variable.
    variables: list[dict[str, Any]] = codec.plain(codec.decode(value))[section.name]
    return {
        name.removeprefix(PREFIX): constant
        for variable in variables
        for name, constant in variable.items()
        if name.startswith(PREFIX)
    }
