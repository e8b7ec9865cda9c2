"""The seccomp filter, run by an interpreter of classic BPF."""

from __future__ import annotations

import struct

import pytest

from tracebee.errors import NotSupportedError
from tracebee.host.identity import find_syscall_number
from tracebee.inferior.filter import MARK, compat_ptrace, filter_program
from tracebee.inferior.watch import Watch

ALLOW, TRACE, NOTIFY = 0x7FFF0000, 0x7FF00000 | MARK, 0x7FC00000
X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
EVERY = frozenset(range(1024))
X32 = 0x40000000


def run(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """The verdict for a call, by the rules of classic BPF: jumps go forward, within the program."""
    values = (*arguments, *[0] * 6)[:6]
    data = struct.pack("=IIQ6Q", number, arch, 0, *values)
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    for _ in range(len(code)):
        operation, yes, no, value = code[at]
        at += 1
        if operation == 0x20:
            assert value % 4 == 0
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif operation == 0x05:
            at += value
        elif operation == 0x06:
            return value
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            at += yes if holds else no
    raise AssertionError("the program does not end")


def number(name: str, machine: str = "x86_64") -> int:
    found = find_syscall_number(name, machine)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "numbers", [set(), {0}, {0, 1, 2}, {5, 6, 100}, {1023}, set(range(0, 600, 2)), set(range(500))]
)
@pytest.mark.parametrize(("machine", "arch"), [("x86_64", X86_64), ("aarch64", AARCH64)])
def test_wanted_calls_stop(numbers: set[int], machine: str, arch: int) -> None:
    half = frozenset(n for n in numbers if n % 4)
    program = filter_program(Watch(half, frozenset(numbers) - half), machine)
    assert len(program) // 8 < 4096  # BPF_MAXINSNS
    for one in (*range(1100), 0x3FFFFFFF, 0xFFFFFFFF):
        # 99 is no request of ptrace(2) that makes a tracer.
        assert run(program, arch, one, 99) == (TRACE if one in numbers else ALLOW), one


def test_other_abis() -> None:
    only = filter_program(Watch(enter=frozenset({20})), "x86_64")
    every = filter_program(Watch(enter=EVERY, every_abi=True), "x86_64")
    for arch, one in ((I386, 20), (I386, 0), (I386, 450), (X86_64, X32 | 20), (X86_64, X32 | 520)):
        assert run(only, arch, one) == ALLOW
        assert run(every, arch, one) == TRACE
    assert run(only, X86_64, 20) == TRACE
    assert run(every, 0x1234, 20) == ALLOW
    arm = filter_program(Watch(enter=EVERY, every_abi=True), "aarch64")
    assert run(arm, ARM, 20) == TRACE


@pytest.mark.parametrize(
    ("machine", "arch", "one"),
    [
        ("x86_64", X86_64, number("ptrace")),
        ("x86_64", X86_64, X32 | 521),
        ("x86_64", I386, 26),
        ("aarch64", AARCH64, number("ptrace", "aarch64")),
        ("aarch64", ARM, 26),
    ],
)
def test_becoming_a_tracer_always_stops(machine: str, arch: int, one: int) -> None:
    program = filter_program(Watch(), machine)
    for request in (0, 16, 0x4206):
        assert run(program, arch, one, request) == TRACE
    for request in (1, 7, 17, 24, 0x4200, 0x4207):
        assert run(program, arch, one, request) == ALLOW
    assert run(program, arch, one + 1) == ALLOW
    native = number("ptrace", machine)
    assert one == native or one in compat_ptrace(machine)


def test_untraced_children_stop() -> None:
    program = filter_program(Watch(), "x86_64")
    assert run(program, X86_64, number("clone"), 0x01200011) == ALLOW
    assert run(program, X86_64, number("clone"), 0x01A00011) == TRACE


def test_executable_mappings_of_files_stop() -> None:
    mmap = number("mmap")
    program = filter_program(Watch(libraries=True), "x86_64")
    assert run(program, X86_64, mmap, 0, 4096, 5, 2) == TRACE
    assert run(program, X86_64, mmap, 0, 4096, 5, 0x22) == ALLOW
    assert run(program, X86_64, mmap, 0, 4096, 3, 2) == ALLOW
    assert run(filter_program(Watch(), "x86_64"), X86_64, mmap, 0, 4096, 5, 2) == ALLOW
    # Who wants the call gets every one.
    watched = filter_program(Watch(enter=frozenset({mmap}), libraries=True), "x86_64")
    assert run(watched, X86_64, mmap, 0, 4096, 3, 0x22) == TRACE


def test_writable_mappings_of_files_stop_where_data_is_wanted() -> None:
    mmap = number("mmap")
    program = filter_program(Watch(libraries=True, data=True), "x86_64")
    assert run(program, X86_64, mmap, 0, 4096, 3, 2) == TRACE
    assert run(program, X86_64, mmap, 0, 4096, 5, 2) == TRACE
    assert run(program, X86_64, mmap, 0, 4096, 1, 2) == ALLOW
    assert run(program, X86_64, mmap, 0, 4096, 3, 0x22) == ALLOW
    assert Watch(data=True).protections == 0


def test_calls_that_never_stop_need_no_more_than_their_number() -> None:
    """Then the kernel knows without running the filter: it must not look at arguments, nor use other operations."""
    program = filter_program(Watch(enter=frozenset({0, 1, 60}), libraries=True), "x86_64")
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    for one in (2, 3, 39, 61, 230, 400):
        at, seen = 0, []
        number_or_arch = 0
        while True:
            operation, yes, no, value = code[at]
            at += 1
            if operation == 0x20:
                seen.append(value)
                number_or_arch = one if value == 0 else X86_64
            elif operation == 0x05:
                at += value
            elif operation == 0x06:
                assert value == ALLOW
                break
            else:
                at += (
                    yes if (number_or_arch == value if operation == 0x15 else number_or_arch >= value) else no
                )
        assert seen == [4, 0]


def test_the_filter_that_asks() -> None:
    watch = Watch(enter=frozenset({0}), exit=frozenset({1}), every_abi=True)
    stops, asks = filter_program(watch, "x86_64"), filter_program(watch, "x86_64", stops=False)
    for arch in (X86_64, I386):
        for one in range(450):
            for first in (0, 1, 16):
                expected = NOTIFY if run(stops, arch, one, first) == TRACE else ALLOW
                assert run(asks, arch, one, first) == expected


def test_unknown_machine() -> None:
    with pytest.raises(NotSupportedError, match="system calls of s390x"):
        filter_program(Watch(), "s390x")
