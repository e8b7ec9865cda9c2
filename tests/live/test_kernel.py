"""Maps, programs, rings and features on the kernel at hand."""

from __future__ import annotations

import errno
import os
import struct
import sys
from typing import TYPE_CHECKING

import pytest

from tracebee.cli.refusal import last_source_line
from tracebee.errors import SyscallError, VerifierError
from tracebee.insn import Builder
from tracebee.insn import opcodes as op
from tracebee.insn.codec import MapFd
from tracebee.insn.helpers import helper_id
from tracebee.kernel.features import FEATURES, Features
from tracebee.kernel.links import Context, attach
from tracebee.kernel.maps import KernelMap
from tracebee.kernel.programs import Program, load_program
from tracebee.kernel.ring import Ring
from tracebee.kernel.symbols import KernelNames
from tracebee.session.decode import Decoder
from tracebee.session.drain import Drain, Reader
from tracebee.session.names import Names
from tracebee.spec.events import Event, Layout, PrintValue, Slot
from tracebee.spec.objects import MapSpec, ProbeSpec, ProgramSpec, RawTracepoint, Schema
from tracebee.spec.types import INT64
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("BPF needs root")
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        pytest.skip(f"bpf(2) is refused here: {error}")


def possible_cpus() -> int:
    from tracebee.host.identity import read_cpus

    return len(read_cpus("possible"))


@pytest.fixture
def make() -> Iterator[Callable[..., KernelMap]]:
    """Makes maps, and closes them."""
    made: list[KernelMap] = []

    def make_map(kind: str, key: int, value: int, entries: int, flags: int = 0) -> KernelMap:
        spec = MapSpec("tb_test", kind, key, value, entries, flags)
        fd = bpf.map_create(kind, key, value, entries, flags=flags, name=spec.name)
        made.append(KernelMap(spec, fd, possible_cpus()))
        return made[-1]

    yield make_map
    for one in made:
        one.close()


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


# ---------------------------------------------------------------------- maps


@pytest.mark.parametrize("entries", [5, 600, 3000])
@pytest.mark.parametrize("kind", ["HASH", "PERCPU_HASH", "LRU_HASH", "LRU_PERCPU_HASH"])
def test_hashes(make: Callable[..., KernelMap], kind: str, entries: int) -> None:
    found = make(kind, 4, 12, entries)
    count = entries if "LRU" not in kind else entries // 4
    assert found.slot == (16 if "PERCPU" in kind else 12)
    values = {}
    for number in range(count):
        value = b"".join(
            (struct.pack("=III", number, cpu, 7)).ljust(found.slot, b"\0") for cpu in range(found.cpus)
        )
        values[u32(number)] = value
        found.put(u32(number), value)
    assert found.get(u32(0)) == values[u32(0)]
    assert found.get(u32(count)) is None
    # All of them, once each, by batches; and one by one where a kernel has none.
    for items in (list(found.items()), list(found._one_by_one())):
        assert len(items) == count
        assert dict(items) == values
    assert sorted(found.keys()) == sorted(values)
    assert found.remove(u32(0)) is True
    assert found.remove(u32(0)) is False
    assert found.get(u32(0)) is None
    found.clear()
    assert list(found.items()) == []


@pytest.mark.parametrize("kind", ["ARRAY", "PERCPU_ARRAY"])
@pytest.mark.parametrize("entries", [1, 70, 600])
def test_arrays(make: Callable[..., KernelMap], kind: str, entries: int) -> None:
    found = make(kind, 4, 8, entries)
    empty = bytes(found.value_bytes)
    full = b"".join(struct.pack("=Q", cpu + 1) for cpu in range(found.cpus))
    assert found.get(u32(0)) == empty
    found.put(u32(entries - 1), full)
    items = dict(found.items())
    assert len(items) == entries
    assert items.pop(u32(entries - 1)) == full
    assert set(items.values()) <= {empty}
    assert found.get(u32(entries)) is None
    found.clear()
    assert found.get(u32(entries - 1)) == empty
    with pytest.raises(SyscallError) as caught:
        found.remove(u32(0))
    assert caught.value.errno == errno.EINVAL


def test_a_full_map(make: Callable[..., KernelMap]) -> None:
    found = make("HASH", 4, 8, 1)
    found.put(u32(1), bytes(8))
    with pytest.raises(SyscallError) as caught:
        found.put(u32(2), bytes(8))
    assert caught.value.errno == errno.E2BIG
    assert caught.value.call == "bpf(BPF_MAP_UPDATE_ELEM)"
    assert str(caught.value) == "update of map 'tb_test': it is full: there are 1 entries (E2BIG)"


def test_a_map_that_takes_memory_as_it_fills(make: Callable[..., KernelMap]) -> None:
    found = make("HASH", 8, 8, 1 << 20, flags=1)
    found.put(bytes(8), b"12345678")
    assert list(found.items()) == [(bytes(8), b"12345678")]


def test_a_frozen_map_keeps_its_value(make: Callable[..., KernelMap]) -> None:
    found = make("ARRAY", 4, 8, 1)
    found.put(u32(0), b"12345678")
    bpf.map_freeze(found.fd)
    with pytest.raises(SyscallError) as caught:
        found.put(u32(0), bytes(8))
    assert caught.value.errno == errno.EPERM
    assert found.get(u32(0)) == b"12345678"


def test_a_closed_map() -> None:
    spec = MapSpec("tb_test", "HASH", 4, 8, 1)
    one = KernelMap(spec, bpf.map_create("HASH", 4, 8, 1), 1)
    one.close()
    one.close()
    with pytest.raises(SyscallError) as caught:
        one.get(u32(0))
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (("HASH", 0, 8, 1), errno.EINVAL),
        (("HASH", 4, 8, 0), errno.EINVAL),
        (("ARRAY", 8, 8, 1), errno.EINVAL),
    ],
)
def test_maps_that_cannot_be(arguments: tuple[str, int, int, int], number: int) -> None:
    with pytest.raises(SyscallError) as caught:
        bpf.map_create(*arguments, name="@bad")
    assert caught.value.errno == number
    assert "@bad" in str(caught.value)


# ---------------------------------------------------------------------- programs


def program(
    name: str,
    build: Callable[[Builder], None],
    maps: dict[str, int] | None = None,
    kind: str = "RAW_TRACEPOINT",
) -> Program:
    builder = Builder()
    build(builder)
    spec = ProgramSpec(name, kind, tuple(builder.finish()))
    return load_program(spec, maps or {}, 0, KernelNames())


def nothing(builder: Builder) -> None:
    builder.mov_imm(0, 0)
    builder.exit()


def test_a_program_runs_on_request() -> None:
    def build(builder: Builder) -> None:
        builder.mov_imm(0, 42)
        builder.exit()

    one = program("tb_answer", build)
    try:
        assert bpf.prog_test_run(one.fd, context=bytes(8))[0] == 42
        assert one.info("id") > 0
        assert one.info("type") == 17
    finally:
        one.close()
        one.close()


def test_a_bad_program_brings_the_whole_log() -> None:
    with pytest.raises(VerifierError) as caught:
        program("tb_bad", lambda builder: builder.exit())
    error = caught.value
    assert (error.program, error.errno) == ("tb_bad", errno.EACCES)
    assert "R0 !read_ok" in error.log
    assert "processed 1 insns" in error.log
    assert "'tb_bad'" in str(error)


def test_the_log_quotes_the_line_of_the_script() -> None:
    """A program of the compiler has line info, so the refusal leads back to the script."""
    from tracebee.language.compile import Options, compile_script
    from tracebee.language.source import Source
    from tracebee.session.machine import LiveMachine

    machine = LiveMachine()
    try:
        script = "BEGIN {\n    @x[1] = 5;\n    exit();\n}\n"
        spec = compile_script(Source("tb.bt", script), machine, Options()).spec
        assert spec is not None
        whole = spec.programs[0]
        # The helper that sets @x[1] gets its key from a register that has no value.
        at = next(i for i, insn in enumerate(whole.insns) if (insn.code, insn.dst, insn.src) == (0xBF, 2, 10))
        spoiled = (*whole.insns[:at], whole.insns[at]._replace(src=7), *whole.insns[at + 1 :])
        bad = ProgramSpec(
            whole.name, whole.type, spoiled, func_info=whole.func_info, line_info=whole.line_info
        )
        fds = {one.name: 0 for one in spec.maps}
        opened = []
        for one in spec.maps:
            fd = bpf.map_create(
                one.type, one.key_size, one.value_size, one.max_entries or 4096, flags=one.flags
            )
            opened.append(fd)
            fds[one.name] = fd
        btf = bpf.btf_load(spec.btf)
        opened.append(btf)
        try:
            with pytest.raises(VerifierError) as caught:
                load_program(bad, fds, btf, KernelNames(machine.btf))
        finally:
            for fd in opened:
                os.close(fd)
        assert "R7 !read_ok" in caught.value.log
        assert "@x[1] = 5" in last_source_line(caught.value.log)
    finally:
        machine.close()


# ---------------------------------------------------------------------- links


def test_a_link_detaches_when_it_is_closed(make: Callable[..., KernelMap]) -> None:
    """A raw tracepoint that counts our own system calls."""
    counts = make("ARRAY", 4, 8, 1)

    def build(builder: Builder) -> None:
        builder.call(helper_id("get_current_pid_tgid"))
        builder.alu_imm(op.BPF_RSH, 0, 32)
        builder.jump_if_imm(op.BPF_JNE, 0, os.getpid(), "out")
        builder.store_imm(4, 10, -4, 0)
        builder.mov(2, 10)
        builder.alu_imm(op.BPF_ADD, 2, -4)
        builder.load_map(1, "counts")
        builder.call(helper_id("map_lookup_elem"))
        builder.jump_if_imm(op.BPF_JEQ, 0, 0, "out")
        builder.mov_imm(1, 1)
        builder.atomic(op.BPF_ADD, 8, 0, 0, 1)
        builder.label("out")
        builder.mov_imm(0, 0)
        builder.exit()

    def count() -> int:
        return int.from_bytes(counts.get(u32(0)) or b"", sys.byteorder)

    one = program("tb_count", build, {"counts": counts.fd})
    probe = ProbeSpec("rawtracepoint:sys_enter", "tb_count", RawTracepoint("sys_enter"))
    try:
        link = attach(one, probe, Context(Features(), (0,), lambda: -1))
        for _ in range(10):
            os.getppid()
        seen = count()
        assert seen >= 10
        link.close()
        link.close()
        after = count()
        for _ in range(10):
            os.getppid()
        assert count() == after
    finally:
        one.close()


# ---------------------------------------------------------------------- the ring


def test_a_ring_through_its_end() -> None:
    """Records of a page's ring, drained until it has gone around several times."""
    layout = Layout((Slot(INT64, 8),), 16)
    seen: list[int] = []
    reader = Reader(Event(0, PrintValue(), layout), Decoder(Names(Schema(), lambda stack_id: None)))
    reader.handle = lambda values: seen.append(values[0])
    reader.lines = lambda rows: seen.extend(value for (value,) in rows)
    drain = Drain([reader])

    with Ring(4096, "tb_ring") as ring:

        def build(builder: Builder) -> None:
            # r1 points at the argument of the raw tracepoint, which the request gives.
            builder.load(8, 6, 1, 0)
            builder.store_imm(8, 10, -16, 0)
            builder.store(8, 10, -8, 6)
            builder.mov(2, 10)
            builder.alu_imm(op.BPF_ADD, 2, -16)
            builder.load_map(1, "ring")
            builder.mov_imm(3, 16)
            builder.mov_imm(4, 0)
            builder.call(helper_id("ringbuf_output"))
            builder.exit()

        one = program("tb_ring", build, {"ring": ring.fd})
        try:
            assert ring.is_empty
            assert ring.drain(drain.take) == 0
            number = 0
            for _ in range(10):
                for _ in range(100):
                    bpf.prog_test_run(one.fd, context=struct.pack("=Q", number))
                    number += 1
                assert not ring.is_empty
                assert ring.drain(drain.take) == 100 * 24
                assert ring.is_empty
            assert seen == list(range(1000))
            # A ring that nobody drains refuses records, and is whole again afterwards.
            results = [
                bpf.prog_test_run(one.fd, context=struct.pack("=Q", number))[0] for number in range(200)
            ]
            kept = results.index((1 << 32) - errno.EAGAIN)
            assert results[:kept] == [0] * kept
            seen.clear()
            assert ring.drain(drain.take) == kept * 24
            assert seen == list(range(kept))
        finally:
            one.close()


def test_sizes_of_rings() -> None:
    with pytest.raises(SyscallError) as caught:
        Ring(5000)
    assert caught.value.errno == errno.EINVAL


# ---------------------------------------------------------------------- features


def test_every_feature_has_an_answer() -> None:
    found = Features()
    answers = {name: found.has(name) for name in FEATURES}
    assert answers["probe_read_kernel"] is True
    assert all(isinstance(answer, bool) for answer in answers.values())


def test_features_leave_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for feature in FEATURES.values():
        feature.attempt()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_map_reference_names_its_map() -> None:
    builder = Builder()
    builder.load_map(1, "nothing")
    builder.mov_imm(0, 0)
    builder.exit()
    assert any(isinstance(insn.ref, MapFd) for insn in builder.finish())
