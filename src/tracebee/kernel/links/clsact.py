"""Filters of the queueing discipline clsact, by rtnetlink(7): traffic control before tcx (Linux 6.6).

A request is struct nlmsghdr, struct tcmsg and attributes; the kernel echoes the filter that it made, which tells its
handle and priority.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError
from tracebee.kernel.links import Link

if TYPE_CHECKING:
    from tracebee.kernel.programs import Program

# linux/rtnetlink.h, linux/netlink.h, linux/pkt_sched.h, linux/pkt_cls.h
RTM_NEWQDISC, RTM_NEWTFILTER, RTM_DELTFILTER = 36, 44, 45
NLM_F_REQUEST, NLM_F_ACK, NLM_F_ECHO, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 8, 0x200, 0x400
NLMSG_ERROR = 2
TC_H_CLSACT = 0xFFFFFFF1
CLSACT_HANDLE = 0xFFFF0000
MIN_INGRESS, MIN_EGRESS = 0xFFF2, 0xFFF3
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS = 6, 7, 8
TCA_BPF_FLAG_ACT_DIRECT = 1
ETH_P_ALL = 3
NLA_F_NESTED = 0x8000
BUFFER = 1 << 15


def add_filter(program: Program, index: int, egress: bool) -> Link:
    """A filter that is the program, behind those that are there; clsact is added if it is missing, and stays.

    It stays itself if this process is killed: ``tc filter del dev …`` takes it away.  Raises SyscallError.
    """
    parent = CLSACT_HANDLE | (MIN_EGRESS if egress else MIN_INGRESS)
    try:
        discipline = struct.pack("=BxxxiIII", 0, index, CLSACT_HANDLE, TC_H_CLSACT, 0)
        ask(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, discipline + attribute(TCA_KIND, b"clsact\0"))
    except SyscallError as error:
        if error.errno != errno.EEXIST:
            raise
    options = (
        attribute(TCA_BPF_FD, struct.pack("=I", program.fd))
        + attribute(TCA_BPF_NAME, program.spec.name.encode()[:255] + b"\0")
        + attribute(TCA_BPF_FLAGS, struct.pack("=I", TCA_BPF_FLAG_ACT_DIRECT))
    )
    body = struct.pack("=BxxxiIII", 0, index, 0, parent, socket.htons(ETH_P_ALL))
    body += attribute(TCA_KIND, b"bpf\0") + attribute(TCA_OPTIONS | NLA_F_NESTED, options)
    made = ask(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO, body)
    handle, info = struct.unpack_from("=I4xI", made, 8) if len(made) >= 20 else (0, 0)

    def undo() -> None:
        try:
            ask(
                RTM_DELTFILTER,
                0,
                struct.pack("=BxxxiIII", 0, index, handle, parent, info) + attribute(TCA_KIND, b"bpf\0"),
            )
        except SyscallError:
            pass  # the interface, or somebody who took it away, was faster

    return Link([], undo=undo)


def attribute(kind: int, data: bytes) -> bytes:
    """A struct nlattr and what it has, padded to 4 bytes."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def ask(kind: int, flags: int, body: bytes) -> bytes:
    """Send a request and wait for its end; the body of what was echoed, or nothing.  Raises SyscallError."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as link:
        link.bind((0, 0))
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST | NLM_F_ACK, 1, 0)
        link.send(header + body)
        echoed = b""
        while True:
            data = link.recv(BUFFER)
            at = 0
            while at + 16 <= len(data):
                size, answer = struct.unpack_from("=IH", data, at)
                if answer == NLMSG_ERROR:
                    number = struct.unpack_from("=i", data, at + 16)[0]
                    if number:
                        raise SyscallError("rtnetlink", -number, f"message {kind}")
                    return echoed
                echoed = data[at + 16 : at + size]
                at += max(16, (size + 3) & ~3)
            if not data:
                raise SyscallError("rtnetlink", errno.EIO, os.strerror(errno.EIO))
