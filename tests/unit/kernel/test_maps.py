"""Going over a map that others change meanwhile, batches that end, and what becomes of specifications."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tracebee.errors import MapError, NotSupportedError, SyscallError
from tracebee.kernel.maps import KernelMap, create_map, spec_of
from tracebee.spec.objects import MapSpec
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls import bpf, bpfmaps
from tracebee.syscalls.bpfmaps import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def key_of(number: int) -> bytes:
    return number.to_bytes(4, "little")


class Trie:
    """A kernel's map that is walked from key to key: behind one that has gone, it begins again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self.data = {key_of(number): bytes(8) for number in range(count)}
        self.calls = 0
        self.between: Callable[[], None] = lambda: None
        monkeypatch.setattr(bpf, "map_next_key", self.next_key)
        monkeypatch.setattr(bpf, "map_lookup", lambda fd, key, size, flags: self.data.get(key))
        monkeypatch.setattr(bpf, "map_delete", lambda fd, key: self.data.pop(key, None) is not None)

    def next_key(self, fd: int, key: bytes | None, size: int) -> bytes | None:
        self.calls += 1
        self.between()
        keys = sorted(self.data)
        at = keys.index(key) + 1 if key in self.data else 0
        return keys[at] if at < len(keys) else None


def trie(entries: int = 1000) -> KernelMap:
    return KernelMap(MapSpec("m", "LPM_TRIE", 4, 8, entries, 1), -1, 1)


def test_a_walk_that_nobody_disturbs(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Trie(monkeypatch, 100)
    assert [key for key, _ in trie().items()] == sorted(kernel.data)


def test_the_reader_may_remove_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Trie(monkeypatch, 100)
    seen = []
    for key in trie().keys():  # noqa: SIM118 - it is no mapping
        seen.append(key)
        del kernel.data[key]
    assert seen == [key_of(number) for number in range(100)]
    assert kernel.data == {}


def test_keys_that_go_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time, the kernel begins again; no key comes twice, and all that stay come."""
    kernel = Trie(monkeypatch, 200)
    seen = []
    for key, _ in trie().items():
        seen.append(key)
        number = int.from_bytes(key, "little")
        if number % 10 == 0:
            for gone in (number + 1, number + 2, number + 3):
                kernel.data.pop(key_of(gone), None)
    assert len(seen) == len(set(seen))
    assert set(seen) >= set(kernel.data)


def test_a_walk_ends_though_keys_come_and_go_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Trie(monkeypatch, 10)
    fresh = iter(range(1000, 1 << 30))

    def churn() -> None:
        kernel.data.pop(min(kernel.data))
        kernel.data[key_of(next(fresh))] = bytes(8)

    kernel.between = churn
    seen = [key for key, _ in trie(10).items()]
    assert len(seen) == len(set(seen)) <= 20
    assert kernel.calls < 2000


def test_a_walk_ends_though_its_keys_vanish_and_return(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Trie(monkeypatch, 10)
    whole = dict(kernel.data)

    def blink() -> None:
        kernel.data = (
            {} if kernel.calls % 7 == 0 else {key: whole[key] for key in list(whole)[kernel.calls % 3 :]}
        )

    kernel.between = blink
    seen = [key for key, _ in trie(10).items()]
    assert len(seen) == len(set(seen)) <= 10
    assert kernel.calls < 2000


def test_clearing_removes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Trie(monkeypatch, 50)
    trie().clear()
    assert kernel.data == {}


# ---------------------------------------------------------------------- batches


class Batches:
    """A kernel that sets and removes in batches, or refuses to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuses: int = 0) -> None:
        self.data: dict[bytes, bytes] = {}
        self.refuses = refuses
        self.bad = b""
        self.single = self.batches = 0
        monkeypatch.setattr(bpfmaps, "update_batch", self.update_batch)
        monkeypatch.setattr(bpfmaps, "delete_batch", self.delete_batch)
        monkeypatch.setattr(bpf, "map_update", self.update)
        monkeypatch.setattr(bpf, "map_delete", self.delete)

    def update(self, fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
        self.single += 1
        if key == self.bad:
            raise SyscallError("bpf(BPF_MAP_UPDATE_ELEM)", errno.E2BIG)
        self.data[key] = value

    def delete(self, fd: int, key: bytes) -> bool:
        self.single += 1
        return self.data.pop(key, None) is not None

    def update_batch(self, fd: int, keys: Sequence[bytes], values: Sequence[bytes]) -> Progress:
        self.batches += 1
        if self.refuses:
            return Progress(0, self.refuses)
        for done, (key, value) in enumerate(zip(keys, values, strict=True)):
            if key == self.bad:
                return Progress(done, errno.E2BIG)
            self.data[key] = value
        return Progress(len(keys), 0)

    def delete_batch(self, fd: int, keys: Sequence[bytes]) -> Progress:
        self.batches += 1
        if self.refuses:
            return Progress(0, self.refuses)
        for done, key in enumerate(keys):
            if self.data.pop(key, None) is None:
                return Progress(done, errno.ENOENT)
        return Progress(len(keys), 0)


def hashed(value: int = 8, entries: int = 5000) -> KernelMap:
    return KernelMap(MapSpec("m", "HASH", 4, value, entries), -1, 1)


def elements(count: int) -> dict[bytes, bytes]:
    return {key_of(number): number.to_bytes(8, "little") for number in range(count)}


@pytest.mark.parametrize("refuses", [0, errno.EINVAL, errno.EOPNOTSUPP, 524])
def test_many_are_set_and_removed(monkeypatch: pytest.MonkeyPatch, refuses: int) -> None:
    kernel = Batches(monkeypatch, refuses)
    hashed().put_many(elements(1500))
    assert kernel.data == elements(1500)
    if not refuses:
        assert (kernel.single, kernel.batches) == (0, 3)
    missing = [key_of(number) for number in (5000, 5001)]
    assert hashed().remove_many([key_of(3), *missing, key_of(4), key_of(5)]) == 3
    assert key_of(4) not in kernel.data
    assert len(kernel.data) == 1497


def test_a_batch_that_fails_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Batches(monkeypatch)
    kernel.bad = key_of(700)
    with pytest.raises(MapError, match="it is full") as caught:
        hashed().put_many(elements(1000))
    assert caught.value.errno == errno.E2BIG
    assert kernel.data == elements(700)


def test_batches_of_large_values_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Batches(monkeypatch)
    hashed(1 << 20).put_many({key_of(number): bytes(1 << 20) for number in range(8)})
    assert kernel.batches == 2


# ---------------------------------------------------------------------- specifications


def test_what_the_kernel_tells_of_a_map() -> None:
    info = bytearray(uapi.BPF_MAP_INFO_SIZE)

    def put(field: str, value: bytes) -> None:
        offset = uapi.BPF_MAP_INFO[field][0]
        info[offset : offset + len(value)] = value

    for field, value in {
        "type": 5,
        "key_size": 4,
        "value_size": 12,
        "max_entries": 7,
        "map_flags": 1,
    }.items():
        put(field, key_of(value))
    put("name", b"counts\0junk")
    put("btf_value_type_id", key_of(9))
    assert spec_of(bytes(info)) == MapSpec("counts", "PERCPU_HASH", 4, 12, 7, 1, value_type=9)
    put("type", key_of(999))
    assert spec_of(bytes(info)).type == "type 999"


class Makes:
    """A kernel that makes maps, of some kinds without types only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuses: int = 0) -> None:
        self.made: list[tuple[int, dict[str, object]]] = []
        self.refuses = refuses
        self.closed: list[int] = []
        monkeypatch.setattr(bpf, "map_create", self.create)
        monkeypatch.setattr("tracebee.kernel.maps.os.close", self.closed.append)

    def create(self, kind: str, key: int, value: int, entries: int, **more: object) -> int:
        if self.refuses and more["btf_fd"]:
            raise SyscallError("bpf(BPF_MAP_CREATE)", self.refuses)
        self.made.append((entries, more))
        return 100 + len(self.made)


def test_types_are_left_out_where_they_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Makes(monkeypatch)
    create_map(MapSpec("m", "HASH", 4, 8, 1, key_type=1, value_type=2), btf_fd=7, cpus=2)
    create_map(MapSpec("m", "QUEUE", 0, 8, 1, value_type=2), btf_fd=7, cpus=2)
    create_map(MapSpec("m", "HASH", 4, 8, 1), btf_fd=7, cpus=2)
    assert [more["btf_fd"] for _, more in kernel.made] == [7, 0, 0]
    kernel.refuses = errno.EINVAL
    assert create_map(MapSpec("m", "HASH", 4, 8, 1, key_type=1, value_type=2), btf_fd=7, cpus=2).fd > 0
    kernel.refuses = errno.EPERM
    with pytest.raises(MapError, match="not be made by everybody"):
        create_map(MapSpec("m", "HASH", 4, 8, 1, key_type=1, value_type=2), btf_fd=7, cpus=2)


def test_a_perf_event_array_is_as_long_as_there_are_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Makes(monkeypatch)
    made = create_map(MapSpec("m", "PERF_EVENT_ARRAY", 4, 4, 0), cpus=6)
    assert (kernel.made[0][0], made.spec.max_entries) == (6, 6)
    assert create_map(MapSpec("m", "PERF_EVENT_ARRAY", 4, 4, 2), cpus=6).spec.max_entries == 2


def test_a_template_is_made_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Makes(monkeypatch)
    inner = MapSpec("i", "ARRAY", 4, 8, 3)
    create_map(MapSpec("m", "ARRAY_OF_MAPS", 4, 4, 2, inner=inner), cpus=1)
    assert [entries for entries, _ in kernel.made] == [3, 2]
    assert kernel.made[1][1]["inner_map_fd"] == 101
    assert kernel.closed == [101]
    create_map(MapSpec("m", "ARRAY_OF_MAPS", 4, 4, 2, inner=inner), cpus=1, inner_fd=55)
    assert kernel.made[2][1]["inner_map_fd"] == 55
    assert kernel.closed == [101]


def test_a_kind_that_nobody_knows() -> None:
    with pytest.raises(NotSupportedError):
        create_map(MapSpec("m", "HASHED", 4, 8, 1), cpus=1)
