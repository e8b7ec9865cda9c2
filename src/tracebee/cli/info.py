"""--info: what this machine and kernel can."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from tracebee._version import VERSION
from tracebee.errors import PermissionRefused, SyscallError

if TYPE_CHECKING:
    from tracebee.session.machine import LiveMachine

HELPERS = {
    "dpath": "d_path",
    "get_func_ip": "get_func_ip",
    "get_tai_ns": "ktime_get_tai_ns",
    "jiffies64": "jiffies64",
    "lookup_percpu_elem": "map_lookup_percpu_elem",
    "loop": "loop",
    "probe_read_kernel": "probe_read_kernel",
    "send_signal": "send_signal",
    "skboutput": "skb_output",
    "for_each_map_elem": "for_each_map_elem",
    "get_attach_cookie": "get_attach_cookie",
    "get_current_task_btf": "get_current_task_btf",
}
KERNEL = ("may_goto", "isa_v4", "atomic_fetch", "hash_on_demand", "perf_link", "tp_btf")
PROBES = {
    "kprobe": "kprobe",
    "kprobe_multi": "kprobe_multi",
    "uprobe": "uprobe",
    "uprobe_multi": "uprobe_multi",
    "fentry": "fentry",
}


def show_info(machine: LiveMachine) -> int:
    """Print the report; the exit status."""
    system = os.uname()
    print("System")
    print(f"  OS: {system.sysname} {system.release} {system.version}")
    print(f"  Arch: {system.machine}")
    print()
    print("Build")
    print(f"  version: v{VERSION}")
    print(f"  python: {platform.python_version()}")
    print()
    section("Kernel helpers", {label: answer(machine, name) for label, name in HELPERS.items()})
    features = {"btf": "yes" if machine.btf() is not None else "no"}
    features |= {name: answer(machine, name) for name in KERNEL}
    section("Kernel features", features)
    probes = {label: answer(machine, name) for label, name in PROBES.items()}
    probes["iter"] = iterators(machine)
    section("Probe types", probes)
    return 0


def answer(machine: LiveMachine, name: str) -> str:
    """yes, no, or why the question could not be answered."""
    try:
        return "yes" if machine.feature(name) else "no"
    except PermissionRefused as refused:
        return f"unknown (needs {refused.capability})"
    except SyscallError as error:
        return f"unknown ({error.errno_name})"


def iterators(machine: LiveMachine) -> str:
    btf = machine.btf()
    if btf is None:
        return "no"
    from tracebee.btf.types import Struct

    return "yes" if btf.find("bpf_iter__task", Struct) is not None else "no"


def section(title: str, lines: dict[str, str]) -> None:
    print(title)
    for label, text in lines.items():
        print(f"  {label}: {text}")
    print()
