"""Which functions of the kernel can be hooked, and why one cannot.

Three lists tell it.  ftrace's ``available_filter_functions`` has every function that was compiled with a place
for a hook, ``name`` or ``name [module]`` a line; kprobes are refused elsewhere (within_notrace_func() in the
kernel's kernel/trace/trace_kprobe.c), and so are trampolines.  The blacklist of kprobes, in debugfs, has what
must not be probed although it could, ``0xSTART-0xEND\\tname`` a line.  And kallsyms has all that is there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tracebee.host.kallsyms import KernelSymbols

HIDDEN = "__ftrace_invalid_address__"
"""Names that the kernel gives to functions it has thrown away (kernel/trace/ftrace.c)."""

CORE = "vmlinux"
"""How the kernel itself is called where a module could stand."""

NO_VARIANT = (".cold", ".llvm")
"""Parts of a function, and names that differ from build to build."""

SUCCESSORS = {
    # What became of functions that scripts of older kernels name, or what does their work where a compiler
    # always inlines them; the first that is there is told.
    "copyout": ("_copy_to_iter", "copy_page_to_iter", "filemap_read", "generic_file_read_iter"),
    "copyin": ("_copy_from_iter", "copy_page_from_iter", "generic_perform_write"),
    "copy_page_to_iter": ("_copy_to_iter", "filemap_read", "generic_file_read_iter"),
    "_copy_to_iter": ("copy_page_to_iter", "filemap_read", "generic_file_read_iter"),
    "copy_to_user": ("_copy_to_user", "__x64_sys_read"),
    "copy_from_user": ("_copy_from_user", "__x64_sys_write"),
    "raw_copy_to_user": ("_copy_to_user",),
    "raw_copy_from_user": ("_copy_from_user",),
    "do_fork": ("kernel_clone", "_do_fork"),
    "_do_fork": ("kernel_clone",),
    "do_sys_open": ("do_sys_openat2", "do_filp_open"),
    "do_sync_read": ("new_sync_read", "vfs_read"),
    "do_sync_write": ("new_sync_write", "vfs_write"),
    "generic_file_aio_read": ("generic_file_read_iter",),
    "generic_file_buffered_read": ("filemap_read",),
    "do_generic_file_read": ("filemap_read", "generic_file_buffered_read"),
    "blk_account_io_start": ("__blk_account_io_start", "blk_mq_start_request"),
    "blk_account_io_done": ("__blk_account_io_done", "blk_mq_end_request"),
    "account_page_dirtied": ("folio_account_dirtied", "__folio_mark_dirty"),
    "mark_page_accessed": ("folio_mark_accessed",),
    "add_to_page_cache_lru": ("filemap_add_folio",),
    "finish_task_switch": ("finish_task_switch.isra.0", "schedule"),
    "swap_readpage": ("swap_read_folio",),
    "do_page_fault": ("do_user_addr_fault", "exc_page_fault", "handle_mm_fault"),
}

_SYSCALL = re.compile(r"(?:SyS_|sys_|__do_sys_|__se_sys_|__(?:x64|ia32|arm64)_sys_)(\w+)")


class Diagnosis(NamedTuple):
    """Why a function cannot be hooked, and what to try instead (may be empty)."""

    reason: str
    hint: str = ""


class KernelFunctions:
    """The functions of one moment.

    `listed` is the content of available_filter_functions, or None where there is no such list: then what
    kallsyms calls text is taken.  `blacklist` is that of kprobes, empty where it cannot be read.
    """

    def __init__(self, listed: str | None, blacklist: str, symbols: Callable[[], KernelSymbols]) -> None:
        # Each line has a newline in front of it and behind it, so that a name can be searched as it is.
        self._listed = None if listed is None else f"\n{listed.strip()}\n"
        self._blacklist = blacklist
        self._blacklisted: frozenset[str] | None = None
        self._symbols = symbols

    @property
    def is_exact(self) -> bool:
        """Whether it is known which functions have a place for a hook."""
        return self._listed is not None

    @property
    def blacklisted(self) -> frozenset[str]:
        """Names that kprobes must not be on."""
        if self._blacklisted is None:
            lines = self._blacklist.splitlines()
            self._blacklisted = frozenset(line.rpartition("\t")[2].strip() for line in lines)
        return self._blacklisted

    def all(self) -> Iterator[tuple[str, str]]:
        """(module, name) of everything that can be hooked; a name that several functions have comes as often."""
        forbidden = self.blacklisted
        if self._listed is None:
            for name, module in self._symbols().names():
                if name not in forbidden:
                    yield module or CORE, name
            return
        for line in self._listed.split("\n"):
            name, space, module = line.partition(" ")
            if name and name not in forbidden and not name.startswith(HIDDEN):
                yield (module.strip("[]") if space else CORE), name

    def modules_of(self, name: str, *, by_kprobe: bool = True) -> list[str]:
        """The module of each function of this name that can be hooked; the blacklist is about kprobes alone."""
        if not name or not name.isprintable() or " " in name:
            return []
        if by_kprobe and name in self.blacklisted:
            return []
        if self._listed is None:
            return [module or CORE for module in self._symbols().owners(name)]
        found = []
        needle = f"\n{name}"
        at = self._listed.find(needle)
        while at >= 0:
            end = at + len(needle)
            if self._listed[end] == "\n":
                found.append(CORE)
            elif self._listed.startswith(" [", end):
                found.append(self._listed[end + 2 : self._listed.index("]", end)])
            at = self._listed.find(needle, end)
        return found

    # --- why not

    def explain(self, name: str, has_type: Callable[[str], bool]) -> Diagnosis:
        """Why there is no function of this name to hook.

        `has_type` says whether the kernel's BTF has a function of that name.
        """
        symbols = self._symbols()
        other = self.instead(name)
        hint = f"what can be hooked: {', '.join(other)}" if other else ""
        if name in self.blacklisted:
            return Diagnosis(
                f"{name} must not be probed: the kernel lists it as unsafe (kprobes/blacklist in debugfs)",
                hint,
            )
        if symbols.has(name):
            return Diagnosis(self._there_but_not_hooked(name, symbols), hint)
        variants = self._variants(name)
        if variants:
            return Diagnosis(
                f"the compiler made {variants[0]} of {name}, and a function of that plain name is not there",
                f"write {', '.join(variants)} in its place; its parameters may be others than the source's",
            )
        if has_type(name):
            return Diagnosis(
                f"{name} is not there as a function of its own, though the kernel's BTF has its type: it is "
                "probably inlined into its callers",
                hint,
            )
        return Diagnosis(
            f"there is no function {name} in this kernel and its loaded modules: misspelt, inlined into its "
            "callers, or not built",
            hint,
        )

    def _there_but_not_hooked(self, name: str, symbols: KernelSymbols) -> str:
        address = symbols.find(name)
        if self._lies_between(address, "__init_begin", "__init_end"):
            return f"{name} only runs while the kernel starts (__init), and is gone"
        core = "" in symbols.owners(name)
        if not symbols.owners(name) or (core and self._lies_between(address, "_stext", "_etext") is False):
            return f"{name} is data, not a function"
        if not self.is_exact:
            return f"{name} cannot be hooked"
        return (
            f"{name} is there, but has no place for a hook: it is marked notrace, or the whole of its file is"
        )

    def _lies_between(self, address: int | None, first: str, last: str) -> bool | None:
        """Whether an address is between two symbols; None where that is not known."""
        start, end = self._symbols().find(first), self._symbols().find(last)
        if address is None or start is None or end is None:
            return None
        return start <= address < end

    def _variants(self, name: str) -> list[str]:
        """What the compiler has made of a function for some of its callers: NAME.isra.0, NAME.constprop.0 …"""
        start = f"{name}."
        found = {one for _, one in self.all() if one.startswith(start)}
        return sorted(one for one in found if not any(word in one for word in NO_VARIANT))

    def instead(self, name: str) -> list[str]:
        """The nearest names that can be hooked, best first."""
        plain, _, suffix = name.partition(".")
        candidates: list[str] = list(SUCCESSORS.get(name, ()))
        syscall = _SYSCALL.fullmatch(plain)
        if syscall is not None:
            base = syscall[1]
            candidates += [f"{start}{base}" for start in ("__sys_", "ksys_", "do_sys_", "do_")]
            candidates += [f"{start}{base}" for start in ("__x64_sys_", "__arm64_sys_")]
        candidates += [f"__{plain}", f"_{plain}", f"do_{plain}", plain.lstrip("_")]
        if suffix:
            candidates.append(plain)
        known = {one for _, one in self.all()}
        found = [one for one in dict.fromkeys(candidates) if one in known and one != name]
        if len(found) < 3:
            found += [one for one in nearest_names(plain, known) if one not in found and one != name]
        return found[:3]


def nearest_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names closest to `name`, best first: those that hold it, then those that are alike."""
    from difflib import SequenceMatcher

    if len(name) < 3:
        return []
    # To compare with each of 40,000 names takes seconds; an odd name shares its beginning or its end.
    head, tail = name[:3], name[-4:]
    scored = []
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(name)
    for one in known:
        if abs(len(one) - len(name)) > max(4, len(name) // 2):
            continue
        if not (one.startswith(head) or one.endswith(tail) or name in one):
            continue
        matcher.set_seq1(one)
        if matcher.real_quick_ratio() > 0.75 and matcher.quick_ratio() > 0.75:
            ratio = matcher.ratio()
            if ratio > 0.75:
                scored.append((-ratio, one))
    return [one for _, one in sorted(scored)[:most]]
