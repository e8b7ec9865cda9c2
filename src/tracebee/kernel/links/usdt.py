"""Static probes (USDT): a uprobe at each of their places, and what libbpf's usdt.bpf.h asks about arguments.

Programs that take arguments by bpf_usdt_arg() look in the map __bpf_usdt_specs for where these are.  Which entry is
theirs they are told by the cookie of the uprobe or, where there are no cookies (before Linux 5.15), by the map
__bpf_usdt_ip_to_spec_id, from addresses.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from tracebee.errors import AttachError, FormatError, NotSupportedError, TracebeeError
from tracebee.kernel.links import Link, uprobe
from tracebee.spec.objects import Uprobe, UsdtSites

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.host.usdt import UsdtArgument
    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

SPECS = "__bpf_usdt_specs"
IDS_BY_ADDRESS = "__bpf_usdt_ip_to_spec_id"

# enum __bpf_usdt_arg_type
CONST, REG, REG_DEREF, SIB = range(4)

MAX_ARGUMENTS = 12
"""BPF_USDT_MAX_ARG_CNT."""


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """A uprobe a place, all in one Link.  Raises AttachError."""
    place = probe.attach
    assert isinstance(place, UsdtSites)
    cookies = [probe.cookie] * len(place.sites)
    has_cookies = context.features.has("get_attach_cookie")
    if SPECS in context.maps:
        cookies = [describe(probe, arguments, context) for _, _, arguments in place.sites]
        if not has_cookies:
            _tell_addresses(probe, place, cookies, context)
    made: list[Link] = []
    try:
        for (offset, semaphore, _), cookie in zip(place.sites, cookies, strict=True):
            one = probe.replaced(
                attach=Uprobe(place.path, offset, False, semaphore), cookie=cookie if has_cookies else 0
            )
            made.append(uprobe.attach(program, one, context))
    except TracebeeError:
        for link in made:
            link.close()
        raise
    return Link([fd for link in made for fd in link.fds], links=[fd for link in made for fd in link.links])


def describe(probe: ProbeSpec, arguments: str, context: Context) -> int:
    """Put an entry about arguments into the map, unless there is the same; its number."""
    from tracebee.btf.values import value_codec
    from tracebee.host.usdt import parse_arguments

    table = context.maps[SPECS]
    btf = context.types()
    if btf is None or not table.spec.value_type:
        raise AttachError(probe.name, f"the object's map {SPECS} has no type", "compile it with -g")
    codec = value_codec(btf, table.spec.value_type, table.spec.value_size)
    try:
        found = parse_arguments(arguments, context.machine)
        value = codec.decode(bytes(table.spec.value_size))
        fill_spec(value, found, context.registers, probe.cookie)
    except (FormatError, NotSupportedError) as error:
        raise AttachError(probe.name, f"its arguments cannot be told to the program: {error}") from error
    except KeyError as error:
        raise AttachError(
            probe.name,
            f"the object's map {SPECS} is not that of libbpf's usdt.bpf.h: it has no {error.args[0]}",
        ) from error
    wanted = codec.encode(value)
    for number in range(table.spec.max_entries):
        key = struct.pack("=I", number)
        there = table.get(key)
        if there == wanted:
            return number
        if there is None or not any(there):
            table.put(key, wanted)
            return number
    raise AttachError(
        probe.name,
        f"the object's map {SPECS} is full: {table.spec.max_entries} different kinds of arguments",
        "define BPF_USDT_MAX_SPEC_CNT as more before including usdt.bpf.h",
    )


def fill_spec(
    value: dict[str, Any], arguments: Sequence[UsdtArgument], registers: Mapping[str, int], cookie: int
) -> None:
    """Set a struct __bpf_usdt_spec, decoded, for arguments.

    Raises NotSupportedError for an argument that the structure cannot describe, KeyError for a member that it
    lacks.
    """
    if len(arguments) > min(MAX_ARGUMENTS, len(value["args"])):
        raise NotSupportedError(f"a static probe with {len(arguments)} arguments")
    value["arg_cnt"] = len(arguments)
    value["usdt_cookie"] = cookie
    for one, argument in zip(value["args"], arguments, strict=False):
        _fill_argument(one, argument, registers)


def _fill_argument(one: dict[str, Any], argument: UsdtArgument, registers: Mapping[str, int]) -> None:
    if argument.size > 8 or argument.is_float or argument.segment or argument.shift:
        raise NotSupportedError(f"an argument at {argument.text} of {argument.size} bytes")
    if argument.symbol or (argument.register and argument.register not in registers):
        raise NotSupportedError(f"an argument at {argument.text}")
    one["arg_signed"] = argument.signed
    one["arg_bitshift"] = 64 - 8 * argument.size
    one["val_off"] = argument.offset & 0xFFFF_FFFF_FFFF_FFFF
    if argument.kind == "const":
        one["arg_type"] = CONST
        return
    if not argument.register:
        raise NotSupportedError(f"an argument at {argument.text}")
    one["reg_off"] = registers[argument.register]
    one["arg_type"] = REG if argument.kind == "reg" else REG_DEREF
    if argument.index:
        if "idx_reg_off" not in one or argument.extend or argument.index not in registers:
            raise NotSupportedError(
                f"an argument at {argument.text}", hint="usdt.bpf.h of libbpf 1.7 and later knows of indexes"
            )
        one["arg_type"] = SIB
        one["idx_reg_off"] = registers[argument.index]
        one["scale_bitshift"] = argument.scale.bit_length() - 1


def _tell_addresses(probe: ProbeSpec, place: UsdtSites, numbers: Sequence[int], context: Context) -> None:
    """Before cookies: by the addresses at which the process has the file."""
    from tracebee.host.procmaps import read_maps

    table = context.maps.get(IDS_BY_ADDRESS)
    if table is None or not context.pid:
        raise AttachError(
            probe.name,
            "before Linux 5.15 arguments of static probes can only be told of one process",
            "say which process (-p)",
        )
    parts = [one for one in read_maps(context.pid) if one.is_executable and one.path == place.path]
    for (offset, _, _), number in zip(place.sites, numbers, strict=True):
        for part in parts:
            if part.offset <= offset < part.offset + part.end - part.start:
                key = struct.pack("=Q", part.start + offset - part.offset)
                table.put(key, struct.pack("=I", number))
