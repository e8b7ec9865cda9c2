"""The limit on locked memory, which BPF objects counted against before Linux 5.11."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracebee.kernel.features import Features


def raise_memlock(features: Features) -> bool:
    """Lift this process's limit, where that can help: the kernel counts so, and the limit can be raised.

    Since Linux 5.11 the memory of maps and programs is counted by memory cgroup.
    """
    if features.has("memcg_accounting"):
        return False
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    if resource.getrlimit(resource.RLIMIT_MEMLOCK) == unlimited:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    except (ValueError, OSError):
        return False
    return True
