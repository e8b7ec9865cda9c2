"""Pointers that became numbers: moved packets, overwritten or half-written stack slots, negations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.operations import is_unary
from tracebee.explain.rules.nullchecks import NULLABLE
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule

if TYPE_CHECKING:
    import re

    from tracebee.explain.case import Case
    from tracebee.explain.history import Origin

PACKET_MOVERS = {
    "bpf_skb_store_bytes",
    "bpf_skb_pull_data",
    "bpf_skb_change_proto",
    "bpf_skb_change_tail",
    "bpf_skb_change_head",
    "bpf_skb_adjust_room",
    "bpf_skb_vlan_push",
    "bpf_skb_vlan_pop",
    "bpf_l3_csum_replace",
    "bpf_l4_csum_replace",
    "bpf_clone_redirect",
    "bpf_xdp_adjust_head",
    "bpf_xdp_adjust_tail",
    "bpf_xdp_adjust_meta",
    "bpf_msg_pull_data",
    "bpf_msg_push_data",
    "bpf_msg_pop_data",
    "bpf_lwt_push_encap",
    "bpf_lwt_seg6_store_bytes",
    "bpf_lwt_seg6_adjust_srh",
    "bpf_lwt_seg6_action",
    "bpf_sk_skb_pull_data",
    "bpf_sk_skb_change_tail",
    "bpf_sk_skb_change_head",
    "bpf_sk_skb_adjust_room",
    "bpf_store_hdr_opt",
    "bpf_reserve_hdr_opt",
}
"""Helpers after which all packet pointers are void (bpf_helper_changes_pkt_data in net/core/filter.c)."""

SKB_POINTERS = {76: "data", 80: "data_end", 140: "data_meta"}
XDP_POINTERS = {0: "data", 4: "data_end", 8: "data_meta"}
MSG_POINTERS = {0: "data", 8: "data_end"}


def packet_field(case: Case, origin: Origin) -> str:
    """The field with a packet pointer that a load from the context reads, or empty."""
    if origin.kind != "context" or origin.position is None:
        return ""
    after = case.path.insns[origin.position].after()
    target = case.path.operation(origin.position).target
    known = after.registers.get(target) if target is not None else None
    if known is not None:
        return {"pkt": "data", "pkt_end": "data_end", "pkt_meta": "data_meta"}.get(known.kind, "")
    section = case.facts.section
    if not section and case.path.operation(origin.position).size == 4:
        # The context's pointers are the fields of 32 bits that turn into pointers.
        return SKB_POINTERS.get(origin.offset, "") or XDP_POINTERS.get(origin.offset, "")
    if section.startswith("xdp"):
        return XDP_POINTERS.get(origin.offset, "")
    if section.startswith("sk_msg"):
        return MSG_POINTERS.get(origin.offset, "")
    if section.startswith(("tc", "classifier", "action", "lwt", "sk_skb", "cgroup_skb", "cgroup/skb")):
        return SKB_POINTERS.get(origin.offset, "")
    return ""


def is_pointer_store(case: Case, position: int) -> bool:
    """Whether the store at a position saves a pointer."""
    operation = case.path.operation(position)
    if operation.source is None or operation.size != 8:
        return False
    known = case.path.value(position, operation.source)
    if known is not None:
        return known.is_pointer()
    origin = case.path.trace(position, operation.source)
    return (
        (origin.kind == "context" and origin.name == "pointer")
        or origin.kind == "address"
        or (origin.kind == "call" and origin.name in NULLABLE)
        or bool(packet_field(case, origin))
    )


def perhaps_stale(case: Case, origin: Origin) -> Finding | None:
    """A register that outlives calls is a number in a program on packets, and the log's start is missing."""
    if not case.is_hidden(origin) or not 6 <= origin.register <= 9:
        return None
    if not case.facts.section.startswith(("xdp", "tc", "classifier", "action")):
        return None
    return Finding(
        "packet-pointer-stale",
        f"R{origin.register} is used as a pointer, but is a plain number, and the part of the log that would say "
        f"why is missing. In a program on packets it is most likely a stale packet pointer: a helper that may "
        f"move the packet invalidates all pointers into it.",
        "after such a helper read data and data_end from the context again and compare again; load with a "
        "larger log buffer to see the whole path",
        LIKELY,
        False,
        story=case.story(origin),
        others=("use-after-release", "direct-deref", "spill-corruption"),
    )


def stale_packet(case: Case, register: int, origin: Origin) -> Finding | None:
    """The packet may have moved since the pointer was read."""
    field = packet_field(case, origin)
    if not field or origin.position is None:
        return None
    calls = case.path.calls_between(origin.position, case.end)
    mover = next(((at, name) for at, name in reversed(calls) if name in PACKET_MOVERS), None)
    if mover is None:
        mover = next(((at, name) for at, name in reversed(calls) if not name), None)
    if mover is None:
        return None
    position, name = mover
    name = name or "the called function"
    variable = case.variable(origin.position)
    who = f"`{variable}` (R{register})" if variable else f"R{register}"
    return Finding(
        "packet-pointer-stale",
        f"{who} is a stale packet pointer: {name} may move the packet, which invalidates all pointers into "
        f"it that were "
        f"read and compared before the call.",
        f"after {name}, read data and data_end from the context again and compare again before the access",
        story=(
            *case.story(origin)[:-1],
            case.step(position, f"{name}: packet pointers are invalid from here on"),
            case.step(case.end, "used here"),
        ),
        fix=(case.place(position), case.place(case.end)),
        evidence=(f"R{register} was loaded from the context's {field} before {name}",),
    )


def damaged_spill(case: Case, register: int, origin: Origin) -> Finding | None:
    """The saved pointer's slot on the stack was overwritten."""
    if origin.kind != "stored" or origin.position is None or origin.slot is None:
        return None
    earlier = case.path.writer(origin.position, origin.slot, 8)
    if earlier is None and case.start_missing:
        return half_written(case, register, origin)
    if earlier is None or case.path.operation(earlier).kind != "store" or not is_pointer_store(case, earlier):
        return None
    by = origin.name or "the store"
    return Finding(
        "spill-corruption",
        f"R{register} was loaded from stack slot fp{origin.slot}, where a pointer had been saved (spilled), "
        f"but {by} "
        f"overwrote part of the slot since, so it is only a number and no pointer any more.",
        "keep the saved pointer in a stack slot of its own and do not write to it (a buffer that is too "
        "small next to "
        "it?), or take the pointer from its first place again",
        story=(
            case.step(earlier, f"the pointer is saved at fp{origin.slot}"),
            case.step(origin.position, "the slot is overwritten: its type is lost"),
            *[case.step(at, case.path.insns[at].text) for at in reversed(origin.steps[:1])],
            case.step(case.end, "used as a pointer"),
        ),
        fix=(case.place(origin.position),),
        evidence=("a pointer was stored in the slot before",),
        others=("direct-deref",),
    )


def half_written(case: Case, register: int, origin: Origin) -> Finding | None:
    """A whole slot is loaded and used as a pointer, of which only a part was written in what the log shows."""
    if origin.position is None or not origin.steps:
        return None
    store = case.path.operation(origin.position)
    load = case.path.operation(origin.steps[-1])
    if store.kind not in ("store", "atomic") or load.size != 8 or store.size >= 8:
        return None
    return Finding(
        "spill-corruption",
        f"R{register} was loaded from stack slot fp{origin.slot} to be used as a pointer, but {store.size} bytes "
        f"of the slot were overwritten before: a pointer that was saved (spilled) there is only a number now.",
        "keep the saved pointer in a stack slot of its own and do not write to it",
        LIKELY,
        False,
        story=(
            case.step(origin.position, f"{store.size} bytes of the slot are overwritten"),
            case.step(case.end, "used as a pointer"),
        ),
        fix=(case.place(origin.position),),
        others=("direct-deref",),
    )


def turned_number(case: Case, register: int, origin: Origin) -> Finding | None:
    """A negation or byte swap makes a plain number of a pointer, without a word of the verifier."""
    pointer = (origin.kind == "call" and origin.name in NULLABLE) or (
        origin.kind == "context" and origin.name == "pointer"
    )
    if not pointer or not any(is_unary(change) for change in origin.changes):
        return None
    source = f"the pointer from {origin.name}" if origin.kind == "call" else "the context pointer"
    return Finding(
        "pointer-arithmetic",
        f"R{register} was {source}, but it was negated or byte-swapped on the way: after such arithmetic on a "
        f"pointer it is a plain number.",
        "keep the pointer itself, and do such operations on numbers only",
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        others=("direct-deref",),
    )


def spilled(case: Case, found: re.Match[str]) -> Finding | None:
    """Pointers saved on the stack in part, or damaged."""
    text = found[0]
    if "fill" in text:
        sentence = (
            "Only a part of a pointer that was saved (spilled) on the stack is loaded back: the slot holds 8 "
            "bytes."
        )
        advice = (
            "load the saved pointer with a full 8-byte read: use a pointer or a 64-bit variable of its own"
        )
    elif "spill" in text and "size" in text:
        sentence = (
            "Only a part of a pointer is saved on the stack: a saved (spilled) pointer takes 8 bytes, "
            "aligned to 8."
        )
        advice = "store the whole pointer into an aligned 8-byte stack slot"
    else:
        sentence = (
            "A pointer that was saved (spilled) on the stack is overwritten in part: that would corrupt it, "
            "and tell "
            "an unprivileged program about kernel addresses."
        )
        advice = (
            "keep saved pointers and other data in different stack slots; do not write single bytes into one"
        )
    return Finding("spill-corruption", sentence, advice)


RULES: tuple[Rule, ...] = (
    rule(
        "spill-corruption",
        r"attempt to corrupt spilled pointer|invalid size of register (?:fill|spill)"
        r"|corrupted spill memory",
        spilled,
        "4.15..7.3",
    ),
)
