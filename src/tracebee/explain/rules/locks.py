"""Spin locks: where they stand, their order, and what has to be held."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.rules.record import Finding, Rule, rule

if TYPE_CHECKING:
    from tracebee.explain.case import Case


def lock_rules(case: Case, found: re.Match[str]) -> Finding | None:
    """The other messages about locks, by what they hold."""
    text = found[0]
    map_found = re.search(r"map '([^']{1,64})'", text)
    name = map_found[1] if map_found else ""
    if "has to have BTF" in text:
        fix = (
            case.source.search(rf"\}}\s*{re.escape(name)}\s+SEC")
            if case.source is not None and name
            else None
        )
        thing = "bpf_timer" if "timer" in text else "bpf_kptr_xchg" if "kptr" in text else "bpf_spin_lock"
        cause = (
            "timer-callback"
            if thing == "bpf_timer"
            else "spin-lock"
            if thing == "bpf_spin_lock"
            else "btf-invalid"
        )
        return Finding(
            cause,
            f"Map {name} has no BTF type for its value, so the kernel cannot find the lock (struct {thing}) "
            f"in it.",
            "declare the map with __type(key, ...) and __type(value, struct ...) instead of key_size and "
            "value_size, so that the "
            "loader sends its types (BTF), and build with -g",
            fix=(fix,),
            sure=cause != "btf-invalid",
        )
    if "deadlock" in text or "two bpf_spin_locks" in text or "out of order" in text:
        sentence = (
            "A second spin lock is taken while one is held, or locks are released out of order: only one "
            "bpf_spin_lock may be held."
        )
        advice = "unlock (bpf_spin_unlock) the first lock before the second is taken"
    elif "without taking a lock" in text:
        sentence = (
            "bpf_spin_unlock is called although no lock is held on this path: it has no matching "
            "bpf_spin_lock."
        )
        advice = "call bpf_spin_lock first on every path that unlocks"
    elif "different lock" in text:
        sentence = "bpf_spin_unlock gets another lock than the one that bpf_spin_lock took."
        advice = "lock and unlock the same struct bpf_spin_lock of the same value pointer (look it up once)"
    elif "directly by load/store" in text:
        sentence = (
            "The memory of a struct bpf_spin_lock is read or written directly: a lock may only be used with "
            "bpf_spin_lock and bpf_spin_unlock."
        )
        advice = (
            "do not copy or set the whole value: leave the lock out, or use bpf_map_update_elem with "
            "BPF_F_LOCK"
        )
    elif "cannot use bpf_spin_lock" in text:
        sentence = f"A program of this type ({case.kind}) cannot use bpf_spin_lock: {text[:80]}."
        advice = "use atomic operations (__sync_fetch_and_add) or a per-CPU map instead of a lock"
    elif "must be held" in text or "expected an RCU" in text:
        sentence = (
            "This function needs the bpf_spin_lock that belongs to the list or tree to be held, and it is "
            "not."
        )
        advice = "call bpf_spin_lock on the lock in the same map value or object before, and unlock after"
    elif "constant offset" in text or "doesn't point to" in text:
        sentence = (
            "The argument of bpf_spin_lock is not the struct bpf_spin_lock of a map value at its fixed place."
        )
        advice = "pass the address of the lock member: bpf_spin_lock(&value->lock)"
    else:
        sentence = f"A rule for spin locks is broken: {text[:140]}."
        advice = (
            "keep one struct bpf_spin_lock at the top level of a map value with BTF type; lock, change the "
            "value, unlock"
        )
    return Finding("spin-lock", sentence, advice, fix=(case.place(case.end),))


RULES: tuple[Rule, ...] = (
    rule(
        "spin-lock",
        r".*(?:has to have BTF in order to use|Locking two bpf_spin_locks|deadlock detected|_unlock "
        r"(?:cannot be out of "
        r"order|of different lock|without taking a lock)|bpf_spin_lock cannot be accessed|cannot use "
        r"bpf_(?:res_)?spin_lock|'struct "
        r"bpf_spin_lock'|has no valid bpf_(?:res_)?spin_lock|must be held for|held lock and "
        r"object|spin_\{?lock|w/o active lock|"
        r"bpf_spin_lock (?:has to be at|is mangled)).*",
        lock_rules,
        "5.1..7.3",
    ),
)
