"""Pointers that may be NULL: the test that is missing, stands on the wrong side or was folded by the compiler."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.case import ACQUIRERS, Case, register_of
from tracebee.explain.explanation import Edit, SourceLine
from tracebee.explain.operations import is_unary
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule

if TYPE_CHECKING:
    from tracebee.explain.history import Origin

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

PAGE = 4096
"""An address below is that of a member behind a NULL pointer."""


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


RULES: tuple[Rule, ...] = (
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
)
