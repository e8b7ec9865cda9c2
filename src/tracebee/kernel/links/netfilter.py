"""Hooks of netfilter."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError, UsageError
from tracebee.kernel.links import create_link
from tracebee.spec.objects import Netfilter

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

# NFPROTO_* and enum nf_inet_hooks of linux/netfilter.h
FAMILIES = {"ipv4": 2, "ipv6": 10}
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")

BPF_F_NETFILTER_IP_DEFRAG = 1


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_LINK_CREATE (Linux 6.4)."""
    place = probe.attach
    assert isinstance(place, Netfilter)
    if place.family not in FAMILIES:
        raise UsageError(f"{place.family} is no family of netfilter here", "ipv4 or ipv6")
    if place.hook not in HOOKS:
        raise UsageError(f"{place.hook} is no hook of netfilter", f"one of {', '.join(HOOKS)}")
    try:
        return create_link(
            program,
            probe,
            0,
            "NETFILTER",
            netfilter_pf=FAMILIES[place.family],
            netfilter_hooknum=HOOKS.index(place.hook),
            netfilter_priority=place.priority,
            netfilter_flags=BPF_F_NETFILTER_IP_DEFRAG if place.defragment else 0,
        )
    except SyscallError as error:
        raise AttachError(probe.name, str(error), _hint(error)) from error


def _hint(error: SyscallError) -> str:
    if error.errno == errno.EBUSY:
        return "another program has the same hook and priority: choose another priority"
    if error.errno in (errno.ERANGE, errno.EINVAL):
        return "the lowest and the highest priority are taken: it must lie between, and with defragment above -400"
    return ""
