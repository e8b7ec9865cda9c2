"""Messages about the type of a register: numbers used as pointers, pointers that may be NULL, wrong arguments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.explain.case import ACQUIRERS, ORDINALS, RELEASERS, describe, register_of
from tracebee.explain.explanation import Edit, SourceLine, Step
from tracebee.explain.rules.record import LIKELY, WEAK, Finding, Rule, rule
from tracebee.insn.helpers import HelperArg
from tracebee.insn.helpers import describe as describe_helper

if TYPE_CHECKING:
    from tracebee.explain.case import Case
    from tracebee.explain.history import Origin
    from tracebee.explain.operations import Operation

NULLABLE = {
    "bpf_map_lookup_elem": "map value",
    "bpf_map_lookup_percpu_elem": "map value",
    "bpf_ringbuf_reserve": "ring buffer record",
    "bpf_sk_lookup_tcp": "socket",
    "bpf_sk_lookup_udp": "socket",
    "bpf_skc_lookup_tcp": "socket",
    "bpf_sk_fullsock": "socket",
    "bpf_tcp_sock": "socket",
    "bpf_get_listener_sock": "socket",
    "bpf_skc_to_tcp_sock": "socket",
    "bpf_skc_to_tcp6_sock": "socket",
    "bpf_skc_to_udp6_sock": "socket",
    "bpf_skc_to_tcp_timewait_sock": "socket",
    "bpf_skc_to_tcp_request_sock": "socket",
    "bpf_skc_to_unix_sock": "socket",
    "bpf_skc_to_mptcp_sock": "socket",
    "bpf_sock_from_file": "socket",
    "bpf_sk_storage_get": "local storage",
    "bpf_task_storage_get": "local storage",
    "bpf_inode_storage_get": "local storage",
    "bpf_cgrp_storage_get": "local storage",
    "bpf_per_cpu_ptr": "per-CPU variable",
    "bpf_kptr_xchg": "kernel object",
    "bpf_dynptr_data": "data of the dynptr",
    "bpf_dynptr_slice": "slice of the dynptr",
    "bpf_dynptr_slice_rdwr": "slice of the dynptr",
    "bpf_task_from_pid": "task",
    "bpf_task_from_vpid": "task",
    "bpf_task_acquire": "task",
    "bpf_cgroup_acquire": "cgroup",
    "bpf_cgroup_from_id": "cgroup",
    "bpf_cgroup_ancestor": "cgroup",
    "bpf_cpumask_create": "cpumask",
    "bpf_obj_new_impl": "object",
    "bpf_obj_new": "object",
    "bpf_percpu_obj_new_impl": "object",
    "bpf_rbtree_first": "tree node",
    "bpf_rbtree_remove": "tree node",
    "bpf_list_pop_front": "list node",
    "bpf_list_pop_back": "list node",
    "bpf_get_task_exe_file": "file",
    "bpf_xdp_ct_lookup": "conntrack entry",
    "bpf_skb_ct_lookup": "conntrack entry",
    "bpf_lookup_user_key": "key",
    "bpf_lookup_system_key": "key",
}
"""Functions whose result may be NULL, and what it is otherwise."""

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

CALLER = 96
"""The weight of a line that explains the one before it."""

PAGE = 4096
"""An address below is that of a member behind a NULL pointer."""

READERS = "bpf_probe_read_kernel() or BPF_CORE_READ() (bpf_probe_read_user() for a user address)"

SECTION_SLEEPABLE = re.compile(r"[^/]*\.s(?:/|$)")


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


def null_test(case: Case, name: str, position: int | None) -> tuple[Edit | None, SourceLine | None]:
    """The test as an edit in front of the line that stopped."""
    stop = case.place(case.end)
    if stop is None or not stop.line or case.source is None or not name:
        return None, stop
    text = case.source.whole(stop.line)
    if not re.search(rf"\b{re.escape(name)}\b", text) or not text.rstrip().endswith((";", "{")):
        return None, stop
    if case.place(position) == stop:
        return None, stop
    indent = text[: len(text) - len(text.lstrip())]
    step = "\t" if "\t" in indent or not indent else "    "
    new = (f"{indent}if (!{name})", f"{indent}{step}return 0;", text)
    return Edit((text,), new, stop.file, stop.line), stop


def leaves_cleanly(case: Case, origin: Origin) -> bool:
    """Whether a bare ``return 0`` is a proper way out where the pointer is NULL: nothing else is held."""
    own = 1 if origin.name in ACQUIRERS else 0
    first = max(case.end - 3, 0)
    return all(len(case.path.insns[at].after().references) <= own for at in range(first, case.end))


def null_missing(case: Case, register: int, origin: Origin, into: str = "", kind: str = "") -> Finding:
    """A pointer that may be NULL is dereferenced, or passed to the function `into`."""
    name = case.variable(origin.position) if origin.kind == "call" else ""
    thing = NULLABLE.get(origin.name, "")
    if not thing:
        thing = "map value" if "map_value" in kind else "socket" if "sock" in kind else "pointer"
    map_name = case.map_name(origin.position) if "map_lookup" in origin.name else ""
    of = f" from map {map_name}" if map_name else ""
    who = f"`{name}` (R{register})" if name else f"R{register}"
    call = f"the {thing} that {origin.name} returned{of}" if origin.kind == "call" else f"a {thing}"
    if origin.name == "bpf_ringbuf_reserve":
        call = "the ring buffer (ringbuf) record that bpf_ringbuf_reserve returned"
    use = f"passed to {into}" if into else "used"
    sentence = f"{who}, {call}, may be NULL, and is {use} without a NULL check on this path."
    var = name or "it"
    advice = (
        f"test it for NULL before its first use on every path: if (!{name or 'ptr'}) return 0; and do so on "
        f"the very "
        f"pointer that is used. A test in another branch, or of a copy of {var}, does not count."
    )
    edit, _ = null_test(case, name, origin.position)
    if edit is not None and not leaves_cleanly(case, origin):
        edit = None
    fix = [case.place(origin.position)]
    if origin.position is not None:
        fix.append(case.place(case.end))
    return Finding(
        "null-check-missing",
        sentence,
        advice,
        story=case.story(origin),
        edit=edit,
        fix=tuple(fix),
        evidence=(f"R{register} comes from {origin.name}",) if origin.kind == "call" and origin.name else (),
    )


def may_be_null(case: Case, register: int, kind: str, into: str = "") -> Finding:
    """The type ends in ``_or_null``: who forgot the test depends on where the pointer came from."""
    origin = case.trace(register)
    if case.log.validating and origin.kind in ("argument", "context", "unknown") and origin.position is None:
        function = case.log.validating
        return Finding(
            "global-function",
            f"The global function {function}() uses its pointer argument R{register} without a NULL check: a "
            f"global "
            f"(non-static) function is verified on its own, where any pointer argument may be NULL.",
            f"test the argument for NULL at the start of {function}(), or mark it __arg_nonnull (Linux 6.8), "
            f"or make "
            f"the function static so that it is checked together with its callers",
            story=case.story(origin),
            others=("null-check-missing",),
        )
    typed = kind.startswith(("trusted_ptr_", "ptr_", "rcu_ptr_", "untrusted_ptr_"))
    if typed and origin.kind == "context" and origin.name != "pointer":
        number = origin.offset // 8
        name = case.variable(origin.position)
        return Finding(
            "nullable-tracepoint-argument",
            f"Argument {number} of this tracepoint{f' (`{name}`)' if name else ''} may be NULL, and "
            f"R{register} is "
            f"{'passed to ' + into if into else 'dereferenced'} without a NULL test.",
            f"test the tracepoint argument first: if (!{name or 'arg'}) return 0;",
            story=case.story(origin),
            fix=(case.place(origin.position),),
        )
    if origin.kind == "call" and origin.name.startswith("bpf_iter_") and origin.name.endswith("_next"):
        return iterator_unchecked(case, register, origin)
    if typed and case.is_hidden(origin) and hook_argument(case, register):
        return Finding(
            "nullable-tracepoint-argument",
            f"R{register} is most likely an argument of this tracepoint that may be NULL, and it is "
            f"{'passed to ' + into if into else 'dereferenced'} without a NULL test; the log's start is missing.",
            "test the tracepoint's argument first: if (!arg) return 0;",
            LIKELY,
            False,
            story=case.story(origin),
            others=("null-check-missing",),
        )
    return null_missing(case, register, origin, into, kind)


def hook_argument(case: Case, register: int) -> bool:
    """Whether a typed pointer is likely one of the tracepoint's own: what functions return holds a reference."""
    if not case.facts.section.startswith("tp_btf"):
        return False
    known = case.value(register)
    held = any(case.path.insns[at].after().references for at in range(len(case.path)))
    return known is not None and "ref_obj_id" not in known.attributes and not held


def iterator_unchecked(case: Case, register: int, origin: Origin) -> Finding:
    """The result of an iterator's next function is used without a test."""
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    return Finding(
        "iterator",
        f"{who}, the result of {origin.name}, is used without a NULL check: the iterator returns NULL at its "
        f"end, and "
        f"on that path R{register} is the number 0.",
        f"test the result for NULL and leave the loop then: while ((p = {origin.name}(&it))) {{ ... }}, or "
        f"use bpf_for() "
        f"or bpf_for_each(); destroy the iterator after the loop",
        story=case.story(origin),
        fix=(case.place(origin.position),),
        evidence=(f"R{register} comes from {origin.name}",),
        others=("null-check-missing",),
    )


def released(case: Case, register: int, origin: Origin, into: str = "") -> Finding | None:
    """The object was given back before this use."""
    if origin.kind != "call":
        return None
    # Slices of a dynptr go with it.
    given = case.released_before(origin)
    if given is None and origin.name.startswith("bpf_dynptr_"):
        later = case.path.calls_between(origin.position or 0, case.end)
        given = next(((at, name) for at, name in reversed(later) if name in RELEASERS), None)
    if given is None:
        return None
    position, name = given
    variable = case.variable(origin.position)
    thing = ACQUIRERS.get(origin.name, ("", NULLABLE.get(origin.name, "object")))[1]
    if origin.name.startswith("bpf_ringbuf"):
        thing = "ringbuf record"
    who = f"`{variable}` (R{register})" if variable else f"R{register}"
    verb = "submitted" if "submit" in name else "discarded" if "discard" in name else "released"
    use = f"passed to {into}" if into else "used"
    return Finding(
        "use-after-release",
        f"{who}, the {thing} from {origin.name}, is {use} after {name} gave it back: once it is {verb} it is "
        f"gone, and "
        f"R{register} is a plain number.",
        f"do everything with the {thing} before {name}, and release it once only; copy what is needed "
        f"later into a local variable first",
        story=(
            *case.story(origin)[:-1],
            case.step(position, f"{name}: the {thing} is no longer valid"),
            case.step(case.end, "used here"),
        ),
        fix=(case.place(position), case.place(case.end)),
        evidence=(f"{name} got the same object",),
    )


def perhaps_released(case: Case, register: int, origin: Origin) -> Finding | None:
    """A number goes to a function that takes something back, and the log's start is not there to say why.

    A pointer turns into a number when what it points to is given back; programs hardly release plain numbers.
    """
    if not case.is_hidden(origin) or origin.changes or case.called not in RELEASERS or register != 1:
        return None
    if any(case.path.insns[at].after().references for at in range(max(case.end - 3, 0), case.end)):
        # Something is still held: it may be this, with its pointer lost.
        return None
    again = any(name == case.called for _, name in case.path.calls_between(-1, case.end))
    before = f"{case.called} was called shortly before" if again else "the log's start is missing"
    return Finding(
        "use-after-release",
        f"R1 is passed to {case.called} to be released, but it is a plain number: it was most likely given back "
        f"(released) before on this path, after which it is gone; {before}.",
        "release it once only on each path, and do everything with it before; load with a larger log buffer to "
        "see the whole path",
        LIKELY,
        False,
        story=case.story(origin),
        others=("helper-arg-type",),
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


def is_unary(change: Operation) -> bool:
    """Whether an operation has one operand: a negation or a byte swap."""
    return change.kind == "alu" and change.source is None and change.constant is None


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


def wrong_branch(case: Case, register: int, origin: Origin, into: str = "") -> Finding | None:
    """A pointer that was tested, but the access is on the side where it is NULL."""
    if origin.kind != "call" or origin.name not in NULLABLE:
        return None
    if any(
        change.operator not in ("+", "-") or change.narrow or is_unary(change) for change in origin.changes
    ):
        return None
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    use = f"passed to {into}" if into else "used"
    return Finding(
        "null-check-missing",
        f"{who}, the {NULLABLE[origin.name]} that {origin.name} returned, is {use} on the branch where the "
        f"NULL check "
        f"found that it is NULL: the test is inverted, or it does not leave.",
        f"turn the test around, or return where it is NULL: if (!{name or 'ptr'}) return 0; then use it",
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        evidence=(f"{origin.name} returned it, and it is the number 0 here",),
    )


def folded_null(case: Case, register: int, origin: Origin) -> Finding | None:
    """The compiler saw that the pointer is NULL here, and put the member's offset in its place."""
    if origin.kind != "constant" or origin.constant is None or not 0 <= origin.constant < PAGE:
        return None
    for position in range(case.end - 1, max(case.end - 200, -1), -1):
        step = case.path.operation(position)
        if (
            step.kind != "jump"
            or step.constant != 0
            or step.base is None
            or step.operator not in ("==", "!=")
        ):
            continue
        tested = case.path.trace(position, step.base)
        taken = case.path.insns[position + 1].index != case.path.insns[position].index + 1
        if tested.kind == "call" and tested.name in NULLABLE and taken == (step.operator == "=="):
            finding = wrong_branch(case, register, tested)
            if finding is not None:
                finding.evidence = (
                    f"{tested.name} returned NULL on this path, and the address is {origin.constant}",
                )
            return finding
        if case.is_hidden(tested) and taken == (step.operator == "=="):
            return Finding(
                "null-check-missing",
                f"R{register} is {origin.constant}, on the branch where R{step.base} was tested and is NULL: the "
                f"NULL check is most likely inverted, or does not leave.",
                "turn the test around, or return where the pointer is NULL: if (!ptr) return 0; then use it",
                LIKELY,
                False,
                story=case.story(origin),
                fix=(case.place(position), case.place(case.end)),
                others=("direct-deref",),
            )
    return None


def number_as_pointer(case: Case, register: int) -> Finding:
    """A plain number is dereferenced: why it is one."""
    origin = case.trace(register)
    if origin.kind == "call" and origin.name.startswith("bpf_iter_") and origin.name.endswith("_next"):
        return iterator_unchecked(case, register, origin)
    special = (
        turned_number(case, register, origin)
        or released(case, register, origin)
        or stale_packet(case, register, origin)
        or damaged_spill(case, register, origin)
        or wrong_branch(case, register, origin)
        or folded_null(case, register, origin)
        or perhaps_stale(case, origin)
    )
    if special is not None:
        return special
    return direct(case, register, origin)


def direct(case: Case, register: int, origin: Origin) -> Finding:
    """A number that never was a pointer in the verifier's eyes."""
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    sure, weight = True, 90
    others: tuple[str, ...] = ()
    advice = (
        f"copy the bytes to the stack with {READERS} and use the copy; each further pointer in a chain needs "
        f"the same"
    )
    if case.log.gap or (origin.kind == "unknown" and not case.path.complete):
        sure, weight = False, LIKELY
        others = ("packet-pointer-stale", "use-after-release", "spill-corruption")
    match origin.kind:
        case "call" if origin.name == "bpf_get_current_task":
            source = "the task's address from bpf_get_current_task(), which is a plain number"
            advice = (
                "read fields with BPF_CORE_READ(task, field) or bpf_probe_read_kernel(), or take the task "
                "from "
                "bpf_get_current_task_btf() (Linux 5.11), whose result may be dereferenced"
            )
        case "call" if origin.name.startswith("bpf_get_current_") or origin.name:
            source = f"the result of {origin.name}, which is a plain number"
        case "context":
            source = (
                "a value from the context (an argument of the traced function or event), which is a plain "
                "number"
            )
        case "load":
            where = {"map_value": "a map value", "mem": "memory", "fp": "the stack"}.get(
                origin.name, "memory"
            )
            if origin.name.startswith(("ptr_", "trusted_ptr_", "rcu_ptr_")):
                where = "a kernel structure"
            source = (
                f"a value that was loaded from {where}; the verifier keeps no type for an address stored "
                f"there"
            )
        case "stored" if origin.name:
            source = (
                f"a value that {origin.name} put on the stack: an address that was copied is a plain number"
            )
        case "stored":
            source = f"a value from the stack (fp{origin.slot}), written as a plain number"
        case "constant":
            source = f"the number {origin.constant}"
        case "stack":
            return lost_spill(case, register, origin)
        case "argument" if case.log.validating:
            function = case.log.validating
            return Finding(
                "global-function",
                f"The global function {function}() dereferences R{register}, an argument that is a plain "
                f"number to the "
                f"verifier: a global function is checked on its own, from the types in its prototype alone.",
                f"give {function}() a typed pointer argument (and test it for NULL), or make it static",
                LIKELY,
                False,
                story=case.story(origin),
                others=("direct-deref",),
            )
        case _:
            source = "a plain number"
    if any(change.narrow for change in origin.changes):
        others = (*others, "pointer-arithmetic")
    return Finding(
        "direct-deref",
        f"{who} is dereferenced, but to the verifier it is a number and no pointer: it is {source}.",
        advice,
        weight,
        sure,
        story=case.story(origin),
        fix=(case.place(origin.position),),
        evidence=(f"R{register} comes from: {origin.kind} {origin.name}".rstrip(),),
        others=others,
    )


def lost_spill(case: Case, register: int, origin: Origin) -> Finding:
    """Loaded from a stack slot whose writing the log does not show."""
    old = case.older("5.11")
    if old or (case.log.gap and old is not False):
        return Finding(
            "spill-corruption",
            f"R{register} was saved on the stack (slot fp{origin.slot}) and loaded back, and the verifier "
            f"lost its type "
            f"there: before Linux 5.11 it did not keep the type of every saved pointer.",
            "avoid that the pointer is saved on the stack: fewer live variables around it, a barrier after "
            "the pointer "
            "is computed, a smaller function; or a newer kernel",
            LIKELY,
            False,
            story=case.story(origin),
            others=("direct-deref", "kernel-bug"),
        )
    return Finding(
        "direct-deref",
        f"R{register} is dereferenced, but to the verifier it is a number: it was loaded from the stack "
        f"(fp{origin.slot}), and what was written there was no pointer.",
        f"copy the data with {READERS} and use the copy",
        LIKELY,
        False,
        story=case.story(origin),
        others=("spill-corruption",),
    )


def invalid_access(case: Case, found: re.Match[str]) -> Finding | None:
    """``R1 invalid mem access 'TYPE'``."""
    register, kind = int(found[1]), found[2]
    if "or_null" in kind:
        return may_be_null(case, register, kind)
    if kind in ("scalar", "inv", "imm", "unknown_value", "unknown"):
        return number_as_pointer(case, register)
    if kind == "pkt_end":
        return Finding(
            "packet-bounds",
            f"R{register} is data_end, the end of the packet: it may be compared with, but no packet byte "
            f"may be read "
            f"through it.",
            "read through the data pointer, after a comparison of data plus the length with data_end",
            LIKELY,
            False,
        )
    if kind == "map_ptr":
        return Finding(
            "helper-arg-type",
            f"R{register} is the map itself and no pointer to a value of the map, and it is dereferenced.",
            "look the value up first: value = bpf_map_lookup_elem(&map, &key); test it for NULL, then use it",
            LIKELY,
            False,
            others=("pointer-arithmetic", "direct-deref"),
        )
    if kind.startswith(("ptr_", "percpu_ptr_", "untrusted_ptr_", "user_ptr", "trusted_ptr_")):
        return Finding(
            "btf-access",
            f"R{register} points to memory that may not be read directly ({kind}).",
            f"read it with {READERS}, or get a trusted pointer first",
            LIKELY,
            False,
            others=("direct-deref", "kfunc"),
        )
    return Finding(
        "direct-deref",
        f"R{register} has the type {kind}, through which this program may not read or write.",
        f"copy the data with {READERS}, or use the pointer only as the helper's documentation says",
        WEAK,
        False,
        story=case.story(case.trace(register)),
    )


def argument_of(case: Case, register: int) -> tuple[HelperArg | None, str]:
    """The helper's own words on the argument in a register, and the helper."""
    helper = case.called
    if not helper:
        return None, ""
    try:
        arguments = describe_helper(helper).args
    except UsageError:
        return None, helper
    return (arguments[register - 1] if 0 < register <= len(arguments) else None), helper


WANTED = {
    "map": "a map (its address: &map)",
    "key": "the address of the key: a pointer to a variable on the stack or to a map value",
    "value": "the address of the value: a pointer to a buffer on the stack or in a map",
    "ctx": "the context that the program got",
    "mem": "a pointer to memory: a buffer on the stack, a map value, a ring buffer record",
    "size": "a number of bytes",
    "string": "the address of a constant string",
    "number": "the address of a variable",
    "func": "a function of the program",
    "record": "the record that bpf_ringbuf_reserve returned",
    "timer": "a struct bpf_timer in a map value",
    "lock": "a struct bpf_spin_lock in a map value",
    "dynptr": "a struct bpf_dynptr on the stack",
    "pointer": "a pointer of that type",
    "address": "an address",
    "scalar": "a number",
}


def wrong_type(case: Case, found: re.Match[str]) -> Finding | None:
    """``R2 type=scalar expected=fp, ...``."""
    register, kind, expected = int(found[1]), found[2], found[3] or ""
    if any("Caller passes invalid args" in line for line in case.errors):
        return bad_caller(case, register, kind, expected)
    into = case.called or "the function"
    if "or_null" in kind and "or_null" not in expected:
        return may_be_null(case, register, kind, into)
    origin = case.trace(register)
    if kind in ("scalar", "inv"):
        special = (
            turned_number(case, register, origin)
            or released(case, register, origin, into)
            or stale_packet(case, register, origin)
            or damaged_spill(case, register, origin)
            or wrong_branch(case, register, origin, into)
            or perhaps_released(case, register, origin)
        )
        if special is not None:
            return special
    argument, helper = argument_of(case, register)
    if argument is not None and argument.kind == "string" and "print" in helper:
        return Finding(
            "printk-format",
            f"The format string that {helper} gets is not a constant: it must be a NUL-terminated const "
            f"string in "
            f"read-only memory (.rodata), and R{register} is {describe(case.value(register))}.",
            'declare the format as static const char fmt[] = "..."; the kernel reads it when it loads the program',
            story=case.story(origin),
            fix=(case.place(origin.position),),
        )
    rules = {"timer": "timer-callback", "lock": "spin-lock", "dynptr": "dynptr"}
    if argument is not None and argument.kind in rules:
        return Finding(
            rules[argument.kind],
            f"Argument {register} of {helper} ({argument.name}) has to be {WANTED[argument.kind]}, and "
            f"R{register} is "
            f"{describe(case.value(register))}.",
            "pass the address of the member in a value that bpf_map_lookup_elem returned: &value->member"
            if argument.kind != "dynptr"
            else "pass the address of a struct bpf_dynptr on the stack that was initialised before",
            story=case.story(origin),
            others=("helper-arg-type",),
        )
    ordinal = ORDINALS[register] if register < len(ORDINALS) else f"number {register}"
    wanted = WANTED.get(argument.kind, "") if argument is not None else ""
    named = f" ({argument.name})" if argument is not None and argument.name else ""
    helper = helper or "the called function"
    have = {
        "scalar": "a plain number",
        "inv": "a plain number",
        "ctx": "the context (ctx)",
        "fp": "the address of something on the stack",
        "map_ptr": "a map and no pointer to one of its values",
        "pkt": "a packet pointer",
        "map_value": "a pointer to a map value",
    }.get(kind, kind)
    name = case.variable(origin.position)
    sentence = (
        f"The {ordinal} argument of {helper}{named}, R{register}{f' (`{name}`)' if name else ''}, is {have}, "
        f"but it has "
        f"to be {wanted or expected.strip(', ') or 'something else'}."
    )
    if kind in ("scalar", "inv"):
        if origin.kind in ("context", "load", "call", "stored"):
            advice = (
                "a kernel or user address is only a number here: copy the data into a buffer on the stack "
                "first with "
                "bpf_probe_read_kernel() or bpf_probe_read_user(), and pass a pointer to the copy (&copy)"
            )
        else:
            advice = (
                "put the value in a local variable and pass a pointer to it (its address: &variable), not "
                "the number"
            )
    elif kind == "ctx":
        advice = (
            "the context is no plain buffer: copy what is needed from it to a buffer on the stack, and pass "
            "that "
            "(or a map value)"
        )
    elif kind in ("pkt", "pkt_meta"):
        advice = (
            "copy the packet's bytes to a buffer on the stack (bpf_skb_load_bytes, bpf_xdp_load_bytes), pass "
            "that"
        )
    elif "map_ptr" in expected or kind == "map_ptr":
        advice = (
            "pass the map itself as &map where a map is wanted, and a pointer from bpf_map_lookup_elem for a "
            "value"
        )
    else:
        advice = f"pass {wanted or 'a pointer of the expected kind: ' + expected.strip(', ')}"
    return Finding(
        "helper-arg-type",
        sentence,
        advice,
        # Where the number's origin is cut off, it may have been a pointer.
        sure=kind not in ("scalar", "inv") or not case.is_hidden(origin),
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        evidence=(f"R{register} is {kind}, expected {expected.strip(', ')}"[:160],),
        others=("direct-deref",) if kind in ("scalar", "inv") else (),
    )


def bad_caller(case: Case, register: int, kind: str, expected: str) -> Finding:
    """A call of a global function with an argument that does not fit its prototype."""
    text = " ".join(case.errors)
    found = re.search(r"func#\d+ \('([^']{1,128})'\)", text)
    function = f"the global function {found[1]}()" if found else "a global function"
    have = "a plain number" if kind in ("scalar", "inv") else f"of type {kind}"
    if "or_null" in kind:
        have = "a pointer that may be NULL"
    ordinal = ORDINALS[register] if 0 < register < len(ORDINALS) else f"number {register}"
    return Finding(
        "global-function",
        f"The caller passes {have} as {ordinal} argument (R{register}) to {function}, which expects "
        + (f"a pointer ({expected.strip(', ')})." if expected else "something else."),
        "pass an argument of the type in the function's prototype (a pointer to initialised memory, the "
        "unchanged "
        "context), or make the function static: then it is checked together with its caller",
        story=case.story(case.trace(register)),
    )


def caller_only(case: Case, _found: re.Match[str]) -> Finding | None:
    first = case.errors[0]
    register = case.argument(first) or 1
    finding = bad_caller(case, register, "", "")
    # What is wrong with the memory, or what type it has, the line before says better.
    if not re.search(r"from stack |access to |!read_ok| type=|may be|is not known", first):
        finding.weight = CALLER
    return finding


def possibly_null(case: Case, found: re.Match[str]) -> Finding | None:
    """``Possibly NULL pointer passed to trusted arg0`` (from 0), ``... R1`` on 7.2, ``to helper ...``."""
    word = found[1]
    register = int(word[1:]) if word[0] == "R" else int(re.sub(r"\D", "", word) or 0) + 1
    if word.startswith("arg#"):
        register = int(word[4:]) + 1
    known = case.value(register)
    kind = known.kind if known is not None else "ptr_"
    return may_be_null(case, register, kind, case.called or "the function")


def arithmetic_before_null(case: Case, found: re.Match[str]) -> Finding | None:
    register = int(found[1])
    finding = may_be_null(case, register, found[2])
    finding.sentence = finding.sentence.replace("is used without", "is moved (an offset is added) without")
    return finding


def nonnull_argument(case: Case, found: re.Match[str]) -> Finding | None:
    register = register_of(found[0])
    if register is None:
        return None
    if found[0].startswith("arg#"):
        register += 1
    return may_be_null(case, register, "ptr_", case.called or "the function")


def pointer_math(case: Case, found: re.Match[str]) -> Finding | None:
    """The arithmetic on pointers that is never allowed."""
    text = found[0]
    register = register_of(text)
    known = case.value(register) if register is not None else None
    operation = case.operation
    if (known is None or known.is_scalar()) and operation.source is not None:
        other = case.value(operation.source)
        if other is not None and other.is_pointer():
            known = other
    what = describe(known) if known is not None and known.is_pointer() else "a pointer"
    kind = re.search(r"arithmetic on (\S+) prohibited", text)
    operator = re.search(r"operator (\S+)", text)
    who = f"R{register}" if register is not None else "a register"
    if kind and kind[1] == "map_ptr":
        sentence = (
            f"{who} is the map itself, and an offset is added to it: a map is no pointer to its values."
        )
        advice = (
            "do a lookup first: value = bpf_map_lookup_elem(&map, &key); test it for NULL, and add to that "
            "pointer"
        )
    elif kind and "pkt_end" in kind[1]:
        sentence = f"{who} is data_end, the end of the packet, and pointer arithmetic on it is not allowed."
        advice = "move the data pointer instead: if (data + n > data_end) return 0;"
    elif kind:
        sentence = f"{who} is {what} ({kind[1]}): adding to such a pointer is not allowed."
        advice = "use the pointer as it is, with a constant offset in the access itself"
    elif "32-bit" in text or "partial copy" in text:
        sentence = (
            f"{who} holds {what}, and a 32-bit operation works on one half of it: a pointer has 64 bits, and "
            f"arithmetic on its half is not allowed."
        )
        advice = "keep pointers in 64-bit variables (pointer types, long, __u64), never in int or __u32"
    elif "pointer prohibited" in text and "+=" in text:
        sentence = (
            f"Two pointers are added ({operation_text(case)}): only a number may be added to a pointer."
        )
        advice = "add an offset that is a number; the difference of two pointers is a number"
    elif "subtract" in text:
        sentence = (
            f"A pointer is subtracted from something else in {who}, which is not allowed "
            f"({operation_text(case)})."
        )
        advice = "only subtract a number from a pointer, or a packet pointer from another of the same packet"
    elif operator:
        word = {
            "*=": "multiplication",
            "<<=": "a shift",
            ">>=": "a shift",
            "/=": "division",
            "%=": "a remainder",
            "&=": "masking",
            "|=": "an or",
            "^=": "an xor",
            "s>>=": "a shift",
        }.get(operator[1], "this")
        sentence = (
            f"{who} is {what}, and the operator {operator[1]} is applied to it: {word} on a pointer is not "
            f"allowed, "
            f"only adding or subtracting a number."
        )
        advice = (
            "do the operation on a number: on a copy that was read as data with bpf_probe_read_kernel(), or "
            "on the "
            "index before it is added; pointers cannot be tagged, shifted, multiplied or aligned"
        )
    else:
        sentence = (
            f"An operation on {what} ({who}: {operation_text(case)}) is not allowed: only plus or minus a "
            f"number is."
        )
        advice = "compute the offset as a number first and add it to the pointer in 64 bits"
    origin = case.trace(register) if register is not None else None
    return Finding(
        "pointer-arithmetic",
        sentence,
        advice,
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(origin.position),) if origin is not None else (),
    )


def operation_text(case: Case) -> str:
    return case.stopped.text if case.stopped is not None else "the instruction"


def unprivileged_math(case: Case, found: re.Match[str]) -> Finding | None:
    """What only programs without CAP_PERFMON hear, and before 4.14 all."""
    if case.facts.is_root() and "for !root" not in found[0] and "comparison" not in found[0]:
        return pointer_math(case, found)
    return Finding(
        "unprivileged-leak",
        f"An unprivileged program does pointer arithmetic or a pointer comparison that could tell it a "
        f"kernel address "
        f"({found[0][:120]}).",
        "use constant offsets and compare numbers, or load the program with CAP_BPF and CAP_PERFMON (or as "
        "root)",
    )


def modified_context(case: Case, found: re.Match[str]) -> Finding | None:
    """``dereference of modified ctx ptr R1 off=4 disallowed`` and its kin."""
    text = found[0]
    register = register_of(text)
    kind = found[1]
    origin = case.trace(register) if register is not None else None
    who = f"R{register}" if register is not None else "the pointer"
    offset = re.search(r"off=(-?\d{1,10})", text)
    by = f" by {offset[1]} bytes" if offset else ""
    if kind != "ctx":
        return Finding(
            "btf-access",
            f"{who}, {describe(case.value(register)) if register is not None else kind}, was moved{by} "
            f"before it is used: "
            f"such a pointer must keep its original form.",
            "use the original pointer, with a constant field offset in the access itself",
            LIKELY,
            False,
            story=case.story(origin) if origin is not None else (),
            others=("modified-ctx", "helper-arg-type", "pointer-arithmetic"),
        )
    return Finding(
        "modified-ctx",
        f"The context pointer (ctx, {who}) was changed{by} (an offset was added, or it is indexed with a "
        f"variable) "
        f"before the access; context fields may only be read through the unmodified pointer with a constant "
        f"offset.",
        "read ctx->field with a fixed offset; where the compiler merged the accesses of several branches, "
        "read the "
        "field into a variable first (volatile, or barrier_var()), or copy the array and index the copy",
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(origin.position),) if origin is not None else (),
    )


def different_pointers(case: Case, _found: re.Match[str]) -> Finding | None:
    """One instruction, two kinds of pointers on two paths."""
    return Finding(
        "modified-ctx",
        "The same instruction is reached with different kinds of pointers (the context on one path, another "
        "pointer "
        "on the other): the compiler merged the accesses of two branches into one.",
        "keep the accesses of the branches apart: read each into a variable in its own branch, with a "
        "volatile access or "
        "barrier_var(), so that the context is used unmodified",
        LIKELY,
        False,
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


def missing_weak(case: Case, position: int) -> Finding:
    """``call #0``: a weak kernel function that is not there; the verifier goes past the call and sets nothing."""
    place = case.place(position)
    words = re.findall(r"\b(bpf_\w{1,100})\s*\(", place.text) if place is not None else []
    name = words[-1] if words else "that the program calls"
    return Finding(
        "kfunc",
        f"The kernel function (kfunc) {name} does not exist on this kernel. It is declared weak, so its call "
        f"stayed in the program as a call of nothing, and the result in R0 has no value.",
        "call it only where bpf_ksym_exists() says that it is there, or use a kernel (or load a module) that "
        "has it",
        story=(
            case.step(position, "the call of a function that is not there"),
            case.step(case.end, "R0 is used"),
        ),
        fix=(place,),
        others=("core-relocation", "reg-uninit"),
    )


def no_value(case: Case, found: re.Match[str]) -> Finding | None:
    """``R0 !read_ok``."""
    register = int(found[1])
    stopped = case.stopped
    story: tuple[Step, ...] = ()
    if stopped is not None and stopped.opcode == 0x95 and register == 0 and len(case.path):
        at = case.path.definition(case.end, 0)
        if at is not None and case.path.insns[at].text.rstrip().endswith("#0"):
            return missing_weak(case, at)
    if stopped is not None and stopped.opcode == 0x95:
        sentence = (
            "The function returns without a return value: R0 was never set (it is uninitialized, not set) on "
            "this path."
        )
        advice = "end every path with a return of a number: return 0;"
    elif case.operation.kind == "call" and 1 <= register <= 5:
        argument, helper = argument_of(case, register)
        named = f" ({argument.name})" if argument is not None and argument.name else ""
        sentence = (
            f"The {ORDINALS[register]} argument{named} of {helper or 'the called function'}, register "
            f"R{register}, was "
            f"never set: it is uninitialized here (a call destroys R1 to R5)."
        )
        advice = "pass all arguments of the function; declare it with its right prototype"
    else:
        before = None
        if len(case.path):
            at = case.path.definition(case.end, register)
            if register == 0 and at is not None and case.path.insns[at].text.rstrip().endswith("#0"):
                return missing_weak(case, at)
            before = at if at is not None and case.path.operation(at).kind == "call" else None
        if before is not None and 1 <= register <= 5:
            name = case.path.operation(before).name or "a function"
            sentence = (
                f"R{register} is used after the call of {name}, which destroyed it: R1 to R5 hold no value "
                f"(are uninitialized, not set) after a call."
            )
            advice = (
                "keep the value in a variable over the call (R6 to R9 or the stack), or set it again after "
                "the call"
            )
            story = (case.step(before, f"{name}: R1 to R5 are destroyed"), case.step(case.end, "used here"))
        else:
            sentence = (
                f"Register R{register} is used on a path where it was never set: the variable in it is "
                f"uninitialized."
            )
            advice = "give the variable a value when it is declared, or on every branch before it is used"
    return Finding("reg-uninit", sentence, advice, story=story)


RULES: tuple[Rule, ...] = (
    rule("direct-deref", r"(?:R|arg#)(\d+) invalid mem access '([^']{1,80})'", invalid_access, "4.15..7.3"),
    rule(
        "helper-arg-type",
        r"(?:R|arg#)(\d+) type=(\S{1,80})(?: expected=(.{0,300}))?",
        wrong_type,
        "4.15..7.3",
    ),
    rule("global-function", r"Caller passes invalid args into func#", caller_only, "5.10..7.3"),
    rule(
        "null-check-missing",
        r"Possibly NULL pointer passed to (?:trusted|helper) (R\d+|arg#?\d+)",
        possibly_null,
        "6.2..",
    ),
    rule(
        "null-check-missing",
        r"R(\d+) pointer arithmetic on (\S+_or_null\S*) prohibited",
        arithmetic_before_null,
        "4.15..",
    ),
    rule("null-check-missing", r"(?:R|arg#)\d+ is expected to be non-NULL", nonnull_argument, "6.9.."),
    rule("reg-uninit", r"R(\d+) !read_ok", no_value, "4.15..7.3"),
    rule(
        "unprivileged-leak",
        r"R\d+ pointer comparison prohibited|R\d+ pointer arithmetic prohibited"
        r"|R\d+ (?:has pointer with unsupported alu operation|tried to \w+ (?:from|beyond)|has unknown "
        r"scalar with "
        r"mixed signed bounds|could not be pushed for speculative).*|.*prohibited for !root.*",
        unprivileged_math,
        "4.15..",
    ),
    rule(
        "pointer-arithmetic",
        r"R\d+ (?:32-bit pointer arithmetic|bitwise operator \S+ on pointer|pointer \S+ pointer"
        r"|pointer arithmetic on \S+|pointer arithmetic with \S+ operator|subtraction from stack pointer) "
        r"prohibited.*"
        r"|R\d+ tried to subtract pointer from scalar|R\d+ partial copy of pointer|R\d+ sign-extension part "
        r"of pointer",
        pointer_math,
        "4.15..",
    ),
    rule("modified-ctx", r"dereference of modified (\S+) ptr.*", modified_context, "4.15..7.3"),
    rule("modified-ctx", r"variable (\S+) access var_off=.*", modified_context, "4.15..7.3"),
    rule("modified-ctx", r"negative offset (\S+) ptr.*", modified_context, "6.0..7.3"),
    rule(
        "modified-ctx", r"same insn cannot be used with different pointers", different_pointers, "4.15..7.3"
    ),
    rule(
        "spill-corruption",
        r"attempt to corrupt spilled pointer|invalid size of register (?:fill|spill)"
        r"|corrupted spill memory",
        spilled,
        "4.15..7.3",
    ),
)
