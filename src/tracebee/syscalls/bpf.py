"""bpf(2), a function for each command.

Each raises SyscallError with the kernel's errno.  Keys, values and other memory are bytes; sizes are bytes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import SyscallError
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.raw import address, buffer, checked, empty_buffer, number_of, syscall, write

if TYPE_CHECKING:
    from collections.abc import Sequence

Layout = dict[str, tuple[int, int]]

BPF_ANY = 0
BPF_NOEXIST = 1
BPF_F_TEST_RUN_ON_CPU = 1
NAME_LENGTH = 16


class Attr:
    """Part of a union bpf_attr being filled.

    Only as many bytes are passed as are needed: a kernel refuses bytes that it does not know unless they are
    zero, and an older one knows fewer.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.data = empty_buffer(256)
        self.size = 0
        self.kept: list[object] = []

    def set(self, **fields: int | bytes) -> Attr:
        for name, value in fields.items():
            offset, size = self.layout[name]
            data = (
                value
                if isinstance(value, bytes)
                else (value & ((1 << 8 * size) - 1)).to_bytes(size, sys.byteorder)
            )
            write(self.data, offset, data)
            if any(data):
                self.size = max(self.size, offset + size)
        return self

    def memory(self, field: str, data: bytes | ctypes.Array[ctypes.c_char]) -> ctypes.Array[ctypes.c_char]:
        """Point a field at memory with these bytes."""
        area = buffer(data) if isinstance(data, bytes) else data
        self.kept.append(area)
        self.set(**{field: address(area)})
        return area

    def get(self, field: str) -> int:
        offset, size = self.layout[field]
        return int.from_bytes(self.data.raw[offset : offset + size], sys.byteorder)

    def call(self, command: str) -> int:
        """The result of the command, or minus the errno."""
        size = (self.size + 7) // 8 * 8
        return syscall(_BPF, uapi.BPF_CMD[command], self.data, max(size, 4))


_BPF = number_of("bpf")


def object_name(name: str) -> bytes:
    """A name as the kernel takes it: letters, digits, '_' and '.', at most 15 (bpf_obj_name_cpy)."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "_.") else "_" for char in name)
    return plain[: NAME_LENGTH - 1].encode()


# --- maps


def map_create(
    kind: str,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    name: str = "",
    btf_fd: int = 0,
    key_type: int = 0,
    value_type: int = 0,
    vmlinux_value_type: int = 0,
    inner_map_fd: int | None = None,
    numa_node: int | None = None,
    extra: int = 0,
) -> int:
    """BPF_MAP_CREATE; `kind` is a name of enum bpf_map_type without prefix.  Returns a descriptor."""
    attr = Attr(uapi.ATTR_MAP_CREATE).set(
        map_type=uapi.BPF_MAP_TYPE[kind],
        key_size=key_size,
        value_size=value_size,
        max_entries=max_entries,
        map_flags=flags if numa_node is None else flags | uapi.MAP_FLAGS["NUMA_NODE"],
        map_name=object_name(name),
        inner_map_fd=inner_map_fd or 0,
        numa_node=numa_node or 0,
        map_extra=extra,
    )
    if btf_fd:
        attr.set(
            btf_fd=btf_fd,
            btf_key_type_id=key_type,
            btf_value_type_id=value_type,
            btf_vmlinux_value_type_id=vmlinux_value_type,
        )
    return checked("bpf(BPF_MAP_CREATE)", attr.call("MAP_CREATE"), f"{kind} map {name!r}")


def element(fd: int, key: bytes, flags: int) -> Attr:
    """An element of a map.  Maps without keys (queue, stack, Bloom filter) want no address of one."""
    attr = Attr(uapi.ATTR_MAP_ELEM).set(map_fd=fd, flags=flags)
    if key:
        attr.memory("key", key)
    return attr


def map_lookup(fd: int, key: bytes, value_size: int, flags: int = 0, ask: bytes = b"") -> bytes | None:
    """The value of a key, or None; without a key, the first element (peek).

    For per-CPU maps `value_size` is that of all CPUs together.  `ask` is what the kernel finds where it will write:
    the value that a Bloom filter is asked about.
    """
    attr = element(fd, key, flags)
    value = attr.memory("value", ask.ljust(value_size, b"\0") if ask else empty_buffer(value_size))
    result = attr.call("MAP_LOOKUP_ELEM")
    if result == -errno.ENOENT:
        return None
    checked("bpf(BPF_MAP_LOOKUP_ELEM)", result)
    return value.raw[:value_size]


def map_update(fd: int, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
    """BPF_MAP_UPDATE_ELEM; without a key, push."""
    attr = element(fd, key, flags)
    attr.memory("value", value)
    checked("bpf(BPF_MAP_UPDATE_ELEM)", attr.call("MAP_UPDATE_ELEM"))


def map_delete(fd: int, key: bytes) -> bool:
    """Remove a key; whether it was there."""
    attr = Attr(uapi.ATTR_MAP_ELEM).set(map_fd=fd)
    attr.memory("key", key)
    result = attr.call("MAP_DELETE_ELEM")
    if result == -errno.ENOENT:
        return False
    checked("bpf(BPF_MAP_DELETE_ELEM)", result)
    return True


def map_next_key(fd: int, key: bytes | None, key_size: int) -> bytes | None:
    """The key behind `key` in the kernel's order, the first for None; None at the end."""
    attr = Attr(uapi.ATTR_MAP_ELEM).set(map_fd=fd)
    if key is not None:
        attr.memory("key", key)
    following = attr.memory("value", empty_buffer(key_size))
    result = attr.call("MAP_GET_NEXT_KEY")
    if result == -errno.ENOENT:
        return None
    checked("bpf(BPF_MAP_GET_NEXT_KEY)", result)
    return following.raw[:key_size]


class Batch(NamedTuple):
    """Some elements of a map: keys and values one after the other, how many, and where to go on."""

    keys: bytes
    values: bytes
    length: int
    position: bytes | None


def map_lookup_batch(fd: int, position: bytes | None, count: int, key_size: int, value_size: int) -> Batch:
    """BPF_MAP_LOOKUP_BATCH (Linux 5.6): up to `count` elements; the position is None at the end.

    Raises SyscallError with EINVAL where the kernel or the kind of map has no batches, and with ENOSPC if a
    bucket holds more than `count`.
    """
    attr = Attr(uapi.ATTR_MAP_BATCH).set(map_fd=fd, count=count)
    if position is not None:
        attr.memory("in_batch", position.ljust(max(4, key_size), b"\0"))
    out = attr.memory("out_batch", empty_buffer(max(4, key_size)))
    keys = attr.memory("keys", empty_buffer(count * key_size))
    values = attr.memory("values", empty_buffer(count * value_size))
    result = attr.call("MAP_LOOKUP_BATCH")
    found = attr.get("count")
    if result < 0 and result != -errno.ENOENT:
        checked("bpf(BPF_MAP_LOOKUP_BATCH)", result)
    following = None if result == -errno.ENOENT else out.raw
    return Batch(keys.raw[: found * key_size], values.raw[: found * value_size], found, following)


def map_freeze(fd: int) -> None:
    """BPF_MAP_FREEZE: user space can no longer write."""
    checked("bpf(BPF_MAP_FREEZE)", Attr(uapi.ATTR_MAP_ELEM).set(map_fd=fd).call("MAP_FREEZE"))


# --- programs


class LoadRefused(SyscallError):
    """BPF_PROG_LOAD failed; `log` is what the verifier wrote."""

    def __init__(self, number: int, log: str) -> None:
        super().__init__("bpf(BPF_PROG_LOAD)", number)
        self.log = log


def prog_load(
    kind: str,
    code: bytes,
    *,
    license: str = "GPL",
    name: str = "",
    expected_attach_type: str = "",
    attach_btf_id: int = 0,
    attach_btf_fd: int = 0,
    flags: int = 0,
    btf_fd: int = 0,
    func_info: bytes = b"",
    func_info_size: int = 8,
    line_info: bytes = b"",
    line_info_size: int = 16,
    kernel_version: int = 0,
    fd_array: Sequence[int] = (),
    log_level: int = 0,
    log_size: int = 1 << 24,
) -> tuple[int, str]:
    """BPF_PROG_LOAD; names are those of the uapi enums without prefix.  Returns a descriptor and the log.

    The `attach_btf_id` is one of the kernel itself, or of the module or program whose descriptor is
    `attach_btf_fd`; `fd_array` has what calls of functions in modules refer to.

    Raises LoadRefused; with `log_level` 0 the log is empty.
    """
    attr = Attr(uapi.ATTR_PROG_LOAD).set(
        prog_type=uapi.BPF_PROG_TYPE[kind],
        insn_cnt=len(code) // 8,
        prog_name=object_name(name),
        prog_flags=flags,
        kern_version=kernel_version,
    )
    if expected_attach_type:
        attr.set(expected_attach_type=uapi.BPF_ATTACH_TYPE[expected_attach_type])
    if attach_btf_id:
        attr.set(attach_btf_id=attach_btf_id, attach_btf_obj_fd=attach_btf_fd)
    attr.memory("insns", code)
    attr.memory("license", license.encode() + b"\0")
    if btf_fd and func_info:
        attr.set(
            prog_btf_fd=btf_fd,
            func_info_rec_size=func_info_size,
            func_info_cnt=len(func_info) // func_info_size,
        )
        attr.memory("func_info", func_info)
        if line_info:
            attr.set(line_info_rec_size=line_info_size, line_info_cnt=len(line_info) // line_info_size)
            attr.memory("line_info", line_info)
    if fd_array:
        attr.memory("fd_array", struct.pack(f"={len(fd_array)}i", *fd_array))
    log = None
    if log_level:
        attr.set(log_level=log_level, log_size=log_size)
        log = attr.memory("log_buf", empty_buffer(log_size))
    result = attr.call("PROG_LOAD")
    if result == -errno.EAGAIN:
        result = attr.call("PROG_LOAD")  # a signal came while the verifier was running
    text = "" if log is None else log.value.decode("utf-8", "replace")
    if result < 0:
        raise LoadRefused(-result, text)
    return result, text


def prog_test_run(
    fd: int, *, context: bytes = b"", cpu: int | None = None, repeat: int = 0
) -> tuple[int, int]:
    """BPF_PROG_TEST_RUN; the program's result and the mean run time in nanoseconds."""
    attr = Attr(uapi.ATTR_TEST_RUN).set(prog_fd=fd, repeat=repeat)
    if context:
        attr.set(ctx_size_in=len(context))
        attr.memory("ctx_in", context)
    if cpu is not None:
        attr.set(flags=BPF_F_TEST_RUN_ON_CPU, cpu=cpu)
        attr.size = max(attr.size, 72)
    checked("bpf(BPF_PROG_TEST_RUN)", attr.call("PROG_TEST_RUN"))
    return attr.get("retval"), attr.get("duration")


def btf_load(data: bytes) -> int:
    """BPF_BTF_LOAD; a descriptor."""
    attr = Attr(uapi.ATTR_BTF_LOAD).set(btf_size=len(data))
    attr.memory("btf", data)
    return checked("bpf(BPF_BTF_LOAD)", attr.call("BTF_LOAD"))


# --- attaching


def raw_tracepoint_open(prog_fd: int, name: str = "", cookie: int = 0) -> int:
    """BPF_RAW_TRACEPOINT_OPEN; `name` is empty for programs that know their place by BTF."""
    attr = Attr(uapi.ATTR_RAW_TRACEPOINT).set(prog_fd=prog_fd)
    if cookie:
        attr.set(cookie=cookie)
    if name:
        attr.memory("name", name.encode() + b"\0")
    attr.size = max(attr.size, 16)
    return checked("bpf(BPF_RAW_TRACEPOINT_OPEN)", attr.call("RAW_TRACEPOINT_OPEN"))


def link_create(
    prog_fd: int, target_fd: int, attach_type: str, memory: dict[str, bytes] | None = None, **fields: int
) -> int:
    """BPF_LINK_CREATE; `fields` and `memory` name members of its part of union bpf_attr."""
    attr = Attr(uapi.ATTR_LINK_CREATE).set(
        prog_fd=prog_fd, target_fd=target_fd, attach_type=uapi.BPF_ATTACH_TYPE[attach_type]
    )
    attr.set(**fields)
    for field, data in (memory or {}).items():
        attr.memory(field, data)
    attr.size = max(attr.size, 16)
    return checked("bpf(BPF_LINK_CREATE)", attr.call("LINK_CREATE"), attach_type)


KPROBE_MULTI_RETURN = 1


def link_kprobes(
    prog_fd: int,
    cookies: Sequence[int],
    *,
    names: Sequence[str] = (),
    addresses: Sequence[int] = (),
    returns: bool = False,
    attach_type: str = "TRACE_KPROBE_MULTI",
) -> int:
    """BPF_LINK_CREATE on many kernel functions, by name or by address, with a cookie each (Linux 5.18)."""
    attr = Attr(uapi.ATTR_LINK_CREATE).set(
        prog_fd=prog_fd,
        attach_type=uapi.BPF_ATTACH_TYPE[attach_type],
        kprobe_multi_cnt=len(cookies),
        kprobe_multi_flags=KPROBE_MULTI_RETURN if returns else 0,
    )
    if names:
        texts = [name.encode() + b"\0" for name in names]
        area = buffer(b"".join(texts))
        attr.kept.append(area)
        starts = list(accumulate(map(len, texts), initial=address(area)))
        attr.memory("kprobe_multi_syms", struct.pack(f"={len(texts)}Q", *starts[:-1]))
    else:
        attr.memory("kprobe_multi_addrs", struct.pack(f"={len(addresses)}Q", *addresses))
    attr.memory("kprobe_multi_cookies", struct.pack(f"={len(cookies)}Q", *cookies))
    attr.size = max(attr.size, 16)
    return checked("bpf(BPF_LINK_CREATE)", attr.call("LINK_CREATE"), attach_type)


def iter_create(link_fd: int) -> int:
    """BPF_ITER_CREATE: a descriptor whose reads run the iterator."""
    attr = Attr(uapi.ATTR_ITER_CREATE).set(link_fd=link_fd)
    attr.size = 8
    return checked("bpf(BPF_ITER_CREATE)", attr.call("ITER_CREATE"))


# --- objects and ids


def object_info(fd: int, size: int) -> bytes:
    """BPF_OBJ_GET_INFO_BY_FD: the leading bytes of struct bpf_*_info."""
    attr = Attr(uapi.ATTR_INFO).set(bpf_fd=fd, info_len=size)
    info = attr.memory("info", empty_buffer(size))
    checked("bpf(BPF_OBJ_GET_INFO_BY_FD)", attr.call("OBJ_GET_INFO_BY_FD"))
    return info.raw[:size]


def info_field(info: bytes, layout: Layout, field: str) -> int:
    """A number out of what object_info returned; 0 where the kernel's structure is shorter."""
    offset, size = layout[field]
    return int.from_bytes(info[offset : offset + size], sys.byteorder)


def module_btf_fd(module: str) -> int:
    """A descriptor of the BTF of a loaded module, or -1 if the kernel has none (Linux 5.11)."""
    last = 0
    while True:
        attr = Attr(uapi.ATTR_GET_ID).set(start_id=last)
        attr.size = 12
        if attr.call("BTF_GET_NEXT_ID") < 0:
            return -1
        last = attr.get("next_id")
        attr = Attr(uapi.ATTR_GET_ID).set(start_id=last)
        attr.size = 12
        fd = attr.call("BTF_GET_FD_BY_ID")
        if fd == -errno.ENOENT:
            continue  # it went meanwhile
        checked("bpf(BPF_BTF_GET_FD_BY_ID)", fd)
        try:
            if _btf_name(fd) == module:
                fd, found = -1, fd
                return found
        finally:
            if fd >= 0:
                os.close(fd)


def _btf_name(fd: int) -> str:
    """The name of a kernel BTF object, empty for one that a process has loaded."""
    name = empty_buffer(256)
    info = empty_buffer(uapi.BPF_BTF_INFO_SIZE)
    for field, value in (("name", address(name)), ("name_len", 256)):
        offset, size = uapi.BPF_BTF_INFO[field]
        write(info, offset, value.to_bytes(size, sys.byteorder))
    attr = Attr(uapi.ATTR_INFO).set(bpf_fd=fd, info_len=uapi.BPF_BTF_INFO_SIZE)
    attr.memory("info", info)
    checked("bpf(BPF_OBJ_GET_INFO_BY_FD)", attr.call("OBJ_GET_INFO_BY_FD"))
    return name.value.decode("utf-8", "replace")


def enable_stats(kind: int = 0) -> int:
    """BPF_ENABLE_STATS: run counts and times are kept while the descriptor is open."""
    attr = Attr(uapi.ATTR_ENABLE_STATS).set(type=kind)
    attr.size = 4
    return checked("bpf(BPF_ENABLE_STATS)", attr.call("ENABLE_STATS"))


def object_pin(fd: int, path: str) -> None:
    """BPF_OBJ_PIN."""
    attr = Attr(uapi.ATTR_OBJ_PIN).set(bpf_fd=fd)
    attr.memory("pathname", os.fsencode(path) + b"\0")
    checked("bpf(BPF_OBJ_PIN)", attr.call("OBJ_PIN"), path)
