"""A refusal with all that is known of it: what the rules ask."""

from __future__ import annotations

import re
from functools import cached_property

from tracebee.explain.explanation import SourceLine, Step, shorten
from tracebee.explain.facts import Facts, Source, resolve_lines
from tracebee.explain.history import Origin, Path
from tracebee.explain.log import Insn, VerifierLog
from tracebee.explain.operations import Operation
from tracebee.explain.states import Value
from tracebee.explain.versions import is_older, program_kind

ASSIGNED = re.compile(r"([A-Za-z_]\w{0,63})\s*=[^=]")
REGISTER = re.compile(r"(?:R|arg#|r)(\d{1,2})\b")
ARGUMENT = re.compile(r"args?#(\d{1,2})\b")
ORDINALS = ("", "first", "second", "third", "fourth", "fifth")

RELEASERS = {
    "bpf_ringbuf_submit", "bpf_ringbuf_discard", "bpf_sk_release", "bpf_ringbuf_submit_dynptr",
    "bpf_ringbuf_discard_dynptr", "bpf_task_release", "bpf_cgroup_release", "bpf_obj_drop_impl", "bpf_obj_drop",
    "bpf_percpu_obj_drop_impl", "bpf_put_file", "bpf_cpumask_release", "bpf_key_put", "bpf_ct_release",
    "bpf_rbtree_add_impl", "bpf_list_push_front_impl", "bpf_list_push_back_impl",
}  # fmt: skip
ACQUIRERS = {
    "bpf_ringbuf_reserve": ("bpf_ringbuf_submit or bpf_ringbuf_discard", "ring buffer record"),
    "bpf_ringbuf_reserve_dynptr": (
        "bpf_ringbuf_submit_dynptr or bpf_ringbuf_discard_dynptr",
        "dynptr record",
    ),
    "bpf_sk_lookup_tcp": ("bpf_sk_release", "socket"),
    "bpf_sk_lookup_udp": ("bpf_sk_release", "socket"),
    "bpf_skc_lookup_tcp": ("bpf_sk_release", "socket"),
    "bpf_xdp_ct_lookup": ("bpf_ct_release", "conntrack entry"),
    "bpf_skb_ct_lookup": ("bpf_ct_release", "conntrack entry"),
    "bpf_task_from_pid": ("bpf_task_release", "task"),
    "bpf_task_from_vpid": ("bpf_task_release", "task"),
    "bpf_task_acquire": ("bpf_task_release", "task"),
    "bpf_cgroup_acquire": ("bpf_cgroup_release", "cgroup"),
    "bpf_cgroup_from_id": ("bpf_cgroup_release", "cgroup"),
    "bpf_cgroup_ancestor": ("bpf_cgroup_release", "cgroup"),
    "bpf_cpumask_create": ("bpf_cpumask_release", "cpumask"),
    "bpf_cpumask_acquire": ("bpf_cpumask_release", "cpumask"),
    "bpf_get_task_exe_file": ("bpf_put_file", "file"),
    "bpf_lookup_user_key": ("bpf_key_put", "key"),
    "bpf_lookup_system_key": ("bpf_key_put", "key"),
    "bpf_obj_new_impl": ("bpf_obj_drop", "object"),
    "bpf_obj_new": ("bpf_obj_drop", "object"),
    "bpf_percpu_obj_new_impl": ("bpf_percpu_obj_drop", "object"),
    "bpf_refcount_acquire_impl": ("bpf_obj_drop", "object"),
    "bpf_kptr_xchg": ("its release function, or put it into a map with bpf_kptr_xchg", "kernel object"),
}
"""What gives a reference: how it is given back, and what it is."""


class Case:
    """A log with its facts, and the questions that rules ask of both."""

    def __init__(self, log: VerifierLog, facts: Facts) -> None:
        self.log = log
        self.facts = facts

    @cached_property
    def path(self) -> Path:
        return Path(self.log)

    @property
    def end(self) -> int:
        """The position of the last instruction in the path."""
        return len(self.path) - 1

    @cached_property
    def start_missing(self) -> bool:
        """Whether what came before the first instruction of the path is cut off.

        A global function is verified from its own start, which is no instruction 0.
        """
        whole_function = self.log.validating and not self.log.head_cut and not self.log.gap
        return bool(len(self.path)) and not self.path.complete and not whole_function

    def is_hidden(self, origin: Origin) -> bool:
        """Whether a value is older than the part of the path that the log has."""
        return self.start_missing and origin.position is None and origin.kind in ("unknown", "argument")

    @cached_property
    def stopped(self) -> Insn | None:
        """The instruction where the verifier stopped, if the log shows it."""
        return self.log.last()

    @cached_property
    def operation(self) -> Operation:
        """What that instruction does."""
        return self.path.operation(self.end) if len(self.path) else Operation("other")

    @cached_property
    def called(self) -> str:
        """The function that it calls, or empty."""
        return self.operation.name if self.operation.kind == "call" else ""

    @cached_property
    def source(self) -> Source | None:
        return self.facts.source

    @cached_property
    def _resolved(self) -> dict[int, SourceLine]:
        if self.source is None:
            return {}
        return resolve_lines(self.log.insns[-5000:], self.source)

    def numbered(self, line: SourceLine | None) -> SourceLine | None:
        """A quoted line with its number, where source or log has it."""
        if line is None:
            return None
        known = self._resolved.get(id(line))
        if known is None and not line.line and self.source is not None:
            known = self.source.find(line.text)
        return known or line

    def place(self, position: int | None) -> SourceLine | None:
        """The source line of the instruction at a position of the path."""
        if position is None or not 0 <= position < len(self.path):
            return None
        insn = self.path.insns[position]
        return self.facts.lines.get(insn.index) or self.numbered(insn.source)

    def argument(self, text: str) -> int | None:
        """The register that a message about an argument names: R1, or arg#0 (args#0) for the same."""
        found = ARGUMENT.search(text)
        if found is not None:
            return int(found[1]) + 1
        return register_of(text)

    def slot_place(self, index: int) -> SourceLine | None:
        """The source line of the instruction in slot `index`."""
        return self.facts.lines.get(index) or self.numbered(self.log.place(index))

    def slot_position(self, index: int) -> int | None:
        """The last position of the path with the instruction in slot `index`."""
        insns = self.path.insns
        for position in range(len(insns) - 1, -1, -1):
            if insns[position].index == index:
                return position
        return None

    def value(self, register: int, position: int | None = None) -> Value | None:
        """What the verifier knew of a register before an instruction, the last one if not said."""
        return self.path.value(self.end if position is None else position, register)

    def trace(self, register: int, position: int | None = None) -> Origin:
        """Where a register's value came from."""
        if not len(self.path):
            return Origin("unknown")
        return self.path.trace(self.end if position is None else position, register)

    def step(self, position: int | None, text: str) -> Step:
        """A step of the story."""
        if position is None or not 0 <= position < len(self.path):
            return Step(text)
        return Step(text, self.path.insns[position].index, self.place(position))

    def variable(self, position: int | None) -> str:
        """The C variable that the line at a position assigns, or empty."""
        place = self.place(position)
        if place is None or not place.text:
            return ""
        text = place.text
        if position is not None and 0 <= position < len(self.path):
            name = self.path.operation(position).name
            if name and name in text:
                text = text[: text.index(name)] + "x"
            elif name and "bpf_" not in text and "(" not in text:
                return ""
        found = ASSIGNED.search(text)
        return found[1] if found else ""

    def map_name(self, position: int | None, register: int = 1) -> str:
        """The map that the call at a position gets, or empty."""
        if position is None or not 0 <= position < len(self.path):
            return ""
        known = self.path.value(position, register)
        if known is not None and known.attributes.get("map"):
            return known.attributes["map"]
        after = self.path.insns[position].after().registers.get(0)
        if after is not None and after.attributes.get("map"):
            return after.attributes["map"]
        place = self.place(position)
        name = self.path.operation(position).name
        if place is not None and name:
            pattern = rf"{re.escape(name)}\s*\((?:[^,&]{{0,40}},\s*){{0,1}}\s*&\s*(\w{{1,64}})"
            found = re.search(pattern, place.text)
            if found:
                return found[1]
        return ""

    def older(self, than: str) -> bool | None:
        """Whether the kernel is older than a release; None where its release is not known."""
        return is_older(self.facts.release, than)

    @cached_property
    def kind(self) -> str:
        """The kind of program in words, or ``a program of this type``."""
        return program_kind(self.facts.section)[0] or "a program of this type"

    @property
    def errors(self) -> tuple[str, ...]:
        return self.log.errors

    def released_before(self, origin: Origin) -> tuple[int, str] | None:
        """A call that gave the object of `origin` back before the last instruction, or None."""
        if origin.position is None:
            return None
        for position, name in reversed(self.path.calls_between(origin.position, self.end)):
            if name not in RELEASERS:
                continue
            for register in (1, 2):
                given = self.path.trace(position, register)
                if given.kind == origin.kind and given.position == origin.position:
                    return position, name
        return None

    def story(self, origin: Origin, register: int | None = None) -> tuple[Step, ...]:
        """The steps from where a value began to the last instruction, oldest first."""
        steps: list[Step] = []
        chain: list[int] = []
        current: Origin | None = origin
        while current is not None and len(chain) < 40:
            chain += [at for at in current.steps if at not in chain]
            current = current.base
        for position in sorted(chain):
            insn = self.path.insns[position]
            text = insn.text
            after = insn.after()
            target = self.path.operation(position).target
            if target is not None and target in after.registers:
                text += f", so r{target} is {describe(after.registers[target])}"
            steps.append(self.step(position, shorten(text, 120)))
        if self.stopped is not None:
            steps.append(self.step(self.end, f"{shorten(self.stopped.text, 80)}: stopped here"))
        return tuple(steps)


def describe(value: Value | None) -> str:
    """A register's value in words."""
    if value is None:
        return "unknown"
    maybe = " or NULL" if value.maybe_null else ""
    kind = value.kind
    attributes = value.attributes
    if kind == "scalar":
        if value.const is not None:
            return f"the number {value.const}"
        low, high = value.lower_signed(), value.upper()
        if high is None:
            high = value.number("smax", "smax_value")
        if low is None and high is None:
            return "any number"
        if high is None:
            return f"a number from {low} up"
        if low is None:
            return f"a number up to {high}, or negative"
        return f"a number from {low} to {high}"
    if kind == "fp":
        return f"a stack address fp{value.const:+d}" if value.const else "the frame pointer"
    words = {
        "ctx": "the context",
        "map_ptr": "a map",
        "pkt": "a packet pointer",
        "pkt_end": "the packet's end",
        "pkt_meta": "packet metadata",
        "mem": "a pointer to memory",
        "alloc_mem": "a ring buffer record",
        "ringbuf_mem": "a ring buffer record",
        "sock": "a socket",
        "sock_common": "a socket",
        "tcp_sock": "a socket",
        "map_value": "a map value",
        "map_key": "a map key",
    }.get(kind)
    if words is None:
        for prefix in ("trusted_ptr_", "rcu_ptr_", "untrusted_ptr_", "ptr_", "percpu_ptr_"):
            if kind.startswith(prefix):
                words = f"a pointer to struct {kind[len(prefix) :]}"
                break
    words = words or kind
    name = attributes.get("map")
    if name and kind == "map_value":
        words = f"a value of map {name}"
    return words + maybe


def register_of(text: str) -> int | None:
    """The first register that a message names."""
    found = REGISTER.search(text)
    return int(found[1]) if found else None


def error_with(case: Case, pattern: str) -> re.Match[str] | None:
    """The first error line in which a pattern is found."""
    for line in case.errors:
        found = re.search(pattern, line)
        if found:
            return found
    return None
