"""What an errno means for a kind of map: the table."""

from __future__ import annotations

import errno

import pytest

from tracebee.errors import MapError, SyscallError
from tracebee.kernel.maprules import (
    CREATE,
    DELETE,
    FREEZE,
    LOOKUP,
    NEXT_KEY,
    PEEK,
    PIN,
    POP,
    PUSH,
    RULES,
    UPDATE,
    Call,
    creation_fault,
    differences,
    explain,
    map_error,
)
from tracebee.spec.objects import MapSpec

ENOTSUPP = 524


def spec(
    kind: str, key: int = 4, value: int = 8, entries: int = 10, flags: int = 0, **more: object
) -> MapSpec:
    return MapSpec("m", kind, key, value, entries, flags, **more)  # type: ignore[arg-type]


HASH = spec("HASH")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (Call(HASH, UPDATE, errno.E2BIG), "it is full: there are 10 entries"),
        (Call(spec("ARRAY"), UPDATE, errno.E2BIG, b"\x0c\0\0\0"), "index 12 is beyond the last one, 9"),
        (Call(HASH, UPDATE, errno.EEXIST, flags=1), "the key is there"),
        (Call(spec("ARRAY"), UPDATE, errno.EEXIST, bytes(4), 1), "always there"),
        (Call(HASH, UPDATE, errno.ENOENT, flags=2), "the key is not there, and was to be"),
        (Call(HASH, UPDATE, errno.EINVAL, flags=4), "no lock"),
        (Call(HASH, UPDATE, errno.EINVAL, b"1234", flags=3), "exclude each other"),
        (Call(HASH, UPDATE, errno.EPERM), "frozen"),
        (Call(spec("HASH", flags=8), UPDATE, errno.EPERM), "BPF_F_RDONLY"),
        (Call(spec("HASH", flags=16), LOOKUP, errno.EPERM), "BPF_F_WRONLY"),
        (Call(spec("ARRAY"), DELETE, errno.EINVAL, bytes(4)), "always there"),
        (Call(spec("QUEUE", 0), NEXT_KEY, errno.EINVAL), "QUEUE has no keys"),
        (Call(spec("QUEUE", 0), PUSH, errno.E2BIG), "it is full"),
        (Call(spec("STACK", 0), POP, errno.ENOENT), "it is empty"),
        (Call(spec("BLOOM_FILTER", 0), POP, errno.EOPNOTSUPP), "nothing can be taken out"),
        (Call(HASH, PEEK, errno.EOPNOTSUPP), "only queues"),
        (Call(spec("RINGBUF", 0, 0, 4096), LOOKUP, ENOTSUPP), "a ring buffer has no elements"),
        (Call(spec("PERF_EVENT_ARRAY", 4, 4), LOOKUP, ENOTSUPP), "only be used by programs"),
        (Call(spec("STACK_TRACE", 4, 16), UPDATE, errno.EINVAL), "bpf_get_stackid"),
        (Call(spec("LPM_TRIE", 8), UPDATE, errno.ENOSPC), "it is full"),
        (Call(spec("LPM_TRIE", 8), UPDATE, errno.EINVAL, b"\x21\0\0\0abcd"), "a prefix of 33 bits"),
        (Call(spec("PROG_ARRAY", 4, 4), UPDATE, errno.EBADF), "no open descriptor"),
        (Call(spec("PROG_ARRAY", 4, 4), UPDATE, errno.EINVAL, bytes(4), 1), "only the flag ANY"),
        (Call(spec("PROG_ARRAY", 4, 4), UPDATE, errno.EINVAL, bytes(4)), "it is no program"),
        (Call(HASH, FREEZE, errno.EPERM), "frozen already"),
        (Call(HASH, FREEZE, errno.EBUSY), "somebody is writing it"),
        (Call(HASH, PIN, errno.EPERM), "BPF file system"),
        (Call(HASH, PIN, errno.EEXIST), "something at that path"),
        (Call(HASH, LOOKUP, errno.EBADF), "the map is closed"),
        (Call(HASH, CREATE, errno.EPERM), "not be made by everybody"),
        (Call(spec("HASH", 0), CREATE, errno.EINVAL), "size of a key must not be 0"),
        (Call(spec("HASH", 4, 8, 10, 1 << 20), CREATE, errno.EINVAL), "flags 0x100000"),
        (Call(HASH, CREATE, errno.ENOMEM), "no memory for 10 entries"),
        (Call(HASH, CREATE, errno.E2BIG), "too large"),
        (Call(HASH, UPDATE, errno.EIO), "Input/output error"),
        (Call(HASH, UPDATE, ENOTSUPP), "not supported for this kind"),
    ],
)
def test_reasons(call: Call, reason: str) -> None:
    assert reason in explain(call)[0]


def test_an_error_has_the_facts() -> None:
    error = map_error(Call(HASH, UPDATE, errno.E2BIG), "bpf(BPF_MAP_UPDATE_ELEM)")
    assert isinstance(error, MapError)
    assert isinstance(error, SyscallError)
    assert (error.map, error.operation, error.errno, error.errno_name) == (
        "m",
        "update",
        errno.E2BIG,
        "E2BIG",
    )
    assert error.call == "bpf(BPF_MAP_UPDATE_ELEM)"
    assert str(error) == "update of map 'm': it is full: there are 10 entries (E2BIG)"
    assert error.hint == "remove some, or make it with more"
    assert map_error(Call(HASH, PEEK, 95)).errno_name == "EOPNOTSUPP"
    assert map_error(Call(HASH, PEEK, ENOTSUPP)).errno_name == "ENOTSUPP"


def test_every_rule_can_be_told() -> None:
    """No text names a fact that there is not, and hints read on from reasons."""
    for rule in RULES:
        for kind in rule.kinds or ("HASH",):
            for operation in rule.operations:
                number = rule.errno if isinstance(rule.errno, int) else rule.errno[0]
                reason, hint = explain(Call(spec(kind), operation, number, bytes(8)))
                assert reason
                assert "{" not in reason + hint


# ---------------------------------------------------------------------- maps of maps

INNER = spec("ARRAY", 4, 8, 16)
OUTER = spec("ARRAY_OF_MAPS", 4, 4, 2, inner=INNER)


@pytest.mark.parametrize(
    ("template", "inner", "found"),
    [
        (INNER, INNER, []),
        (INNER, spec("ARRAY", 4, 8, 17), ["it has 17 entries, and must have 16"]),
        (INNER, spec("ARRAY", 4, 4, 16), ["its value size is 4 bytes, and must be 8 bytes"]),
        (spec("HASH"), spec("HASH", entries=99), []),
        (
            spec("HASH"),
            spec("LRU_HASH", 8),
            ["its type is LRU_HASH, and must be HASH", "its key size is 8 bytes, and must be 4 bytes"],
        ),
        (spec("HASH"), spec("HASH", flags=1), ["its flags are 0x1, and must be 0x0"]),
        (spec("ARRAY", flags=1 << 12), spec("ARRAY", entries=99, flags=1 << 12), []),
        (spec("PERCPU_ARRAY"), spec("PERCPU_ARRAY", entries=99), []),
    ],
)
def test_what_fits_into_a_map_of_maps(template: MapSpec, inner: MapSpec, found: list[str]) -> None:
    assert differences(template, inner) == found


def test_what_differs_is_named() -> None:
    call = Call(OUTER, UPDATE, errno.EINVAL, bytes(4), 0, spec("ARRAY", 4, 8, 8), INNER)
    assert explain(call)[0] == "map 'm' does not fit in: it has 8 entries, and must have 16"
    unknown = Call(OUTER, UPDATE, errno.EINVAL, bytes(4), 0, None, None)
    assert "must be those of the template" in explain(unknown)[0]
    flagged = Call(OUTER, UPDATE, errno.EINVAL, bytes(4), 2, INNER, INNER)
    assert "only the flag ANY" in explain(flagged)[0]
    assert "index 7 is beyond" in explain(Call(OUTER, UPDATE, errno.E2BIG, b"\7\0\0\0"))[0]
    assert "closed, or none of a map" in explain(Call(OUTER, UPDATE, errno.EBADF))[0]


@pytest.mark.parametrize(
    ("inner", "number", "reason"),
    [
        (None, errno.EINVAL, "needs an inner map"),
        (OUTER, errno.EINVAL, "one level is all"),
        (spec("PROG_ARRAY", 4, 4), ENOTSUPP, "cannot hold maps of type PROG_ARRAY"),
        (INNER, errno.EBADF, "descriptor of the inner map is closed"),
    ],
)
def test_outer_maps_that_cannot_be(inner: MapSpec | None, number: int, reason: str) -> None:
    assert reason in explain(Call(spec("HASH_OF_MAPS", 4, 4, inner=inner), CREATE, number))[0]


# ---------------------------------------------------------------------- new maps


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (HASH, ""),
        (spec("ARRAY", 8), "indexes of 4 bytes"),
        (spec("HASH", entries=0), "room for an entry"),
        (spec("HASH", value=0), "size of a value"),
        (spec("RINGBUF", 0, 0, 4096), ""),
        (spec("RINGBUF", 0, 0, 5000), "power of two"),
        (spec("RINGBUF", 4, 8, 4096), "no keys and no values"),
        (spec("QUEUE", 4), "has no keys"),
        (spec("QUEUE", 0), ""),
        (spec("PROG_ARRAY", 4, 8), "descriptors of 4 bytes"),
        (spec("STACK_TRACE", 4, 12), "addresses of 8 bytes"),
        (spec("LPM_TRIE", 8), "BPF_F_NO_PREALLOC"),
        (spec("LPM_TRIE", 4, flags=1), "prefix length"),
        (spec("LPM_TRIE", 8, flags=1), ""),
        (spec("LRU_HASH", flags=1), "keeps its elements ready"),
        (spec("ARRAY", flags=1), "always there"),
        (spec("HASH", flags=24), "exclude each other"),
        (spec("TASK_STORAGE", entries=0), "BPF_F_NO_PREALLOC"),
        (spec("TASK_STORAGE", entries=0, flags=1), "BTF types"),
    ],
)
def test_faults_of_new_maps(made: MapSpec, fault: str) -> None:
    assert fault in creation_fault(made)
    assert bool(creation_fault(made)) == bool(fault)
