"""bpf(2) and perf_event_open(2) before a kernel that is a function: what it gets, what its answers become."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Any

import pytest

from tracebee.errors import NotSupportedError, SyscallError, TracebeeError
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls import bpf, perf, raw


class Kernel:
    """Takes system calls: keeps the arguments, answers in turn with what is given, the last for ever."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[int, ...]] = []
        self.data: list[bytes] = []
        self.pointed: list[dict[int, bytes]] = []
        self.edit: Any = None

    def __call__(self, number: int, *arguments: Any) -> int:
        self.calls.append((number, *(a for a in arguments if isinstance(a, int))))
        for argument in arguments:
            if not isinstance(argument, int):
                self.data.append(argument.raw)
                if self.edit is not None:
                    self.edit(argument)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def field(self, layout: bpf.Layout, name: str, call: int = -1) -> int:
        offset, size = layout[name]
        return int.from_bytes(self.data[call][offset : offset + size], sys.byteorder)


def kernel(monkeypatch: pytest.MonkeyPatch, *answers: int) -> Kernel:
    fake = Kernel(*answers)
    monkeypatch.setattr(bpf, "syscall", fake)
    monkeypatch.setattr(perf, "syscall", fake)
    return fake


# ---------------------------------------------------------------------- raw


def test_checked() -> None:
    assert raw.checked("call", 0) == 0
    assert raw.checked("call", 7) == 7
    with pytest.raises(SyscallError) as caught:
        raw.checked("bpf(BPF_MAP_CREATE)", -errno.EPERM, "HASH map '@'")
    error = caught.value
    assert isinstance(error, TracebeeError)
    assert isinstance(error, OSError)
    assert (error.call, error.errno, error.errno_name) == ("bpf(BPF_MAP_CREATE)", errno.EPERM, "EPERM")
    assert str(error) == "bpf(BPF_MAP_CREATE): Operation not permitted (EPERM): HASH map '@'"


def test_a_real_call_gives_its_result_or_minus_errno() -> None:
    assert raw.syscall(39 if os.uname().machine == "x86_64" else 172) == os.getpid()
    assert raw.ioctl(-1, 0, 0) == -errno.EBADF
    assert raw.prctl(-1, 0) == -errno.EINVAL


def test_numbers_of_a_machine_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6.1", "#1", "vax")))
    with pytest.raises(NotSupportedError, match="vax"):
        raw.number_of("bpf")


def test_numbers_agree_with_the_table_of_system_calls() -> None:
    from tracebee.host._syscalls import SYSCALLS

    for machine, numbers in raw.NUMBERS.items():
        assert {name: number for number, name in SYSCALLS[machine].items() if name in numbers} == numbers


def test_memory() -> None:
    memory = raw.buffer(b"abcd")
    raw.write(memory, 1, b"XY")
    assert memory.raw == b"aXYd"
    assert ctypes.string_at(raw.address(memory), 4) == b"aXYd"
    assert len(raw.buffer(b"")) == len(raw.empty_buffer(0)) == 1
    with pytest.raises(AssertionError):
        raw.write(memory, 3, b"XY")
    with pytest.raises(AssertionError):
        raw.write(memory, -1, b"X")


def test_names_of_errors() -> None:
    assert raw.errno_name(errno.E2BIG) == "E2BIG"
    assert raw.errno_name(524) == "524"
    assert raw.describe_errno(errno.ENOENT) == "No such file or directory (ENOENT)"


# ---------------------------------------------------------------------- bpf: what the kernel gets


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("events", b"events"),
        ("@a", b"_a"),
        ("a.b_C9", b"a.b_C9"),
        ("café", b"caf_"),
        ("x" * 40, b"x" * 15),
        ("", b""),
    ],
)
def test_names_of_objects(name: str, given: bytes) -> None:
    assert bpf.object_name(name) == given


def test_map_create(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, 5)
    assert bpf.map_create("PERCPU_HASH", 8, 16, 100, flags=1, name="AT_x") == 5
    layout = uapi.ATTR_MAP_CREATE
    wanted = {"map_type": 5, "key_size": 8, "value_size": 16, "max_entries": 100, "map_flags": 1, "btf_fd": 0}
    assert {name: fake.field(layout, name) for name in wanted} == wanted
    assert fake.data[0][28:44] == b"AT_x".ljust(16, b"\0")
    number, command, size = fake.calls[0]
    assert (number, command) == (raw.number_of("bpf"), 0)
    # An old kernel refuses what it does not know, so no more is passed than is set.
    assert size == 48


def test_types_of_maps_are_passed_with_their_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, 5)
    bpf.map_create("HASH", 4, 8, 1, btf_fd=9, key_type=2, value_type=3)
    layout = uapi.ATTR_MAP_CREATE
    assert [fake.field(layout, f) for f in ("btf_fd", "btf_key_type_id", "btf_value_type_id")] == [9, 2, 3]


def test_prog_load(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, 6)
    code = bytes(range(16))
    bpf.prog_load("RAW_TRACEPOINT", code, name="begin", expected_attach_type="TRACE_ITER")
    layout = uapi.ATTR_PROG_LOAD
    wanted = {"prog_type": 17, "insn_cnt": 2, "expected_attach_type": 28, "log_level": 0, "log_buf": 0}
    assert {name: fake.field(layout, name) for name in wanted} == wanted


def test_debug_info_of_programs_needs_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, 6)
    bpf.prog_load("TRACEPOINT", bytes(8), func_info=bytes(16), line_info=bytes(48))
    assert fake.field(uapi.ATTR_PROG_LOAD, "func_info_cnt") == 0
    bpf.prog_load("TRACEPOINT", bytes(8), btf_fd=4, func_info=bytes(16), line_info=bytes(48))
    layout = uapi.ATTR_PROG_LOAD
    fields = ("prog_btf_fd", "func_info_rec_size", "func_info_cnt", "line_info_rec_size", "line_info_cnt")
    assert [fake.field(layout, field) for field in fields] == [4, 8, 2, 16, 3]


def test_links(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, 7)
    assert bpf.link_create(3, 4, "PERF_EVENT", perf_event_bpf_cookie=1 << 40) == 7
    layout = uapi.ATTR_LINK_CREATE
    fields = ("prog_fd", "target_fd", "attach_type", "perf_event_bpf_cookie")
    assert [fake.field(layout, field) for field in fields] == [3, 4, 41, 1 << 40]
    assert bpf.raw_tracepoint_open(3) == 7
    assert fake.field(uapi.ATTR_RAW_TRACEPOINT, "name") == 0
    assert fake.calls[-1][2] == 16


# ---------------------------------------------------------------------- bpf: what answers become


def test_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, 0)

    def fill(attr: Any) -> None:
        offset, _ = uapi.ATTR_MAP_ELEM["value"]
        ctypes.memmove(int.from_bytes(attr.raw[offset : offset + 8], sys.byteorder), b"12345678", 8)

    fake.edit = fill
    assert bpf.map_lookup(3, b"key!", 8) == b"12345678"
    assert bpf.map_next_key(3, b"key!", 8) == b"12345678"
    assert bpf.map_next_key(3, None, 8) == b"12345678"
    assert fake.field(uapi.ATTR_MAP_ELEM, "key") == 0
    fake.edit = None
    fake.answers = [-errno.ENOENT]
    assert bpf.map_lookup(3, b"key!", 8) is None
    assert bpf.map_next_key(3, None, 8) is None
    assert bpf.map_delete(3, b"key!") is False
    fake.answers = [0]
    assert bpf.map_delete(3, b"key!") is True


def test_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, 0)

    def answer(found: int) -> Any:
        def fill(attr: Any) -> None:
            for name, data in (("keys", b"k1k2"), ("values", b"vvVV"), ("out_batch", b"next")):
                offset, _ = uapi.ATTR_MAP_BATCH[name]
                ctypes.memmove(int.from_bytes(attr.raw[offset : offset + 8], sys.byteorder), data, 4)
            offset, size = uapi.ATTR_MAP_BATCH["count"]
            ctypes.memmove(ctypes.addressof(attr) + offset, found.to_bytes(size, sys.byteorder), size)

        return fill

    fake.edit = answer(2)
    assert bpf.map_lookup_batch(3, None, 2, 2, 2) == bpf.Batch(b"k1k2", b"vvVV", 2, b"next")
    assert fake.field(uapi.ATTR_MAP_BATCH, "in_batch") == 0
    fake.edit = answer(1)
    fake.answers = [-errno.ENOENT]
    assert bpf.map_lookup_batch(3, b"next", 2, 2, 2) == bpf.Batch(b"k1", b"vv", 1, None)
    assert fake.field(uapi.ATTR_MAP_BATCH, "in_batch") != 0
    fake.answers = [-errno.EINVAL]
    with pytest.raises(SyscallError) as caught:
        bpf.map_lookup_batch(3, None, 2, 2, 2)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: bpf.map_create("HASH", 4, 8, 1), "BPF_MAP_CREATE"),
        (lambda: bpf.map_lookup(3, b"key!", 8), "BPF_MAP_LOOKUP_ELEM"),
        (lambda: bpf.map_update(3, b"key!", b"v"), "BPF_MAP_UPDATE_ELEM"),
        (lambda: bpf.map_delete(3, b"key!"), "BPF_MAP_DELETE_ELEM"),
        (lambda: bpf.map_next_key(3, None, 4), "BPF_MAP_GET_NEXT_KEY"),
        (lambda: bpf.map_lookup_batch(3, None, 1, 4, 4), "BPF_MAP_LOOKUP_BATCH"),
        (lambda: bpf.map_freeze(3), "BPF_MAP_FREEZE"),
        (lambda: bpf.prog_load("TRACEPOINT", bytes(8)), "BPF_PROG_LOAD"),
        (lambda: bpf.prog_test_run(3), "BPF_PROG_TEST_RUN"),
        (lambda: bpf.btf_load(b"btf"), "BPF_BTF_LOAD"),
        (lambda: bpf.raw_tracepoint_open(3, "sys_enter"), "BPF_RAW_TRACEPOINT_OPEN"),
        (lambda: bpf.link_create(3, 4, "TRACE_ITER"), "BPF_LINK_CREATE"),
        (lambda: bpf.iter_create(3), "BPF_ITER_CREATE"),
        (lambda: bpf.object_info(3, 64), "BPF_OBJ_GET_INFO_BY_FD"),
        (bpf.enable_stats, "BPF_ENABLE_STATS"),
        (lambda: bpf.object_pin(3, "/sys/fs/bpf/x"), "BPF_OBJ_PIN"),
        (lambda: perf.perf_event_open(1, 0), "perf_event_open"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_refusal_names_its_call(call: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, -errno.EBUSY)
    with pytest.raises(SyscallError) as caught:
        call()
    assert caught.value.errno == errno.EBUSY
    assert name in caught.value.call
    assert str(caught.value).startswith(f"{caught.value.call}: Device or resource busy (EBUSY)")


def test_a_refused_program_brings_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, -errno.EACCES)

    def fill(attr: Any) -> None:
        offset, _ = uapi.ATTR_PROG_LOAD["log_buf"]
        where = int.from_bytes(attr.raw[offset : offset + 8], sys.byteorder)
        if where:
            ctypes.memmove(where, b"R0 !read_ok\xff\n\0", 14)

    fake.edit = fill
    with pytest.raises(bpf.LoadRefused) as caught:
        bpf.prog_load("TRACEPOINT", bytes(8), log_level=1, log_size=64)
    assert (caught.value.errno, caught.value.log) == (errno.EACCES, "R0 !read_ok\ufffd\n")
    with pytest.raises(bpf.LoadRefused) as caught:
        bpf.prog_load("TRACEPOINT", bytes(8))
    assert caught.value.log == ""


def test_a_load_that_a_signal_stopped_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, -errno.EAGAIN, 8)
    bpf.prog_load("TRACEPOINT", bytes(8))
    assert len(fake.calls) == 2


def test_info_of_a_shorter_structure() -> None:
    """An older kernel's structure ends before a member that it does not know."""
    layout = {"id": (4, 4), "late": (200, 8)}
    info = bytes(4) + (77).to_bytes(4, sys.byteorder)
    assert bpf.info_field(info, layout, "id") == 77
    assert bpf.info_field(info, layout, "late") == 0


# ---------------------------------------------------------------------- perf


def perf_fields(fake: Kernel, *names: str) -> list[int]:
    return [fake.field(uapi.PERF_EVENT_ATTR, name) for name in names]


def flags_of(fake: Kernel) -> int:
    return int.from_bytes(fake.data[-1][40:48], sys.byteorder)


def test_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, 9)
    assert perf.perf_event_open(perf.PERF_TYPE_TRACEPOINT, 300, cpu=2, period=1) == 9
    assert perf_fields(fake, "type", "config", "sample_period") == [2, 300, 1]
    assert perf_fields(fake, "size") == [112] == [len(fake.data[-1])]
    assert flags_of(fake) == 1  # disabled
    number, pid, cpu, group, flags = fake.calls[-1]
    assert (number, pid, cpu, group, flags) == (raw.number_of("perf_event_open"), -1, 2, -1, 8)


def test_frequencies_breakpoints_and_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = kernel(monkeypatch, 9)
    perf.perf_event_open(1, 0, frequency=99, disabled=False)
    assert (perf_fields(fake, "sample_period"), flags_of(fake)) == ([99], 1 << 10)
    perf.perf_event_open(5, 0, config1=0xFFFF_8000_0000_0000, config2=8, breakpoint_type=3)
    assert perf_fields(fake, "config1", "config2", "bp_type") == [0xFFFF_8000_0000_0000, 8, 3]
    seen = []

    def look(attr: Any) -> None:
        offset, _ = uapi.PERF_EVENT_ATTR["config1"]
        seen.append(ctypes.string_at(int.from_bytes(attr.raw[offset : offset + 8], sys.byteorder)))

    fake.edit = look
    perf.perf_event_open(7, 0, config1=b"/bin/true")
    assert seen == [b"/bin/true"]
