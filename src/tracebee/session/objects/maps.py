"""Maps as Python mappings, with keys and values typed by BTF: those of an object, and any other of this machine.

    counts = Map.from_id(31)                            # or from_pin("/sys/fs/bpf/counts")
    for key, value in counts.items(): …
    starts = Map.create("HASH", key="u32", value="struct { u64 time; char comm[16]; }", max_entries=1000)
    starts[7] = {"time": 1, "comm": "cat"}

Shapes are those of `tracebee.btf.values`.  The value of a per-CPU map is a list, one for each possible CPU; it is
set by such a list, or by one value for all of them.

A map of maps gives maps, opened by the ids that the kernel has in it, and takes maps or their descriptors:
``outer[key][k]``, ``outer[key] = inner``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Hashable, ItemsView, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any

from tracebee.btf.values import ArrayCodec, untyped, value_codec
from tracebee.errors import MapError, SyscallError, TargetError, UsageError
from tracebee.kernel import maprules
from tracebee.kernel.maps import KernelMap, create_map
from tracebee.spec.objects import MapSpec
from tracebee.syscalls import bpf, bpfmaps
from tracebee.syscalls._uapi import MAP_FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tracebee.btf.reader import Btf
    from tracebee.btf.values import ValueCodec
    from tracebee.kernel.info import MapInfo
    from tracebee.session.backend import BackendMap

    TypeOf = str | int | tuple[Btf, int]

ANY, NOEXIST, EXIST, LOCK = bpf.BPF_ANY, bpf.BPF_NOEXIST, bpfmaps.BPF_EXIST, bpfmaps.BPF_F_LOCK

FLAGS = {name.lower(): value for name, value in MAP_FLAGS.items()}
"""Flags of a new map by their names, such as "no_prealloc"."""

KEYLESS = maprules.KEYLESS
OUTER = maprules.OUTER
_MISSING = object()


class Map(MutableMapping[Any, Any]):
    """A map.  Reading a key that is not there raises KeyError, and what is refused MapError, which says why."""

    def __init__(
        self,
        store: BackendMap,
        btf: Btf | None = None,
        *,
        owned: bool = False,
        key: ValueCodec | None = None,
        value: ValueCodec | None = None,
        family: Mapping[str, Map] | None = None,
    ) -> None:
        """A mapping over `store`, whose types are in `btf`.  One that is `owned` is closed with it.

        `family` are the maps of the same object, among which a map of maps that is not in the kernel finds its own.
        """
        spec = store.spec
        self.store = store
        self.btf = btf
        self.key_codec = key or value_codec(btf, spec.key_type, spec.key_size, hashable=True)
        self.value_codec = value or value_codec(btf, spec.value_type, spec.value_size)
        self._owned = owned
        self._family: Mapping[str, Map] = family if family is not None else {}
        self._pins: list[str] = []
        # The types of the template, for inner maps of which the kernel knows none.
        self._like: tuple[ValueCodec, ValueCodec] | None = None
        # Bytes of the keys that were read and cannot be made of what they decode to.
        self._seen: dict[Any, bytes] = {}

    # --- where maps come from

    @classmethod
    def from_fd(cls, fd: int) -> Map:
        """The map of a descriptor, which is closed with it.  Raises SyscallError, PermissionRefused."""
        from tracebee.kernel.info import map_info

        store = KernelMap.from_fd(fd)
        info = map_info(fd)
        btf, value_type = types_of_map(info)
        value = value_codec(btf, value_type, info.value_size)
        return cls(store, btf, owned=True, value=value)

    @classmethod
    def from_id(cls, map_id: int) -> Map:
        """The map with an id.  Raises TargetError if there is none, PermissionRefused."""
        from tracebee.kernel.ids import open_id

        return cls.from_fd(open_id("map", map_id))

    @classmethod
    def from_pin(cls, path: str | os.PathLike[str]) -> Map:
        """The map that is pinned at a path.  Raises TargetError if there is none, PermissionRefused."""
        from tracebee.kernel.ids import open_pin

        return cls.from_fd(open_pin("map", os.fspath(path)))

    @classmethod
    def create(
        cls,
        kind: str,
        *,
        key: TypeOf | None = None,
        value: TypeOf | None = None,
        max_entries: int = 0,
        name: str = "",
        flags: int | Sequence[str] = 0,
        inner: Map | MapSpec | None = None,
        extra: int = 0,
        numa_node: int | None = None,
    ) -> Map:
        """Make a map of a `kind` such as "HASH", which goes when it is closed and nothing else has it.

        `key` and `value` are types in a few words of C (see `tracebee.btf.typetext`), sizes in bytes, or a type of
        some BTF; indexes of arrays and values that are descriptors need not be said.  `flags` are numbers or names,
        such as "no_prealloc".  `inner` is what the maps of a map of maps are like.  Raises MapError, UsageError.
        """
        kind = kind.upper().removeprefix("BPF_MAP_TYPE_")
        if kind in (*maprules.ARRAYS, "STACK_TRACE") and key is None:
            key = "u32"
        if kind in (*maprules.OBJECT_ARRAYS, "HASH_OF_MAPS") and value is None:
            value = "u32"
        made = _Types(key, value)
        number = flags if isinstance(flags, int) else flags_of(flags)
        if kind in ("LPM_TRIE", *maprules.STORAGES):
            number |= bpfmaps.BPF_F_NO_PREALLOC  # the kernel makes no other
        spec = MapSpec(
            name or "tracebee",
            kind,
            made.key_size,
            made.value_size,
            max_entries,
            number,
            key_type=made.key_type,
            value_type=made.value_type,
            inner=inner.spec if isinstance(inner, Map) else inner,
            extra=extra,
        )
        inner_fd = _descriptor(inner) if isinstance(inner, Map) else None
        btf_fd = made.load()
        try:
            from tracebee.host.identity import read_cpus

            cpus = len(read_cpus("possible"))
            try:
                store = create_map(spec, cpus=cpus, btf_fd=btf_fd, numa_node=numa_node, inner_fd=inner_fd)
            except MapError as error:
                if error.errno != errno.EPERM or not _raise_memlock():
                    raise
                store = create_map(spec, cpus=cpus, btf_fd=btf_fd, numa_node=numa_node, inner_fd=inner_fd)
        finally:
            if btf_fd:
                os.close(btf_fd)
        found = cls(store, made.btf, owned=True, key=made.key_codec, value=made.value_codec)
        if isinstance(inner, Map):
            found._like = inner.key_codec, inner.value_codec
        return found

    # --- what it is

    @property
    def spec(self) -> MapSpec:
        return self.store.spec

    @property
    def name(self) -> str:
        """Its name: of a map that was opened by its id, as the kernel cuts it."""
        return self.store.spec.name

    @property
    def type(self) -> str:
        """Its kind, such as "PERCPU_HASH"."""
        return self.store.spec.type

    @property
    def max_entries(self) -> int:
        return self.store.spec.max_entries

    @property
    def cpus(self) -> int:
        """How many values a key has: in a per-CPU map one for each possible CPU, else one."""
        return self.store.cpus

    @property
    def is_per_cpu(self) -> bool:
        return "PERCPU" in self.store.spec.type

    @property
    def is_outer(self) -> bool:
        """Whether it is a map of maps."""
        return self.store.spec.type in OUTER

    @property
    def fd(self) -> int:
        """Its descriptor.  Raises UsageError for a map that is not in the kernel."""
        return self.kernel.fd

    @property
    def info(self) -> MapInfo:
        """What the kernel tells of it, now."""
        from tracebee.kernel.info import map_info

        return map_info(self.fd)

    @property
    def id(self) -> int:
        """Its id in the kernel."""
        return self.info.id

    @property
    def kernel(self) -> KernelMap:
        """The map in the kernel.  Raises UsageError if there is none."""
        if isinstance(self.store, KernelMap):
            return self.store
        raise UsageError(f"map {self.name} is not in the kernel", "it is this process's alone")

    def __repr__(self) -> str:
        key = "" if self.type in KEYLESS else f"{self.key_codec.name or f'{self.key_codec.size} bytes'} → "
        value = self.value_codec.name or f"{self.value_codec.size} bytes"
        return f"<Map {self.name!r}, {self.type}: {key}{value}, {self.max_entries} entries>"

    def __enter__(self) -> Map:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the map if it was opened or made here."""
        if self._owned and isinstance(self.store, KernelMap):
            self.store.close()

    def __del__(self) -> None:
        if getattr(self, "_owned", False):
            self.close()

    # --- bytes

    def encode_key(self, key: Any) -> bytes:
        """The bytes of a key.  Raises UsageError."""
        if self.type in KEYLESS:
            raise UsageError(f"map {self.name} of type {self.type} has no keys", "use push, pop and peek")
        if self.type in maprules.RINGS:
            raise UsageError(
                f"map {self.name} of type {self.type} has no elements", "its records are to be read"
            )
        if self.key_codec.loses and isinstance(key, Hashable):
            known = self._seen.get(key)
            if known is not None:
                return known
        return self.key_codec.encode(key, f"key of {self.name}")

    def decode_key(self, data: bytes) -> Any:
        key = self.key_codec.decode(data)
        if self.key_codec.loses and self.key_codec.encode(key) != data:
            self._seen[key] = data
        return key

    def encode_value(self, value: Any) -> bytes:
        """The bytes of a value as the store takes them: of a per-CPU map those of all CPUs.  Raises UsageError."""
        where = f"value of {self.name}"
        if self.type in (*maprules.OBJECT_ARRAYS, *OUTER):
            return self._reference(value)
        if not self.is_per_cpu:
            return self.value_codec.encode(value, where)
        cpus, slot = self.store.cpus, self.store.slot
        if not self._is_for_each(value):
            return self.value_codec.encode(value, where).ljust(slot, b"\0") * cpus
        if len(value) != cpus:
            raise UsageError(
                f"{where}: there are {len(value)} values, and {cpus} possible CPUs",
                "give one for each, or one for all of them",
            )
        parts = [self.value_codec.encode(one, f"{where}, CPU {cpu}") for cpu, one in enumerate(value)]
        return b"".join([part.ljust(slot, b"\0") for part in parts])

    def _is_for_each(self, value: Any) -> bool:
        """Whether it is a list of values, not one that is a list itself."""
        if not isinstance(value, list | tuple) or hasattr(value, "_fields"):
            return False
        if isinstance(self.value_codec, ArrayCodec):
            return any(isinstance(one, list | tuple | bytes) for one in value)
        return True

    def decode_value(self, data: bytes) -> Any:
        """A value out of the store's bytes; of maps of maps that is an id, here."""
        if not self.is_per_cpu:
            return self.value_codec.decode(data)
        slot, decode = self.store.slot, self.value_codec.decode
        return [decode(data[at : at + slot]) for at in range(0, len(data), slot)]

    def _reference(self, value: Any) -> bytes:
        """What is written into a map of maps, programs or events: a descriptor; in the engine, its number."""
        if isinstance(self.store, KernelMap):
            return _descriptor(value).to_bytes(4, "little", signed=True)
        number = getattr(value.store, "id", None) if isinstance(value, Map) else value
        if not isinstance(number, int) or isinstance(getattr(value, "store", None), KernelMap):
            raise UsageError(
                f"{value!r} cannot be put into map {self.name} of type {self.type}",
                "that is not in the kernel, and holds maps of its own object",
            )
        return number.to_bytes(4, "little")

    def _value(self, data: bytes) -> Any:
        """What a reader gets: of a map of maps the inner map."""
        return self._inner(data) if self.is_outer else self.decode_value(data)

    def _inner(self, data: bytes) -> Map:
        number = int.from_bytes(data, "little")
        if isinstance(self.store, KernelMap):
            inner = Map.from_id(number)
            if inner.btf is None and self._like is not None:
                key, value = self._like
                if (key.size, value.size) == (inner.key_codec.size, inner.value_codec.size):
                    inner.key_codec, inner.value_codec = key, value
            return inner
        for one in self._family.values():
            if getattr(one.store, "id", None) == number:
                return one
        raise TargetError("", f"there is no map with id {number}")

    # --- a mapping

    def __getitem__(self, key: Any) -> Any:
        found = self._find(key, 0)
        if found is None:
            raise KeyError(key)
        if self.is_outer:
            try:
                return self._inner(found)
            except TargetError:
                raise KeyError(key) from None  # it was taken out meanwhile
        return self.decode_value(found)

    def _find(self, key: Any, flags: int) -> bytes | None:
        data = self.encode_key(key)
        try:
            return self.store.get(data) if not flags else self.kernel.get(data, flags)
        except SyscallError as error:
            raise self._explained("lookup", error, data, flags) from None

    def lookup(self, key: Any, *, lock: bool = False) -> Any:
        """The value of a key, or None; with `lock` under the lock that is in the value (struct bpf_spin_lock)."""
        found = self._find(key, LOCK if lock else 0)
        return None if found is None else self._value(found)

    def __contains__(self, key: object) -> bool:
        try:
            return self._find(key, 0) is not None
        except (UsageError, MapError):
            return False

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def put(self, key: Any, value: Any, *, when: str = "any", lock: bool = False) -> None:
        """Set the value of a key: `when` it is there ("exist"), is not ("noexist"), or "any".

        With `lock` it is set under the lock that is in the value.  Raises MapError, UsageError.
        """
        if when not in _WHEN:
            raise UsageError(f"there is no {when!r}", f"it is one of {', '.join(_WHEN)}")
        flags = _WHEN[when] | (LOCK if lock else 0)
        where, data = self.encode_key(key), self.encode_value(value)
        try:
            if isinstance(self.store, KernelMap):
                self.store.put(where, data, flags)
                return
            if flags and self.type in maprules.OBJECT_ARRAYS:
                raise SyscallError("update", errno.EINVAL)
            there = flags and self.store.get(where) is not None
            if flags == NOEXIST and there:
                raise SyscallError("update", errno.EEXIST)
            if flags == EXIST and not there:
                raise SyscallError("update", errno.ENOENT)
            self.store.put(where, data)
        except SyscallError as error:
            raise self._explained("update", error, where, flags, value) from None

    def __delitem__(self, key: Any) -> None:
        data = self.encode_key(key)
        try:
            removed = self.store.remove(data)
        except SyscallError as error:
            raise self._explained("delete", error, data) from None
        if not removed:
            raise KeyError(key)
        self._seen.pop(key, None) if isinstance(key, Hashable) else None

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.store, KernelMap):
            for data in self.store.keys():  # noqa: SIM118 - it is no mapping
                yield self.decode_key(data)
        else:
            for data, _ in self._raw_items():
                yield self.decode_key(data)

    def __len__(self) -> int:
        if isinstance(self.store, KernelMap):
            return sum(1 for _ in self.store.keys())  # noqa: SIM118
        return sum(1 for _ in self._raw_items())

    def __bool__(self) -> bool:
        return True

    def _raw_items(self) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from self.store.items()
        except SyscallError as error:
            raise self._explained("next key", error) from None

    def items(self) -> _Items:
        """Keys and values, read as one goes over them: in batches, where the kernel has them.

        Each key comes once, though others change the map meanwhile; what comes or goes may be in it or not.
        """
        return _Items(self)

    def values(self) -> _Values:
        """The values, as `items` has them."""
        return _Values(self)

    def pop(self, *arguments: Any, **default: Any) -> Any:
        """``pop(key)``, ``pop(key, default)``: take out a key, at once with its value where the kernel can.

        Of a queue or a stack, ``pop()`` is the next value.  Raises KeyError if there is none and no default.
        """
        otherwise = default.get("default", _MISSING)
        if self.type in KEYLESS:
            if arguments:
                otherwise = arguments[0]
            found = self.kernel.pop()
        else:
            if not arguments:
                raise UsageError(f"pop from map {self.name} of type {self.type} needs a key")
            if len(arguments) > 1:
                otherwise = arguments[1]
            data = self.encode_key(arguments[0])
            if isinstance(self.store, KernelMap):
                found = self.store.take(data)
            else:
                found = self.store.get(data)
                if found is not None:
                    self.store.remove(data)
        if found is None:
            if otherwise is _MISSING:
                raise KeyError(arguments[0] if arguments else "the map is empty")
            return otherwise
        return self._value(found)

    def push(self, value: Any, *, drop_oldest: bool = False) -> None:
        """Put a value into a queue, a stack or a Bloom filter; into a full one only for the oldest."""
        self.kernel.push(self.value_codec.encode(value, f"value of {self.name}"), EXIST if drop_oldest else 0)

    def peek(self, default: Any = None) -> Any:
        """The next value of a queue or a stack, which stays; the default if it is empty."""
        if self.type == "BLOOM_FILTER":
            raise UsageError(
                "a Bloom filter only tells of a value whether it may be in", "use may_have(value)"
            )
        found = self.kernel.peek()
        return default if found is None else self.value_codec.decode(found)

    def may_have(self, value: Any) -> bool:
        """Whether a Bloom filter may have a value: if not, it is certainly not in it."""
        if self.type != "BLOOM_FILTER":
            raise UsageError(f"map {self.name} of type {self.type} is no Bloom filter")
        return self.kernel.peek(self.value_codec.encode(value, f"value of {self.name}")) is not None

    # --- many at once

    def update_many(self, elements: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        """Set many keys, in batches where the kernel has them (Linux 5.6).

        All are checked before the first is set.  Raises MapError for the first that is refused; those before it
        are set.
        """
        pairs = elements.items() if isinstance(elements, Mapping) else elements
        encoded = {self.encode_key(key): self.encode_value(value) for key, value in pairs}
        try:
            if isinstance(self.store, KernelMap):
                self.store.put_many(encoded)
            else:
                for key, value in encoded.items():
                    self.store.put(key, value)
        except SyscallError as error:
            raise self._explained("update", error) from None

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """The values of those keys that are there; of many keys by reading the map in batches."""
        wanted = {self.encode_key(key): key for key in keys}
        if 4 * len(wanted) > self.max_entries and len(wanted) > 16:
            found = {data: value for data, value in self._raw_items() if data in wanted}
        else:
            found = {}
            for data in wanted:
                value = self.store.get(data)
                if value is not None:
                    found[data] = value
        return {wanted[data]: self._value(found[data]) for data in wanted if data in found}

    def remove_many(self, keys: Iterable[Any]) -> int:
        """Remove many keys, in batches where the kernel has them; how many were there."""
        encoded = [self.encode_key(key) for key in keys]
        if isinstance(self.store, KernelMap):
            return self.store.remove_many(encoded)
        return sum(self.store.remove(data) for data in encoded)

    def take_all(self) -> dict[Any, Any]:
        """All elements, which are removed from it (those of an array become zero).

        Where the kernel has that (hash maps since Linux 5.6) no change in between is lost: so counters can be read
        and set back.
        """
        if isinstance(self.store, KernelMap):
            return {self.decode_key(key): self._value(value) for key, value in self.store.take_all()}
        found = dict(self.items())
        self.clear()
        return found

    def clear(self) -> None:
        """Remove all elements; those of an array become zero."""
        try:
            self.store.clear()
        except SyscallError as error:
            raise self._explained("delete", error) from None
        self._seen.clear()

    # --- the map as a whole

    def freeze(self) -> None:
        """From now on, user space can only read it: for good, of all processes."""
        if isinstance(self.store, KernelMap):
            self.store.freeze()
        else:
            freeze: Any = getattr(self.store, "freeze", None)
            freeze()

    @property
    def is_frozen(self) -> bool:
        if isinstance(self.store, KernelMap):
            return bool(self.info.frozen)
        return bool(getattr(self.store, "is_frozen", False))

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Have a file of a BPF file system that keeps the map when this process has ended.  Raises MapError."""
        self.kernel.pin(os.fspath(path))
        self._pins.append(os.fspath(path))

    def unpin(self, path: str | os.PathLike[str] | None = None) -> None:
        """Remove a file that the map is pinned at; without a path, those that `pin` has made.

        Raises TargetError if something else is there.
        """
        for one in [os.fspath(path)] if path is not None else list(self._pins):
            with Map.from_pin(one) as there:
                if there.id != self.id:
                    raise TargetError(one, f"another map is pinned there, {there.id}, not {self.id}")
            os.unlink(one)
            if one in self._pins:
                self._pins.remove(one)

    def to_arrow(self) -> Any:
        """All of it as a table of Arrow with the columns "key" and "value" (the package pyarrow).

        Columns have the widths and signs of BTF's types; structures are struct columns, values of per-CPU maps list
        columns.  Raises NotSupportedError without pyarrow.
        """
        from tracebee.session.objects.columns import table_of

        values = self.value_codec if not self.is_outer else untyped(4)
        keys: list[Any] = []
        found: list[Any] = []
        for key, value in self._raw_items():
            keys.append(self.decode_key(key))
            found.append(self.decode_value(value))
        return table_of(
            [("key", self.key_codec, 0, keys), ("value", values, self.cpus if self.is_per_cpu else 0, found)]
        )

    def _explained(
        self, operation: str, error: SyscallError, key: bytes = b"", flags: int = 0, value: Any = None
    ) -> SyscallError:
        """The error with what it means: for a map of maps, what differs from the template."""
        if self.is_outer and operation == "update" and error.errno == errno.EINVAL:
            inner, template = self._spec_of(value), self._template(key)
            call = maprules.Call(self.spec, operation, errno.EINVAL, key, flags, inner, template)
            return maprules.map_error(call, error.call)
        if isinstance(error, MapError):
            return error
        return maprules.map_error(
            maprules.Call(self.spec, operation, error.errno or 0, key, flags), error.call
        )

    def _spec_of(self, value: Any) -> MapSpec | None:
        if isinstance(value, Map):
            return value.spec
        try:
            return KernelMap.from_fd(_descriptor(value), 1).spec
        except (SyscallError, UsageError):
            return None

    def _template(self, key: bytes) -> MapSpec | None:
        """What inner maps are like: as it was said when the map was made, or as one is that is in it."""
        if self.spec.inner is not None:
            return self.spec.inner
        for _, data in self._raw_items():
            try:
                with self._inner(data) as one:
                    return one.spec
            except TargetError:
                continue
        return None


_WHEN = {"any": ANY, "noexist": NOEXIST, "exist": EXIST}


class _Items(ItemsView[Any, Any]):
    _mapping: Map

    def __init__(self, mapping: Map) -> None:
        super().__init__(mapping)
        self._mapping = mapping

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        one = self._mapping
        for key, data in one._raw_items():
            try:
                value = one._value(data)
            except TargetError:
                continue  # an inner map that was taken out meanwhile
            yield one.decode_key(key), value


class _Values(ValuesView[Any]):
    _mapping: Map

    def __init__(self, mapping: Map) -> None:
        super().__init__(mapping)
        self._mapping = mapping

    def __iter__(self) -> Iterator[Any]:
        for _, value in self._mapping.items():
            yield value


class _Types:
    """The types of a map to be made."""

    def __init__(self, key: TypeOf | None, value: TypeOf | None) -> None:
        """Raises UsageError."""
        texts = [one if isinstance(one, str) else "" for one in (key, value)]
        self.btf: Btf | None = None
        self.key_type = self.value_type = 0
        self.key_codec: ValueCodec | None = None
        self.value_codec: ValueCodec | None = None
        self._data = b""
        sizes = [0, 0]
        if any(texts):
            from tracebee.btf.typetext import types_of

            self.btf, self._data, ((self.key_type, sizes[0]), (self.value_type, sizes[1])) = types_of(*texts)
        for index, one in enumerate((key, value)):
            if isinstance(one, int):
                if not 0 <= one < 1 << 31:
                    raise UsageError(f"{one} is no size in bytes")
                sizes[index] = one
            elif isinstance(one, tuple):
                btf, type_id = one
                sizes[index] = btf.size_of(type_id)
                codec = value_codec(btf, type_id, sizes[index], hashable=index == 0)
                if index:
                    self.value_codec = codec
                else:
                    self.key_codec = codec
        self.key_size, self.value_size = sizes

    def load(self) -> int:
        """A descriptor of their BTF, or 0: a kernel that does not take it makes the map without."""
        if not self._data:
            return 0

        try:
            return bpf.btf_load(self._data)
        except SyscallError:
            return 0


def _raise_memlock() -> bool:
    """Lift the limit on locked memory, which old kernels count maps against."""
    from tracebee.kernel.features import Features
    from tracebee.kernel.memlock import raise_memlock

    return raise_memlock(Features())


def flags_of(names: Sequence[str]) -> int:
    """Flags of a new map by their names, such as "no_prealloc" or "BPF_F_MMAPABLE".  Raises UsageError."""
    number = 0
    for name in names:
        found = FLAGS.get(name.lower().removeprefix("bpf_f_"))
        if found is None:
            raise UsageError(f"there is no flag {name!r} of maps", f"there are {', '.join(FLAGS)}")
        number |= found
    return number


def _descriptor(value: Any) -> int:
    """A descriptor, or that of a map, a program or a link."""
    for attribute in ("fd", "fileno"):
        found = getattr(value, attribute, None)
        if found is not None:
            value = found() if callable(found) else found
            break
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UsageError(f"{value!r} is no descriptor, and has none", "give a map, a program or a descriptor")


def types_of_map(info: MapInfo) -> tuple[Btf | None, int]:
    """The types of a map's keys and values, and the id of the latter; none if nobody knows them."""
    from tracebee.btf.reader import Btf
    from tracebee.errors import TracebeeError
    from tracebee.kernel.info import btf_by_id

    try:
        if info.btf_vmlinux_value_type_id:
            return Btf.from_file("/sys/kernel/btf/vmlinux"), info.btf_vmlinux_value_type_id
        if info.btf_id:
            return btf_by_id(info.btf_id), info.btf_value_type_id
    except TracebeeError:
        pass  # no right to read it, or it is none that can be read: values are bytes then
    return None, 0
