"""Which kernel functions can be hooked, from excerpts of the kernel's lists."""

from __future__ import annotations

import pytest

from tracebee.host.functions import KernelFunctions, nearest_names
from tracebee.host.kallsyms import KernelSymbols

LISTED = """\
vfs_read
vfs_readv
vfs_write
type_show
type_show
__sys_connect
__x64_sys_connect
do_int3
blk_stat.isra.0
blk_stat.constprop.0
blk_stat.cold
filemap_read
__ftrace_invalid_address___496
ext4_sync_file [ext4]
type_show [ext4]
"""
BLACKLIST = "0xffffffff81000900-0xffffffff81000950\tdo_int3\n"
SYMBOLS = """\
ffffffff81000000 T _stext
ffffffff81000100 T vfs_read
ffffffff81000200 t type_show
ffffffff81000300 t type_show
ffffffff81000400 T copy_page_to_iter
ffffffff81000900 T do_int3
ffffffff81001000 T _etext
ffffffff81002000 T jiffies
ffffffff81002100 D swapper
ffffffff81003000 T __init_begin
ffffffff81003100 t start_kernel
ffffffff81004000 T __init_end
ffffffff81005000 B _end
ffffffffc0001000 t type_show\t[ext4]
ffffffffc0001100 t ext4_sync_file\t[ext4]
"""


def functions(listed: str | None = LISTED, blacklist: str = BLACKLIST) -> KernelFunctions:
    symbols = KernelSymbols.parse(SYMBOLS.encode())
    return KernelFunctions(listed, blacklist, lambda: symbols)


def explained(name: str, has_type: bool = False) -> tuple[str, str]:
    return functions().explain(name, lambda one: has_type)


def test_what_can_be_hooked() -> None:
    found = list(functions().all())
    assert ("vmlinux", "vfs_read") in found
    assert ("ext4", "ext4_sync_file") in found
    assert found.count(("vmlinux", "type_show")) == 2
    names = {name for _, name in found}
    assert "do_int3" not in names
    assert not any(name.startswith("__ftrace_invalid") for name in names)


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("vfs_read", ["vmlinux"]),
        ("vfs_rea", []),
        ("fs_read", []),
        ("type_show", ["vmlinux", "vmlinux", "ext4"]),
        ("ext4_sync_file", ["ext4"]),
        ("do_int3", []),
        ("copy_page_to_iter", []),
        ("", []),
        ("vfs_read\nvfs_readv", []),
        ("ext4_sync_file [ext4]", []),
    ],
)
def test_where_a_name_is(name: str, modules: list[str]) -> None:
    assert functions().modules_of(name) == modules


def test_the_blacklist_is_about_kprobes() -> None:
    assert functions().modules_of("do_int3", by_kprobe=False) == ["vmlinux"]


def test_without_a_list_the_symbols_stand_in() -> None:
    found = functions(None)
    assert not found.is_exact
    assert found.modules_of("copy_page_to_iter") == ["vmlinux"]
    assert found.modules_of("type_show") == ["vmlinux", "vmlinux", "ext4"]
    assert found.modules_of("swapper") == []
    names = {name for _, name in found.all()}
    assert "vfs_read" in names and "do_int3" not in names


@pytest.mark.parametrize(
    ("name", "reason", "hint"),
    [
        ("do_int3", "do_int3 must not be probed: the kernel lists it as unsafe", ""),
        ("copy_page_to_iter", "is there, but has no place for a hook: it is marked notrace", "filemap_read"),
        ("jiffies", "jiffies is data, not a function", ""),
        ("swapper", "swapper is data, not a function", ""),
        ("start_kernel", "only runs while the kernel starts (__init)", ""),
        (
            "blk_stat",
            "the compiler made blk_stat.constprop.0 of blk_stat",
            "write blk_stat.constprop.0, blk_stat.isra.0",
        ),
        ("vfs_raed", "there is no function vfs_raed in this kernel", "vfs_read, vfs_readv"),
        ("sys_connect", "there is no function sys_connect", "__sys_connect, __x64_sys_connect"),
        ("copyout", "there is no function copyout", "filemap_read"),
        ("x", "there is no function x ", ""),
    ],
)
def test_why_a_name_cannot_be_hooked(name: str, reason: str, hint: str) -> None:
    found = explained(name)
    assert reason in found[0]
    assert hint in found[1]
    assert ".cold" not in found[1]


def test_a_type_without_a_symbol_was_inlined() -> None:
    assert "probably inlined" in explained("vfs_helper", has_type=True)[0]


def test_nearest_names_are_alike() -> None:
    known = ["vfs_read", "vfs_readv", "vfs_write", "tcp_sendmsg", "read"]
    assert nearest_names("vfs_raed", known)[0] == "vfs_read"
    assert nearest_names("tcp_sendmsgs", known) == ["tcp_sendmsg"]
    assert nearest_names("zz", known) == []
    assert nearest_names("nothing_like_it", known) == []


def test_addresses_of_a_name() -> None:
    symbols = KernelSymbols.parse(SYMBOLS.encode())
    assert symbols.addresses("type_show", "") == [0xFFFFFFFF81000200, 0xFFFFFFFF81000300]
    assert symbols.addresses("type_show", "ext4") == [0xFFFFFFFFC0001000]
    assert len(symbols.addresses("type_show")) == 3
    assert symbols.addresses("swapper") == []
    assert symbols.owners("type_show") == ["", "", "ext4"]
    assert symbols.owners("swapper") == []
