"""Features, maps and programs over a bpf(2) that is a function."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from tracebee.errors import AttachError, PermissionRefused, SyscallError, VerifierError
from tracebee.host import rights
from tracebee.insn import Builder
from tracebee.kernel import features, programs
from tracebee.kernel.features import FEATURES, Feature, Features
from tracebee.kernel.links import Context, Link, attach
from tracebee.kernel.maps import KernelMap
from tracebee.kernel.programs import Program, load_program, save_log
from tracebee.kernel.symbols import Found, KernelNames
from tracebee.spec.objects import MapSpec, ProbeSpec, ProgramSpec, RawTracepoint
from tracebee.syscalls import bpf

ROOT = rights.Rights((1 << 41) - 1, (1 << 41) - 1, 40, "none", (), False)
NOBODY = rights.Rights(0, 0, 40, "none", (), False)


def nothing() -> tuple[Any, ...]:
    builder = Builder()
    builder.mov_imm(0, 0)
    builder.exit()
    return tuple(builder.finish())


SPEC = ProgramSpec("begin", "RAW_TRACEPOINT", nothing())


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes BPF_PROG_LOAD fail with an errno, and a log if one was asked for."""

    def make(number: int, log: str = "", who: rights.Rights = ROOT) -> list[int]:
        levels = []

        def load(*args: object, log_level: int = 0, **kwargs: object) -> None:
            levels.append(log_level)
            raise bpf.LoadRefused(number, log if log_level else "")

        monkeypatch.setattr(bpf, "prog_load", load)
        monkeypatch.setattr(rights, "read_rights", lambda: who)
        return levels

    return make


# ---------------------------------------------------------------------- features


def made(monkeypatch: pytest.MonkeyPatch, *answers: bool | SyscallError) -> list[int]:
    """A feature "x" that answers in turn; the list grows with each attempt."""
    attempts: list[int] = []

    def attempt() -> bool:
        attempts.append(1)
        answer = answers[len(attempts) - 1]
        if isinstance(answer, SyscallError):
            raise answer
        return answer

    monkeypatch.setitem(FEATURES, "x", Feature("x", "6.1", "a thing", "nothing", attempt))
    return attempts


@pytest.mark.parametrize("answer", [True, False])
def test_a_question_is_asked_once(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    attempts = made(monkeypatch, answer)
    found = Features()
    assert [found.has("x"), found.has("x")] == [answer, answer]
    assert len(attempts) == 1


def test_a_question_without_an_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made(monkeypatch, SyscallError("bpf(BPF_PROG_LOAD)", errno.ENOMEM), True)
    found = Features()
    with pytest.raises(SyscallError):
        found.has("x")
    assert found.has("x") is True


def test_without_rights_the_right_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = SyscallError("bpf(BPF_PROG_LOAD)", errno.EPERM)
    made(monkeypatch, refusal, refusal)
    monkeypatch.setattr(rights, "read_rights", lambda: NOBODY)
    with pytest.raises(PermissionRefused) as caught:
        Features().has("x")
    assert caught.value.capability == "CAP_BPF and CAP_PERFMON"
    assert "root" in caught.value.hint
    # With all rights it is something else.
    monkeypatch.setattr(rights, "read_rights", lambda: ROOT)
    with pytest.raises(SyscallError):
        Features().has("x")


def test_disabled_features_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = made(monkeypatch, True)
    assert Features(["x"]).has("x") is False
    assert attempts == []


def test_records_say_what_a_reader_needs() -> None:
    for name, feature in FEATURES.items():
        assert feature.name == name
        assert feature.description
        assert feature.without
        major, _, minor = feature.since.partition(".")
        assert major.isdigit()
        assert minor.isdigit()


@pytest.mark.parametrize(
    ("log", "answer"),
    [
        ("0: (85) call bpf_loop#181\nR1 type=ctx expected=scalar\n", True),
        ("invalid func unknown#181\n", False),
        ("unknown func bpf_loop#181\n", False),
        ("program of this type cannot use helper bpf_loop#181\n", False),
    ],
)
def test_helpers_by_what_the_verifier_complains_of(refusing: Any, log: str, answer: bool) -> None:
    refusing(errno.EINVAL, log)
    assert features.has_helper("loop") is answer


def test_helpers_without_rights(refusing: Any) -> None:
    refusing(errno.EPERM)
    with pytest.raises(bpf.LoadRefused):
        features.has_helper("loop")


@pytest.mark.parametrize(("who", "answer"), [(ROOT, False), (NOBODY, None)])
def test_fentry_is_refused_to_everybody_or_to_us(
    refusing: Any, monkeypatch: pytest.MonkeyPatch, who: rights.Rights, answer: bool | None
) -> None:
    refusing(errno.EPERM, who=who)
    monkeypatch.setattr(features, "_kernel_type", lambda name, kind: 7)
    if answer is None:
        with pytest.raises(PermissionRefused, match="CAP_BPF and CAP_PERFMON"):
            Features().has("fentry")
    else:
        assert Features().has("fentry") is answer


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (errno.ESRCH, True),
        (errno.ENOENT, True),
        # Without fprobe, as in Debian's 6.1; before 5.18.
        (errno.EOPNOTSUPP, False),
        (errno.EINVAL, False),
    ],
)
def test_links_for_many_kprobes_by_what_the_kernel_complains_of(
    monkeypatch: pytest.MonkeyPatch, number: int, answer: bool
) -> None:
    asked: list[dict[str, Any]] = []

    def link(fd: int, cookies: list[int], **options: Any) -> int:
        asked.append(options)
        raise SyscallError("bpf(BPF_LINK_CREATE)", number)

    monkeypatch.setattr(bpf, "prog_load", lambda *args, **options: (os.open(os.devnull, os.O_RDONLY), ""))
    monkeypatch.setattr(bpf, "link_kprobes", link)
    assert Features().has("kprobe_multi") is answer
    assert asked[0]["attach_type"] == "TRACE_KPROBE_MULTI"


def test_without_rights_links_for_many_kprobes_are_not_known(
    refusing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(errno.EPERM, who=NOBODY)
    with pytest.raises(PermissionRefused):
        Features().has("kprobe_multi")


# ---------------------------------------------------------------------- programs


def test_a_refusal_is_asked_for_its_log(refusing: Any) -> None:
    levels = refusing(errno.EACCES, "R0 !read_ok\n")
    with pytest.raises(VerifierError) as caught:
        load_program(SPEC, {}, 0, KernelNames())
    assert (caught.value.program, caught.value.errno, caught.value.log) == (
        "begin",
        errno.EACCES,
        "R0 !read_ok\n",
    )
    assert levels == [0, 1]


def test_a_refusal_without_rights(refusing: Any) -> None:
    refusing(errno.EPERM, who=NOBODY)
    with pytest.raises(PermissionRefused) as caught:
        load_program(SPEC, {}, 0, KernelNames())
    assert str(caught.value) == "loading BPF programs needs CAP_BPF and CAP_PERFMON"


class Vfs(KernelNames):
    """A kernel that has vfs_read as type 7."""

    def find(self, name: str, module: str = "") -> Found | None:
        return Found(7) if name == "vfs_read" else None


def test_what_this_kernel_refuses_to_root_too(refusing: Any) -> None:
    refusing(errno.EPERM)
    spec = ProgramSpec("f", "TRACING", nothing(), expected_attach_type="TRACE_FENTRY", attach_to="vfs_read")
    with pytest.raises(VerifierError) as caught:
        load_program(spec, {}, 0, Vfs())
    assert "TRACE_FENTRY" in caught.value.hint


def test_a_log_is_saved_where_it_stays(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = save_log(VerifierError("begin", errno.EACCES, "line é\n"))
    with open(path, encoding="utf-8") as file:
        assert file.read() == "line é\n"
    assert save_log(VerifierError("begin", errno.EACCES, "")) == ""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert save_log(VerifierError("begin", errno.EACCES, "log")) == ""
    assert programs.save_log is save_log


# ---------------------------------------------------------------------- maps


class Table:
    """A map of the kernel: a dictionary, without batches where `batches` is an errno."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, data: dict[bytes, bytes], batches: int = 0) -> None:
        self.data = data
        self.batches = batches
        self.bucket = 0
        for name in ("map_lookup", "map_next_key", "map_lookup_batch"):
            monkeypatch.setattr(bpf, name, getattr(self, name))

    def map_lookup(self, fd: int, key: bytes, size: int, flags: int) -> bytes | None:
        return self.data.get(key)

    def map_next_key(self, fd: int, key: bytes | None, size: int) -> bytes | None:
        keys = list(self.data)
        at = keys.index(key) + 1 if key is not None else 0
        return keys[at] if at < len(keys) else None

    def map_lookup_batch(
        self, fd: int, position: bytes | None, count: int, key: int, value: int
    ) -> bpf.Batch:
        if self.batches:
            raise SyscallError("bpf(BPF_MAP_LOOKUP_BATCH)", self.batches)
        if count < self.bucket:
            raise SyscallError("bpf(BPF_MAP_LOOKUP_BATCH)", errno.ENOSPC)
        start = int.from_bytes(position or b"", "little")
        some = list(self.data.items())[start : start + count]
        done = start + count >= len(self.data)
        following = None if done else (start + count).to_bytes(4, "little")
        return bpf.Batch(b"".join(k for k, _ in some), b"".join(v for _, v in some), len(some), following)


def table(count: int) -> dict[bytes, bytes]:
    return {number.to_bytes(4, "little"): (number * 3).to_bytes(8, "little") for number in range(count)}


def kernel_map(kind: str = "HASH", cpus: int = 4, value: int = 8) -> KernelMap:
    return KernelMap(MapSpec("m", kind, 4, value, 5000), -1, cpus)


@pytest.mark.parametrize("count", [0, 1, 512, 513, 2000])
@pytest.mark.parametrize("batches", [0, errno.EINVAL, errno.EOPNOTSUPP, 524])
def test_all_elements_once(monkeypatch: pytest.MonkeyPatch, count: int, batches: int) -> None:
    Table(monkeypatch, table(count), batches)
    assert list(kernel_map().items()) == list(table(count).items())
    assert list(kernel_map().keys()) == list(table(count))


def test_a_bucket_larger_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    Table(monkeypatch, table(2000)).bucket = 1000
    assert list(kernel_map().items()) == list(table(2000).items())


def test_another_error_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    Table(monkeypatch, table(10), errno.EBADF)
    with pytest.raises(SyscallError) as caught:
        list(kernel_map().items())
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("kind", "value", "slot", "whole"),
    [("HASH", 12, 12, 12), ("PERCPU_HASH", 12, 16, 64), ("LRU_PERCPU_HASH", 8, 8, 32), ("ARRAY", 3, 3, 3)],
)
def test_sizes_of_values(kind: str, value: int, slot: int, whole: int) -> None:
    found = kernel_map(kind, 4, value)
    assert (found.slot, found.value_bytes) == (slot, whole)
    assert found.is_array == (kind == "ARRAY")


# ---------------------------------------------------------------------- links


def test_a_link_closes_its_descriptors_once() -> None:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    link = Link(list(fds))
    link.close()
    link.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_a_probe_that_cannot_be_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise SyscallError("bpf(BPF_RAW_TRACEPOINT_OPEN)", errno.ENOENT)

    monkeypatch.setattr(bpf, "raw_tracepoint_open", refuse)
    probe = ProbeSpec("rawtracepoint:nothing", "begin", RawTracepoint("nothing"))
    with pytest.raises(AttachError) as caught:
        attach(Program(SPEC, -1), probe, Context(Features(), (0,), lambda: -1))
    assert caught.value.probe == "rawtracepoint:nothing"
    assert "ENOENT" in caught.value.reason
