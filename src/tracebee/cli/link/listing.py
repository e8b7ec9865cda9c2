"""``tracebee link list`` and ``tracebee link show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.cli import facts as say
from tracebee.cli.link.places import perf_config, perf_type, place_of
from tracebee.cli.objectviews import View, run_view
from tracebee.kernel.info.link import (
    KPROBE_MULTI_RETURN,
    UPROBE_MULTI_RETURN,
    CgroupTarget,
    InterfaceTarget,
    IterTarget,
    KprobeMultiTarget,
    NetfilterTarget,
    NetnsTarget,
    PerfEventTarget,
    RawTracepointTarget,
    SockmapTarget,
    StructOpsTarget,
    TracingTarget,
    UprobeMultiTarget,
    XdpTarget,
)
from tracebee.render.tables import Column

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.host.kallsyms import KernelSymbols
    from tracebee.kernel.info import LinkInfo
    from tracebee.kernel.inventory import Inventory


def run_list(words: Sequence[str]) -> int:
    """A table of links, all or those selected.  Raises TracebeeError."""
    return run_view(VIEW, words, blocks=False)


def run_show(words: Sequence[str]) -> int:
    """Links with all that is known of them.  Raises TracebeeError."""
    return run_view(VIEW, words, blocks=True)


_COLUMNS = (
    Column("ID", right=True),
    Column("TYPE"),
    Column("PROGRAM", free=True),
    Column("AT", free=True),
    Column("OWNERS", free=True, end=True),
    Column("PINNED", free=True, end=True),
)


def _row(info: LinkInfo, inventory: Inventory) -> list[str]:
    return [
        str(info.id),
        say.word(info.type),
        _program(info, inventory),
        place_of(info, inventory),
        say.owners(inventory.owners("link", info.id)),
        " ".join(inventory.pinned("link", info.id)),
    ]


def _without_a_link(inventory: Inventory) -> list[list[str]]:
    """Programs that were attached as before there were links; they have no id as such."""
    rows = [
        [
            "-",
            "none",
            _named(one.event.prog_id, inventory),
            f"{say.word(one.event.kind)} {one.event.name}",
            say.owners([one.holder]),
            "",
        ]
        for one in inventory.perf_attachments
    ]
    rows += [
        ["-", "none", _named(one.prog_id, inventory), say.cgroup_place(one.path, one.attach_type), "", ""]
        for one in inventory.cgroup_attachments
    ]
    return rows


def _program(info: LinkInfo, inventory: Inventory) -> str:
    return _named(info.prog_id, inventory) if info.prog_id else ""


def _named(prog_id: int, inventory: Inventory) -> str:
    program = inventory.programs.get(prog_id)
    return say.titled(prog_id, program.name if program is not None else "")


def _title(info: LinkInfo, inventory: Inventory) -> str:
    return f"{info.id}: {say.word(info.type)} link"


def _facts(info: LinkInfo, inventory: Inventory) -> list[tuple[str, str]]:
    return [
        ("at", place_of(info, inventory)),
        ("attach type", say.word(info.attach_type) if info.attach_type else ""),
        ("program", say.programs_by_id([info.prog_id], inventory) if info.prog_id else ""),
        *_more(info.target),
        ("owners", say.owners(inventory.owners("link", info.id))),
        ("pinned", "\n".join(inventory.pinned("link", info.id))),
    ]


def _more(target: object) -> list[tuple[str, str]]:
    """Facts that only some kinds have."""
    facts: list[tuple[str, str]] = []
    match target:
        case KprobeMultiTarget(missed=missed) | PerfEventTarget(missed=missed):
            facts.append(("missed", f"{missed} times" if missed else ""))
        case CgroupTarget(cgroup_id):
            facts.append(("cgroup", f"id {cgroup_id}"))
        case TracingTarget(target_obj_id=owner, target_btf_id=type_id):
            facts.append(("target", f"type {type_id} of object {owner}" if type_id else ""))
    cookie = getattr(target, "cookie", 0)
    facts.append(("cookie", f"{cookie} ({cookie:#x})" if cookie else ""))
    functions = [_place_line(place) for place in places_record(target)]
    shown = functions[:_MOST_PLACES]
    if len(functions) > len(shown):
        shown.append(f"… and {len(functions) - len(shown)} more (-j shows all)")
    facts.append(("places", "\n".join(shown)))
    return facts


_MOST_PLACES = 20


def _place_line(place: dict[str, Any]) -> str:
    """A place of a link of many."""
    if "func" in place:
        module = f" [{place['module']}]" if place["module"] else ""
        text = f"{place['func']}{module}" if place["func"] else f"{place['addr']:#x}"
    else:
        text = f"offset {place['offset']:#x}"
        if place["ref_ctr_offset"]:
            text += f", counter at {place['ref_ctr_offset']:#x}"
    return text + (f", cookie {place['cookie']}" if place["cookie"] else "")


def places_record(target: object) -> list[dict[str, Any]]:
    """The member "funcs" of links that stand for many places, as far as the kernel tells them."""
    match target:
        case KprobeMultiTarget(addrs=addrs, cookies=cookies) if any(addrs):
            symbols = _symbols()
            places = []
            for index, addr in enumerate(addrs):
                symbol = symbols.resolve(addr) if symbols is not None else None
                places.append(
                    {
                        "addr": addr,
                        "func": symbol.name if symbol is not None else "",
                        "module": (symbol.module or None) if symbol is not None else None,
                        "cookie": cookies[index] if cookies else 0,
                    }
                )
            return places
        case UprobeMultiTarget(offsets=offsets, ref_ctr_offsets=counters, cookies=cookies):
            return [
                {
                    "offset": offset,
                    "ref_ctr_offset": counters[index] if counters else 0,
                    "cookie": cookies[index] if cookies else 0,
                }
                for index, offset in enumerate(offsets)
            ]
    return []


_read: list[KernelSymbols | None] = []


def _symbols() -> KernelSymbols | None:
    """The kernel's symbols, read once; None where they are not ours to read."""
    from tracebee.host.kallsyms import KernelSymbols

    if not _read:
        try:
            _read.append(KernelSymbols.read())
        except OSError:
            _read.append(None)
    return _read[0]


# ---------------------------------------------------------------------- JSON


def link_record(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    """A link in JSON: the members of ``bpftool -j link``, and behind them what it does not tell."""
    record: dict[str, Any] = {"id": info.id, "type": say.json_word(info.type), "prog_id": info.prog_id}
    if info.target is not None:
        record |= _RECORDS[type(info.target)](info, inventory)
    record |= say.json_whereabouts("link", info.id, inventory)
    program = inventory.programs.get(info.prog_id)
    if program is not None and program.name:
        record["prog_name"] = program.name
    record["place"] = place_of(info, inventory)
    return record


def _tracing(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    assert isinstance(info.target, TracingTarget)
    program = inventory.programs.get(info.prog_id)
    record: dict[str, Any] = {"prog_type": say.json_word(program.type)} if program is not None else {}
    record["attach_type"] = say.json_word(info.target.attach_type)
    record |= {"target_obj_id": info.target.target_obj_id, "target_btf_id": info.target.target_btf_id}
    return record | _cookie(info.target.cookie)


def _raw_tracepoint(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    assert isinstance(info.target, RawTracepointTarget)
    return {"tp_name": info.target.tp_name} | _cookie(info.target.cookie)


def _cookie(cookie: int) -> dict[str, Any]:
    return {"cookie": cookie} if cookie else {}


def _cgroup(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    assert isinstance(info.target, CgroupTarget)
    return {"cgroup_id": info.target.cgroup_id, "attach_type": say.json_word(info.target.attach_type)}


def _iter(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    target = info.target
    assert isinstance(target, IterTarget)
    record: dict[str, Any] = {"target_name": target.target_name}
    if target.map_id:
        record["map_id"] = target.map_id
    if target.tid:
        record["tid"] = target.tid
    elif target.pid:
        record["pid"] = target.pid
    if target.order:
        record |= {"cgroup_id": target.cgroup_id, "order": target.order.lower()}
    return record


def _netns(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    assert isinstance(info.target, NetnsTarget)
    return {"netns_ino": info.target.netns_ino, "attach_type": say.json_word(info.target.attach_type)}


def _interface(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    assert isinstance(info.target, XdpTarget | InterfaceTarget)
    name = say.interface_name(info.target.ifindex) or "(unknown)"
    record: dict[str, Any] = {"devname": name, "ifindex": info.target.ifindex}
    if info.attach_type:
        record["attach_type"] = say.json_word(info.attach_type)
    return record


def _struct_ops(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    assert isinstance(info.target, StructOpsTarget)
    return {"map_id": info.target.map_id}


def _netfilter(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    target = info.target
    assert isinstance(target, NetfilterTarget)
    return {"pf": target.pf, "hook": target.hooknum, "prio": target.priority, "flags": target.flags}


def _sockmap(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    assert isinstance(info.target, SockmapTarget)
    return {"map_id": info.target.map_id, "attach_type": say.json_word(info.target.attach_type)}


def _kprobe_multi(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    target = info.target
    assert isinstance(target, KprobeMultiTarget)
    return {
        "retprobe": bool(target.flags & KPROBE_MULTI_RETURN),
        "func_count": target.count,
        "missed": target.missed,
        "funcs": places_record(target),
    }


def _uprobe_multi(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    target = info.target
    assert isinstance(target, UprobeMultiTarget)
    return {
        "retprobe": bool(target.flags & UPROBE_MULTI_RETURN),
        "path": target.path,
        "func_count": target.count,
        "pid": target.pid,
        "funcs": places_record(target),
    }


def _perf_event(info: LinkInfo, inventory: Inventory) -> dict[str, Any]:
    target = info.target
    assert isinstance(target, PerfEventTarget)
    match target.event:
        case "KPROBE" | "KRETPROBE":
            return {
                "retprobe": target.event == "KRETPROBE",
                "addr": target.address,
                "func": target.name,
                "offset": target.offset,
                "missed": target.missed,
                "cookie": target.cookie,
            }
        case "UPROBE" | "URETPROBE":
            return {
                "retprobe": target.event == "URETPROBE",
                "file": target.name,
                "offset": target.offset,
                "cookie": target.cookie,
                "ref_ctr_offset": target.ref_ctr_offset,
            }
        case "TRACEPOINT":
            return {"tracepoint": target.name, "cookie": target.cookie}
        case "EVENT":
            config = perf_config(target.type, target.config)
            return {"event_type": perf_type(target.type), "event_config": config, "cookie": target.cookie}
    return {}


_RECORDS: dict[type, Callable[[LinkInfo, Inventory], dict[str, Any]]] = {
    RawTracepointTarget: _raw_tracepoint,
    TracingTarget: _tracing,
    CgroupTarget: _cgroup,
    IterTarget: _iter,
    NetnsTarget: _netns,
    XdpTarget: _interface,
    InterfaceTarget: _interface,
    StructOpsTarget: _struct_ops,
    NetfilterTarget: _netfilter,
    KprobeMultiTarget: _kprobe_multi,
    UprobeMultiTarget: _uprobe_multi,
    PerfEventTarget: _perf_event,
    SockmapTarget: _sockmap,
}

VIEW = View("link", _COLUMNS, _row, _title, _facts, link_record, _without_a_link)
