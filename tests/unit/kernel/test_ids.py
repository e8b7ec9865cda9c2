"""Selectors, and walks over ids that come and go."""

from __future__ import annotations

import errno
import os

import pytest

from tracebee.errors import NotSupportedError, PermissionRefused, SyscallError, TargetError, UsageError
from tracebee.kernel import ids
from tracebee.kernel.ids import find_one, open_id, parse_selector, walk, walk_ids
from tracebee.syscalls import bpfids


class FakeKernel:
    """Objects of one kind; opening one of `gone` fails as if it had vanished after its id was read."""

    def __init__(self, numbers: list[int], gone: tuple[int, ...] = ()) -> None:
        self.numbers = numbers
        self.gone = gone
        self.opened: list[int] = []

    def next_id(self, kind: str, after: int) -> int | None:
        return min((number for number in self.numbers if number > after), default=None)

    def fd_by_id(self, kind: str, number: int, flags: int = 0) -> int:
        if number in self.gone or number not in self.numbers:
            raise SyscallError("bpf", errno.ENOENT)
        self.opened.append(os.open(os.devnull, os.O_RDONLY))
        return self.opened[-1]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    made = FakeKernel([3, 5, 6, 900], gone=(5,))
    monkeypatch.setattr(bpfids, "next_id", made.next_id)
    monkeypatch.setattr(bpfids, "fd_by_id", made.fd_by_id)
    return made


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_walk_leaves_out_what_vanishes(fake: FakeKernel) -> None:
    assert [number for number, _ in walk("prog")] == [3, 6, 900]


def test_a_walk_closes_what_it_has_opened(fake: FakeKernel) -> None:
    walking = walk("map")
    _, first = next(walking)
    assert is_open(first)
    next(walking)
    walking.close()
    assert [fd for fd in set(fake.opened) if is_open(fd)] == []


def test_ids_alone(fake: FakeKernel) -> None:
    assert list(walk_ids("link")) == [3, 5, 6, 900]
    assert fake.opened == []


def test_a_kernel_that_goes_round_in_a_circle_ends_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpfids, "next_id", lambda kind, after: 4)
    assert list(walk_ids("prog")) == [4]


@pytest.mark.parametrize(
    ("kind", "number", "error", "words"),
    [
        ("prog", errno.EPERM, PermissionRefused, "looking at programs by id needs CAP_SYS_ADMIN"),
        ("link", errno.EINVAL, NotSupportedError, "this kernel does not number its links (since Linux 5.8)"),
        ("btf", errno.EINVAL, NotSupportedError, "(since Linux 5.4)"),
        ("map", errno.EIO, SyscallError, "EIO"),
    ],
)
def test_what_a_refusal_means(
    monkeypatch: pytest.MonkeyPatch, kind: str, number: int, error: type[Exception], words: str
) -> None:
    def refuse(kind: str, after: int) -> int | None:
        raise SyscallError("bpf", number)

    monkeypatch.setattr(bpfids, "next_id", refuse)
    with pytest.raises(error) as caught:
        list(walk(kind))
    assert words in str(caught.value)


def test_an_id_that_is_not_there(fake: FakeKernel) -> None:
    with pytest.raises(TargetError, match="there is no program with id 7") as caught:
        open_id("prog", 7)
    assert caught.value.hint == "`tracebee prog list` shows what there is"
    with pytest.raises(TargetError, match="there is no BTF object with id 5"):
        open_id("btf", 5)


def test_maps_that_may_only_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    flags_seen: list[int] = []

    def guarded(kind: str, number: int, flags: int = 0) -> int:
        flags_seen.append(flags)
        if not flags:
            raise SyscallError("bpf", errno.EPERM)
        return 77

    monkeypatch.setattr(bpfids, "fd_by_id", guarded)
    assert open_id("map", 3) == 77
    assert flags_seen == [0, ids.BPF_F_RDONLY]
    with pytest.raises(PermissionRefused):
        open_id("prog", 3)


@pytest.mark.parametrize(
    ("kind", "words", "meant"),
    [
        ("prog", ["7"], ("id", "7")),
        ("prog", ["0x1F"], ("id", "0x1F")),
        ("prog", ["id", "007"], ("id", "007")),
        ("map", ["events"], ("name", "events")),
        ("map", ["name", "7"], ("name", "7")),
        ("map", ["/sys/fs/bpf/m"], ("pinned", "/sys/fs/bpf/m")),
        ("link", ["./l"], ("pinned", "./l")),
        ("link", ["pinned", "l"], ("pinned", "l")),
        ("prog", ["tag", "00FFee0011223344"], ("tag", "00ffee0011223344")),
        ("btf", ["name", "vmlinux"], ("name", "vmlinux")),
    ],
)
def test_selectors(kind: str, words: list[str], meant: tuple[str, str]) -> None:
    assert parse_selector(kind, words) == meant


@pytest.mark.parametrize(
    ("kind", "words", "complaint"),
    [
        ("prog", [], "no program is named by ''"),
        ("prog", ["id"], "id wants a value behind it"),
        ("prog", ["id", "x"], "'x' is no id"),
        ("prog", ["id", "1", "2"], "no program is named by 'id 1 2'"),
        ("prog", ["tag", "12"], "'12' is no tag"),
        ("prog", ["tag", "zz00000000000000"], "is no tag"),
        ("map", ["tag", "0011223344556677"], "maps have no tag"),
        ("link", ["name", "x"], "links have no name"),
        ("link", ["x"], "links have no name"),
        ("btf", ["pinned", "/x"], "BTF objects have no pins"),
        ("prog", ["with", "x"], "no program is named by 'with x'"),
        ("prog", ["id", "²"], "is no id"),
    ],
)
def test_words_that_are_no_selectors(kind: str, words: list[str], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_selector(kind, words)
    assert complaint in str(caught.value)
    assert caught.value.hint


def test_ids_beyond_32_bits() -> None:
    with pytest.raises(UsageError, match="is no id"):
        open_id("prog", 1 << 32)
    with pytest.raises(UsageError, match="is no id"):
        open_id("prog", 0)


def test_a_name_of_several(fake: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracebee.kernel.info.names_of", lambda kind, fd: ("same",))
    with pytest.raises(UsageError, match="name same means 3 maps: ids 3, 6, 900"):
        find_one("map", ("name", "same"))
    assert [fd for fd in set(fake.opened) if is_open(fd)] == []
    with pytest.raises(TargetError, match="there is no map with name other"):
        find_one("map", ("other",))
