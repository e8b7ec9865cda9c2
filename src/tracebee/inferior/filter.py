"""The seccomp filter of a traced process: classic BPF that stops the wanted system calls and lets the rest run.

Programs are arrays of struct sock_filter (include/uapi/linux/filter.h) over struct seccomp_data
(include/uapi/linux/seccomp.h).  They are made of comparisons with the number alone wherever a call is always let
through: for those the kernel keeps a bitmap and runs no filter at all (seccomp_cache_check_allow(), Linux 5.11).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tracebee.errors import NotSupportedError
from tracebee.host.identity import find_syscall_number
from tracebee.syscalls import ptrace, seccomp

if TYPE_CHECKING:
    from tracebee.inferior.watch import Watch

    Code = list[tuple[int, int, int, int]]

# include/uapi/linux/bpf_common.h
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP = 0x05
_IF_EQUAL = 0x15
_IF_NOT_LESS = 0x35
_IF_ANY_BIT = 0x45
_RETURN = 0x06

# struct seccomp_data
_NUMBER = 0
_ARCH = 4

X32_BIT = 0x40000000
"""__X32_SYSCALL_BIT (arch/x86/include/uapi/asm/unistd.h)."""

MARK = 0x7BEE
"""What our filter adds to its verdict, so that one that the target has installed is not taken for ours."""

_X32_PTRACE = X32_BIT | 521

_MAP_ANONYMOUS = 0x20
CLONE_UNTRACED = 0x00800000
"""Such a child could not be followed: the tracer takes the flag away."""

_COMPAT = {
    "x86_64": {"arch": ptrace.AUDIT_ARCH_I386, "ptrace": 26, "clone": 120},
    "aarch64": {"arch": ptrace.AUDIT_ARCH_ARM, "ptrace": 26, "clone": 120},
}
"""arch/x86/entry/syscalls/syscall_32.tbl, arch/arm64/tools/syscall_32.tbl"""

HANDS_OVER = (ptrace.TRACEME, ptrace.ATTACH, ptrace.SEIZE)
"""The requests of ptrace(2) by which the target becomes a tracer, or a tracee of another."""


def _argument(index: int) -> int:
    """The offset of the low half of an argument, on machines that are little-endian."""
    return 16 + 8 * index


def _verdict(value: int) -> Code:
    return [(_RETURN, 0, 0, value)]


def _tree(choices: list[tuple[int, Code]]) -> Code:
    """Code that goes on with the last choice whose number is not above the loaded value."""
    if len(choices) == 1:
        return choices[0][1]
    middle = len(choices) // 2
    below, above = _tree(choices[:middle]), _tree(choices[middle:])
    pivot = choices[middle][0]
    if len(below) <= 255:
        return [(_IF_NOT_LESS, len(below), 0, pivot), *below, *above]
    return [(_IF_NOT_LESS, 0, 1, pivot), (_JUMP, 0, 0, len(below)), *below, *above]


def _choices(codes: dict[int, Code], otherwise: Code) -> list[tuple[int, Code]]:
    """The numbers where the code changes."""
    found: list[tuple[int, Code]] = [(0, otherwise)]

    def change(number: int, code: Code) -> None:
        if found[-1][0] == number:
            found.pop()
        if not found or found[-1][1] != code:
            found.append((number, code))

    for number in sorted(codes):
        change(number, codes[number])
        if number + 1 not in codes:
            change(number + 1, otherwise)
    return found


def filter_program(watch: Watch, machine: str, stops: bool = True) -> bytes:
    """An array of struct sock_filter for the calls in `watch`, and for what a tracer itself has to see.

    The calls stop for the tracer, or with `stops` false wait for an answer to a notification.  Raises
    NotSupportedError for a machine that is not known.
    """
    native, compat = ptrace.NATIVE_AUDIT_ARCH.get(machine), _COMPAT.get(machine)
    if native is None or compat is None:
        raise NotSupportedError(f"tracebee does not know the system calls of {machine}")
    allow = _verdict(seccomp.RET_ALLOW)
    trace = _verdict(seccomp.RET_TRACE | MARK if stops else seccomp.RET_USER_NOTIF)
    hands_over = [
        (_LOAD, 0, 0, _argument(0)),
        *((_IF_EQUAL, len(HANDS_OVER) - index, 0, request) for index, request in enumerate(HANDS_OVER)),
        *allow,
        *trace,
    ]
    untraced = [(_LOAD, 0, 0, _argument(0)), (_IF_ANY_BIT, 1, 0, CLONE_UNTRACED), *allow, *trace]
    maps_code = [
        (_LOAD, 0, 0, _argument(2)),
        (_IF_ANY_BIT, 1, 0, watch.protections),
        *allow,
        (_LOAD, 0, 0, _argument(3)),
        (_IF_ANY_BIT, 0, 1, _MAP_ANONYMOUS),
        *allow,
        *trace,
    ]
    codes = {number_of("ptrace", machine): hands_over, number_of("clone", machine): untraced}
    if watch.libraries:
        codes[number_of("mmap", machine)] = maps_code
    codes |= dict.fromkeys(watch.enter | watch.exit, trace)
    if machine == "x86_64":
        codes |= {X32_BIT: trace} if watch.every_abi else {_X32_PTRACE: hands_over}
    choices = _choices(codes, allow)
    if machine == "x86_64" and watch.every_abi:
        choices.pop()  # all that have the bit
    ours = _tree(choices)
    if watch.every_abi:
        theirs = trace
    else:
        theirs = _tree(_choices({compat["ptrace"]: hands_over, compat["clone"]: untraced}, allow))
    other = [(_IF_EQUAL, 1, 0, compat["arch"]), *allow, (_LOAD, 0, 0, _NUMBER), *theirs]
    code = [
        (_LOAD, 0, 0, _ARCH),
        (_IF_EQUAL, 1, 0, native),
        (_JUMP, 0, 0, 1 + len(ours)),
        (_LOAD, 0, 0, _NUMBER),
        *ours,
        *other,
    ]
    return b"".join(struct.pack("=HBBI", *one) for one in code)


def compat_ptrace(machine: str) -> frozenset[int]:
    """The numbers of ptrace(2) in the other ABIs of a machine."""
    numbers = {_COMPAT[machine]["ptrace"]} if machine in _COMPAT else set()
    return frozenset(numbers | ({_X32_PTRACE} if machine == "x86_64" else set()))


def number_of(name: str, machine: str) -> int:
    """The number of a system call that every machine has."""
    number = find_syscall_number(name, machine)
    assert number is not None, name
    return number
