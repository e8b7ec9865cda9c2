"""perf_event_open(2) and its ioctls (include/uapi/linux/perf_event.h)."""

from __future__ import annotations

import sys

from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.raw import address, buffer, checked, empty_buffer, ioctl, number_of, syscall, write

PERF_TYPE_HARDWARE = 0
PERF_TYPE_SOFTWARE = 1
PERF_TYPE_TRACEPOINT = 2
PERF_TYPE_BREAKPOINT = 5

PERF_COUNT_SW_DUMMY = 9
PERF_COUNT_SW_BPF_OUTPUT = 10

PERF_FLAG_FD_CLOEXEC = 8
PERF_EVENT_IOC_ENABLE = 0x2400
PERF_EVENT_IOC_DISABLE = 0x2401
PERF_EVENT_IOC_SET_BPF = 0x40042408

_ATTR_SIZE_VER5 = 112
"""sizeof(struct perf_event_attr) in Linux 4.1, which every kernel here takes."""

_FLAGS_OFFSET = 40
_INHERIT = 1 << 1
_FREQ = 1 << 10
# mmap, comm, task, watermark, sample_id_all, mmap2, comm_exec: bits of struct perf_event_attr
_TASK_RECORDS = 1 << 8 | 1 << 9 | 1 << 13 | 1 << 14 | 1 << 18 | 1 << 23 | 1 << 24
_PERF_SAMPLE_TIME = 1 << 2
_PERF_SAMPLE_RAW = 1 << 10

HW_BREAKPOINT = {"r": 1, "w": 2, "x": 4}
"""linux/hw_breakpoint.h"""


def perf_event_open(
    type_: int,
    config: int,
    *,
    pid: int = -1,
    cpu: int = -1,
    period: int = 0,
    frequency: int = 0,
    config1: int | bytes = 0,
    config2: int = 0,
    breakpoint_type: int = 0,
    disabled: bool = True,
    inherit: bool = False,
    task_records: int = 0,
    raw_records: bool = False,
) -> int:
    """A descriptor of a counter.  `config1` as bytes is the address of that string.

    It fires every `period` counts, or `frequency` times a second if that is not 0.  With `inherit` it is also
    for the threads and processes that `pid` starts from now on.  With `task_records` it
    also writes of forks, executions and mappings, from now on, with the time behind each; its reader is woken
    whenever there are so many bytes.  With `raw_records` each count is a record with the time in front of it, and
    wakes the reader.
    """
    data = empty_buffer(_ATTR_SIZE_VER5)
    layout = uapi.PERF_EVENT_ATTR

    def put(field: str, value: int) -> None:
        offset, size = layout[field]
        write(data, offset, (value & ((1 << 8 * size) - 1)).to_bytes(size, sys.byteorder))

    put("type", type_)
    put("size", _ATTR_SIZE_VER5)
    put("config", config)
    put("sample_period", frequency or period)
    flags = int(disabled) | (_INHERIT if inherit else 0) | (_FREQ if frequency else 0)
    if task_records:
        flags = _TASK_RECORDS
        put("sample_type", _PERF_SAMPLE_TIME)
        put("wakeup_watermark", task_records)
    if raw_records:
        put("sample_type", _PERF_SAMPLE_TIME | _PERF_SAMPLE_RAW)
        put("wakeup_events", 1)
    write(data, _FLAGS_OFFSET, flags.to_bytes(8, sys.byteorder))
    kept = None
    if isinstance(config1, bytes):
        kept = buffer(config1 + b"\0")
        config1 = address(kept)
    put("config1", config1)
    put("config2", config2)
    if breakpoint_type:
        put("bp_type", breakpoint_type)
    result = syscall(_NUMBER, data, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC)
    del kept
    return checked("perf_event_open", result)


def attach_bpf(fd: int, prog_fd: int) -> None:
    """PERF_EVENT_IOC_SET_BPF and ENABLE: the way before BPF links (Linux 5.15)."""
    checked("ioctl(PERF_EVENT_IOC_SET_BPF)", ioctl(fd, PERF_EVENT_IOC_SET_BPF, prog_fd))
    checked("ioctl(PERF_EVENT_IOC_ENABLE)", ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))


def enable(fd: int) -> None:
    """PERF_EVENT_IOC_ENABLE."""
    checked("ioctl(PERF_EVENT_IOC_ENABLE)", ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))


_NUMBER = number_of("perf_event_open")
