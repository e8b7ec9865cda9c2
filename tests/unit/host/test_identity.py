"""Names for numbers: users, CPUs, cgroups, signals, system calls."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tracebee.errors import FormatError
from tracebee.host import identity
from tracebee.host.identity import (
    CgroupHierarchies,
    CgroupMount,
    CgroupPaths,
    parse_cgroup_mounts,
    parse_cpu_list,
)


def test_users() -> None:
    assert identity.user_name(0) == "root"
    assert identity.user_name(0) == "root"
    assert identity.user_name(3999999999) == "3999999999"
    assert identity.user_name(1 << 40) == str(1 << 40)


def test_boot_time() -> None:
    boot = identity.boot_time_ns()
    now = boot + time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(now - time.time_ns()) < 1_000_000_000


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0\n", [0]),
        ("0-3,5\n", [0, 1, 2, 3, 5]),
        ("5, 1-2", [1, 2, 5]),
        ("", []),
        ("\n", []),
        ("0-6:2/4", [0, 1, 4, 5]),
        ("0-4:1/2,4", [0, 2, 4]),
    ],
)
def test_cpu_lists(text: str, cpus: list[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["x", "3-1", "1-", "-1", "0-99999999", "0-6:2", "0-6:0/4", "0-6:5/4", "²"])
def test_bad_cpu_lists(text: str) -> None:
    with pytest.raises(FormatError):
        parse_cpu_list(text)


def test_cpus_of_this_machine() -> None:
    online = identity.read_cpus("online")
    assert set(online) <= set(identity.read_cpus())
    assert len(online) == os.sysconf("SC_NPROCESSORS_ONLN")


MOUNTINFO = r"""
24 1 254:0 / / rw,relatime - ext4 /dev/vda rw
38 31 0:35 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/uni\040fied rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
42 31 0:39 /../a\134b /odd rw - cgroup2 none rw
broken - cgroup2
"""


def test_cgroup_mounts() -> None:
    assert parse_cgroup_mounts(MOUNTINFO) == [
        CgroupMount("/sys/fs/cgroup/uni fied", 2, "/", "rw,nsdelegate"),
        CgroupMount("/odd", 2, "/../a\\b", "rw"),
        CgroupMount("/sys/fs/cgroup/pids", 1, "/", "rw,pids"),
    ]


def test_cgroup_paths(tmp_path: Path) -> None:
    (tmp_path / "user.slice" / "session-1.scope").mkdir(parents=True)
    (tmp_path / "cgroup.procs").write_text("")
    paths = CgroupPaths([str(tmp_path)])
    for relative in ("user.slice", "user.slice/session-1.scope"):
        number = (tmp_path / relative).stat().st_ino
        assert paths.path(number) == f"/{relative}"
        assert paths.id(relative) == number
        assert paths.id(f"/{relative}") == number
        assert paths.id(f"{tmp_path}/{relative}") == number
    assert paths.path(tmp_path.stat().st_ino) == "/"
    # A file is no cgroup.
    assert paths.path((tmp_path / "cgroup.procs").stat().st_ino) is None


def test_cgroups_that_come_and_go(tmp_path: Path) -> None:
    paths = CgroupPaths([str(tmp_path)])
    assert paths.path(tmp_path.stat().st_ino) == "/"
    (tmp_path / "new").mkdir()
    number = (tmp_path / "new").stat().st_ino
    assert paths.path(number) == "/new"
    (tmp_path / "new").rmdir()
    assert paths.path(number) == "/new"
    assert paths.path(1 << 50) is None
    with pytest.raises(FileNotFoundError):
        paths.id("/nothing")


def test_cgroups_in_hierarchies(tmp_path: Path) -> None:
    mounts = []
    for name, version in (("pids", 1), ("anywhere", 2), ("cpu", 1)):
        (tmp_path / name).mkdir()
        mounts.append(CgroupMount(str(tmp_path / name), version, "/", ""))
    (tmp_path / "anywhere" / "a").mkdir()
    number = (tmp_path / "anywhere" / "a").stat().st_ino
    # The directories of one file system have numbers of their own, those of hierarchies need not.
    (tmp_path / "cpu").rmdir()
    (tmp_path / "cpu").symlink_to(tmp_path / "anywhere")
    hierarchies = CgroupHierarchies(mounts)
    assert hierarchies.paths(number) == ["unified:/a", "cpu:/a"]
    assert hierarchies.paths(number, "c*") == ["cpu:/a"]
    assert hierarchies.paths(number, "pids") == []
    assert hierarchies.paths(number, "anywhere") == []


def test_without_cgroup2() -> None:
    paths = CgroupPaths([])
    assert paths.path(1) is None
    with pytest.raises(FileNotFoundError):
        paths.id("/")
    assert CgroupPaths(["/nonexistent"]).path(1) is None


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (9, "SIGKILL"),
        (1, "SIGHUP"),
        (34, "SIGRTMIN"),
        (36, "SIGRTMIN+2"),
        (64, "SIGRTMAX"),
        (0, None),
        (65, None),
    ],
)
def test_signal_names(number: int, name: str | None) -> None:
    assert identity.find_signal_name(number) == name


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGKILL", 9),
        ("KILL", 9),
        ("sigusr1", int(signal.SIGUSR1)),
        ("15", 15),
        ("SIGRTMIN+2", 36),
        ("SIGRTMIN+99", None),
        ("SIGNOTHING", None),
        ("SIG_IGN", None),
        ("0", None),
        ("999999", None),
        ("", None),
    ],
)
def test_signals(name: str, number: int | None) -> None:
    assert identity.find_signal(name) == number


@pytest.mark.parametrize(
    ("machine", "number", "name"),
    [
        ("x86_64", 0, "read"),
        ("x86_64", 59, "execve"),
        ("aarch64", 63, "read"),
        ("aarch64", 221, "execve"),
        ("x86_64", 451, "cachestat"),
        ("aarch64", 451, "cachestat"),
        ("x86_64", 100000, None),
        ("vax", 1, None),
    ],
)
def test_syscalls(machine: str, number: int, name: str | None) -> None:
    assert identity.find_syscall_name(number, machine) == name
    if name is not None:
        assert identity.find_syscall_number(name, machine) == number


def test_a_syscall_that_does_not_exist() -> None:
    assert identity.find_syscall_number("frobnicate", "x86_64") is None


@pytest.mark.parametrize(
    ("machine", "path"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("x86_64", "/usr/include/asm/unistd_64.h"),
        ("aarch64", "/usr/include/aarch64-linux-gnu/asm/unistd_64.h"),
    ],
)
def test_syscalls_as_the_installed_headers_have_them(machine: str, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"{path} is not installed")
    defined = re.findall(r"^#define __NR_(\w+) (\d+)$", Path(path).read_text(), re.M)
    assert len(defined) > 300
    names = identity.syscall_names(machine)
    for name, number in defined:
        # The headers may be newer than the table.
        if int(number) <= max(names):
            assert names[int(number)] == name


def test_what_the_numbers_have_in_common() -> None:
    """Since 424 (pidfd_send_signal) new system calls have one number on every machine."""
    x86, arm = identity.syscall_names("x86_64"), identity.syscall_names("aarch64")
    for number in range(424, max(x86) + 1):
        # map_shadow_stack is x86's alone in older headers, memfd_secret has no 32-bit form.
        if number in x86 and number in arm:
            assert x86[number] == arm[number]
