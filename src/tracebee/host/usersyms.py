"""User addresses → functions, also of processes that are gone by the time somebody asks.

An address is looked up in the mappings of its process, the mapping's file in the mount namespace of the
process, and the file's symbols by virtual address.  Each step is cached: mappings per process, symbols per
file, frames per address.  `snapshot` records the mappings and opens the files of a process while it lives.

What cannot be named is a `Frame` without a name and with the reason.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.host.debugfiles import DEBUG_DIRECTORIES, find_debug_file
from tracebee.host.demangle import demangle
from tracebee.host.procmaps import Mapping, ProcessMaps, parse_maps
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tracebee.host.elf import ElfFile
    from tracebee.host.elfsymbols import RawTable, SymbolTable
    from tracebee.host.perfmap import PerfMap

_MAX_FRAMES = 1 << 16
"""Addresses of one process whose frames are kept; more, and it starts again from nothing."""

_MAX_PROCESSES = 4096
"""Processes and files that are remembered; the oldest go first."""

_MAX_HELD = 64
"""Files that are kept open because nobody has asked for their symbols yet."""

_MAX_VDSO = 1 << 18

_CODE_FILES = ("/memfd:", "/dev/zero", "/dev/shm/", "/SYSV")
"""Files in which compilers keep code that they make at run time, to have it mapped twice."""


class Frame(Frozen):
    """What is known of a user address.

    `name` is the function, None if unknown for the `reason`; `offset` the bytes from its start.  `path` is
    the file as the process knows it, "[vdso]" and the like, or "".  `file_offset` is the place in that file.
    """

    address: int
    name: str | None
    offset: int = 0
    path: str = ""
    file_offset: int = 0
    reason: str = ""


class _SymbolFile:
    """The symbols of one file, read when first needed, or the reason why there are none."""

    __slots__ = ("_directories", "_elf", "_fd", "_path", "_reason", "_root", "_table")

    def __init__(self, fd: int, path: str, root: str, directories: Sequence[str]) -> None:
        """Takes `fd` over."""
        self._fd = fd
        self._path = path
        self._root = root
        self._directories = directories
        self._elf: ElfFile | None = None
        self._table: SymbolTable | None = None
        self._reason = "the file was closed before its symbols were read"

    @property
    def is_loaded(self) -> bool:
        return self._fd < 0

    def load(self) -> None:
        """Reads the symbols and closes the file."""
        if self.is_loaded:
            return
        from tracebee.host.elf import ElfFile
        from tracebee.host.elfsymbols import SymbolTable

        fd, self._fd = self._fd, -1
        try:
            with ElfFile.from_descriptor(fd, self._path) as elf:
                tables = elf.own_tables()
                is_stripped = not elf.has_symtab
                if is_stripped or elf.find_section(".symtab") is None:
                    more = self._separate_tables(elf)
                    is_stripped = is_stripped and not more
                    tables += more
                self._table = SymbolTable(tables, elf.code_limit)
                self._elf = elf
        except (FormatError, OSError) as error:
            self._reason = f"its symbols cannot be read: {error}"
        else:
            if not len(self._table):
                self._reason = "the file has no symbols"
            elif is_stripped:
                self._reason = "the file is stripped, and no exported function is at this address"
            else:
                self._reason = "no function is at this address"

    def _separate_tables(self, elf: ElfFile) -> list[RawTable]:
        """The symbols that a stripped file has elsewhere.  Bad ones are left out: its own are still good."""
        # Without the process its namespace is gone; what belongs to the file is told by id or checksum.
        for root in dict.fromkeys((self._root, "")):
            try:
                debug = find_debug_file(elf, self._path, self._directories, root)
                if debug is not None:
                    with debug:
                        return debug.own_tables()
            except (FormatError, OSError):
                continue
        try:
            return elf.packed_tables()
        except FormatError:
            return []

    def lookup(self, file_offset: int) -> tuple[str, int] | str:
        """(function, offset), or the reason why there is none."""
        self.load()
        if self._elf is None or self._table is None:
            return self._reason
        address = self._elf.vaddr(file_offset)
        if address is None:
            return "the file loads nothing from there"
        found = self._table.at(address)
        return (found[0].name, found[1]) if found else self._reason

    def close(self) -> None:
        if not self.is_loaded:
            os.close(self._fd)
            self._fd = -1


class _Process:
    """What is known of one process.  `maps` is None if its mappings could not be read, for the `reason`.

    `before` is the program that it was before it became this one.
    """

    __slots__ = ("before", "executable", "files", "frames", "maps", "missed", "perf_map", "reason")

    def __init__(self) -> None:
        self.before: _Process | None = None
        self.maps: ProcessMaps | None = None
        self.reason = ""
        self.executable: tuple[int, int] | None = None
        self.files: dict[tuple[tuple[int, int], int], _SymbolFile | str] = {}
        self.frames: dict[int, Frame] = {}
        self.missed: set[int] = set()
        self.perf_map: tuple[tuple[int, int, int], PerfMap] | None = None

    def find(self, address: int) -> Mapping | None:
        """The mapping that covers an address, now or in a program that the process was before."""
        found = self.maps.find(address) if self.maps is not None else None
        if found is None and self.before is not None:
            return self.before.find(address)
        return found


class UserSymbolizer:
    """Names user addresses.  A context manager; leaving it closes the files that it holds.

    `debug_directories` is where separate debug files are looked for, in the mount namespace of each process.
    `demangler` makes names of C++ and Rust readable.  `proc` is where procfs is mounted.
    """

    def __init__(
        self,
        debug_directories: Sequence[str] = DEBUG_DIRECTORIES,
        demangler: Callable[[str], str] = demangle,
        proc: str = "/proc",
    ) -> None:
        self._directories = tuple(debug_directories)
        self._demangle = demangler
        self._proc = proc
        self._processes: dict[int, _Process] = {}
        # By device and inode as the kernel prints them in mappings, then by what shows that it was rewritten.
        self._files: dict[tuple[tuple[int, int], int], tuple[tuple[int, int], _SymbolFile]] = {}
        self._held: list[_SymbolFile] = []
        self._vdsos: dict[bytes, SymbolTable | str] = {}

    def __enter__(self) -> UserSymbolizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for file in self._held:
            file.close()
        self._held.clear()
        self._files.clear()
        self._processes.clear()

    def snapshot(self, pid: int) -> bool:
        """Records what is needed to name the addresses of `pid` after it has exited or mapped something else.

        False if the process cannot be looked at; what was recorded of it before stays.
        """
        process = self._processes.get(pid) or self._add(pid)
        if not self._read_maps(pid, process):
            return False
        for mapping in process.maps or ():
            if mapping.is_executable and mapping.is_file:
                self._file(pid, process, mapping)
        return True

    def forget(self, pid: int) -> None:
        """Drops what is known of a process: its number may be another's soon."""
        self._processes.pop(pid, None)

    def add_mapping(self, pid: int, mapping: Mapping) -> None:
        """Records executable memory that a process has just mapped."""
        process = self._processes.get(pid) or self._add(pid)
        if process.maps is None and not self.snapshot(pid):
            process.maps = ProcessMaps([])
        assert process.maps is not None
        process.maps.add(mapping)
        if mapping.is_file and sum(not held.is_loaded for held in self._held) < _MAX_HELD:
            # So that the symbols of a program that is deleted after it has run can be read.
            self._file(pid, process, mapping)

    def add_execution(self, pid: int) -> None:
        """Records that a process starts anew as another program; what it was before is kept for late addresses."""
        before = self._processes.pop(pid, None)
        process = self._add(pid)
        process.maps = ProcessMaps([])
        process.before = before

    def add_fork(self, pid: int, parent: int) -> None:
        """Records that a process begins with the mappings of its parent."""
        source = self._processes.get(parent) or self._add(parent)
        if source.maps is None and not self.snapshot(parent):
            return
        assert source.maps is not None
        self._processes.pop(pid, None)
        process = self._add(pid)
        process.maps = ProcessMaps(source.maps.mappings)
        process.files = dict(source.files)
        process.before = source.before

    def resolve(self, pid: int, address: int) -> Frame:
        """The frame of one address; see `resolve_stack`."""
        return self.resolve_stack(pid, (address,))[0]

    def resolve_stack(self, pid: int, addresses: Iterable[int]) -> list[Frame]:
        """A frame for each address, in order.  Raises nothing: a frame that cannot be named says why."""
        process = self._current(pid)
        frames = []
        for address in addresses:
            frame = process.frames.get(address)
            if frame is None:
                frame, is_final = self._resolve(pid, process, address)
                if is_final:
                    if len(process.frames) >= _MAX_FRAMES:
                        process.frames.clear()
                    process.frames[address] = frame
            frames.append(frame)
        return frames

    # ------------------------------------------------------------------ processes

    def _current(self, pid: int) -> _Process:
        """The process, read again if it has executed another program since."""
        process = self._processes.get(pid) or self._add(pid)
        if process.maps is None:
            self._read_maps(pid, process)
        elif process.executable is not None:
            executable = self._executable(pid)
            if executable is not None and executable != process.executable:
                self._read_maps(pid, process)
        return process

    def _add(self, pid: int) -> _Process:
        if len(self._processes) >= _MAX_PROCESSES:
            del self._processes[next(iter(self._processes))]
        process = self._processes[pid] = _Process()
        return process

    def _executable(self, pid: int) -> tuple[int, int] | None:
        try:
            found = os.stat(f"{self._proc}/{pid}/exe")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _read_maps(self, pid: int, process: _Process) -> bool:
        """Reads the mappings; if there are none to read, what is known of them stays."""
        reason = ""
        try:
            with open(f"{self._proc}/{pid}/maps", "rb") as stream:
                maps = parse_maps(stream.read())
            if not len(maps):
                reason = "the process has exited, or is a kernel thread"
        except PermissionError:
            reason = "the mappings of the process may not be read"
        except FileNotFoundError:
            reason = "the process had exited before its mappings were read"
        except (OSError, FormatError) as error:
            reason = f"the mappings of the process cannot be read: {error}"
        if reason:
            process.reason = reason
            return False
        executable = self._executable(pid)
        if executable != process.executable:
            process.files.clear()
            process.perf_map = None
            process.missed.clear()
        process.maps = maps
        process.executable = executable
        process.frames.clear()
        return True

    # ------------------------------------------------------------------ addresses

    def _resolve(self, pid: int, process: _Process, address: int) -> tuple[Frame, bool]:
        """The frame, and whether it will be the same when asked again."""
        if process.maps is None:
            return Frame(address, None, reason=process.reason), False
        mapping = process.find(address)
        if mapping is None and address >> 12 not in process.missed:
            # Mapped since, perhaps (dlopen); worth one look for each page.
            self._read_maps(pid, process)
            mapping = process.maps.find(address)
            if mapping is None:
                if len(process.missed) >= _MAX_FRAMES:
                    process.missed.clear()
                process.missed.add(address >> 12)
        if mapping is None:
            return Frame(address, None, reason="nothing is mapped at this address"), False
        file_offset = mapping.file_offset(address)
        if mapping.path == "[vdso]":
            found = self._lookup_vdso(pid, mapping, address)
        elif mapping.path == "[vsyscall]":
            found = _vsyscall(address - mapping.start)
        elif mapping.is_file:
            file = self._file(pid, process, mapping)
            found = file if isinstance(file, str) else file.lookup(file_offset)
            if isinstance(found, str) and mapping.path.startswith(_CODE_FILES):
                return self._resolve_compiled(pid, process, mapping, address, found)
        elif mapping.path.startswith("[") and not mapping.path.startswith("[anon"):
            found = f"{mapping.path} holds no functions"
        else:
            return self._resolve_compiled(pid, process, mapping, address, "code without a file")
        if isinstance(found, str):
            return Frame(address, None, 0, mapping.path, file_offset, found), True
        name, offset = found
        return Frame(address, self._demangle(name), offset, mapping.path, file_offset), True

    def _resolve_compiled(
        self, pid: int, process: _Process, mapping: Mapping, address: int, reason: str
    ) -> tuple[Frame, bool]:
        """An address in code that a compiler may have made at run time; `reason` is why no file names it."""
        if not mapping.is_executable:
            return Frame(address, None, 0, mapping.path, reason="the memory there holds no code"), False
        perf_map = self._perf_map(pid, process)
        found = perf_map.at(address) if perf_map is not None else None
        if found is None:
            hint = (
                "not in the perf map of the process" if perf_map is not None else "no perf map of the process"
            )
            return Frame(address, None, 0, mapping.path, reason=f"{reason}; {hint}"), False
        # A compiler may put another function there; so this is looked up again each time.
        return Frame(address, self._demangle(found[0]), found[1], mapping.path), False

    def _perf_map(self, pid: int, process: _Process) -> PerfMap | None:
        """The perf map of a process, read again when it has changed, and kept when it is gone."""
        from tracebee.host.perfmap import MAX_SIZE, parse_perf_map

        try:
            inner_pid, owner = self._inner_pid(pid)
            path = f"{self._proc}/{pid}/root/tmp/perf-{inner_pid}.map"
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY)
        except OSError:
            return process.perf_map[1] if process.perf_map else None
        with open(fd, "rb") as stream:
            found = os.fstat(fd)
            # Anybody may write to /tmp; names count only from the process's own user or from root.
            if not stat.S_ISREG(found.st_mode) or found.st_uid not in (owner, 0):
                return None
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if process.perf_map is None or process.perf_map[0] != version:
                process.perf_map = (version, parse_perf_map(stream.read(MAX_SIZE)))
        return process.perf_map[1]

    def _inner_pid(self, pid: int) -> tuple[int, int]:
        """The number that a process has in its own pid namespace, and its real user id."""
        inner, owner = pid, 0
        with open(f"{self._proc}/{pid}/status", "rb") as stream:
            for line in stream.read(1 << 16).split(b"\n"):
                key, _, value = line.partition(b":")
                fields = value.split()
                if key == b"NSpid" and fields and fields[-1].isdigit():
                    inner = int(fields[-1])
                elif key == b"Uid" and fields and fields[0].isdigit():
                    owner = int(fields[0])
        return inner, owner

    # ------------------------------------------------------------------ files

    def _file(self, pid: int, process: _Process, mapping: Mapping) -> _SymbolFile | str:
        """The symbols of a mapping's file, or the reason why there are none."""
        key = (mapping.device, mapping.inode)
        known = process.files.get(key)
        if known is None:
            known = process.files[key] = self._open(pid, mapping)
        return known

    def _open(self, pid: int, mapping: Mapping) -> _SymbolFile | str:
        key = (mapping.device, mapping.inode)
        recorded = self._files.get(key)
        reason = "the file is gone"
        for path, certainty, root in self._places(pid, mapping):
            try:
                # Looked at before it is opened: opening a device may do something.
                found = os.stat(path)
                if not stat.S_ISREG(found.st_mode):
                    return "not a regular file"
                if not _is_same_file(found, mapping, certainty):
                    reason = "the file was replaced after it was mapped"
                    continue
                version = (found.st_mtime_ns, found.st_size)
                if recorded is not None and recorded[0] == version:
                    return recorded[1]
                if len(self._files) >= _MAX_PROCESSES:
                    del self._files[next(iter(self._files))]
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            except PermissionError:
                reason = "the file may not be read"
            except (OSError, ValueError):
                continue
            else:
                file = _SymbolFile(fd, mapping.path, root, self._directories)
                self._hold(file)
                self._files[key] = (version, file)
                return file
        return recorded[1] if recorded is not None else reason

    def _places(self, pid: int, mapping: Mapping) -> Iterable[tuple[str, str, str]]:
        """(path, `_is_same_file`'s certainty, root for debug files) of where a file may be opened."""
        directory = f"{self._proc}/{pid}"
        # Leads to the very file, also when it is deleted; needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE.
        yield f"{directory}/map_files/{mapping.start:x}-{mapping.end:x}", "exact", f"{directory}/root"
        yield f"{directory}/root{mapping.path}", "namespace", f"{directory}/root"
        # Once the process is gone: right if it had our mount namespace, which the inode shows.
        yield mapping.path, "path", ""

    def _hold(self, file: _SymbolFile) -> None:
        self._held = [held for held in self._held if not held.is_loaded]
        if len(self._held) >= _MAX_HELD:
            self._held.pop(0).load()
        self._held.append(file)

    def _lookup_vdso(self, pid: int, mapping: Mapping, address: int) -> tuple[str, int] | str:
        image = self._vdso_image(pid, mapping)
        if image is None:
            return "the vdso cannot be read"
        table = self._vdsos.get(image)
        if table is None:
            table = self._vdsos[image] = _vdso_table(image)
        if isinstance(table, str):
            return table
        found = table.at(address - mapping.start)
        return (found[0].name, found[1]) if found else "no function is at this address"

    def _vdso_image(self, pid: int, mapping: Mapping) -> bytes | None:
        """The vdso of a process.  The kernel gives every process of one kind the same, so ours will do."""
        size = mapping.end - mapping.start
        if not 0 < size <= _MAX_VDSO:
            return None
        try:
            return _read_memory(f"{self._proc}/{pid}/mem", mapping.start, size)
        except OSError:
            pass
        try:
            with open("/proc/self/maps", "rb") as stream:
                ours = [own for own in parse_maps(stream.read()) if own.path == "[vdso]"]
            if ours and ours[0].end - ours[0].start == size:
                return _read_memory("/proc/self/mem", ours[0].start, size)
        except (OSError, FormatError):
            pass
        return None


def _is_same_file(found: os.stat_result, mapping: Mapping, certainty: str) -> bool:
    """Whether a path leads to the file that was mapped: "exact" ones do.

    On overlayfs and btrfs stat(2) shows another device than the kernel shows in mappings.  Then the path is
    believed in the "namespace" of the process unless the kernel says that the file was deleted, and as a mere
    "path" of our own if at least the inode is right.
    """
    if certainty == "exact":
        return True
    if certainty == "namespace" and (os.major(found.st_dev), os.minor(found.st_dev)) != mapping.device:
        return not mapping.is_deleted
    return found.st_ino == mapping.inode


def _read_memory(path: str, address: int, size: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, size, address)
    except OverflowError:
        data = b""
    finally:
        os.close(fd)
    if len(data) != size:
        raise OSError(5, "short read of memory")
    return data


def _vdso_table(image: bytes) -> SymbolTable | str:
    from tracebee.host.elf import ElfFile

    try:
        with ElfFile.parse(image, "[vdso]") as elf:
            return elf.table
    except FormatError as error:
        return str(error)


def _vsyscall(offset: int) -> tuple[str, int] | str:
    """The three functions of x86's vsyscall page (arch/x86/entry/vsyscall/vsyscall_emu_64.S)."""
    names = ("gettimeofday", "time", "getcpu")
    if offset >> 10 < len(names):
        return names[offset >> 10], offset & 0x3FF
    return "no function is at this address"
