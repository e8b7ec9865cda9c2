"""What a program's own spec tells: its kind, and the source line of each instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.btf.reader import Btf
from tracebee.errors import FormatError
from tracebee.explain.explanation import SourceLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.explain.log import VerifierLog
    from tracebee.spec.objects import ProgramSpec

TYPES = {
    "KPROBE": "kprobe", "TRACEPOINT": "tracepoint", "RAW_TRACEPOINT": "raw_tp", "PERF_EVENT": "perf_event",
    "XDP": "xdp", "SCHED_CLS": "tc", "SCHED_ACT": "action", "SOCKET_FILTER": "socket", "LSM": "lsm",
    "CGROUP_SKB": "cgroup_skb", "CGROUP_SOCK": "cgroup/sock", "SK_MSG": "sk_msg", "SK_SKB": "sk_skb",
    "SOCK_OPS": "sockops", "SK_LOOKUP": "sk_lookup", "STRUCT_OPS": "struct_ops", "SYSCALL": "syscall",
    "NETFILTER": "netfilter", "EXT": "freplace", "RAW_TRACEPOINT_WRITABLE": "raw_tp",
}  # fmt: skip
TRACING = {
    "TRACE_FENTRY": "fentry", "TRACE_FEXIT": "fexit", "TRACE_ITER": "iter", "TRACE_RAW_TP": "tp_btf",
    "MODIFY_RETURN": "fmod_ret",
}  # fmt: skip

MAX_LINES = 1_000_000


def section_of(spec: ProgramSpec) -> str:
    """The section that a program has, or would have in an object file."""
    if spec.section:
        return spec.section
    kind = TRACING.get(spec.expected_attach_type) or TYPES.get(spec.type, "")
    if not kind:
        return ""
    sleepable = ".s" if spec.sleepable else ""
    return f"{kind}{sleepable}/{spec.attach_to}" if spec.attach_to else f"{kind}{sleepable}"


def source_lines(spec: ProgramSpec, btf: bytes) -> dict[int, SourceLine]:
    """The source line of each slot, from the line table; empty where it cannot be read."""
    if not spec.line_info or not btf:
        return {}
    try:
        types = Btf.from_bytes(btf)
        starts = [
            (row.insn_offset, SourceLine(types.string(row.file), row.line, types.string(row.text).strip()))
            for row in spec.line_info
        ]
    except FormatError:
        return {}
    starts.sort(key=lambda row: row[0])
    slots = min(sum(insn.slots for insn in spec.insns), MAX_LINES)
    lines: dict[int, SourceLine] = {}
    ends = [start for start, _ in starts[1:]] + [slots]
    current: SourceLine | None = None
    for (start, line), end in zip(starts, ends, strict=True):
        # Line 0 is code that the compiler made up: the line before it stands.
        current = line if line.line else current
        if current is not None:
            for slot in range(start, min(end, slots)):
                lines[slot] = current
    return lines


def fitting_program(programs: Sequence[ProgramSpec], btf: bytes, log: VerifierLog) -> ProgramSpec:
    """The program that a log is of: the one whose instructions have the lines that the log quotes."""
    best, points = programs[0], -1
    quoted = {insn.index: insn.source.text for insn in log.insns[-500:] if insn.source is not None}
    last = max((insn.index for insn in log.insns[-500:]), default=0)
    for program in programs:
        lines = source_lines(program, btf)
        slots = sum(insn.slots for insn in program.insns)
        if slots <= last:
            continue
        same = sum(1 for index, text in quoted.items() if index in lines and lines[index].text == text)
        if same > points:
            best, points = program, same
    return best
