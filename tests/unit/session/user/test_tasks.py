"""Tasks made of what /proc says, in the layout of a made-up kernel."""

from __future__ import annotations

import os

import pytest

from tracebee.session.user.tasks import ShadowTasks
from tracebee.spec.types import INT32, UINT64, Field, Pointer, Str, Struct, Type

CRED = Struct("struct", "cred", 8, 8, None, lambda: (Field("euid", INT32, 4),))
TASK = Struct(
    "struct",
    "task_struct",
    64,
    8,
    None,
    lambda: (
        Field("state", UINT64, 0),
        Field("pid", INT32, 8),
        Field("tgid", INT32, 12),
        Field("comm", Str(16), 16),
        Field("real_parent", Pointer(UINT64, "kernel"), 32),
        Field("cred", Pointer(UINT64, "kernel"), 40),
    ),
)
TYPES: dict[str, Type] = {"struct task_struct": TASK, "struct cred": CRED}


@pytest.fixture
def tasks() -> ShadowTasks:
    return ShadowTasks(TYPES.get)


def number(tasks: ShadowTasks, address: int, size: int) -> int:
    data = tasks.read(address, size)
    assert data is not None
    return int.from_bytes(data, "little")


def test_members_where_the_kernel_has_them(tasks: ShadowTasks) -> None:
    me = tasks.address(os.getpid())
    assert number(tasks, me + 8, 4) == os.getpid()
    assert number(tasks, me + 12, 4) == os.getpid()
    with open("/proc/self/comm", "rb") as file:
        assert tasks.read(me + 16, 16) == file.read().rstrip(b"\n").ljust(16, b"\0")
    assert tasks.read(me + 17, 2) == tasks.read(me + 16, 16)[1:3]  # type: ignore[index]


def test_pointers_lead_to_other_shadows(tasks: ShadowTasks) -> None:
    me = tasks.address(os.getpid())
    assert number(tasks, number(tasks, me + 32, 8) + 8, 4) == os.getppid()
    assert number(tasks, number(tasks, me + 40, 8) + 4, 4) == os.geteuid()


def test_what_is_not_known_fails(tasks: ShadowTasks) -> None:
    me = tasks.address(os.getpid())
    assert tasks.read(me, 8) is None and not tasks.knows(me)
    assert tasks.read(me + 8, 8) is None and tasks.knows(me + 8)  # two members at once
    assert tasks.read(me + 30, 4) is None
    assert tasks.read(0, 8) is None
    assert not tasks.covers(0xFFFF_8880_0000_0000)
    assert tasks.read(tasks.address(1 << 22), 8) is None
    assert ShadowTasks(lambda name: None).read(me + 8, 4) is None


def test_a_task_that_has_gone(tasks: ShadowTasks) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    gone = tasks.address(child)
    assert tasks.read(gone + 32, 8) == bytes(8)
    assert number(tasks, gone + 8, 4) == child
    assert tasks.address(0) == 0
