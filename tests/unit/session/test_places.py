"""Where on a machine the places of objects are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tracebee.errors import AttachError, FormatError, TargetError, TracebeeError
from tracebee.host.elfsymbols import Symbol
from tracebee.host.usdt import UsdtProbe as Note
from tracebee.kernel.links import MODULES
from tracebee.session.kernel import TO_BE_FOUND
from tracebee.session.places import abilities, find_place
from tracebee.spec import objects
from tracebee.spec.objects import (
    Attach,
    FunctionUprobe,
    Kprobe,
    KprobeMulti,
    KprobePattern,
    SystemCall,
    Trampoline,
    Uprobe,
    UprobeMulti,
    UsdtProbe,
    UsdtSites,
)

LIBRARY = "/lib/libx.so.1"
FUNCTIONS = {"open": (0x1000, 0x20), "open64": (0x1000, 0x20), "openat": (0x1100, 0), "lost": (0x9000, 8)}
NOTES = [
    Note("lib", "start", 0x1010, 0x10, 0, 0, "4@%eax"),
    Note("lib", "stop", 0x1020, 0x20, 0, 0, ""),
    Note("lib", "start", 0x1030, 0x30, 0x3000, 0x2000, "4@%ebx"),
]


class File:
    path = LIBRARY

    def functions(self) -> list[Any]:
        return [SimpleNamespace(name=name, address=at, size=size) for name, (at, size) in FUNCTIONS.items()]

    def find_function(self, name: str) -> Symbol | None:
        return next((one for one in self.functions() if one.name == name), None)

    def file_offset(self, address: int) -> int | None:
        return address - 0x1000 if address < 0x2000 else None

    def usdt_probes(self) -> list[Note]:
        return NOTES


class Machine:
    arch: Any = SimpleNamespace(syscall_wrapper="__x64_sys_")

    def __init__(self, *symbols: str, cookies: bool = True) -> None:
        self.symbols = {*symbols}
        self.cookies = cookies

    def expand_paths(self, pattern: str) -> list[str]:
        return {
            "libx.so.1": [LIBRARY],
            LIBRARY: [LIBRARY],
            "/etc/text": ["/etc/text"],
            "/root/x": ["/root/x"],
        }.get(pattern, [])

    def user_file(self, path: str) -> Any:
        if path == "/etc/text":
            raise FormatError("ELF: wrong magic number")
        if path == "/root/x":
            raise PermissionError(13, "Permission denied")
        return File()

    def kernel_functions(self) -> list[tuple[str, str]]:
        return [
            ("vmlinux", "vfs_read"),
            ("vmlinux", "vfs_write"),
            ("ext4", "vfs_twice"),
            ("ext4", "vfs_twice"),
        ]

    def kernel_address(self, symbol: str) -> int | None:
        return 0 if symbol in self.symbols else None

    def syscall_numbers(self) -> dict[str, int]:
        return {"getppid": 110, "uselib": 134}

    def feature(self, name: str) -> bool:
        assert name == "get_attach_cookie"
        return self.cookies


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Trampoline(), Trampoline()),
        (
            KprobePattern("vfs_*", True),
            KprobeMulti(
                (
                    Kprobe("vfs_read", 0, True),
                    Kprobe("vfs_twice", 0, True, "ext4", 2),
                    Kprobe("vfs_write", 0, True),
                ),
                True,
            ),
        ),
        (KprobePattern("vfs_rea?", session=True), KprobeMulti((Kprobe("vfs_read"),), session=True)),
        (SystemCall("getppid"), Kprobe("__x64_sys_getppid")),
        (SystemCall("old", True), Kprobe("sys_old", 0, True)),
        (FunctionUprobe("libx.so.1", "openat"), Uprobe(LIBRARY, 0x100)),
        (FunctionUprobe(LIBRARY, "open", 4, True), Uprobe(LIBRARY, 4, True)),
        (FunctionUprobe(LIBRARY, "open*", many=True), UprobeMulti(LIBRARY, (0, 0x100))),
        (FunctionUprobe(LIBRARY, "open", many=True), UprobeMulti(LIBRARY, (0,))),
        (
            FunctionUprobe(LIBRARY, "openat", many=True, session=True),
            UprobeMulti(LIBRARY, (0x100,), session=True),
        ),
        (
            UsdtProbe("libx.so.1", "lib", "start"),
            UsdtSites(LIBRARY, ((0x10, 0, "4@%eax"), (0x30, 0x2000, "4@%ebx"))),
        ),
    ],
)
def test_a_place_is_found(place: Attach, expected: Attach) -> None:
    assert find_place(place, Machine("__x64_sys_getppid", "sys_old")) == expected


@pytest.mark.parametrize(
    ("place", "kind", "words", "hint"),
    [
        (KprobePattern("vfs_raed"), AttachError, "no function of the kernel fits vfs_raed", "vfs_read"),
        (SystemCall("getpid_"), AttachError, "no system call getpid_", "getppid"),
        (SystemCall("uselib"), AttachError, "no function for the system call uselib", "configured out"),
        (FunctionUprobe("libx.so.1", "openta"), AttachError, "has no function openta", "openat"),
        (FunctionUprobe("libx.so.1", "open", 0x20), AttachError, "open has 32 bytes, and 32 is", ""),
        (FunctionUprobe("libx.so.1", "lost"), AttachError, "in no part that is loaded", ""),
        (FunctionUprobe("liby.so", "open"), TargetError, "no such library or program", "its path"),
        (FunctionUprobe("/no/such", "open"), TargetError, "no such file", ""),
        (FunctionUprobe("/etc/text", "open"), TargetError, "no ELF file", ""),
        (FunctionUprobe("/root/x", "open"), TargetError, "Permission denied", ""),
        (UsdtProbe(LIBRARY, "lib", "strat"), AttachError, "no static probe lib:strat", "lib:start"),
        (UsdtProbe(LIBRARY, "other", "x"), AttachError, "no static probe", "it has lib:start, lib:stop"),
    ],
)
def test_a_place_that_is_not_there(place: Attach, kind: type[TracebeeError], words: str, hint: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        find_place(place, Machine())
    assert hint in caught.value.hint
    if isinstance(caught.value, AttachError):
        assert caught.value.probe.split("/")[0] in ("kprobe.multi", "ksyscall", "uprobe", "usdt")


def test_every_place_is_found_or_attached_to() -> None:
    places = {
        name
        for name, kind in vars(objects).items()
        if isinstance(kind, type) and issubclass(kind, Attach) and kind is not Attach
    }
    assert set(MODULES) | set(TO_BE_FOUND) | {"RunOnce"} == places
    assert not set(MODULES) & set(TO_BE_FOUND)


def test_what_objects_ask_as_if_it_were_configuration() -> None:
    assert abilities(Machine("__x64_sys_bpf")) == {  # type: ignore[arg-type]
        "LINUX_HAS_SYSCALL_WRAPPER": "y",
        "LINUX_HAS_BPF_COOKIE": "y",
    }
    assert abilities(Machine(cookies=False)) == {  # type: ignore[arg-type]
        "LINUX_HAS_SYSCALL_WRAPPER": "n",
        "LINUX_HAS_BPF_COOKIE": "n",
    }
