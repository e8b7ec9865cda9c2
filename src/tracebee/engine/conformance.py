"""The test files of bpf_conformance (github.com/Alan-Jowett/bpf_conformance): read, assembled, run and judged.

A file has sections, each opened by a line with ``--``:

    -- asm        the program, in the suite's own assembler
    -- raw        or its bytes: hex bytes, or a 64-bit number for each slot
    -- mem        bytes that r1 points to; r2 is how many there are
    -- map        maps that the program names: name, type, sizes of key and value, number of entries
    -- result     what r0 must be in the end
    -- error      instead: that it must not run; the rest of the line is the suite's own message

Others (``-- c``, ``-- no register offset``) say nothing here.  ``#`` starts a comment.  The assembler is
translated line by line to the notation of tracebee.insn.asm:

    ldxw %r0, [%r1+4]             r0 = *(u32 *)(r1 +4)
    jsgt32 %r3, -1, done          if w3 s> -1 goto "done"
    lock fetch add [%r10-8], %r1  r1 = atomic64_fetch_add((u64 *)(r10 -8), r1)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from tracebee.engine.machine import Machine
from tracebee.errors import EngineFault, FormatError, TracebeeError, UsageError
from tracebee.insn.asm import assemble
from tracebee.insn.codec import decode, signed32
from tracebee.records import Frozen
from tracebee.spec.objects import MapSpec, ObjectSpec, ProgramSpec, Schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.engine.native import NativeDoor
    from tracebee.engine.world import World
    from tracebee.insn import Insn

MASK64 = (1 << 64) - 1

UNWIND = 5
"""The helper function of the suite: it gives back its first argument."""

BUDGET = 1 << 22

SECTIONS = ("asm", "raw", "mem", "map", "result", "error")
IGNORED = ("c", "no register offset")

_MAP_TYPES = (
    *("UNSPEC", "HASH", "ARRAY", "PROG_ARRAY", "PERF_EVENT_ARRAY", "PERCPU_HASH", "PERCPU_ARRAY"),
    *("STACK_TRACE", "CGROUP_ARRAY", "LRU_HASH", "LRU_PERCPU_HASH", "LPM_TRIE"),
)
"""Names of enum bpf_map_type, by number (linux/bpf.h)."""


class ConformanceTest(Frozen):
    """A test file.  `result` is None where it has none; `is_raw` says that the program came as bytes."""

    insns: tuple[Insn, ...]
    memory: bytes
    maps: tuple[MapSpec, ...]
    result: int | None
    error: str | None
    is_raw: bool


class Verdict(Frozen):
    """How a test ended: "passed", "failed" or "refused", which says that nothing ran, and why."""

    kind: str
    text: str = ""


# ---------------------------------------------------------------------- files


def parse(text: str) -> ConformanceTest:
    """The test in a file.  Raises FormatError."""
    sections = _sections(text)
    code = sections.get("asm", [])
    maps = tuple([_map(line) for line in sections.get("map", [])])
    if "raw" in sections:
        insns = tuple(decode(_raw(" ".join(sections["raw"])), byteorder="little"))
    else:
        insns = assembled(code)
    if not insns:
        raise FormatError("the test has no instruction")
    result = _result(sections.get("result"))
    error = " ".join(sections["error"]) if "error" in sections else None
    if result is None and error is None:
        raise FormatError("the test has neither a result nor an error")
    memory = hex_bytes(" ".join(sections.get("mem", [])))
    return ConformanceTest(insns, memory, maps, result, error, "raw" in sections)


def _sections(text: str) -> dict[str, list[str]]:
    """The lines of each section, without comments and empty ones."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("--"):
            name = line.strip().lstrip("-").strip()
            if name not in SECTIONS and name not in IGNORED:
                raise FormatError(f"there is no section {name!r}")
            lines = sections.setdefault(name, [])
            continue
        line = line.partition("#")[0].strip()
        if line:
            lines.append(" ".join(line.split()))
    return sections


def hex_bytes(text: str) -> bytes:
    """Bytes from hex digits, with or without blanks.  Raises FormatError."""
    try:
        return bytes.fromhex(text)
    except ValueError as exc:
        raise FormatError(f"not bytes in hex: {exc}") from exc


def _raw(text: str) -> bytes:
    words = text.split()
    if all(len(word) == 2 for word in words):
        return hex_bytes(text)
    try:
        return b"".join([int(word, 0).to_bytes(8, "little") for word in words])
    except (ValueError, OverflowError) as exc:
        raise FormatError(f"not numbers of 64 bits: {exc}") from exc


def _result(lines: list[str] | None) -> int | None:
    if not lines:
        return None
    try:
        return int(lines[0], 0) & MASK64
    except ValueError as exc:
        raise FormatError(f"the result is no number: {lines[0]}") from exc


def _map(line: str) -> MapSpec:
    words = line.split()
    try:
        name, (kind, key, value, entries) = words[0], [int(word, 0) for word in words[1:]]
        return MapSpec(name, _MAP_TYPES[kind], key, value, entries)
    except (ValueError, IndexError) as exc:
        raise FormatError(f"not a map: {line}") from exc


# ---------------------------------------------------------------------- the assembler

_SIZES = {"b": 8, "h": 16, "w": 32, "dw": 64}
_ALU = {
    "add": "+=",
    "sub": "-=",
    "mul": "*=",
    "div": "/=",
    "sdiv": "s/=",
    "or": "|=",
    "and": "&=",
    "lsh": "<<=",
    "rsh": ">>=",
    "mod": "%=",
    "smod": "s%=",
    "xor": "^=",
    "mov": "=",
    "arsh": "s>>=",
}
_JUMPS = {
    "jeq": "==",
    "jne": "!=",
    "jset": "&",
    "jgt": ">",
    "jge": ">=",
    "jlt": "<",
    "jle": "<=",
    "jsgt": "s>",
    "jsge": "s>=",
    "jslt": "s<",
    "jsle": "s<=",
}
_LOCKED = {"add": "+=", "or": "|=", "and": "&=", "xor": "^="}

_REGISTER = re.compile(r"%?r(\d+)")
_NUMBER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|[0-9]+)")
_PLACE = re.compile(r"\[%?r(\d+)\s*(?:([-+])\s*(0[xX][0-9a-fA-F]+|[0-9]+))?\]")
_LOCKED_PLACE = re.compile(r"(fetch\s+)?([a-z]+)(32)?\s+(\[.*\])")
_MNEMONIC = re.compile(r"([a-z]+?)(32|64)?")


def assembled(lines: list[str]) -> tuple[Insn, ...]:
    """The program in lines of the suite's assembler.  Raises FormatError."""
    exit_is_named = any(re.fullmatch(r"exit\s*:", line) for line in lines)
    out: list[str] = []
    for line in lines:
        label = re.fullmatch(r"([A-Za-z_]\w*)\s*:", line)
        if label is not None:
            out.append(f'"{label[1]}":')
            continue
        if line == "exit" and not exit_is_named:
            # The first exit has this name where no line has it.
            exit_is_named = True
            out.append('"exit":')
        out.append(_translated(line))
    return assemble("\n".join(out))


def _translated(line: str) -> str:
    """An instruction in the notation of tracebee.insn.asm."""
    mnemonic, _, rest = line.partition(" ")
    words = [word.strip() for word in rest.split(",")] if rest.strip() else []
    try:
        if mnemonic == "call":
            return _call(*words)
        if mnemonic == "lock":
            return _lock(*words)
        read = _READERS.get(mnemonic)
        if read is not None:
            return read(mnemonic, *words)
        match = _MNEMONIC.fullmatch(mnemonic)
        if match is not None and match[1] in _ALU:
            return _arithmetic(match[1], "w" if match[2] == "32" else "r", *words)
        if match is not None and match[1] in _JUMPS and match[2] != "64":
            return _jump(match[1], "w" if match[2] else "r", *words)
    except TypeError:
        raise FormatError(f"wrong number of operands: {line}") from None
    raise FormatError(f"there is no instruction {mnemonic!r}")


def _register(word: str, letter: str = "r") -> str:
    match = _REGISTER.fullmatch(word)
    if match is None:
        raise FormatError(f"not a register: {word}")
    return f"{letter}{match[1]}"


def _immediate(word: str) -> int:
    """32 bits, signed; longer numbers lose their upper bits, as in the suite."""
    if not _NUMBER.fullmatch(word):
        raise FormatError(f"not a number: {word}")
    return signed32(_number(word))


def _number(word: str) -> int:
    return int(word, 16 if "x" in word.lower() else 10)


def _value(word: str, letter: str = "r") -> str:
    """A register or an immediate."""
    return _register(word, letter) if _REGISTER.fullmatch(word) else str(_immediate(word))


def _place(word: str) -> str:
    match = _PLACE.fullmatch(word)
    if match is None:
        raise FormatError(f"not a place in memory: {word}")
    offset = _number(match[3]) if match[3] else 0
    offset = (-offset if match[2] == "-" else offset) & 0xFFFF
    return f"(r{match[1]} {offset - (offset >> 15 << 16):+d})"


def _goal(word: str) -> str:
    return f"pc{_number(word):+d}" if word[:1] in ("+", "-") else f'"{word}"'


def _arithmetic(name: str, letter: str, dst: str, src: str) -> str:
    return f"{_register(dst, letter)} {_ALU[name]} {_value(src, letter)}"


def _jump(name: str, letter: str, dst: str, src: str, goal: str) -> str:
    return f"if {_register(dst, letter)} {_JUMPS[name]} {_value(src, letter)} goto {_goal(goal)}"


def _call(target: str) -> str:
    """``call 5``, ``call %r2``, ``call local name``, ``call helper 5``, ``call runtime 42``."""
    mode, _, name = target.rpartition(" ")
    if mode == "local":
        return f"call {_goal(name)}" if name[:1] in ("+", "-") else f'call local "{name}"'
    if mode == "runtime":
        return f"call kfunc#{_immediate(name)}"
    if mode not in ("", "helper"):
        raise FormatError(f"there is no kind {mode!r} of call")
    if _REGISTER.fullmatch(name):
        return f"callx {_register(name)}"
    return f"call {_immediate(name)}" if _NUMBER.fullmatch(name) else f"call {name}"


def _lock(place: str, src: str) -> str:
    """``lock [fetch] add[32] [place], register``."""
    match = _LOCKED_PLACE.fullmatch(place)
    if match is None:
        raise FormatError(f"not an atomic operation: {place}")
    fetch, name, half, place = match.groups()
    register = _register(src)
    where = f"(u{half or 64} *){_place(place)}"
    atomic = "atomic" if half else "atomic64"
    if name == "cmpxchg":
        return f"r0 = {atomic}_cmpxchg({where}, r0, {register})"
    if name == "xchg":
        return f"{register} = {atomic}_xchg({where}, {register})"
    if name not in _LOCKED:
        raise FormatError(f"there is no atomic operation {name!r}")
    if fetch:
        return f"{register} = {atomic}_fetch_{name}({where}, {register})"
    return f"lock *{where} {_LOCKED[name]} {register}"


def _wide(_: str, dst: str, src: str) -> str:
    named = re.fullmatch(r"map_by_(?:fd|idx)\((\w+)\)", src)
    if named is not None:
        return f'{_register(dst)} = map["{named[1]}"]'
    if not _NUMBER.fullmatch(src):
        raise FormatError(f"not a number: {src}")
    return f"{_register(dst)} = {_number(src) & MASK64} ll"


def _load(name: str, dst: str, place: str) -> str:
    size = name.removeprefix("ldx").removesuffix("sx")
    sign = "s" if name.endswith("sx") or size.startswith("s") else "u"
    return f"{_register(dst)} = *({sign}{_SIZES[size.removeprefix('s')]} *){_place(place)}"


def _store(name: str, place: str, value: str) -> str:
    bits = _SIZES[name.removeprefix("stx").removeprefix("st")]
    if name.startswith("stx"):
        return f"*(u{bits} *){_place(place)} = {_register(value)}"
    number = _immediate(value)
    return f"*(u{bits} *){_place(place)} = {number}"


def _extended(name: str, dst: str, src: str) -> str:
    """``movsx832`` and the like: from 8 bits to 32."""
    bits, letter = name[5:-2], "w" if name.endswith("32") else "r"
    return f"{_register(dst, letter)} = (s{bits}){_register(src, letter)}"


def _swap(name: str, dst: str) -> str:
    name = name.replace("bswap", "swap").replace("swap", "bswap")
    return f"{_register(dst)} = {name} {_register(dst)}"


def _negate(name: str, dst: str) -> str:
    register = _register(dst, "w" if name == "neg32" else "r")
    return f"{register} = -{register}"


_READERS: dict[str, Callable[..., str]] = {
    **{f"ldx{size}": _load for size in _SIZES},
    **{f"ldx{size}": _load for size in ("sb", "sh", "sw", "bsx", "hsx", "wsx")},
    **{f"st{size}": _store for size in _SIZES},
    **{f"stx{size}": _store for size in _SIZES},
    **{f"movsx{bits}": _extended for bits in ("832", "1632", "864", "1664", "3264")},
    **{f"{name}{bits}": _swap for name in ("le", "be", "swap", "bswap") for bits in (16, 32, 64)},
    **dict.fromkeys(("neg", "neg32", "neg64"), _negate),
    "lddw": _wide,
    "exit": lambda _: "exit",
    "ja": lambda _, goal: f"goto {_goal(goal)}",
    "ja32": lambda _, goal: f"gotol {_goal(goal)}",
}


# ---------------------------------------------------------------------- running


def run_program(
    insns: tuple[Insn, ...],
    memory: bytes,
    *,
    path: str = "fast",
    maps: tuple[MapSpec, ...] = (),
    native: NativeDoor | None = None,
    world: World | None = None,
) -> Callable[[], int]:
    """Make a machine with the program; what comes runs it and gives r0.  Raises EngineFault.

    The tests of the suite ask nothing of the `world`.
    """
    spec = ObjectSpec((ProgramSpec("test", "RAW_TRACEPOINT", insns),), maps, (), Schema())
    helpers = {UNWIND: lambda r1, r2, r3, r4, r5: r1}
    machine = Machine(spec, cast("World", world), path=path, budget=BUDGET, helpers=helpers, native=native)
    program = machine.programs["test"]
    return lambda: program.run(bytearray(memory))


def judge(text: str, *, path: str = "fast", native: NativeDoor | None = None) -> Verdict:
    """The verdict on a test file: whether it gives the result, or the refusal, that it says."""
    try:
        test = parse(text)
        run = run_program(test.insns, test.memory, path=path, maps=test.maps, native=native)
    except (EngineFault, FormatError, UsageError) as error:
        return Verdict("refused", str(error))
    try:
        result = run()
    except TracebeeError as error:
        return Verdict("failed", str(error))
    if test.result is None:
        return Verdict("failed", f"the result is {result:#x}, where an error was expected")
    if result != test.result:
        return Verdict("failed", f"the result is {result:#x}, not {test.result:#x}")
    return Verdict("passed")


def expects_refusal(text: str) -> bool:
    """Whether a test file says that its program must not even start: it has bytes, and an error."""
    try:
        names = _sections(text)
    except FormatError:
        return True
    return "error" in names and ("raw" in names or "result" in names)
