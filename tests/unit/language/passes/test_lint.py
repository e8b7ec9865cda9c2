"""Mistakes that compile: each is found, and its right form is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tracebee.language.passes.lint import lint

from ..fixtures import FORMATS, NUMBER, FakeMachine, Field, Format, typed

if TYPE_CHECKING:
    from collections.abc import Sequence

MORE: dict[tuple[str, str], tuple[Field, ...]] = {
    ("syscalls", "sys_enter_read"): (
        NUMBER,
        Field("fd", "unsigned int", 16, 8),
        Field("buf", "char *", 24, 8),
        Field("count", "size_t", 32, 8),
    ),
    ("syscalls", "sys_enter_pread64"): (
        NUMBER,
        Field("fd", "unsigned int", 16, 8),
        Field("buf", "char *", 24, 8),
    ),
    **{
        ("syscalls", f"sys_exit_{call}"): (NUMBER, Field("ret", "long", 16, 8, signed=True))
        for call in ("openat", "read", "pread64", "mmap")
    },
    ("syscalls", "sys_enter_write"): (
        NUMBER,
        Field("fd", "unsigned int", 16, 8),
        Field("buf", "const char *", 24, 8),
        Field("count", "size_t", 32, 8),
    ),
}
FUNCTIONS = ("vfs_read", "vfs_write", "__x64_sys_openat", "__arm64_sys_openat", "do_sys_openat2")


class Machine(FakeMachine):
    """A machine with a few more places to hook."""

    def tracepoint_format(self, category: str, name: str) -> Format | None:
        more = MORE.get((category, name))
        return (
            Format((*FORMATS["irq", "softirq_entry"].fields[:1], *more))
            if more
            else FORMATS.get((category, name))
        )

    def tracepoints(self) -> list[tuple[str, str]]:
        return [*FORMATS, *MORE]

    def has_tracepoint(self, category: str, name: str) -> bool:
        return (category, name) in self.tracepoints()

    def kernel_functions(self) -> list[tuple[str, str]]:
        return [("vmlinux", name) for name in FUNCTIONS]


def found(script: str) -> list[tuple[str, str]]:
    """(id, the text that is complained about) of each complaint."""
    return [(one.id, script[one.span.start : one.span.end]) for one in lint(typed(script, Machine()))]


READ = "tracepoint:syscalls:sys_enter_read"
WRITE = "tracepoint:syscalls:sys_enter_write"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('begin { printf("%d", nsecs); }', ["nsecs"]),
        ('begin { printf("%x %ld %lx", nsecs, nsecs, nsecs); }', ["nsecs"]),
        ('begin { printf("%d %d", pid, pid + 1); }', []),
        ('begin { printf("%d", (int32)nsecs); printf("%d", 7); }', []),
        ('begin { printf("%d", nsecs & 0xff); printf("%d", nsecs % 100); }', []),
        ('begin { printf("%d", nsecs >> 40); printf("%d", nsecs == 2); }', []),
        ('begin { @ = nsecs; printf("%u us", @ / 1000); }', ["@ / 1000"]),
        (f'{READ} {{ printf("%d", args.count); }}', ["args.count"]),
        ('begin { printf("%hhx", (uint64)2); }', ["(uint64)2"]),
        ('begin { printf("%d %d %u", uid, gid, cpu); }', []),
        ('begin { $x = 1; $x = uid; printf("%d", $x); }', []),
        ('begin { $x = 1; $x = nsecs; printf("%d", $x); }', ["$x"]),
        ('begin { $x = (uint64)1; $x += nsecs; printf("%d", $x); }', ["$x"]),
        ('begin { $x = (uint64)1; $x++; printf("%d", $x); }', ["$x"]),
        ('begin { printf("%d", -(int64)nsecs); }', ["-(int64)nsecs"]),
    ],
)
def test_values_that_are_cut(script: str, expected: list[str]) -> None:
    assert found(script) == [("value-cut", text) for text in expected]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ("openat", []),
        ("openat read", []),
        ("mmap", ["args.ret", "$error"]),
        ("openat mmap", ["args.ret", "$error"]),
    ],
)
def test_results_of_system_calls_are_small_but_for_a_few(places: str, expected: list[str]) -> None:
    probes = ", ".join(f"tracepoint:syscalls:sys_exit_{call}" for call in places.split())
    script = f'{probes} {{ $error = args.ret < 0 ? -args.ret : 0; printf("%d %d", args.ret, $error); }}'
    assert found(script) == [("value-cut", text) for text in expected]


def test_tracepoints_that_raw_ones_stand_in_for() -> None:
    """Several system calls in one probe are taken from raw_syscalls' events; what is wrong stays wrong."""
    script = (
        "tracepoint:syscalls:sys_enter_read, tracepoint:syscalls:sys_enter_pread64 { print(str(args.buf)); } "
        'tracepoint:syscalls:sys_exit_read, tracepoint:syscalls:sys_exit_pread64 { printf("%d", args.ret); }'
    )
    assert found(script) == [("read-at-entry", "str(args.buf)")]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f'{WRITE} {{ printf("%s", args.buf); }}', ["args.buf"]),
        (f'{WRITE} {{ printf("%s %p", str(args.buf), args.buf); }}', []),
        (f"{WRITE} {{ print(args.buf); }}", ["args.buf"]),
        (f"{WRITE} {{ @[args.buf] = count(); }}", ["args.buf"]),
        (f"{WRITE} {{ @[comm, args.buf] = count(); }}", ["args.buf"]),
        (f"{WRITE} {{ @[str(args.buf)] = count(); @[comm] = count(); }}", []),
        ('kprobe:vfs_read { printf("%d", (struct task_struct *)arg0); }', ["(struct task_struct *)arg0"]),
    ],
)
def test_addresses_in_the_place_of_what_is_there(script: str, expected: list[str]) -> None:
    assert found(script) == [("pointer-printed", text) for text in expected]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"{READ} {{ print(str(args.buf)); }}", ["str(args.buf)"]),
        (f"{READ} {{ $b = args.buf; print(buf($b, 4)); }}", ["buf($b, 4)"]),
        (f"{READ} {{ print(*args.buf); }}", ["*args.buf"]),
        (f"{READ} {{ @b[tid] = args.buf; }}", []),
        (f"{WRITE} {{ print(str(args.buf)); }}", []),
        ("kprobe:vfs_read { print(str(uptr(arg1))); }", ["str(uptr(arg1))"]),
        ("kretprobe:vfs_read { print(str(@b[tid])); @b[tid] = 1; }", []),
    ],
)
def test_memory_read_before_it_is_filled(script: str, expected: list[str]) -> None:
    assert found(script) == [("read-at-entry", text) for text in expected]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("kprobe:vfs_write { print(*(uint8 *)arg1); }", ["*(uint8 *)arg1"]),
        ("kprobe:vfs_write { print(*(uint8 *)uptr(arg1)); }", []),
        ("kprobe:vfs_write { print(str(arg1)); }", []),
        ("kprobe:vfs_write { print(str(kptr(arg1))); }", ["str(kptr(arg1))"]),
        ("kprobe:vfs_write { print(*(uint8 *)arg0); }", []),
        ("kprobe:do_sys_openat2 { $name = (uint8 *)arg1; print(*($name + 2)); }", ["*($name + 2)"]),
        (f"{WRITE} {{ print(str(kptr(args.buf))); }}", ["str(kptr(args.buf))"]),
        (f"{WRITE} {{ print(*args.buf); }}", []),
    ],
)
def test_user_memory_read_as_the_kernels(script: str, expected: list[str]) -> None:
    assert found(script) == [("user-as-kernel", text) for text in expected]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("kprobe:__x64_sys_openat { print(str(arg1)); }", ["arg1"]),
        ("kprobe:__arm64_sys_openat { print(arg0); }", ["arg0"]),
        ("kprobe:__x64_sys_openat { $regs = (struct pt_regs *)arg0; }", []),
        ("kprobe:vfs_write { print(arg2); }", []),
        ("kprobe:__x64_sys_openat { @[comm] = count(); }", []),
    ],
)
def test_arguments_of_wrappers(script: str, expected: list[str]) -> None:
    script = f"struct pt_regs {{ long di; }};\n{script}"
    assert found(script) == [("wrapper-arguments", text) for text in expected]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("tracepoint:sched:sched_switch { print(args.prev_comm[16]); }", ["args.prev_comm[16]"]),
        ("tracepoint:sched:sched_switch { print(args.prev_comm[15]); }", []),
        ("tracepoint:sched:sched_switch { print(buf(args.prev_comm, 17)); }", ["buf(args.prev_comm, 17)"]),
        ("tracepoint:sched:sched_switch { print(buf(args.prev_comm, 16)); }", []),
    ],
)
def test_reads_behind_a_field(script: str, expected: list[str]) -> None:
    assert found(script) == [("past-the-record", text) for text in expected]


def test_a_place_is_complained_about_once() -> None:
    script = 'kprobe:vfs_read, kprobe:vfs_write { printf("%d", nsecs); }'
    assert found(script) == [("value-cut", "nsecs")]


def test_hints_say_what_to_write() -> None:
    def hints(script: str) -> Sequence[str]:
        return [one.hint for one in lint(typed(script, Machine()))]

    assert hints('begin { printf("%x", nsecs); }') == ["write %lx"]
    assert "sys_exit_read" in hints(f"{READ} {{ print(str(args.buf)); }}")[0]
    assert "kretprobe:vfs_read" in hints("kprobe:vfs_read { print(str(uptr(arg1))); }")[0]
    assert "sys_enter_openat" in hints("kprobe:__x64_sys_openat { print(arg1); }")[0]
