"""The machine we stand on, as the compiler and the kernel backend want to know it."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from tracebee.errors import NotSupportedError, PermissionRefused, SyscallError
from tracebee.kernel.features import Features
from tracebee.language.machine import ARCHES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.btf import Btf
    from tracebee.host.elfsymbols import Symbol
    from tracebee.host.functions import KernelFunctions
    from tracebee.host.kallsyms import KernelSymbols
    from tracebee.host.tracefs import TraceFs, TracepointFormat
    from tracebee.host.usdt import UsdtArgument, UsdtProbe
    from tracebee.language.machine import FunctionArgument
    from tracebee.session.dwarf import DebugInfo

BTF_PATH = "/sys/kernel/btf/vmlinux"
INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""include/uapi/linux/nsfs.h"""

DEBUGFS_PATH = "/sys/kernel/debug"
KPROBE_BLACKLIST = "kprobes/blacklist"
TRACEFS_PATHS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


class LiveMachine:
    """Facts of this machine, each read when first asked for."""

    backend = "kernel"
    """What is going to run the programs that are compiled for this machine."""

    def __init__(self, features: Features | None = None, environment: dict[str, str] | None = None) -> None:
        name = os.uname().machine
        arch = ARCHES.get(name)
        if arch is None:
            raise NotSupportedError(f"the processor {name}")
        self.arch = arch
        self.features = features or Features()
        self.environment = dict(os.environ) if environment is None else environment
        self.page_size = os.sysconf("SC_PAGE_SIZE")
        self._btf: Btf | None = None
        self._btf_asked = False
        self._tracefs: TraceFs | None = None
        self._tracefs_fd = -1
        self._symbols: KernelSymbols | None = None
        self._functions: KernelFunctions | None = None
        self._module_btf: dict[str, Btf | None] = {}
        self._possible: int = 0
        self._online: tuple[int, ...] = ()
        self._files: dict[str, LiveFile] = {}
        self._debug_info: dict[str, DebugInfo] = {}

    def close(self) -> None:
        """Let go of descriptors; what is asked for later opens them again."""
        for file in self._files.values():
            file.elf.close()
        self._files.clear()
        if self._tracefs_fd >= 0:
            os.close(self._tracefs_fd)
            self._tracefs_fd = -1

    # --- processors

    @property
    def possible_cpus(self) -> int:
        """How many values per-CPU maps have for a key: in the kernel one for each possible CPU."""
        return self.cpu_count

    @property
    def cpu_count(self) -> int:
        """The number of possible CPUs."""
        if not self._possible:
            from tracebee.host.identity import read_cpus

            self._possible = len(read_cpus("possible"))
        return self._possible

    @property
    def online_cpus(self) -> tuple[int, ...]:
        if not self._online:
            from tracebee.host.identity import read_cpus

            self._online = tuple(read_cpus("online"))
        return self._online

    # --- the kernel

    attaches_cheaply = False

    def why_unseen(self, kind: str, place: Sequence[str]) -> tuple[str, str]:
        """Nothing: what a kernel lacks is known when its places are looked for."""
        return "", ""

    def why_no_helper(self, helper: str) -> tuple[str, str]:
        return "", ""

    def feature(self, name: str) -> bool:
        return self.features.has(name)

    def btf(self) -> Btf | None:
        if not self._btf_asked:
            self._btf_asked = True
            path = self.environment.get("BPFTRACE_BTF", BTF_PATH)
            if os.path.exists(path):
                from tracebee.btf import Btf

                self._btf = Btf.from_file(path)
        return self._btf

    def module_btf(self, module: str) -> Btf | None:
        """The types of a loaded module, which go on where the kernel's end."""
        if module not in self._module_btf:
            base = self.btf()
            path = os.path.join(os.path.dirname(BTF_PATH), module)
            found = None
            if base is not None and "/" not in module and os.path.exists(path):
                from tracebee.btf import Btf

                found = Btf.from_file(path, base)
            self._module_btf[module] = found
        return self._module_btf[module]

    def btf_modules(self) -> list[str]:
        """The modules that have types."""
        try:
            return sorted(name for name in os.listdir(os.path.dirname(BTF_PATH)) if name != "vmlinux")
        except OSError:
            return []

    def modules_btf(self) -> list[Btf]:
        """The types of all modules that have some."""
        found = (self.module_btf(name) for name in self.btf_modules())
        return [btf for btf in found if btf is not None]

    def kernel_type_id(self, name: str, module: str = "") -> int:
        """The BTF id of what a program is for or refers to: a function, a variable, a raw tracepoint."""
        from tracebee.btf.types import Func, Typedef, Var

        btf = self.module_btf(module) if module else self.btf()
        if btf is None:
            raise NotSupportedError("the kernel's BTF", "", f"there is no {BTF_PATH}")
        kinds = (Typedef,) if name.startswith("btf_trace_") else (Func, Var)
        type_id = btf.find(name, kinds)
        if type_id is None:
            raise NotSupportedError(f"{name} in the kernel's BTF")
        return type_id

    def kfunc_allowed(self, name: str, program_type: str) -> bool:
        from tracebee.kernel.kfuncs import kfunc_allowed

        raw_tracepoint = self.kernel_type_id("btf_trace_sys_enter") if program_type == "TRACING" else 0
        return kfunc_allowed(program_type, name, self.kernel_type_id(name), raw_tracepoint)

    def tracefs_fd(self) -> int:
        """A descriptor of tracefs: of a private mount where none is mounted.

        Raises PermissionRefused.
        """
        if self._tracefs_fd < 0:
            self._tracefs_fd = _open_tracefs()
        return self._tracefs_fd

    @property
    def tracefs(self) -> TraceFs:
        if self._tracefs is None:
            from tracebee.host.tracefs import TraceFs

            self._tracefs = TraceFs(self.tracefs_fd())
        return self._tracefs

    def tracepoints(self) -> Iterable[tuple[str, str]]:
        return self.tracefs.events()

    def has_tracepoint(self, category: str, name: str) -> bool:
        return self.tracefs.has_event(category, name)

    def tracepoint_format(self, category: str, name: str) -> TracepointFormat | None:
        if not self.tracefs.has_event(category, name):
            return None
        return self.tracefs.format(category, name)

    def syscall_numbers(self) -> dict[str, int]:
        from tracebee.host.tracepoints import syscall_numbers

        return syscall_numbers(self.arch.name)

    def names_by_number(self, table: str) -> Sequence[str]:
        from tracebee.session.names import names_by_number

        return names_by_number(table)

    def read_header(self, name: str, folders: Sequence[str]) -> tuple[str, str] | None:
        for folder in (
            *folders,
            "/usr/local/include",
            "/usr/include",
            f"/usr/include/{self.arch.name}-linux-gnu",
        ):
            path = os.path.join(folder, name)
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    return path, file.read()
            except OSError:
                continue
        return None

    def read_import(self, target: str, importer: str, folders: Sequence[str]) -> list[tuple[str, str]] | str:
        places = [os.path.dirname(importer) or ".", *folders]
        candidates = [target] if os.path.isabs(target) else [os.path.join(place, target) for place in places]
        for candidate in candidates:
            if os.path.isdir(candidate):
                paths = [os.path.join(candidate, name) for name in sorted(os.listdir(candidate))]
                paths = [path for path in paths if path.endswith((".bt", ".h"))]
            elif os.path.isfile(candidate):
                paths = [candidate]
            else:
                continue
            folder = os.path.dirname(os.path.abspath(paths[0])) if paths else candidate
            status = os.stat(folder)
            if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
                return f"Refusing to import from {folder}: everybody can write there"
            found = []
            for path in paths:
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    found.append((os.path.realpath(path), file.read()))
            return found
        return []

    def pid_namespace(self) -> tuple[int, int] | None:
        """None in the initial namespace, whose inode is fixed (PROC_PID_INIT_INO)."""
        try:
            found = os.stat("/proc/self/ns/pid")
        except OSError:
            return None
        return None if found.st_ino == INITIAL_PID_NAMESPACE else (found.st_dev, found.st_ino)

    def tai_offset(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_TAI) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    @property
    def symbols(self) -> KernelSymbols:
        if self._symbols is None:
            from tracebee.host.kallsyms import KernelSymbols

            self._symbols = KernelSymbols.read()
        return self._symbols

    @property
    def functions(self) -> KernelFunctions:
        if self._functions is None:
            from tracebee.host.functions import KernelFunctions

            listed: str | None = None
            try:
                listed = self.tracefs.read_text("available_filter_functions")
            except (OSError, PermissionRefused):
                pass  # no function tracer, or not for us: the symbol table stands in
            self._functions = KernelFunctions(listed or None, _kprobe_blacklist(), lambda: self.symbols)
        return self._functions

    def kernel_functions(self) -> Iterable[tuple[str, str]]:
        return self.functions.all()

    def function_modules(self, name: str, by_kprobe: bool = True) -> list[str]:
        return self.functions.modules_of(name, by_kprobe=by_kprobe)

    def why_no_function(self, name: str) -> tuple[str, str]:
        from tracebee.session.why import about_name

        reason, hint = self.functions.explain(name, self._has_function_type)
        return about_name(name, self) or reason, hint

    def _has_function_type(self, name: str) -> bool:
        from tracebee.btf.types import Func

        btf = self.btf()
        return btf is not None and btf.find(name, Func) is not None

    def function_addresses(self, name: str, module: str) -> list[int]:
        """The addresses of the functions of a name, in a module ("vmlinux": the kernel itself) or anywhere."""
        return self.symbols.addresses(name, ("" if module == "vmlinux" else module) if module else None)

    def kernel_address(self, symbol: str) -> int | None:
        return self.symbols.find(symbol)

    def cgroup_id(self, path: str) -> int | None:
        try:
            return os.stat(path).st_ino
        except OSError:
            return None

    # --- programs and libraries

    def expand_paths(self, pattern: str) -> list[str]:
        from glob import glob, has_magic

        if has_magic(pattern):
            return sorted(path for path in glob(pattern) if os.path.isfile(path))
        if "/" in pattern:
            return [pattern] if os.path.isfile(pattern) else []
        from tracebee.host.libraries import find_target

        found = find_target(pattern)
        return [found] if found else []

    def process_files(self, pid: int) -> list[str]:
        from tracebee.host.procmaps import read_maps

        paths: dict[str, None] = {}
        for mapping in read_maps(pid):
            if mapping.is_executable and mapping.is_file:
                paths.setdefault(mapping.path)
        return list(paths)

    def user_file(self, path: str) -> LiveFile:
        found = self._files.get(path)
        if found is None:
            found = self._files[path] = LiveFile(path)
        return found

    def function_arguments(self, path: str, address: int) -> list[FunctionArgument] | None:
        from tracebee.session.dwarf import DebugInfo

        found = self._debug_info.get(path)
        if found is None:
            found = self._debug_info[path] = DebugInfo(path)
        return found.arguments(address, self.arch)

    def usdt_arguments(self, text: str) -> tuple[UsdtArgument, ...]:
        from tracebee.host.usdt import parse_arguments

        return parse_arguments(text, self.arch.name)


class LiveFile:
    """A program or library on this machine (tracebee.language.machine.UserFile)."""

    def __init__(self, path: str) -> None:
        """Open and read the headers.  Raises OSError, FormatError."""
        from tracebee.host.elf import ElfFile

        self.path = path
        self.elf = ElfFile.open(path)

    @property
    def is_relocated(self) -> bool:
        return self.elf.is_relocatable

    def functions(self) -> list[Symbol]:
        return self.elf.functions()

    def find_function(self, name: str) -> Symbol | None:
        return self.elf.find_function(name)

    def find_data(self, name: str) -> Symbol | None:
        return self.elf.find_data(name)

    def file_offset(self, address: int) -> int | None:
        return self.elf.file_offset(address)

    def usdt_probes(self) -> list[UsdtProbe]:
        from tracebee.host.usdt import read_probes

        return read_probes(self.elf)


def _kprobe_blacklist() -> str:
    """What kprobes must not be on; empty where debugfs cannot be had (lockdown, no right to mount)."""
    from tracebee.syscalls.mounts import mount_detached

    try:
        with open(os.path.join(DEBUGFS_PATH, KPROBE_BLACKLIST), encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        pass
    try:
        root = mount_detached("debugfs")
    except SyscallError:
        return ""
    try:
        fd = os.open(KPROBE_BLACKLIST, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
        with os.fdopen(fd, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
    finally:
        os.close(root)


def _open_tracefs() -> int:
    from tracebee.syscalls.mounts import mount_detached

    for path in TRACEFS_PATHS:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            os.stat("events", dir_fd=fd)
        except OSError:
            os.close(fd)
            continue
        return fd
    try:
        return mount_detached("tracefs")
    except SyscallError as error:
        raise PermissionRefused(
            "reading the list of tracepoints (tracefs)",
            "CAP_DAC_READ_SEARCH, or CAP_SYS_ADMIN where tracefs is not mounted",
            f"run as root, or give the capability with sudo or setpriv --ambient-caps; mounting failed: {error}",
        ) from error
