"""Mounts, and the files below them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.host.bpffs import bpf_files
from tracebee.host.identity import CgroupMount, parse_cgroup_mounts
from tracebee.host.mountinfo import Mount, parse_mounts

if TYPE_CHECKING:
    from pathlib import Path

MOUNTINFO = """\
24 29 0:22 / /sys rw,nosuid - sysfs sysfs rw
35 24 0:31 / /sys/fs/bpf rw,nosuid shared:9 - bpf bpf rw,mode=700
36 24 0:32 /sub /mnt/a\\040b\\134c rw - bpf none rw
37 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
38 24 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
broken line
39 24 - short
"""


def test_mounts() -> None:
    mounts = parse_mounts(MOUNTINFO)
    assert [mount.kind for mount in mounts] == ["sysfs", "bpf", "bpf", "cgroup2", "cgroup"]
    assert mounts[2] == Mount("/mnt/a b\\c", "bpf", "/sub", "rw")
    assert [mount.path for mount in mounts if mount.kind == "bpf"] == ["/sys/fs/bpf", "/mnt/a b\\c"]
    assert parse_mounts("") == []


def test_cgroup_mounts_come_from_the_same_lines() -> None:
    assert parse_cgroup_mounts(MOUNTINFO) == [
        CgroupMount("/sys/fs/cgroup/unified", 2, "/", "rw,nsdelegate"),
        CgroupMount("/sys/fs/cgroup/cpu", 1, "/", "rw,cpu"),
    ]


def test_files_in_order(tmp_path: Path) -> None:
    for name in ("b/two", "b/one", "a", "c/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.symlink("a", tmp_path / "link")
    os.symlink(tmp_path, tmp_path / "c" / "circle")
    found = [os.path.relpath(path, tmp_path) for path in bpf_files(str(tmp_path))]
    assert found == ["a", "b/one", "b/two", "c/d/e"]
    assert list(bpf_files(str(tmp_path / "none"))) == []
