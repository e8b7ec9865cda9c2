"""Maps: types that a kernel does not have, and attributes that a type does not take.

The rules of each type are those of its map_alloc_check() in kernel/bpf; the order is: type, flags, sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.explain.attach import versions
from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, Finding, Rule
from tracebee.explain.attach.machine import parse_release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt, MapRequest
    from tracebee.explain.attach.machine import Machine

PAGE = 4096
KMALLOC_MAX = 1 << 22
"""KMALLOC_MAX_SIZE with pages of 4 KiB; keys and values of hashes and queues must fit in it."""

PERCPU_MAX = 32 << 10
"""PCPU_MIN_UNIT_SIZE: the largest value of a per-CPU map."""

NO_PREALLOC, NO_COMMON_LRU, NUMA, RDONLY, WRONLY, STACK_BUILD_ID = 1, 2, 4, 8, 16, 32
ZERO_SEED, RDONLY_PROG, WRONLY_PROG, CLONE, MMAPABLE, PRESERVE = 64, 128, 256, 512, 1024, 2048
INNER_MAP = 4096
ACCESS = RDONLY | WRONLY | RDONLY_PROG | WRONLY_PROG
ANY_TYPE = (1 << 15) | (1 << 16)
"""BPF_F_VTYPE_BTF_OBJ_FD and BPF_F_TOKEN_FD."""

FLAG_NAMES = {
    NO_PREALLOC: "BPF_F_NO_PREALLOC",
    NO_COMMON_LRU: "BPF_F_NO_COMMON_LRU",
    NUMA: "BPF_F_NUMA_NODE",
    RDONLY: "BPF_F_RDONLY",
    WRONLY: "BPF_F_WRONLY",
    STACK_BUILD_ID: "BPF_F_STACK_BUILD_ID",
    ZERO_SEED: "BPF_F_ZERO_SEED",
    RDONLY_PROG: "BPF_F_RDONLY_PROG",
    WRONLY_PROG: "BPF_F_WRONLY_PROG",
    CLONE: "BPF_F_CLONE",
    MMAPABLE: "BPF_F_MMAPABLE",
    PRESERVE: "BPF_F_PRESERVE_ELEMS",
    INNER_MAP: "BPF_F_INNER_MAP",
}

HASHES = NO_PREALLOC | NUMA | ACCESS | ZERO_SEED
ARRAYS = NUMA | ACCESS


class Shape(NamedTuple):
    """What a map type takes: sizes in bytes, None for any but 0; `flags` are the ones that it knows."""

    key: tuple[int, ...] | None = None
    value: tuple[int, ...] | None = None
    entries: tuple[int, ...] | None = None
    flags: int | None = None


SHAPES = {
    "hash": Shape(flags=HASHES),
    "percpu_hash": Shape(flags=HASHES),
    "lru_hash": Shape(flags=NO_COMMON_LRU | NUMA | ACCESS | ZERO_SEED),
    "lru_percpu_hash": Shape(flags=NO_COMMON_LRU | NUMA | ACCESS | ZERO_SEED),
    "array": Shape((4,), flags=ARRAYS | MMAPABLE | INNER_MAP),
    "percpu_array": Shape((4,), flags=ACCESS),
    "prog_array": Shape((4,), (4,), flags=ARRAYS),
    "perf_event_array": Shape((4,), (4,), flags=ARRAYS | PRESERVE),
    "cgroup_array": Shape((4,), (4,), flags=ARRAYS),
    "array_of_maps": Shape((4,), (4,), flags=ARRAYS),
    "hash_of_maps": Shape(None, (4,), flags=HASHES),
    "stack_trace": Shape((4,), flags=NUMA | RDONLY | WRONLY | STACK_BUILD_ID),
    "lpm_trie": Shape(flags=NO_PREALLOC | NUMA | ACCESS),
    "queue": Shape((0,), flags=NUMA | ACCESS),
    "stack": Shape((0,), flags=NUMA | ACCESS),
    "bloom_filter": Shape((0,), flags=NUMA | ZERO_SEED | ACCESS),
    "ringbuf": Shape((0,), (0,), flags=NUMA),
    "user_ringbuf": Shape((0,), (0,), flags=NUMA),
    "arena": Shape((0,), (0,)),
    "devmap": Shape((4,), (4, 8)),
    "devmap_hash": Shape((4,), (4, 8)),
    "cpumap": Shape((4,), (4, 8)),
    "xskmap": Shape((4,), (4,)),
    "sockmap": Shape((4,), (4, 8)),
    "sockhash": Shape(None, (4, 8)),
    "reuseport_sockarray": Shape((4,), (4, 8)),
    "cgroup_storage": Shape((8, 16), None, (0,)),
    "percpu_cgroup_storage": Shape((8, 16), None, (0,)),
    "struct_ops": Shape((4,), None, (1,)),
    "insn_array": Shape((4,), (16,)),
    **{name: Shape((4,), None, (0,), NO_PREALLOC | CLONE) for name in versions.STORAGE},
}

REFERENCE = "Documentation/bpf/maps.rst of the kernel"


def _examine(attempt: Attempt) -> Iterator[Finding]:
    request = attempt.map
    call = attempt.failed
    if request is None or (call is not None and "MAP_CREATE" not in call.what):
        return
    if attempt.is_silent or attempt.errno in ("EPERM", "EACCES", "EMFILE", "ENFILE"):
        return
    name = versions.map_type_name(request.type, request.number)
    shown = name or request.type or f"number {request.number}"
    machine = attempt.machine
    if attempt.errno in ("EINVAL", "ENOTSUPP", "EOPNOTSUPP", "E2BIG", "unknown", ""):
        unsupported = _unsupported(machine, name, shown, request.number)
        if unsupported is not None:
            yield unsupported
            return
    wrong = list(wrong_attributes(name, request))
    if wrong:
        reason, advice = wrong[0]
        yield Finding(
            "map-attributes",
            PROVEN,
            f"the attributes of the {shown} map are not allowed: {reason}",
            advice,
            (f"the answer is {attempt.errno}",) if attempt.errno else (),
            tuple(f"and: {more}" for more, _ in wrong[1:3]),
            reference=REFERENCE,
        )
        return
    if not attempt.was_tried:
        return
    if attempt.errno in ("E2BIG", "ENOMEM"):
        yield Finding(
            "map-attributes",
            LIKELY,
            f"the {shown} map is too large: key, value or entries ask for more memory than the kernel "
            "gives to one map "
            f"({_size_text(request)})",
            "use a smaller value or fewer entries (max_entries), or BPF_F_NO_PREALLOC for a hash",
            (f"the answer is {attempt.errno}",),
            reference=REFERENCE,
        )
    elif attempt.errno in ("EINVAL", "ENOTSUPP", "EOPNOTSUPP", "EBADF", "unknown"):
        row = versions.MAP_TYPES.get(name)
        if row is not None and machine.version() is None and parse_release(row.since) >= (5, 0):
            yield Finding(
                "map-type-unsupported",
                GUESS + 5,
                f"the map type {shown} came with Linux {row.since}, and a kernel that is too old answers "
                "so; which one "
                "this is, nobody said",
                f"use {row.instead or 'another map type'} there, or a newer kernel ({row.since} or later)",
                (f"the answer is {attempt.errno}",),
            )
        known_old = row is not None and machine.version() is None
        yield Finding(
            "map-attributes",
            GUESS,
            f"the kernel does not take this {shown} map: a size (key, value, max_entries), a flag, or the BTF of its "
            "key and value is not right for the type"
            + (
                f"; or the kernel is older than the type, which came with {row.since}"
                if row and known_old
                else ""
            ),
            "compare key size, value size, max_entries and flags with what the type asks for",
            (f"the answer is {attempt.errno}",),
            reference=REFERENCE,
        )


def _unsupported(machine: Machine, name: str, shown: str, number: int | None) -> Finding | None:
    row = versions.MAP_TYPES.get(name)
    if row is None:
        last = max(versions.MAP_TYPES.values(), key=lambda one: one.number)
        if number is None or number <= last.number:
            return None
        return Finding(
            "map-type-unsupported",
            LIKELY,
            f"map type {number} is newer than this kernel ({machine.release or 'its version is not known'})",
            "use a map type that this kernel knows, or a newer kernel",
            (f"the newest type known here is {last.number}, of Linux {last.since}",),
        )
    if not machine.is_older_than(row.since):
        return None
    instead = f"use {row.instead}" if row.instead else "use another map type"
    kind = "ring buffer " if "ringbuf" in name else ""
    return Finding(
        "map-type-unsupported",
        PROVEN,
        f"this kernel, {machine.release}, does not know the map type {shown}: {kind}maps of it came with Linux "
        f"{row.since}, so the kernel is too old",
        f"{instead} here, or a newer kernel ({row.since} or later)",
        (f"the kernel is {machine.release}", f"{shown} is map type {row.number}, since Linux {row.since}"),
    )


def wrong_attributes(name: str, request: MapRequest) -> Iterator[tuple[str, str]]:
    """What a map type does not take: the reason, and what to do."""
    shape = SHAPES.get(name)
    if shape is None:
        return
    yield from _flags(name, shape, request)
    yield from _sizes(name, shape, request)
    yield from _limits(name, request)


def _flags(name: str, shape: Shape, request: MapRequest) -> Iterator[tuple[str, str]]:
    flags = request.flags
    if flags is None:
        return
    flags &= ~ANY_TYPE
    if name == "lpm_trie" and not flags & NO_PREALLOC:
        yield "an lpm_trie must have the flag BPF_F_NO_PREALLOC", "set map_flags to BPF_F_NO_PREALLOC (1)"
    if name in versions.STORAGE and not flags & NO_PREALLOC:
        yield f"a {name} map must have the flag BPF_F_NO_PREALLOC", "set map_flags to BPF_F_NO_PREALLOC (1)"
    if name == "arena" and not flags & MMAPABLE:
        yield "an arena must have the flag BPF_F_MMAPABLE", "set map_flags to BPF_F_MMAPABLE (1024)"
    if name.startswith("lru_") and flags & NO_PREALLOC:
        yield (
            "an LRU hash takes all its memory at once, so the flag BPF_F_NO_PREALLOC is not allowed",
            "leave BPF_F_NO_PREALLOC out of map_flags",
        )
        return
    for one, two, words in ((RDONLY, WRONLY, "user space"), (RDONLY_PROG, WRONLY_PROG, "programs")):
        if flags & one and flags & two:
            yield f"the map is read-only and write-only for {words} at once", "set one of both flags, or none"
    unknown = flags & ~shape.flags if shape.flags is not None else 0
    if unknown:
        what = ", ".join(text for bit, text in FLAG_NAMES.items() if unknown & bit) or f"{unknown:#x}"
        yield f"the flag {what} is not one of a {name} map", f"leave {what} out of map_flags"


def _sizes(name: str, shape: Shape, request: MapRequest) -> Iterator[tuple[str, str]]:
    for field, wanted, given in (
        ("key", shape.key, request.key_size),
        ("value", shape.value, request.value_size),
    ):
        if given is None:
            continue
        if wanted is None:
            if given == 0:
                yield (
                    f"the {field} size is 0, and must be at least 1",
                    f"give {field}_size the size of the {field}",
                )
        elif given not in wanted:
            if wanted == (0,):
                yield (
                    f"a {name} map has no {field}: its {field} size must be 0, not {given}",
                    f"set {field}_size to 0",
                )
            else:
                sizes = " or ".join(str(size) for size in wanted)
                yield (
                    f"the {field} of {_article(name)} map must be {sizes} bytes, not {given}",
                    f"use a {field} of {sizes} bytes" + (" (__u32)" if wanted == (4,) else ""),
                )
    entries = request.max_entries
    if entries is None:
        return
    if shape.entries is None:
        if entries == 0:
            yield "max_entries is 0 (zero)", "give max_entries a value of at least 1"
    elif entries not in shape.entries:
        yield (
            f"max_entries of {_article(name)} map must be {shape.entries[0]}, not {entries}",
            f"set max_entries to {shape.entries[0]}",
        )


def _limits(name: str, request: MapRequest) -> Iterator[tuple[str, str]]:
    key, value, entries = request.key_size, request.value_size, request.max_entries
    if "ringbuf" in name and entries and (entries & (entries - 1) or entries % PAGE):
        yield (
            f"the size of a ring buffer (max_entries, {entries}) must be a power of two and a multiple "
            "of the page size",
            f"use {max(PAGE, 1 << (entries - 1).bit_length())}, for example, or 262144",
        )
    if name == "stack_trace" and value is not None:
        if value < 8 or value % 8:
            yield (
                "the value of a stack_trace map is a list of addresses: its size must be a multiple of "
                f"8, not {value}",
                "use 8 * 127 bytes (PERF_MAX_STACK_DEPTH)",
            )
        elif value // 8 > 127 and not (request.flags or 0) & STACK_BUILD_ID:
            yield (
                f"the value of a stack_trace map has room for {value // 8} frames, more than "
                "kernel.perf_event_max_stack (127)",
                "use 8 * 127 bytes, or raise the sysctl kernel.perf_event_max_stack",
            )
    if name == "lpm_trie" and key is not None and not 5 <= key <= 260:
        yield (
            f"the key of an lpm_trie is a prefix length of 4 bytes and 1 to 256 bytes of data: 5 to 260, not {key}",
            "use struct bpf_lpm_trie_key with data behind the prefix length",
        )
    if "hash" in name and key is not None and value is not None and key + value >= KMALLOC_MAX - 64:
        yield (
            f"key and value are too large: {key} + {value} bytes, and one element must fit in 4 MiB "
            "(KMALLOC_MAX_SIZE)",
            "use a smaller value, or several entries for one thing",
        )
    elif name in ("queue", "stack") and value is not None and value >= KMALLOC_MAX - 64:
        yield f"the value is too large: {value} bytes", "use a smaller value (4 MiB is the limit)"
    if "percpu" in name and "storage" not in name and value is not None and value > PERCPU_MAX:
        yield (
            f"the value of a per-CPU map is too large: {value} bytes, and {PERCPU_MAX} is the limit "
            "(PCPU_MIN_UNIT_SIZE)",
            "use a smaller value, or a map that is not per CPU",
        )
    if name == "array" and value is not None and value > 0x7FFFFFFF - 8:
        yield f"the value is too large: {value} bytes", "use a smaller value, or more entries"
    elif name == "array" and value and entries and (value + 7) // 8 * 8 * entries > 1 << 32:
        yield (
            f"the array is too large: {entries} entries (max_entries) of {value} bytes are more than 4 GiB",
            "use fewer or smaller entries, or a hash",
        )
    if name in versions.STORAGE and value is not None and value > 0xFFFF - 64:
        yield f"the value is too large: {value} bytes", "use a value of less than 64 KiB"
    if name in ("cgroup_storage", "percpu_cgroup_storage") and value is not None and value > PAGE:
        yield f"the value is too large: {value} bytes, and a page is the limit", "use a smaller value"
    if name == "arena" and entries is not None and entries > 1 << 20:
        yield f"the arena is too large: {entries} pages (max_entries) are more than 4 GiB", "use fewer pages"
    if name == "sockhash" and key is not None and key > 512:
        yield f"the key is too large: {key} bytes, and 512 is the limit", "use a smaller key"
    if request.value_size is not None and request.value_size < 0:
        yield "the value size is negative", "give value_size the size of the value"


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _size_text(request: MapRequest) -> str:
    parts = [
        f"{label} {number}"
        for label, number in (
            ("key", request.key_size),
            ("value", request.value_size),
            ("max_entries", request.max_entries),
        )
        if number is not None
    ]
    return ", ".join(parts)


def memory_of(request: MapRequest) -> int:
    """About how much memory a map takes, in bytes; for hashes each element has a head of 48 bytes and a bucket."""
    name = versions.map_type_name(request.type, request.number)
    key, value, entries = (number or 0 for number in request[2:5])
    if "ringbuf" in name:
        return entries + 3 * PAGE
    if name == "arena":
        return 0
    head = 64 if "hash" in name or "trie" in name else 0
    return (((key + 7) // 8 + (value + 7) // 8) * 8 + head) * entries


RULES = (Rule("type and attributes of a map", _examine),)
