"""``tracebee prog list`` and ``tracebee prog show``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tracebee.cli import facts as say
from tracebee.cli.link.places import place_of, type_name
from tracebee.cli.objectviews import View, run_view
from tracebee.host.identity import boot_time_ns, user_name
from tracebee.kernel.metadata import read_metadata
from tracebee.render.tables import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.kernel.info import ProgramInfo
    from tracebee.kernel.inventory import Inventory


def run_list(words: Sequence[str]) -> int:
    """A table of programs, all or those selected.  Raises TracebeeError."""
    return run_view(VIEW, words, blocks=False)


def run_show(words: Sequence[str]) -> int:
    """Programs with all that is known of them.  Raises TracebeeError."""
    return run_view(VIEW, words, blocks=True)


_COLUMNS = (
    Column("ID", right=True),
    Column("TYPE"),
    Column("NAME", free=True),
    Column("TAG", rank=3),
    Column("AGE", right=True, rank=1),
    Column("RUNS", right=True, rank=1),
    Column("EACH", right=True, rank=2),
    Column("MAPS", free=True),
    Column("AT", free=True),
    Column("OWNERS", free=True, end=True),
    Column("PINNED", free=True, end=True),
)


def loaded_at(info: ProgramInfo) -> float:
    """When a program was loaded, in seconds since 1970."""
    return (boot_time_ns() + info.load_time) / 1e9


def _row(info: ProgramInfo, inventory: Inventory) -> list[str]:
    return [
        str(info.id),
        say.word(info.type),
        info.name,
        info.tag,
        say.age(time.time() - loaded_at(info)) if info.load_time else "",
        str(info.run_cnt) if info.run_cnt else "",
        say.duration(info.run_time_ns / info.run_cnt) if info.run_cnt else "",
        say.ids(info.map_ids),
        ", ".join(places_of_program(info, inventory)),
        say.owners(inventory.owners("prog", info.id)),
        " ".join(inventory.pinned("prog", info.id)),
    ]


def places_of_program(info: ProgramInfo, inventory: Inventory) -> list[str]:
    """Where a program hangs, in words."""
    places = [place_of(inventory.links[link], inventory) for link in inventory.links_of_program(info.id)]
    places += [
        f"{say.word(one.event.kind)} {one.event.name}"
        for one in inventory.perf_attachments
        if one.event.prog_id == info.id
    ]
    places += [
        say.cgroup_place(one.path, one.attach_type)
        for one in inventory.cgroup_attachments
        if one.prog_id == info.id
    ]
    places += [f"in map {array} for tail calls" for array in inventory.arrays_of_program(info.id)]
    return list(dict.fromkeys(places))


def _title(info: ProgramInfo, inventory: Inventory) -> str:
    return f"{info.id}: {say.word(info.type)} program {info.name}".rstrip()


def _facts(info: ProgramInfo, inventory: Inventory) -> list[tuple[str, str]]:
    same = inventory.same_code_as(info.id)
    return [
        ("tag", info.tag + (f" (the same code as {say.ids(same)})" if same else "")),
        ("name", f"cut to {info.kernel_name} by the kernel" if info.name != info.kernel_name else ""),
        ("license", "compatible with the GPL" if info.gpl_compatible else "not compatible with the GPL"),
        ("loaded", _loaded(info)),
        ("code", _code(info)),
        (
            "verifier",
            f"walked {say.plural(info.verified_insns, 'instruction')}" if info.verified_insns else "",
        ),
        ("memory", say.size(info.memlock)),
        ("ran", _ran(info)),
        (
            "missed",
            f"{info.recursion_misses} times, as it was running already" if info.recursion_misses else "",
        ),
        ("made for", _made_for(info)),
        ("device", say.device(info.ifindex, info.netns_dev, info.netns_ino)),
        ("maps", say.maps_by_id(info.map_ids, inventory)),
        ("in arrays", say.maps_by_id(inventory.arrays_of_program(info.id), inventory)),
        ("links", _links(info, inventory)),
        ("perf events", _perf_events(info, inventory)),
        ("cgroups", _cgroups(info, inventory)),
        ("metadata", "\n".join(f"{name} = {value}" for name, value in _metadata(info, inventory))),
        ("BTF", str(info.btf_id) if info.btf_id else ""),
        ("owners", say.owners(inventory.owners("prog", info.id))),
        ("pinned", "\n".join(inventory.pinned("prog", info.id))),
    ]


def _metadata(info: ProgramInfo, inventory: Inventory) -> Iterable[tuple[str, Any]]:
    return read_metadata(info, inventory.maps).items()


def _loaded(info: ProgramInfo) -> str:
    who = user_name(info.created_by_uid)
    by = f"by {who} (uid {info.created_by_uid})" if not who.isdigit() else f"by uid {who}"
    if not info.load_time:
        return ""
    when = loaded_at(info)
    return f"{say.date(when)}, {say.age(time.time() - when)} ago, {by}"


def _code(info: ProgramInfo) -> str:
    slots = say.plural(info.xlated_prog_len // 8, "instruction")
    parts = [f"{info.xlated_prog_len} bytes ({slots})"] if info.xlated_prog_len else []
    if info.jited_prog_len:
        functions = f" in {info.nr_jited_ksyms} functions" if info.nr_jited_ksyms > 1 else ""
        parts.append(f"{info.jited_prog_len} bytes of machine code{functions}")
    else:
        parts.append("not compiled to machine code")
    return ", ".join(parts)


def _ran(info: ProgramInfo) -> str:
    if not info.run_cnt:
        return "not counted (`sysctl kernel.bpf_stats_enabled=1` has the kernel count)"
    each = say.duration(info.run_time_ns / info.run_cnt)
    return f"{info.run_cnt} times, {say.duration(info.run_time_ns)} in all, {each} each"


def _made_for(info: ProgramInfo) -> str:
    if not info.attach_btf_id:
        return ""
    return type_name(info.attach_btf_obj_id, info.attach_btf_id)


def _links(info: ProgramInfo, inventory: Inventory) -> str:
    return "\n".join(
        f"{link} {place_of(inventory.links[link], inventory)}" for link in inventory.links_of_program(info.id)
    )


def _perf_events(info: ProgramInfo, inventory: Inventory) -> str:
    return "\n".join(
        f"{say.word(one.event.kind)} {one.event.name}, descriptor {one.fd} of {one.holder.comm}({one.holder.pid})"
        for one in inventory.perf_attachments
        if one.event.prog_id == info.id
    )


def _cgroups(info: ProgramInfo, inventory: Inventory) -> str:
    return "\n".join(
        f"{one.path} {say.word(one.attach_type).removeprefix('cgroup_')}, without a link"
        for one in inventory.cgroup_attachments
        if one.prog_id == info.id
    )


def program_record(info: ProgramInfo, inventory: Inventory) -> dict[str, Any]:
    """A program in JSON: the members of ``bpftool -j prog``, and behind them what it does not tell."""
    record: dict[str, Any] = {"id": info.id, "type": say.json_word(info.type)}
    if info.name:
        record["name"] = info.name
    record |= {"tag": info.tag, "gpl_compatible": info.gpl_compatible}
    if info.run_time_ns:
        record |= {"run_time_ns": info.run_time_ns, "run_cnt": info.run_cnt}
    if info.recursion_misses:
        record["recursion_misses"] = info.recursion_misses
    record |= say.json_device(info.ifindex, info.netns_dev, info.netns_ino)
    if info.load_time:
        record |= {"loaded_at": int(loaded_at(info)), "uid": info.created_by_uid}
    record |= {"bytes_xlated": info.xlated_prog_len, "jited": bool(info.jited_prog_len)}
    if info.jited_prog_len:
        record["bytes_jited"] = info.jited_prog_len
    if info.memlock is not None:
        record["bytes_memlock"] = info.memlock
    if info.map_ids:
        record["map_ids"] = list(info.map_ids)
    if info.btf_id:
        record["btf_id"] = info.btf_id
    record |= say.json_whereabouts("prog", info.id, inventory)
    metadata = read_metadata(info, inventory.maps)
    if metadata:
        record["metadata"] = metadata
    if info.verified_insns:
        record["verified_insns"] = info.verified_insns
    if info.attach_btf_id:
        record |= {"attach_btf_obj_id": info.attach_btf_obj_id, "attach_btf_id": info.attach_btf_id}
        record["attach_to"] = type_name(info.attach_btf_obj_id, info.attach_btf_id)
    record |= say.json_lists(
        link_ids=inventory.links_of_program(info.id),
        prog_array_ids=inventory.arrays_of_program(info.id),
        same_code_as=inventory.same_code_as(info.id),
    )
    events = [
        {
            "pid": one.holder.pid,
            "fd": one.fd,
            "fd_type": say.json_word(one.event.kind),
            "name": one.event.name,
            "offset": one.event.offset,
            "addr": one.event.address,
        }
        for one in inventory.perf_attachments
        if one.event.prog_id == info.id
    ]
    groups = [
        {"path": one.path, "attach_type": say.json_word(one.attach_type)}
        for one in inventory.cgroup_attachments
        if one.prog_id == info.id
    ]
    record |= {"perf_events": events} if events else {}
    return record | ({"cgroups": groups} if groups else {})


VIEW = View("prog", _COLUMNS, _row, _title, _facts, program_record)
