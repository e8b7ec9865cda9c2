"""Messages about places: outside of memory, of the stack, of the packet, of the context; unbounded; uninitialised."""

from __future__ import annotations

import re

from tracebee.explain.case import Case, describe, register_of
from tracebee.explain.explanation import Edit, SourceLine
from tracebee.explain.history import Origin
from tracebee.explain.rules.arguments import argument_of
from tracebee.explain.rules.lostpointers import is_pointer_store
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule

MAX_STACK = 512


INDEXED = re.compile(r"[\w.>-]{0,80}?(\w{1,64})\s*\[\s*([^\]]{1,80})\]")


def error_with(case: Case, pattern: str) -> re.Match[str] | None:
    """The first error line in which a pattern is found."""
    for line in case.errors:
        found = re.search(pattern, line)
        if found:
            return found
    return None


def size_register(case: Case, register: int) -> int | None:
    """The register with the size of the memory in `register`, or with what is in it if it is a size."""
    argument, _ = argument_of(case, register)
    if argument is not None and argument.kind == "size":
        return register
    following, _ = argument_of(case, register + 1)
    if following is not None and following.kind == "size":
        return register + 1
    # bpf_probe_read(dst, size, src) and others say what follows; what is not known has its size behind it.
    return register + 1 if argument is None and case.called and register < 5 else None


def is_variable(case: Case, register: int) -> bool:
    """Whether a number in a register is not one constant."""
    known = case.value(register)
    if known is not None and known.is_scalar():
        return known.const is None
    return case.trace(register).kind not in ("constant", "unknown")


def index_of(case: Case) -> tuple[str, str]:
    """The array and the index in the line that stopped, or empty."""
    place = case.place(case.end)
    found = INDEXED.search(place.text) if place is not None else None
    return (found[1], found[2].strip()) if found else ("", "")


def variable_part(case: Case, register: int) -> tuple[Origin | None, int]:
    """Where the variable part of an address came from, and its scale in bytes."""
    position = case.end
    operation = case.operation
    source = operation.source if operation.kind == "alu" and operation.target == register else None
    if source is None:
        for _ in range(20):
            at = case.path.definition(position, register) if len(case.path) else None
            if at is None:
                return None, 1
            step = case.path.operation(at)
            if step.kind == "alu" and step.operator in ("+", "-") and step.source is not None:
                added = case.path.value(at, step.source)
                if added is not None and added.is_pointer():
                    # index + pointer: the sum is in the register that held the index.
                    position, source = at, register
                else:
                    position, source = at, step.source
                break
            if step.kind == "move" and step.source is not None:
                register = step.source
            elif step.kind != "alu":
                return None, 1
            position = at
        if source is None:
            return None, 1
    origin = case.trace(source, position)
    scale = 1
    for change in origin.changes:
        if change.operator == "<<" and change.constant is not None and 0 <= change.constant < 16:
            scale <<= change.constant
        elif change.operator == "*" and change.constant is not None and 0 < change.constant < 65536:
            scale *= change.constant
    # A pair of shifts by 32 is the conversion from 32 bits, not a scale.
    return origin, min(scale, 65536)


def bound_test(case: Case, index: str, limit: int, origin: Origin | None) -> Edit | None:
    """A test of the index in front of the line that stopped, or a mask in it.

    Where the index is computed, the compiler may test what it is computed from: a bound that the verifier does not
    see in the index.  A mask stays.
    """
    place = case.place(case.end)
    if place is None or not place.line or case.source is None or not re.fullmatch(r"[A-Za-z_]\w*", index):
        return None
    text = case.source.whole(place.line)
    if not text.rstrip().endswith(";"):
        return None
    if origin is not None and any(change.operator not in ("<<", "+") for change in origin.changes):
        if limit < 2 or limit & (limit - 1) or text.count(f"[{index}]") != 1:
            return None
        return Edit(
            (text,), (text.replace(f"[{index}]", f"[{index} & {limit - 1}]"),), place.file, place.line
        )
    indent = text[: len(text) - len(text.lstrip())]
    step = "\t" if "\t" in indent or not indent else "    "
    return Edit(
        (text,),
        (f"{indent}if ({index} >= {limit})", f"{indent}{step}return 0;", text),
        place.file,
        place.line,
    )


def size_problem(case: Case, register: int, size: int | None, room: int | None, what: str) -> Finding | None:
    """The size argument of a helper is variable and may be too large for the memory."""
    length = size_register(case, register)
    if not case.called or length is None or not is_variable(case, length):
        return None
    known = case.value(length)
    origin = case.trace(length)
    name = case.variable(origin.position)
    who = f"`{name}` (R{length})" if name else f"R{length}"
    upper = known.upper() if known is not None else None
    most = f" up to {size} bytes" if size else f" up to {upper}" if upper is not None else ""
    fits = f", but only {room} bytes are there" if room else ""
    return Finding(
        "helper-mem-size",
        f"The size argument of {case.called}, {who}, may be larger than the {what}: the bound on the length "
        f"allows"
        f"{most}{fits}, so the access can go outside of (beyond) the {what}.",
        f"bound the size by the size of the buffer: if (len > sizeof(buf)) len = sizeof(buf); or mask it: "
        f"len &= sizeof(buf) - 1{f'. At most {room} bytes fit' if room else ''}",
        story=case.story(origin),
        fix=(case.place(origin.position),),
    )


def map_value(case: Case, found: re.Match[str]) -> Finding | None:
    """``invalid access to map value, value_size=8 off=8 size=8`` and the like for other memory."""
    what, room, offset, size = found[1], int(found[2]), int(found[3]), int(found[4])
    passed = small_argument(case, case.argument(found.string), size, max(room - offset, 0))
    if passed is not None:
        return passed
    detail = error_with(
        case, r"(?:R|arg#)(\d+) (min value is negative|max value is|min value is|unbounded memory)"
    )
    register = int(detail[1]) if detail else case.operation.base
    if detail and detail[2].startswith(("min value is negative", "unbounded")):
        return unbounded(case, detail)
    noun = {"map value": "map value", "map key": "map key"}.get(what, "memory")
    origin = case.trace(register) if register is not None else Origin("unknown")
    if noun == "memory" and origin.name.startswith("bpf_ringbuf"):
        noun = "ring buffer (ringbuf) record"
    base = origin.root()
    map_name = case.map_name(origin.position) if "map_lookup" in origin.name else ""
    if not map_name and register is not None and (known := case.value(register)) is not None:
        map_name = known.attributes.get("map", "")
    owner = f"{noun} of {map_name}" if map_name else noun
    if detail and detail[2] == "max value is":
        if register is not None and (finding := size_problem(case, register, size, room, noun)) is not None:
            return finding
        return bound_too_large(case, register, noun, room, offset, size, map_name)
    if (
        register is not None
        and case.called
        and (finding := size_problem(case, register, size, room, noun)) is not None
    ):
        return finding
    if origin.changes and variable_part(case, register or 0)[0] is not None and offset < 0:
        return bound_too_large(case, register, noun, room, offset, size, map_name, sure=False)
    where = f"bytes {offset} to {offset + size - 1}" if size else f"byte {offset}"
    helper = f"{case.called} reads or writes" if case.called else "The program uses"
    reserve = ""
    if origin.name.startswith("bpf_ringbuf"):
        reserve = " Reserve the size of the struct that is written: bpf_ringbuf_reserve(&rb, sizeof(*e), 0)."
    return Finding(
        "map-value-oob",
        f"{helper} {where} of a {owner} that has only {room} bytes: that is outside, beyond its end"
        f"{' (the offset is negative, before its start)' if offset < 0 else ''}.",
        f"make both sizes agree: the type of the pointer (or the size that is passed) must not be larger "
        f"than the "
        f"{room} bytes of the {noun}; either read less, or declare the {noun} large enough for "
        f"{offset + size} bytes." + reserve,
        story=case.story(origin),
        fix=(case.place(base.position), case.place(case.end)),
    )


def bound_too_large(
    case: Case,
    register: int | None,
    noun: str,
    room: int,
    offset: int,
    size: int,
    map_name: str,
    sure: bool = True,
) -> Finding:
    """A variable index whose bound lets it past the end."""
    _, index = index_of(case)
    origin, scale = variable_part(case, register) if register is not None else (None, 1)
    name = index or (case.variable(origin.position) if origin is not None else "")
    who = f"The index `{name}`" if name else "The index (offset)"
    limit = room // scale if scale else room
    past = offset + size - room
    by = f", {past} byte{'s' if past != 1 else ''} past the end" if past > 0 else ""
    off_by_one = " (off by one: use < and not <= in the test)" if 0 < past <= max(scale, size) else ""
    return Finding(
        "index-unbounded",
        f"{who} may be too large: at its max value the access reaches byte {offset + size - 1} of a {noun} "
        f"of {room} bytes"
        f"{f' in {map_name}' if map_name else ''}{by}{off_by_one}; the bound on it is missing or wrong.",
        f"bound the index so that it stays inside the range: if ({name or 'i'} >= {limit}) return 0; or a "
        f"mask such as "
        f"{name or 'i'} &= {largest_mask(limit)}; test the same variable that is used, after its last change",
        sure=sure,
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(origin.position) if origin is not None else None, case.place(case.end)),
        edit=bound_test(case, name, limit, origin) if limit else None,
    )


def largest_mask(limit: int) -> int:
    """The largest 2^n-1 below a limit."""
    mask = 1
    while mask * 2 + 1 < limit:
        mask = mask * 2 + 1
    return mask if limit > 1 else 0


def unbounded(case: Case, found: re.Match[str]) -> Finding | None:
    """No bound at all, or a possibly negative one, on an offset."""
    text = found.string
    register = register_of(text)
    if "var &= const" in text:
        return size_unbounded(case, found)
    known = case.value(register) if register is not None else None
    if known is not None and known.kind in ("pkt", "pkt_meta"):
        return packet(case, None, register or 0)
    if known is not None and known.kind == "fp":
        return stack_variable(case, found)
    _, index = index_of(case)
    origin, scale = variable_part(case, register) if register is not None else (None, 1)
    name = index or (case.variable(origin.position) if origin is not None else "")
    who = f"The index or offset `{name}`" if name else "The index or offset"
    if register is not None:
        who += f" in R{register}"
    negative = "negative" in text
    room = known.number("vs") if known is not None else None
    if room is None and case.called == "":
        room = room_of(case)
    limit = room // scale if room else 0
    lead = (
        "may be negative (it is signed and has no minimum)"
        if negative
        else "has no upper bound (no maximum): the access could be anywhere"
    )
    source = origin_words(case, origin)
    return Finding(
        "index-unbounded",
        f"{who} {lead}; it has to be in the range of the memory that it indexes{source}.",
        f"make it unsigned and bound it right before the use: if ({name or 'i'} >= {limit or 'N'}) return 0; "
        f"or mask it: "
        f"{name or 'i'} &= {largest_mask(limit) if limit else 'N - 1'}. If there is such a check, the "
        f"compiler moved it or "
        f"tests a copy: read the value once into a local variable, and keep it with barrier_var(i) or a "
        f"volatile access",
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(origin.position) if origin is not None else None, case.place(case.end)),
        edit=bound_test(case, name, limit, origin) if limit else None,
    )


def room_of(case: Case) -> int | None:
    """The size of the map value that the last instruction indexes, from any state that was printed."""
    for position in range(case.end, max(case.end - 200, -1), -1):
        for state in (case.path.insns[position].after(), case.path.insns[position].before()):
            for value in state.registers.values():
                if value.kind == "map_value" and not value.maybe_null and value.number("vs"):
                    return value.number("vs")
    return None


def origin_words(case: Case, origin: Origin | None) -> str:
    if origin is None:
        return ""
    if origin.kind == "call" and origin.name:
        return f" (it comes from {origin.name})"
    if origin.kind == "context":
        return " (it comes from the context)"
    if origin.kind in ("load", "stored", "stack"):
        return " (it was loaded from memory, where any bound is forgotten)"
    return ""


def math_between(case: Case, found: re.Match[str]) -> Finding | None:
    """``math between map_value pointer and register with unbounded min value is not allowed``."""
    kind = found[1]
    operation = case.operation
    source = operation.source
    target = operation.target
    if source is not None and (known := case.value(source)) is not None and known.is_pointer():
        source = target
    known = case.value(source) if source is not None else None
    origin = case.trace(source) if source is not None else Origin("unknown")
    _, scale = variable_part(case, target) if target is not None else (None, 1)
    _, index = index_of(case)
    name = index or case.variable(origin.position)
    who = f"The index or offset `{name}`" if name else "The index or offset"
    if source is not None:
        who += f" (R{source})"
    room = room_of(case) if "map_value" in kind else None
    limit = room // scale if room else 0
    tested = signed_test(case, source)
    signed = tested or (
        known is not None and known.upper() is None and known.number("smax", "smax_value") is not None
    )
    if signed:
        lead = (
            "is signed and only its upper side is checked, so it may be negative: its minimum (min value) is "
            "unbounded"
        )
        advice = (
            f"make it unsigned, or also check that it is not negative: if ({name or 'i'} < 0 || "
            f"{name or 'i'} >= "
            f"{limit or 'N'}) return 0; or mask it with & {largest_mask(limit) if limit else '(N - 1)'}"
        )
    else:
        lead = "is not bounded: for the verifier it may be negative or of any size"
        advice = (
            f"bound the index to the range of the array before it is used: if ({name or 'i'} >= "
            f"{limit or 'N'}) return 0; "
            f"with an unsigned variable, or a mask {name or 'i'} &= "
            f"{largest_mask(limit) if limit else 'N - 1'}; in a loop "
            f"on an old kernel unroll it or keep the check inside"
        )
    if kind == "fp":
        return Finding(
            "stack-out-of-bounds",
            f"{who} {lead}, and it is added to a stack pointer: the access may be outside of the buffer.",
            advice,
            LIKELY,
            False,
            story=case.story(origin),
            fix=(case.place(origin.position), case.place(case.end)),
            others=("index-unbounded",),
        )
    sure = "map_value" in kind or kind in ("mem", "ringbuf_mem", "alloc_mem")
    noun = {"map_value": "a map value", "fp": "a stack pointer", "pkt": "a packet pointer"}.get(
        kind, f"a {kind} pointer"
    )
    return Finding(
        "index-unbounded",
        f"{who} {lead}, and it is added to {noun}{origin_words(case, origin)}.",
        advice,
        sure=sure,
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        edit=bound_test(case, name, limit, origin) if limit and not signed else None,
        others=() if sure else ("packet-bounds" if kind == "pkt" else "stack-out-of-bounds",),
    )


def signed_test(case: Case, register: int | None) -> bool:
    """Whether the value in a register was compared as a signed number on the path."""
    if register is None or not len(case.path):
        return False
    origin = case.trace(register)
    for position in range(case.end - 1, max(case.end - 300, -1), -1):
        step = case.path.operation(position)
        if step.kind == "jump" and step.operator in ("s>", "s>=", "s<", "s<=") and step.base is not None:
            tested = case.path.trace(position, step.base)
            if tested.position is not None and tested.position == origin.position:
                return True
    return False


def out_of_bounds_offset(case: Case, found: re.Match[str]) -> Finding | None:
    number = re.search(r"math between fp pointer and (-?\d{1,20}) ", found[0])
    if number:
        return Finding(
            "stack-out-of-bounds",
            f"The constant {number[1]} is added to a stack pointer: that is far outside of the stack, which "
            f"has 512 bytes (pointer arithmetic is limited to 2^29 bytes on the way).",
            "correct the constant, or the type of the index that it was computed from: it mostly comes from a "
            "negative number that was taken for an unsigned one of 32 bits",
            LIKELY,
            False,
            fix=(case.place(case.end),),
            others=("pointer-arithmetic", "index-unbounded"),
        )
    return Finding(
        "index-unbounded",
        f"An index or offset is far outside of the range of the memory ({found[0][:120]}).",
        "bound the index with an unsigned comparison before it is added to the pointer, or correct the "
        "constant",
        LIKELY,
        False,
        others=("map-value-oob",),
    )


def size_unbounded(case: Case, found: re.Match[str]) -> Finding | None:
    """A size argument that may be negative, or has no upper bound."""
    text = found.string
    register = register_of(text) or 0
    origin = case.trace(register)
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    helper = case.called or "the called function"
    problem = (
        "may be negative (it is signed, its min value is below 0)"
        if "negative" in text
        else "is unbounded: it has no maximum"
    )
    known = case.value(register)
    state = f" The verifier knows: {describe(known)}." if known is not None and known.is_scalar() else ""
    return Finding(
        "helper-mem-size",
        f"The size (length) argument of {helper}, {who}, {problem}{origin_words(case, origin)}.{state}",
        "make the length unsigned and bound it to the buffer: if (len > sizeof(buf)) len = sizeof(buf); or "
        "mask it: "
        "len &= sizeof(buf) - 1 (with a power of two), right before the call, on the variable that is passed",
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
    )


def not_constant(case: Case, found: re.Match[str]) -> Finding | None:
    """An argument that has to be one constant; 5.10 words it as a size without a bound."""
    register = register_of(found[0]) or 0
    origin = case.trace(register)
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    argument, helper = argument_of(case, register)
    helper = helper or "the called function"
    named = f" ({argument.name})" if argument is not None and argument.name else ""
    other = " A record of variable size can be sent with bpf_ringbuf_output." if "ringbuf" in helper else ""
    return Finding(
        "helper-arg-type",
        f"Argument {register} of {helper}{named}, {who}, is a variable, but it has to be a "
        f"constant: a number that the verifier knows when it loads the program.",
        f"pass a constant, such as sizeof(struct ...), a literal or a #define; a bound or a mask is not "
        f"enough.{other}",
        story=case.story(origin),
        fix=(case.place(origin.position), case.place(case.end)),
        evidence=(f"R{register} is {describe(case.value(register))}",),
    )


def outside(case: Case, found: re.Match[str]) -> Finding | None:
    """``R0 max value is outside of the allowed memory range`` without the line that says of what."""
    register = int(found[1])
    if error_with(case, PACKET):
        return packet(case, None, register)
    if error_with(case, MEMORY):
        return None
    known = case.value(register)
    if known is not None and known.kind in ("pkt", "pkt_meta"):
        return packet(case, None, register)
    origin, _ = variable_part(case, register) if len(case.path) else (None, 1)
    _, index = index_of(case)
    who = f"`{index}` (in R{register})" if index else f"in R{register}"
    if found[2] == "max":
        return Finding(
            "index-unbounded",
            f"The index or offset {who} may be too large: its maximum is outside of the range of the memory, "
            f"past its "
            f"end; the bound on it is missing or wrong.",
            "bound the index by the number of elements right before the use: if (i >= N) return 0; or mask "
            "it: i &= N - 1",
            story=case.story(origin) if origin is not None else (),
        )
    return Finding(
        "map-value-oob",
        f"The access through R{register} is outside of the memory: the place is beyond its size (a fixed "
        f"offset and "
        f"size that are larger than the value), or before its start.",
        "make the pointer's type and the size of the memory agree, or bound the offset",
        LIKELY,
        False,
        story=case.story(origin) if origin is not None else (),
        others=("index-unbounded", "packet-bounds"),
    )


def zero_sized(case: Case, found: re.Match[str]) -> Finding | None:
    register = register_of(found.string)
    if case.called.startswith("bpf_map_"):
        return Finding(
            "map-helper-mismatch",
            f"{case.called} is used on a map that has no key or no value of that kind (its size is 0), such "
            f"as a ring "
            f"buffer: the helper does not work on this type of map.",
            "use a hash or array map with this helper, or the helpers for that map type",
            LIKELY,
            False,
            others=("helper-mem-size",),
        )
    who = f"R{register}" if register is not None else "the size"
    return Finding(
        "helper-mem-size",
        f"The size argument of {case.called or 'the called function'} ({who}) may be zero, and a read of "
        f"zero bytes is "
        f"not allowed.",
        "test that the size is not 0 before the call, and bound it from above: if (!len || len > "
        "sizeof(buf)) return 0;",
    )


def packet(case: Case, found: re.Match[str] | None, register: int = 0) -> Finding:
    """``invalid access to packet, off=54 size=1, R2(id=0,off=54,r=54)``."""
    if found is None:
        found = error_with(case, PACKET)
    if found is None:
        return Finding(
            "packet-bounds",
            f"R{register} points into the packet, and the access is not covered by a comparison with "
            f"data_end (the end of "
            f"the packet).",
            "compare first: if (p + n > data_end) return 0; with an offset that is bounded",
        )
    offset, size, register = int(found[1]), int(found[2]), int(found[3])
    proven = int(found[4])
    origin = case.trace(register)
    name = case.variable(origin.position)
    who = f"`{name}` (R{register})" if name else f"R{register}"
    if proven <= 0:
        known = "on this path nothing was compared with data_end for this pointer (or it was moved since)"
    else:
        known = f"on this path the bound check with data_end proves only the first {proven} bytes"
    ends = offset + size
    span = f"Packet bytes {offset} to {ends - 1} are" if size > 1 else f"Packet byte {offset} is"
    moved = (
        " The pointer has a variable part: it needs a comparison of its own, after the last change."
        if (proven <= 0 and any(change.source is not None for change in origin.changes))
        else ""
    )
    stop = case.place(case.end)
    old = case.older("5.16")
    also: tuple[str, ...] = ()
    if old and proven == offset and size == 1:
        also = (
            "verifiers before 5.16 count one byte too few for some comparisons (>=): compare with > there",
        )
    return Finding(
        "packet-bounds",
        f"{span} accessed through {who}, but {known}: the access may be past the end of the packet.{moved}",
        f"before the access compare with the packet's end: if ((void *)p + {size} > data_end) return 0; with "
        f"the very "
        f"pointer that is used (all {ends} bytes from data on), also inside a loop and after each change of "
        f"the pointer",
        story=case.story(origin),
        fix=(stop,),
        also=also,
    )


PACKET = r"invalid access to packet, off=(-?\d+) size=(-?\d+), (?:R|arg#)(\d+)\(id=\d+,off=-?\d+,r=(-?\d+)\)"


MEMORY = (
    r"invalid access to (map value|map key|memory), (?:value|key|mem)_size=(\d+) off=(-?\d+) size=(-?\d+)"
)


def packet_outside(case: Case, _found: re.Match[str]) -> Finding | None:
    return packet(case, None, register_of(_found.string) or 0)


def stack_access(case: Case, found: re.Match[str]) -> Finding | None:
    """Reads and writes through stack pointers, in the forms of all kernels."""
    text = found[0]
    register = register_of(text)
    offset = re.search(r"off[= ](-?\d{1,10})", text)
    size = re.search(r"(?:access_)?size[= ](-?\d{1,10})", text)
    start = int(offset[1]) if offset else 0
    length = int(size[1]) if size else 1
    outside = start < -MAX_STACK or start >= 0 or start + length > 0
    passed = small_argument(case, register, length, -start if start < 0 else None) if outside else None
    if passed is not None:
        return passed
    if "read" in text and not outside and "indirect access" not in text:
        return uninitialised(case, register, start, start, length)
    if case.called and register is not None and start >= -MAX_STACK:
        finding = size_problem(case, register, length, -start if start < 0 else None, "stack buffer")
        if finding is not None:
            finding.others = ("stack-out-of-bounds",)
            return finding
    who = f"R{register}" if register is not None else "the pointer"
    if start < -MAX_STACK:
        sentence = (
            f"The access at fp{start} is below the stack: a BPF program has 512 bytes of stack (fp-512 to "
            f"fp-1), and its "
            f"local variables need more."
        )
        advice = (
            "use less stack: put large buffers into a per-CPU array map (one element) or a ring buffer record"
        )
    else:
        past = start + length
        sentence = (
            f"The access of {length} bytes at fp{start:+d} through {who} is outside of the stack: it goes "
            f"{past} bytes "
            f"beyond (past) the end of the buffer at the frame's top."
        )
        advice = (
            "keep index and size inside the buffer on the stack: compare with sizeof(buffer), or make it "
            "larger"
        )
    return Finding(
        "stack-out-of-bounds",
        sentence,
        advice,
        others=("helper-mem-size",) if case.called else ("stack-limit",) if start < -MAX_STACK else (),
    )


def small_argument(case: Case, register: int | None, size: int, room: int | None) -> Finding | None:
    """The memory that a caller hands to a global function is smaller than the type of its parameter."""
    callee = next((line for line in case.errors if "Caller passes invalid args" in line), None)
    if callee is None:
        return None
    found = re.search(r"\('([^']{1,128})'\)", callee)
    function = f"the global function {found[1]}()" if found else "a global function"
    there = f"{room} bytes" if room is not None else "fewer bytes"
    return Finding(
        "global-function",
        f"The caller passes a pointer to memory that is too small to {function}: the type of argument "
        f"{register or 1} has {size} bytes, and {there} are there, so an access could go outside of it.",
        "pass a pointer to a variable of the parameter's own type, without a cast; or make the function static, "
        "so that it is checked together with its callers",
        story=case.story(case.trace(register)) if register is not None else (),
        fix=(case.place(case.end),),
        others=("stack-out-of-bounds",),
    )


def stack_variable(case: Case, found: re.Match[str]) -> Finding | None:
    """A variable index into the stack."""
    register = register_of(found.string)
    _, index = index_of(case)
    name = index
    if register is not None and case.called:
        finding = size_problem(case, register, None, None, "stack buffer")
        if finding is not None:
            finding.sure = False
            return finding
    who = f"`{name}`" if name else f"R{register}" if register is not None else "the offset"
    return Finding(
        "stack-out-of-bounds",
        f"The stack is accessed at a variable offset ({who}) that is not bounded to the buffer on the stack: "
        f"the access "
        f"may be outside of it.",
        f"bound the index to the range of the array ({name or 'i'} < sizeof, as an unsigned number, or a "
        f"mask), initialise the "
        f"whole buffer, or index an array in a map instead",
        LIKELY,
        False,
        story=case.story(case.trace(register)) if register is not None else (),
        others=("index-unbounded", "stack-uninit"),
    )


def uninitialised_helper(case: Case, found: re.Match[str]) -> Finding | None:
    """``invalid indirect read from stack R2 off -16+8 size 16``."""
    register = register_of(found[0])
    return uninitialised(
        case, register, int(found["start"]), int(found["start"]) + int(found["byte"]), int(found["size"])
    )


def uninitialised(case: Case, register: int | None, start: int, missing: int, size: int) -> Finding:
    """Stack bytes that nobody wrote."""
    helper = case.called
    writer = (
        case.path.writer(case.end, missing, 1) if case.facts.is_unprivileged() and len(case.path) else None
    )
    if writer is not None and is_pointer_store(case, writer):
        return Finding(
            "unprivileged-leak",
            f"{helper or 'The program'} would read a pointer that is saved on the stack (fp{start}): an "
            f"unprivileged program may not learn (leak) a kernel address that way.",
            "do not put pointers into keys, values or buffers, or load the program with CAP_BPF and CAP_PERFMON",
            story=(case.step(writer, "a pointer is stored here"), case.step(case.end, "and read here")),
            fix=(case.place(writer), case.place(case.end)),
            others=("stack-uninit",),
        )
    variable = stack_variable_name(case)
    what = f"`{variable}`" if variable else "a variable or struct on the stack"
    offset = missing - start
    if helper:
        argument, _ = argument_of(case, register or 0)
        named = f" as its {argument.name}" if argument is not None and argument.name else ""
        padding = offset > 0
        hint = (
            " Bytes between or behind the members are padding, which setting the members does not write."
            if padding
            else ""
        )
        sentence = (
            f"{helper} reads {size} bytes of {what} at fp{start}{named}, and byte {offset} of them was never "
            f"written "
            f"(it is uninitialized, not initialised).{hint}"
        )
        advice = (
            "set all bytes before the call: zero the whole variable first with = {} or __builtin_memset(&v, "
            "0, sizeof(v)), "
            "then fill it; or remove the padding with explicit members"
        )
    else:
        sentence = (
            f"Stack bytes at fp{start} ({size} bytes, {what}) are read, but were never written on this path: "
            f"the variable "
            f"is uninitialized (not initialised)."
        )
        advice = "initialise the variable when it is declared (= 0 or = {}), on every path before it is read"
    also: tuple[str, ...] = ()
    if case.older("6.3") is not False:
        also = ("Linux 6.3 and later let privileged programs read such bytes",)
    edit = zeroed(case, variable)
    fix = SourceLine(edit.file, edit.line, edit.old[0].strip()) if edit is not None else case.place(case.end)
    return Finding("stack-uninit", sentence, advice, also=also, fix=(fix,), edit=edit)


def zeroed(case: Case, variable: str) -> Edit | None:
    """The declaration of a variable, with all of it set to zero."""
    place = case.place(case.end)
    if not variable or case.source is None or place is None:
        return None
    declared = re.compile(
        rf"^(\s+(?:struct\s+|union\s+|unsigned\s+)?\w+\s+{re.escape(variable)})\s*(\[\w*\])?;\s*$"
    )
    for number in range(min(place.line - 1, len(case.source.lines)), 0, -1):
        text = case.source.whole(number)
        found = declared.match(text)
        if found:
            return Edit((text,), (f"{found[1]}{found[2] or ''} = {{}};",), case.source.file, number)
        if text.startswith("}"):
            break
    return None


def stack_variable_name(case: Case) -> str:
    place = case.place(case.end)
    if place is None or not case.called:
        return ""
    names = re.findall(r"&\s*(\w{1,64})\b(?!\s*[,)]?\s*\()", place.text)
    argument_names = [name for name in names if name != case.map_name(case.end)]
    return argument_names[0] if argument_names else ""


def context(case: Case, found: re.Match[str]) -> Finding | None:
    """``invalid bpf_context access off=176 size=8``."""
    offset, size = int(found["off"]), int(found["size"])
    missing = error_with(case, r"func '([^']{1,128})' doesn't have (\d{1,3})-th argument")
    operation = case.operation
    write = operation.kind in ("store", "atomic")
    section = case.facts.section
    kind = case.kind
    if missing:
        number = offset // 8 + 1
        sentence = (
            f"The program reads argument {number} of {missing[1]} (context offset {offset}), but that "
            f"tracepoint or "
            f"function (func) has fewer arguments: the access is past their end."
        )
        advice = (
            f"use only the arguments that {missing[1]} has (its prototype: bpftool btf dump, or tracebee -lv)"
        )
    elif write:
        field = f" at offset {offset}"
        sentence = (
            f"The program writes {size} bytes into the context (ctx){field}: that field is read-only for "
            f"{kind}, or is no "
            f"field of that size."
        )
        advice = (
            "do not write this context field: most fields may only be read; change what may be changed "
            "through a helper, "
            "or use a program type that may write it"
        )
    elif section.startswith(("raw_tp", "raw_tracepoint", "tp_btf", "fentry", "fexit", "lsm", "fmod_ret")):
        sentence = (
            f"The program reads argument {offset // 8 + 1} (context ctx offset {offset}, index "
            f"{offset // 8}), which is "
            f"outside, past the end of the arguments of this hook."
        )
        advice = "use an index below the number of arguments that the function or tracepoint has"
    else:
        struct = (
            " (struct pt_regs)"
            if section.startswith(("kprobe", "kretprobe", "uprobe", "ksyscall", "usdt"))
            else ""
        )
        sentence = (
            f"The context{struct} (ctx) has no readable field at offset {offset} with {size} bytes for "
            f"{kind}: the access is "
            f"outside of it, past its end, or not of the field's size."
        )
        advice = (
            "read the context's fields by name, with their own size, and only those that this program type "
            "offers"
        )
    return Finding(
        "ctx-access",
        sentence,
        advice,
        fix=(case.place(case.end),),
        story=case.story(case.trace(operation.base)) if operation.base is not None else (),
    )


def missing_argument(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "ctx-access",
        f"The traced function or tracepoint {found[1]} has fewer arguments than the program reads: argument "
        f"number "
        f"{int(found[2]) + 1} does not exist (the context access is outside of them).",
        "use only the arguments of its prototype",
    )


def btf_member(case: Case, found: re.Match[str]) -> Finding | None:
    """``access beyond struct task_struct at off 1000000 size 8`` and its kin."""
    text = found[0]
    struct = re.search(r"struct (\w{1,128})", text)
    member = re.search(r"member (\w{1,128})", text)
    register = case.operation.base
    name = f"struct {struct[1]}" if struct else "the kernel structure"
    if "beyond struct" in text:
        sentence = (
            f"The access is outside of {name}: its offset is beyond (past) the end of the struct, by its "
            f"size in this kernel."
        )
    elif member:
        sentence = (
            f"The access does not fit the member {member[1]} of {name}: it goes beyond (past) the end of "
            f"that field, or "
            f"outside of its size."
        )
    elif "negative" in text:
        sentence = (
            f"The access is before the start of {name} (a negative offset), outside of the struct or member."
        )
    elif "variable" in text:
        sentence = (
            f"{name} is accessed at a variable offset; a field of a kernel struct needs a constant one."
        )
    elif "user memory" in text:
        sentence = f"The member of {name} points to user memory, and may not be read directly."
    else:
        sentence = (
            f"The access to {name} is not allowed: it is outside of a struct member that may be read so "
            f"({text[:80]})."
        )
    return Finding(
        "btf-access",
        sentence,
        "read one whole member with its own type and size; let CO-RE find its offset (preserve_access_index, "
        "BPF_CORE_READ), "
        "and copy arrays or odd parts with bpf_probe_read_kernel()",
        story=case.story(case.trace(register)) if register is not None else (),
    )


def misaligned(case: Case, found: re.Match[str]) -> Finding | None:
    size = re.search(r"size (\d{1,4})", found[0])
    expected = re.search(r"expected=(\d{1,4})", found[0])
    width = size[1] if size else expected[1] if expected else "its size"
    atomic = case.operation.kind == "atomic"
    what = "An atomic operation" if atomic else "An access"
    return Finding(
        "misaligned",
        f"{what} of {width} bytes is misaligned: its offset is not a multiple of {width} ({found[0][:100]}).",
        f"align the field to {width} bytes: put it at an offset that is a multiple of {width}, remove packed "
        f"from the struct, "
        f"or copy the bytes instead",
        fix=(case.place(case.end),),
    )


def read_only(case: Case, found: re.Match[str]) -> Finding | None:
    """Writes to what may only be read."""
    text = found[0]
    register = case.operation.base
    known = case.value(register) if register is not None else None
    origin = case.trace(register) if register is not None else None
    name = ""
    if known is not None:
        name = known.attributes.get("map", "")
    if not name and origin is not None and origin.kind == "call":
        name = case.map_name(origin.position)
    if "map" in text:
        verb = "read" if text.startswith("read from map") else "written"
        which = f"map {name}" if name else "the map"
        sentence = (
            f"A value of {which} is {verb} by the program, but the map is read-only for programs: it is a "
            f"constant (.rodata), "
            f"frozen, or was made with BPF_F_RDONLY_PROG."
        )
        advice = (
            "do not write to const variables (make the variable non-const, so that it is in .data or .bss), "
            "or make the map "
            "without BPF_F_RDONLY_PROG"
        )
    elif "packet" in text:
        sentence = "The program writes into the packet, which this kind of program may only read."
        advice = "use a program type that may write to packets (tc, XDP), or bpf_skb_store_bytes()"
    else:
        struct = describe(known) if known is not None else "kernel memory"
        sentence = (
            f"The program writes to {struct}, but kernel structures (such as a task) are read-only: only "
            f"reading is supported."
        )
        advice = (
            "do not write to kernel structures; only helpers and kfuncs change them. Keep own data in a map"
        )
    return Finding(
        "read-only-write",
        sentence,
        advice,
        story=case.story(origin) if origin is not None else (),
        fix=(case.place(case.end),),
    )


def atomic_target(case: Case, found: re.Match[str]) -> Finding | None:
    """Atomic operations on what has none."""
    kind = found[3]
    return Finding(
        "bad-instruction",
        f"An atomic operation (BPF_XADD, BPF_ATOMIC) on R{found[2]}, which is "
        f"{'the context (ctx)' if kind == 'ctx' else kind}, is "
        f"not allowed: atomics work on the stack, map values and such memory only.",
        "do the atomic add (__sync_fetch_and_add) on a map value; change context fields with a plain store "
        "where that is allowed",
        fix=(case.place(case.end),),
    )


def store_target(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "read-only-write",
        f"A constant is stored (BPF_ST) into R{found[1]}, which is {found[2]}: this kernel does not allow "
        f"that instruction there, "
        f"or the memory may only be read.",
        "store it from a register (a variable), or do not write there",
        LIKELY,
        False,
        others=("bad-instruction", "ctx-access", "instruction-too-new"),
    )


RULES: tuple[Rule, ...] = (
    rule("packet-bounds", PACKET, packet, "4.15..7.3"),
    rule(
        "map-value-oob",
        MEMORY,
        map_value,
        "4.15..7.3",
    ),
    rule(
        "index-unbounded",
        r"(?:R|arg#)\d+ unbounded memory access, make sure to bounds check",
        unbounded,
        "4.15..7.3",
    ),
    rule(
        "index-unbounded",
        r"(?:R|arg#)\d+ min value is negative, either use unsigned index",
        unbounded,
        "4.15..7.3",
    ),
    rule(
        "helper-mem-size",
        r"(?:R|arg#)\d+ (?:min value is negative|unbounded memory access), (?:either )?use "
        r".*'var &= const'",
        size_unbounded,
        "4.15..7.3",
    ),
    rule(
        "helper-arg-type",
        r"(?:R|arg#)\d+ (?:unbounded size, use|is not a (?:known )?const|must be a known constant)",
        not_constant,
        "5.8..7.3",
    ),
    rule("helper-mem-size", r"invalid zero-sized read", zero_sized, "4.15..7.3"),
    rule(
        "helper-mem-size",
        r"memory, len pair leads to invalid memory access|memory size \d+ is too large",
        size_unbounded,
    ),
    rule(
        "index-unbounded",
        r"math between (\S+) pointer and register with unbounded min value",
        math_between,
        "4.15..7.3",
    ),
    rule(
        "index-unbounded",
        r"math between (\S+) pointer and -?\d+ is not allowed|value -?\d+ makes \S+ pointer be out of bounds"
        r"|\S+ pointer offset -?\d+ is not allowed",
        out_of_bounds_offset,
        "4.15..7.3",
    ),
    rule(
        "stack-uninit",
        r"invalid(?: indirect)? read from stack (?:(?:R|arg#)\d+ )?off (?P<start>-?\d+)\+(?P<byte>\d+) "
        r"size (?P<size>\d+)",
        uninitialised_helper,
        "4.15..7.3",
    ),
    rule(
        "stack-out-of-bounds",
        r"invalid (?:unbounded )?variable-offset.* stack (?:R|arg#)\d+|invalid variable stack "
        r"(?:read|access)|variable offset stack pointer "
        r"cannot be passed|invalid(?: indirect)? read from stack (?:R|arg#)\d+ var_off",
        stack_variable,
        "4.15..7.3",
    ),
    rule(
        "stack-out-of-bounds",
        r"invalid (?:(?:indirect |zero-size )?(?:read from|write to|access to) )?stack (?:type )?"
        r"(?:(?:R|arg#)\d+ )?(?:type=\S+ )?off[= ].*",
        stack_access,
        "4.15..7.3",
    ),
    rule(
        "index-unbounded",
        r"(?:R|arg#)(\d+) (max|min) value is outside of the (?:allowed memory|array) range",
        outside,
        "4.15..7.3",
    ),
    rule("packet-bounds", r"(?:R|arg#)\d+ offset is outside of the packet", packet_outside, "4.15..6.18"),
    rule(
        "ctx-access",
        r"invalid (?:bpf_context|\w+) access off=(?P<off>-?\d+) size=(?P<size>\d+)",
        context,
        "4.15..7.3",
    ),
    rule(
        "ctx-access", r"func '([^']{1,128})' doesn't have (\d{1,3})-th argument", missing_argument, "5.5..7.3"
    ),
    rule(
        "btf-access",
        r"access beyond (?:struct|the end of member) .*|cannot access ptr member .*|(?:R\d+|arg#\d+) is \S+ "
        r"invalid (?:negative access|variable offset).*|.*access (?:user|percpu) memory.*"
        r"|struct \w+ doesn't have field at offset \d+",
        btf_member,
        "5.5..7.3",
    ),
    rule("misaligned", r"misaligned .*|.*access misaligned expected=.*", misaligned, "4.15..7.3"),
    rule(
        "bad-instruction",
        r"BPF_(XADD|ATOMIC) (?:stores into|loads from) R(\d+) (\S+) is not allowed",
        atomic_target,
        "4.15..",
    ),
    rule("read-only-write", r"BPF_ST stores into R(\d+) (\S+) is not allowed", store_target, "4.18..6.1"),
    rule(
        "read-only-write",
        r"(?:write into|read from) map forbidden.*|only read (?:from \S+ )?is supported|cannot write into \S+"
        r"|write to change key .* not allowed|Writes through BTF pointers are not allowed",
        read_only,
        "4.15..7.3",
    ),
)
