"""Helper functions of the engine: results, errnos and what they leave in memory."""

from __future__ import annotations

import errno
from pathlib import Path
from re import findall
from typing import Any

import pytest

from tracebee.btf.core import POISON
from tracebee.engine.calls import CALLS, KERNEL_ONLY
from tracebee.engine.faults import ProgramFault, TailCall
from tracebee.engine.memory import MemoryFault
from tracebee.insn.helpers import helper_id, helper_names
from tracebee.spec.objects import MapSpec

from .fakes import Bench

HASH = MapSpec("hash", "HASH", 4, 8, 4)
RING = MapSpec("ring", "RINGBUF", 0, 0, 4096)
USER = 0x7F00_0000_0000
KERNEL = 0xFFFF_8880_0000_0000


def k(number: int) -> bytes:
    return number.to_bytes(4, "little")


def v(number: int) -> bytes:
    return number.to_bytes(8, "little")


# ---------------------------------------------------------------------- the table


def test_every_helper_is_here_or_told_why_not() -> None:
    here = {call.name for number, call in CALLS.items() if number != POISON}
    assert here.isdisjoint(KERNEL_ONLY)
    assert {f"bpf_{name}" for name in here | set(KERNEL_ONLY)} == set(helper_names())
    assert all(helper_id(call.name) == number for number, call in CALLS.items() if number != POISON)


def test_what_co_re_found_no_answer_to() -> None:
    call = CALLS[POISON].make(Bench().machine)
    with pytest.raises(ProgramFault, match="has not the type, field or constant"):
        call(0, 0, 0, 0, 0)


def test_what_scripts_call_is_known() -> None:
    import tracebee.language

    folder = Path(tracebee.language.__path__[0])
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.py")]
    called = {name for text in texts for name in findall(r'\.call\(\s*"([a-z0-9_]+)"', text)}
    assert len(called) > 25
    assert called <= {call.name for call in CALLS.values()} | set(KERNEL_ONLY)


# ---------------------------------------------------------------------- maps


def test_map_elements() -> None:
    bench = Bench(HASH)
    table = bench.maps["hash"].handle
    key, value = bench.put(k(1)), bench.put(v(5))
    assert bench.call("map_lookup_elem", table, key) == 0
    assert bench.call("map_update_elem", table, key, value, 2) == -errno.ENOENT
    assert bench.call("map_update_elem", table, key, value, 1) == 0
    assert bench.get(bench.call("map_lookup_elem", table, key), 8) == v(5)
    assert bench.call("map_delete_elem", table, key) == 0
    assert bench.call("map_delete_elem", table, key) == -errno.ENOENT


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("map_lookup_elem", (0x1234,)),
        ("map_update_elem", (0x1234,)),
        ("map_delete_elem", (0x1234,)),
        ("map_push_elem", (0x1234,)),
        ("map_pop_elem", (0x1234,)),
        ("map_peek_elem", (0x1234,)),
        ("map_lookup_percpu_elem", (0x1234,)),
        ("for_each_map_elem", (0x1234,)),
        ("ringbuf_reserve", (0x1234, 8)),
        ("ringbuf_output", (0x1234,)),
        ("ringbuf_query", (0x1234,)),
        ("ringbuf_reserve_dynptr", (0x1234,)),
        ("perf_event_output", (0, 0x1234)),
        ("get_stackid", (0, 0x1234)),
        ("tail_call", (0, 0x1234)),
    ],
)
def test_a_number_is_no_map(name: str, arguments: tuple[int, ...]) -> None:
    bench = Bench(HASH)
    with pytest.raises(ProgramFault, match="holds no map") as caught:
        bench.call(name, *arguments)
    assert caught.value.address == 0x1234


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *[("ringbuf_reserve", 0), ("ringbuf_output", 0), ("ringbuf_query", 0), ("ringbuf_reserve_dynptr", 0)],
        *[("perf_event_output", 1), ("get_stackid", 1), ("tail_call", 1)],
    ],
)
def test_a_map_of_another_kind(name: str, place: int) -> None:
    bench = Bench(HASH)
    arguments = [0, bench.maps["hash"].handle] if place else [bench.maps["hash"].handle]
    with pytest.raises(ProgramFault, match=f"{name} is not for map hash of type HASH"):
        bench.call(name, *arguments)


@pytest.mark.parametrize("name", ["map_lookup_elem", "map_update_elem", "map_delete_elem"])
def test_a_key_has_to_be_in_memory(name: str) -> None:
    bench = Bench(HASH)
    with pytest.raises(MemoryFault):
        bench.call(name, bench.maps["hash"].handle, bench.put(b"abc"), bench.put(v(1)))


def test_queue_elements() -> None:
    bench = Bench(MapSpec("q", "QUEUE", 0, 8, 2))
    table, value = bench.maps["q"].handle, bench.put(v(5))
    assert bench.call("map_push_elem", table, value, 0) == 0
    out = bench.put(b"x" * 8)
    assert bench.call("map_peek_elem", table, out) == 0
    assert bench.get(out, 8) == v(5)
    assert bench.call("map_pop_elem", table, out) == 0
    assert bench.call("map_pop_elem", table, out) == -errno.ENOENT
    assert bench.get(out, 8) == v(0)
    bench.memory.write(out, b"x" * 8)
    assert bench.call("map_peek_elem", table, out) == -errno.ENOENT
    assert bench.get(out, 8) == v(0)


def test_bloom_filter() -> None:
    bench = Bench(MapSpec("b", "BLOOM_FILTER", 0, 8, 20))
    table = bench.maps["b"].handle
    one, two = bench.put(v(1)), bench.put(v(2))
    assert bench.call("map_push_elem", table, one, 0) == 0
    assert bench.call("map_peek_elem", table, one) == 0
    assert bench.call("map_peek_elem", table, two) == -errno.ENOENT
    assert bench.get(two, 8) == v(2)


def test_values_of_other_processors() -> None:
    bench = Bench(MapSpec("p", "PERCPU_HASH", 4, 8, 2), cpus=2)
    table, key = bench.maps["p"].handle, bench.put(k(1))
    bench.shared.cpu = 1
    bench.call("map_update_elem", table, key, bench.put(v(9)), 0)
    found = [bench.call("map_lookup_percpu_elem", table, key, cpu) for cpu in (0, 1, 2, 1 << 32)]
    assert [bench.get(address, 8) if address else None for address in found] == [v(0), v(9), None, v(0)]


def test_for_each_calls_back() -> None:
    bench = Bench(HASH, RING)
    table = bench.maps["hash"]
    for number in range(3):
        table.put(k(number), v(number * 10))
    seen = []

    def function(r1: int, r2: int, r3: int, r4: int, r5: int, depth: int) -> int:
        assert (r1, r4, r5, depth) == (table.handle, 55, 0, 1)
        seen.append((bench.get(r2, 4), bench.get(r3, 8)))
        return int(len(seen) == 2)

    bench.machine.functions[0x999] = function
    assert bench.call("for_each_map_elem", table.handle, 0x999, 55, 1) == -errno.EINVAL
    assert bench.call("for_each_map_elem", table.handle, 0x999, 55, 0) == 2
    assert seen == [(k(0), v(0)), (k(1), v(10))]
    with pytest.raises(ProgramFault, match="for_each_map_elem is not for map ring"):
        bench.call("for_each_map_elem", bench.maps["ring"].handle, 0x999, 0, 0)


def test_locks_are_memory() -> None:
    bench = Bench()
    lock = bench.put(bytes(4))
    assert bench.call("spin_lock", lock) == bench.call("spin_unlock", lock) == 0
    with pytest.raises(MemoryFault):
        bench.call("spin_lock", lock + 1)


# ---------------------------------------------------------------------- reading


@pytest.fixture
def reading() -> Bench:
    bench = Bench()
    bench.world.user[USER] = bytearray(b"user\0and more")
    bench.world.kernel[KERNEL] = bytearray(b"kernel\0and more")
    return bench


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        ("probe_read_user", USER, b"user"),
        ("copy_from_user", USER, b"user"),
        ("probe_read", USER, b"user"),
        ("probe_read", KERNEL, b"kern"),
        ("probe_read_kernel", KERNEL, b"kern"),
    ],
)
def test_reading(reading: Bench, name: str, address: int, expected: bytes) -> None:
    to = reading.put(b"........")
    assert reading.call(name, to + 2, 4, address) == 0
    assert reading.get(to, 8) == b".." + expected + b".."
    assert reading.call(name, to, 0, 0) == 0


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("probe_read_user", KERNEL),
        ("probe_read_user", USER + 10),
        ("copy_from_user", 0),
        ("probe_read", USER - 1),
        ("probe_read", KERNEL - 1),
        ("probe_read_kernel", USER),
        ("probe_read_kernel", 0),
    ],
)
def test_a_failed_read_leaves_zeros(reading: Bench, name: str, address: int) -> None:
    to = reading.put(b"........")
    assert reading.call(name, to + 2, 4, address) == -errno.EFAULT
    assert reading.get(to, 8) == b"..\0\0\0\0.."


@pytest.mark.parametrize("name", ["probe_read", "probe_read_kernel"])
def test_reading_the_programs_own_memory(reading: Bench, name: str) -> None:
    own, to = reading.put(b"own memory"), reading.put(b"........")
    assert reading.call(name, to, 6, own + 4) == 0
    assert reading.get(to, 8) == b"memory.."
    assert reading.call(name, to, 7, own + 4) == -errno.EFAULT
    assert reading.get(to, 8) == bytes(7) + b"."


def test_user_memory_is_not_the_programs(reading: Bench) -> None:
    assert reading.call("probe_read_user", reading.put(bytes(4)), 4, reading.put(b"own!")) == -errno.EFAULT


@pytest.mark.parametrize(
    ("name", "address", "text"),
    [
        ("probe_read_user_str", USER, b"user"),
        ("probe_read_str", USER, b"user"),
        ("probe_read_str", KERNEL, b"kernel"),
        ("probe_read_kernel_str", KERNEL, b"kernel"),
    ],
)
def test_reading_strings(reading: Bench, name: str, address: int, text: bytes) -> None:
    to = reading.put(b".........")
    assert reading.call(name, to, 9, address) == len(text) + 1
    assert reading.get(to, 9) == (text + b"\0").ljust(9, b".")
    assert reading.call(name, to, 3, address) == 3
    assert reading.get(to, 4) == text[:2] + b"\0" + (text + b"\0").ljust(9, b".")[3:4]
    assert reading.call(name, to, 1, address) == 1
    assert reading.get(to, 1) == b"\0"
    assert reading.call(name, to, 0, address) == 0
    assert reading.call(name, to, 9, address - 1) == -errno.EFAULT
    assert reading.get(to, 9) == bytes(9)


def test_strings_that_memory_ends_in(reading: Bench) -> None:
    """A string without an end is no string, but the start of it may be all that is wanted."""
    to, own = reading.put(bytes(9)), reading.put(b"abc")
    for name, address in (
        ("probe_read_user_str", USER + 9),
        ("probe_read_kernel_str", own),
        ("probe_read_kernel_str", KERNEL + 12),
    ):
        assert reading.call(name, to, 9, address) == -errno.EFAULT
        assert reading.call(name, to, 3, address) == 3


def test_strings_up_to_the_end_of_a_page(reading: Bench) -> None:
    reading.world.kernel = {KERNEL: bytearray(4096 - 3) + b"ab\0"}
    to = reading.put(bytes(64))
    assert reading.call("probe_read_kernel_str", to, 64, KERNEL + 4093) == 3
    assert reading.get(to, 3) == b"ab\0"
    reading.world.kernel = {KERNEL: bytearray(4096 - 3) + b"abcdef\0"}
    assert reading.call("probe_read_kernel_str", to, 64, KERNEL + 4093) == 7
    assert reading.get(to, 7) == b"abcdef\0"


@pytest.mark.parametrize(
    "name", ["probe_read_user", "probe_read_kernel", "probe_read_user_str", "probe_read_str"]
)
def test_the_destination_is_checked(reading: Bench, name: str) -> None:
    small = reading.put(bytes(4))
    read_only = reading.memory.add(b"1234")
    for to, size in ((small, 5), (small + 1, 4), (read_only, 4), (0, 4), (small, (1 << 32) - 1)):
        with pytest.raises(MemoryFault) as caught:
            reading.call(name, to, size, USER)
        assert (caught.value.action, caught.value.address) == ("write", to)


def test_writing_to_the_process(reading: Bench) -> None:
    own = reading.put(b"USER")
    assert reading.call("probe_write_user", USER, own, 4) == 0
    assert reading.world.user[USER] == b"USER\0and more"
    assert reading.call("probe_write_user", USER + 100, own, 4) == -errno.EFAULT
    with pytest.raises(MemoryFault):
        reading.call("probe_write_user", USER, own, 5)


# ---------------------------------------------------------------------- the task, the clocks


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("get_current_pid_tgid", 7 << 32 | 8),
        ("get_current_uid_gid", 100 << 32 | 1000),
        ("get_current_task", KERNEL + 0x1000),
        ("get_current_task_btf", KERNEL + 0x1000),
        ("get_current_cgroup_id", 77),
        ("get_smp_processor_id", 3),
        ("get_numa_node_id", 1),
        ("get_prandom_u32", 0xDEAD_BEEF),
        ("get_attach_cookie", 0xC00C1E),
        ("get_func_ip", 0x401000),
        ("ktime_get_ns", 1),
        ("ktime_get_boot_ns", 2),
        ("ktime_get_tai_ns", 3),
        ("ktime_get_coarse_ns", 4),
        ("jiffies64", 5),
    ],
)
def test_facts(name: str, expected: int) -> None:
    assert Bench().call(name) == expected


def test_comm() -> None:
    bench = Bench()
    to = bench.put(b"." * 16)
    assert bench.call("get_current_comm", to, 16) == 0
    assert bench.get(to, 16) == b"made up".ljust(16, b"\0")
    assert bench.call("get_current_comm", to, 5) == 0
    assert bench.get(to, 16) == b"made\0up".ljust(16, b"\0")
    assert bench.call("get_current_comm", to, 0) == -errno.EINVAL
    with pytest.raises(MemoryFault):
        bench.call("get_current_comm", to, 17)


def test_ids_in_a_namespace() -> None:
    bench = Bench()
    bench.world.namespaces[(3, 4)] = (11, 12)
    to = bench.put(b"." * 9)
    assert bench.call("get_ns_current_pid_tgid", 3, 4, to, 8) == 0
    assert bench.get(to, 9) == k(11) + k(12) + b"."
    assert bench.call("get_ns_current_pid_tgid", 3, 5, to, 8) == -errno.EINVAL
    assert bench.get(to, 9) == bytes(8) + b"."
    bench.memory.write(to, b"." * 9)
    assert bench.call("get_ns_current_pid_tgid", 3, 4, to, 9) == -errno.EINVAL
    assert bench.get(to, 9) == bytes(9)


def test_signals() -> None:
    bench = Bench()
    assert bench.call("send_signal", 10) == bench.call("send_signal_thread", 12) == 0
    assert bench.world.signals == [(10, True), (12, False)]


# ---------------------------------------------------------------------- stacks


def test_stacks() -> None:
    bench = Bench()
    bench.world.stacks = ([1, 2, 3], [9])
    to = bench.put(b"." * 33)
    assert bench.call("get_stack", 0, to, 32, 1 << 8) == 24
    assert bench.get(to, 33) == v(1) + v(2) + v(3) + v(0) + b"."
    assert bench.call("get_stack", 0, to, 16, 1 << 8 | 1) == 16
    assert bench.get(to, 16) == v(2) + v(3)
    assert bench.call("get_stack", 0, to, 32, 0) == 8
    assert bench.get(to, 32) == v(9) + bytes(24)
    assert bench.call("get_stack", 0, to, 32, 2) == -errno.EFAULT
    assert bench.get(to, 33) == bytes(32) + b"."
    for size, flags in ((30, 0), (32, 1 << 11), (32, 1 << 20)):
        bench.memory.write(to, b"." * 33)
        assert bench.call("get_stack", 0, to, size, flags) == -errno.EINVAL
        assert bench.get(to, 33) == bytes(size).ljust(33, b".")


def test_stack_ids() -> None:
    bench = Bench(MapSpec("stacks", "STACK_TRACE", 4, 16, 64))
    table = bench.maps["stacks"]
    bench.world.stacks = ([1, 2, 3], [])
    found = bench.call("get_stackid", 0, table.handle, 1 << 8)
    assert table.get(k(found)) == v(1) + v(2)
    assert bench.call("get_stackid", 0, table.handle, 1 << 8) == found
    skipping = bench.call("get_stackid", 0, table.handle, 1 << 8 | 2)
    assert table.get(k(skipping)) == v(3) + v(0)
    assert bench.call("get_stackid", 0, table.handle, 0) == -errno.EFAULT
    assert bench.call("get_stackid", 0, table.handle, 1 << 11) == -errno.EINVAL


# ---------------------------------------------------------------------- output


def taken(bench: Bench) -> list[bytes]:
    found = []

    def take(data: memoryview, words: memoryview, start: int, end: int, limit: int) -> int:
        while start < end:
            length = words[start >> 2]
            if not length & 1 << 30:
                found.append(bytes(data[start + 8 : start + 8 + length]))
            start += ((length & (1 << 30) - 1) + 15) & ~7
        return end

    bench.maps["ring"].drain(take)
    return found


def test_ring_buffer() -> None:
    bench = Bench(RING)
    ring = bench.maps["ring"].handle
    first = bench.call("ringbuf_reserve", ring, 8, 0)
    second = bench.call("ringbuf_reserve", ring, 8, 0)
    assert bench.call("ringbuf_reserve", ring, 8, 1) == 0
    bench.memory.write(first, v(1))
    assert bench.call("ringbuf_discard", second, 0) == 0
    assert bench.call("ringbuf_submit", first, 0) == 0
    assert bench.call("ringbuf_output", ring, bench.put(b"whole"), 5, 0) == 0
    assert bench.call("ringbuf_output", ring, bench.put(b"whole"), 5, 8) == -errno.EINVAL
    assert bench.call("ringbuf_query", ring, 1) == 4096
    assert taken(bench) == [v(1), b"whole"]
    for name in ("ringbuf_submit", "ringbuf_discard"):
        with pytest.raises(ProgramFault, match="no record of a ring buffer") as caught:
            bench.call(name, first, 0)
        assert caught.value.address == first


def test_perf_events() -> None:
    bench = Bench(MapSpec("perf", "PERF_EVENT_ARRAY", 4, 4, 1))
    table, data = bench.maps["perf"], bench.put(bytes(1 << 16))
    assert bench.call("perf_event_output", 0, table.handle, 0xFFFF_FFFF, data, 5) == 0
    assert bench.call("perf_event_output", 0, table.handle, 0xFFFF_FFFF, data, 1 << 16) == -errno.E2BIG
    assert [sample.data for sample in table.take()] == [bytes(5)]


FORMATS: list[tuple[bytes, list[Any], bytes | None]] = [
    (b"plain", [], b"plain"),
    (b"100%%", [], b"100%"),
    (b"%d %u %x %X", [-1, -1, 0xABC, 0xABC], b"-1 4294967295 abc ABC"),
    (b"%ld %lld %lu %llx", [-1, -2, -1, -1], b"-1 -2 18446744073709551615 ffffffffffffffff"),
    (b"%i|%5d|%-5d|%05d|%+d", [7, 7, 7, 7, 7], b"7|    7|7    |00007|+7"),
    (b"%c%c", [0x41, 0x142], b"AB"),
    (b"%px %p", [0x1234, 0], b"0000000000001234 0000000000000000"),
    (b"%ps", [0xFFFF_FFFF_8100_0000], b"0xffffffff81000000"),
    (b"[%s] [%8s] [%-8s]", [b"own", b"own", b"own"], b"[own] [     own] [own     ]"),
    (b"%pI4 %pi4", [b"\x7f\0\0\1", b"\x7f\0\0\1"], b"127.0.0.1 127.000.000.001"),
    (b"%pI6", [bytes(15) + b"\1"], b"0000:0000:0000:0000:0000:0000:0000:0001"),
    (b"%pi6", [bytes(15) + b"\1"], b"00000000000000000000000000000001"),
    (b"%s", [0], b""),
    (b"%d %d", [1], None),
    (b"%", [1], None),
    (b"%f", [1], None),
    (b"%n", [1], None),
    (b"%lp", [1], None),
    (b"%hd", [1], None),
    (b"caf\xc3\xa9", [], None),
    (b"bell\a", [], None),
    (b"tab\tline\n", [], b"tab\tline\n"),
]


@pytest.mark.parametrize(("form", "values", "expected"), FORMATS)
def test_formats(form: bytes, values: list[Any], expected: bytes | None) -> None:
    bench = Bench()
    words = [bench.put(value + b"\0") if isinstance(value, bytes) else value for value in values]
    data = bench.put(b"".join([v(word & (1 << 64) - 1) for word in words]))
    text, to = bench.put(form + b"\0"), bench.put(b"." * 200)
    result = bench.call("snprintf", to, 200, text, data, 8 * len(words))
    printed = bench.call("trace_vprintk", text, len(form) + 1, data, 8 * len(words))
    if expected is None:
        assert result == printed == -errno.EINVAL
        assert bench.world.printed == []
    else:
        assert result == len(expected) + 1
        assert bench.get(to, 200) == (expected + b"\0").ljust(200, b".")
        assert printed == len(expected)
        assert bench.world.printed == [expected]


def test_strings_of_others_in_formats() -> None:
    bench = Bench()
    bench.world.user[USER] = bytearray(b"user\0")
    bench.world.kernel[KERNEL] = bytearray(b"kernel\0")
    form = b"%s %pus %s %pks\0"
    data = bench.put(b"".join(map(v, (USER, USER, KERNEL, KERNEL))))
    assert bench.call("trace_vprintk", bench.put(form), len(form), data, 32) == 23
    assert bench.world.printed == [b"user user kernel kernel"]


def test_trace_printk() -> None:
    bench = Bench()
    form = bench.put(b"%d+%d=%d\n\0")
    assert bench.call("trace_printk", form, 10, 1, 2, 3) == 6
    assert bench.world.printed == [b"1+2=3\n"]
    assert bench.call("trace_printk", form, 9, 1, 2, 3) == -errno.EINVAL
    long = bench.put(b"x" * 2000 + b"\0")
    assert bench.call("trace_printk", long, 2001) == 2000
    assert bench.world.printed[1:] == [b"x" * 1023]


def test_limits_of_printing() -> None:
    bench = Bench()
    form, data = bench.put(b"%d\0"), bench.put(bytes(200))
    for size in (4, 8 * 13):
        assert bench.call("snprintf", data, 10, form, data, size) == -errno.EINVAL
        assert bench.call("trace_vprintk", form, 3, data, size) == -errno.EINVAL
    assert bench.call("snprintf", data, 10, form, 0, 8) == -errno.EINVAL
    with pytest.raises(MemoryFault):
        bench.call("snprintf", data, 10, bench.put(b"no end"), 0, 0)
    with pytest.raises(MemoryFault):
        bench.call("snprintf", data, 10, USER, 0, 0)


def test_snprintf_cuts() -> None:
    bench = Bench()
    form, to = bench.put(b"0123456789\0"), bench.put(b"." * 20)
    assert bench.call("snprintf", to, 5, form, 0, 0) == 11
    assert bench.get(to, 20) == b"0123\0" + b"." * 15
    assert bench.call("snprintf", to, 0, form, 0, 0) == 11


# ---------------------------------------------------------------------- strings and numbers


@pytest.mark.parametrize(
    ("first", "size", "second", "expected"),
    [
        (b"abc\0", 4, b"abc\0", 0),
        (b"abc\0", 4, b"abd\0", -1),
        (b"abd\0", 4, b"abc\0", 1),
        (b"ab\0x", 4, b"abc\0", -1),
        (b"abcd", 4, b"abc\0", 1),
        (b"abc", 3, b"abcdef\0", 0),
        (b"a\0z", 3, b"a\0", 0),
        (b"\xff\0", 2, b"a\0", 1),
    ],
)
def test_strncmp(first: bytes, size: int, second: bytes, expected: int) -> None:
    bench = Bench()
    assert bench.call("strncmp", bench.put(first), size, bench.put(second)) == expected


@pytest.mark.parametrize(
    ("text", "flags", "signed", "unsigned"),
    [
        (b"123 ", 10, (123, 3), (123, 3)),
        (b"  -45x", 10, (-45, 5), -errno.EINVAL),
        (b"0x1F", 0, (31, 4), (31, 4)),
        (b"0x1f", 16, (31, 4), (31, 4)),
        (b"1f", 16, (31, 2), (31, 2)),
        (b"017", 0, (15, 3), (15, 3)),
        (b"17", 8, (15, 2), (15, 2)),
        (b"0xg", 0, (0, 1), (0, 1)),
        (b"0xg", 16, -errno.EINVAL, -errno.EINVAL),
        (b"19", 8, (1, 1), (1, 1)),
        (b"x", 10, -errno.EINVAL, -errno.EINVAL),
        (b"-", 10, -errno.EINVAL, -errno.EINVAL),
        (b"+1", 10, -errno.EINVAL, -errno.EINVAL),
        (b"   ", 10, -errno.EINVAL, -errno.EINVAL),
        (b"1\x002", 10, (1, 1), (1, 1)),
        (b"1", 7, -errno.EINVAL, -errno.EINVAL),
        (b"1", 10 | 1 << 5, -errno.EINVAL, -errno.EINVAL),
        (b"9223372036854775807", 10, ((1 << 63) - 1, 19), ((1 << 63) - 1, 19)),
        (b"9223372036854775808", 10, -errno.ERANGE, (1 << 63, 19)),
        (b"-9223372036854775808", 10, (-(1 << 63), 20), -errno.EINVAL),
        (b"-9223372036854775809", 10, -errno.ERANGE, -errno.EINVAL),
        (b"18446744073709551616", 10, -errno.ERANGE, -errno.ERANGE),
    ],
)
def test_numbers_in_text(text: bytes, flags: int, signed: Any, unsigned: Any) -> None:
    bench = Bench()
    for name, expected in (("strtol", signed), ("strtoul", unsigned)):
        to = bench.put(b"." * 8)
        result = bench.call(name, bench.put(text), len(text), flags, to)
        value = int.from_bytes(bench.get(to, 8), "little", signed=name == "strtol")
        if isinstance(expected, int):
            assert (value, result) == (0, expected)
        else:
            assert (value, result) == expected


# ---------------------------------------------------------------------- control


def test_loop() -> None:
    bench = Bench()
    seen = []

    def function(r1: int, r2: int, r3: int, r4: int, r5: int, depth: int) -> int:
        seen.append((r1, r2, depth))
        return int(r1 == 3)

    bench.machine.functions[0x999] = function
    assert bench.call("loop", 3, 0x999, 55, 0) == 3
    assert seen == [(0, 55, 1), (1, 55, 1), (2, 55, 1)]
    assert bench.call("loop", 100, 0x999, 55, 0) == 4
    assert bench.call("loop", 1, 0x999, 55, 1) == -errno.EINVAL
    assert bench.call("loop", (8 << 20) + 1, 0x999, 55, 0) == -errno.E2BIG
    with pytest.raises(ProgramFault, match="no function to call back"):
        bench.call("loop", 1, 0x998, 0, 0)


def test_tail_call() -> None:
    bench = Bench(MapSpec("jumps", "PROG_ARRAY", 4, 4, 3))
    table, context = bench.maps["jumps"], bench.put(bytes(8))
    table.put(k(1), k(42))
    bench.machine.programs[42] = lambda r1, r2, r3, r4, r5, depth: 0
    assert bench.call("tail_call", context, table.handle, 0) == -errno.ENOENT
    assert bench.call("tail_call", context, table.handle, 3) == -errno.ENOENT
    with pytest.raises(TailCall) as caught:
        bench.call("tail_call", context, table.handle, 1)
    assert (caught.value.program, caught.value.context) == (42, context)


# ---------------------------------------------------------------------- dynptr


def test_dynptr_of_memory() -> None:
    bench = Bench()
    data, dynptr, to = bench.put(b"0123456789"), bench.put(bytes(16)), bench.put(b"." * 10)
    assert bench.call("dynptr_from_mem", data, 10, 0, dynptr) == 0
    assert bench.call("dynptr_read", to, 4, dynptr, 3, 0) == 0
    assert bench.get(to, 5) == b"3456."
    assert bench.call("dynptr_read", to, 4, dynptr, 7, 0) == -errno.E2BIG
    assert bench.get(to, 5) == bytes(4) + b"."
    assert bench.call("dynptr_write", dynptr, 8, bench.put(b"AB"), 2, 0) == 0
    assert bench.call("dynptr_write", dynptr, 9, bench.put(b"CD"), 2, 0) == -errno.E2BIG
    assert bench.call("dynptr_write", dynptr, 0, bench.put(b"CD"), 2, 1) == -errno.EINVAL
    assert bench.get(data, 10) == b"01234567AB"
    assert bench.call("dynptr_data", dynptr, 2, 8) == data + 2
    assert bench.call("dynptr_data", dynptr, 3, 8) == 0
    assert bench.call("dynptr_from_mem", data, 10, 1, dynptr) == -errno.EINVAL
    assert bench.call("dynptr_data", dynptr, 0, 1) == 0
    assert bench.call("dynptr_read", to, 1, dynptr, 0, 0) == -errno.EINVAL
    with pytest.raises(MemoryFault):
        bench.call("dynptr_from_mem", data, 11, 0, dynptr)


def test_dynptr_of_a_record() -> None:
    bench = Bench(RING)
    ring, dynptr = bench.maps["ring"].handle, bench.put(bytes(16))
    assert bench.call("ringbuf_reserve_dynptr", ring, 8, 0, dynptr) == 0
    assert bench.call("dynptr_write", dynptr, 0, bench.put(v(7)), 8, 0) == 0
    assert bench.call("ringbuf_submit_dynptr", dynptr, 0) == 0
    assert bench.call("ringbuf_reserve_dynptr", ring, 8, 0, dynptr) == 0
    assert bench.call("ringbuf_discard_dynptr", dynptr, 0) == 0
    assert bench.call("ringbuf_reserve_dynptr", ring, 5000, 0, dynptr) == -errno.EINVAL
    assert bench.call("ringbuf_reserve_dynptr", ring, 1 << 24, 0, dynptr) == -errno.E2BIG
    assert bench.call("ringbuf_submit_dynptr", dynptr, 0) == 0
    assert taken(bench) == [v(7)]
    bench.memory.write(dynptr, v(0x4444) + k(8) + k(2))
    with pytest.raises(ProgramFault, match="no record that is reserved"):
        bench.call("ringbuf_submit_dynptr", dynptr, 0)
