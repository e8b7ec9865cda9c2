"""Breakpoints: which addresses of which memory have one, and what a thread does that has run into one.

A breakpoint is an int3 over the first byte of an instruction.  The instruction itself lies in a page that the process
is made to map near its code, rewritten so that it works there and jumps back (tracebee.inferior.x86); a thread
that has hit a breakpoint is sent there, and needs no second stop.  So no thread ever finds a breakpoint missing.

A function's return is a breakpoint at the caller, where the stack pointer tells whether it is this call that has
returned; the stack of the target is left as it is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import FormatError, TargetError
from tracebee.host.procmaps import ProcessMaps, read_maps
from tracebee.inferior import x86
from tracebee.inferior.registers import LAYOUT, get, put
from tracebee.records import Mutable
from tracebee.syscalls import ptrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.host.procmaps import Mapping
    from tracebee.inferior.events import Events
    from tracebee.inferior.processes import Process, Thread

    Inject = Callable[[Thread, str, tuple[int, ...]], int | None]

_INT3 = b"\xcc"
_PAGE = 4096
_SLOTS = _PAGE // x86.SLOT_SIZE
_SI_KERNEL = 0x80  # include/uapi/asm-generic/siginfo.h: what int3 gives
_MAX_FRAMES = 4096
"""Calls of a thread whose returns are waited for, at most; a recursion that is deeper loses its outer ones."""

_RCX = 11 * 8  # struct user_regs_struct

# include/uapi/asm-generic/mman-common.h
_PROT_READ_EXEC = 5
_MAP_PRIVATE_ANONYMOUS = 0x22
_MAP_FIXED_NOREPLACE = 0x100000
_MMAP_MIN = 0x10000
"""The highest default of vm.mmap_min_addr."""


class Site:
    """A place in a file with the keys of those who want to know of it, and whether of the return from there."""

    def __init__(self, path: str, device: tuple[int, int], inode: int, offset: int) -> None:
        self.path = path
        self.device = device
        self.inode = inode
        self.offset = offset
        self.semaphore = 0
        self.keys: dict[int, bool] = {}


class Point:
    """A breakpoint at an address.  `original` are the bytes there, as many as the longest instruction has."""

    __slots__ = ("moved", "original", "site", "slot")

    def __init__(self, original: bytes, site: Site | None) -> None:
        self.original = original
        self.site = site
        self.slot = 0
        self.moved: x86.Relocated | None = None


class Frame(Mutable):
    """A call whose return is waited for: the stack pointer at the function's entry, where the caller's address is."""

    key: int
    stack: int
    caller: int


class Space:
    """An address space: its breakpoints by address, and the pages with relocated instructions.

    `former` are the addresses that have had a breakpoint: a thread may have hit it and not been heard yet.
    `raised` are the sites whose semaphores count one more, and where these are.
    """

    def __init__(self) -> None:
        self.points: dict[int, Point] = {}
        self.pages: list[list[int]] = []
        self.slots: dict[int, x86.Relocated] = {}
        self.former: set[int] = set()
        self.raised: dict[Site, int] = {}
        self.maps = ProcessMaps([])
        self.call_instruction = 0

    def copy(self) -> Space:
        """The memory of a forked process."""
        other = Space()
        for address, point in self.points.items():
            copied = other.points[address] = Point(point.original, point.site)
            copied.slot, copied.moved = point.slot, point.moved
        other.pages = [list(page) for page in self.pages]
        other.slots = dict(self.slots)
        other.former = set(self.former)
        other.raised = dict(self.raised)
        other.maps = self.maps
        other.call_instruction = self.call_instruction
        return other


class Breakpoints:
    """All breakpoints of an Inferior."""

    def __init__(self, processes: dict[int, Process], inject: Inject) -> None:
        """`inject` makes a stopped thread do a system call."""
        self.sites: list[Site] = []
        self._processes = processes
        self._inject = inject
        self._warned: set[str] = set()
        self._same_file: dict[tuple[str, int, tuple[int, int]], bool] = {}

    # --- where they are

    def insert(self, key: int, path: str, offset: int, returns: bool, semaphore: int = 0) -> None:
        """Put a breakpoint on an offset of a file, wherever it is mapped or will be.  Raises TargetError.

        `semaphore` is the offset of the u16 that a USDT probe looks at before it does anything.
        """
        if os.uname().machine != "x86_64":
            raise TargetError(path, "the user backend has no breakpoints on this machine yet")
        try:
            status = os.stat(path)
        except OSError as error:
            raise TargetError(path, error.strerror or str(error)) from None
        device = (os.major(status.st_dev), os.minor(status.st_dev))
        for site in self.sites:
            if (site.inode, site.device, site.offset) == (status.st_ino, device, offset):
                break
        else:
            site = Site(path, device, status.st_ino, offset)
            self.sites.append(site)
        site.keys[key] = returns
        site.semaphore = semaphore or site.semaphore

    def remove(self, key: int, events: Events) -> None:
        """Take the breakpoint of a key out."""
        for site in [site for site in self.sites if key in site.keys]:
            del site.keys[key]
            if site.keys:
                continue
            self.sites.remove(site)
            for space, process in self._spaces():
                self._lower(process, site)
                here = [address for address, point in space.points.items() if point.site is site]
                for address in here:
                    if self._is_awaited(space, address):
                        space.points[address].site = None
                    else:
                        self._take_out(process, address, events)
        for process in self._processes.values():
            for thread in process.threads.values():
                thread.frames = [frame for frame in thread.frames if frame.key != key]

    def clear(self, events: Events) -> None:
        """Take all out; what is mapped later gets none."""
        self.sites.clear()
        for space, process in self._spaces():
            self.clear_space(space, process, events)

    def clear_space(self, space: Space, process: Process, events: Events) -> None:
        for site in list(space.raised):
            self._lower(process, site)
        for address in list(space.points):
            self._take_out(process, address, events)

    def scan(self, process: Process, events: Events, fresh: tuple[int, int] = (0, 0)) -> None:
        """Look at what a process has mapped, and put the breakpoints there that belong there.

        Between the addresses `fresh` it has just mapped something else than was there.
        """
        space = process.space
        for address in [address for address in space.points if fresh[0] <= address < fresh[1]]:
            del space.points[address]
        if not process.takes_breakpoints or not (self.sites or space.points):
            return
        try:
            space.maps = read_maps(process.pid)
        except (OSError, FormatError):
            return
        wanted = self._wanted(process, space.maps)
        for address, point in list(space.points.items()):
            mapping = space.maps.find(address)
            if (
                mapping is None
                or not mapping.is_executable
                or (point.site and wanted.get(address) is not point.site)
            ):
                del space.points[address]  # unmapped with its page
        for address, site in wanted.items():
            present = space.points.get(address)
            if present is not None:
                present.site = site
            else:
                self._put_in(process, address, site, events)
        self._raise_semaphores(process)

    def _raise_semaphores(self, process: Process) -> None:
        """Let the target's own tests of whether somebody listens come out true (linux/uprobes.h: ref_ctr_offset)."""
        space = process.space
        for site in {point.site for point in space.points.values() if point.site and point.site.semaphore}:
            if site in space.raised:
                continue
            for mapping in space.maps:
                address = mapping.start + site.semaphore - mapping.offset
                if (
                    mapping.perms[1:4:2] == "wp"
                    and mapping.start <= address < mapping.end
                    and self._is_same_file(process, mapping, site)
                    and _add(process, address, 1)
                ):
                    space.raised[site] = address
                    break

    def _lower(self, process: Process, site: Site) -> None:
        address = process.space.raised.pop(site, 0)
        if address:
            _add(process, address, -1)

    def lacks_some(self, process: Process) -> bool:
        """Whether a file with breakpoints is not mapped in the process, and may yet be."""
        here = {point.site for point in process.space.points.values()}
        return any(site not in here for site in self.sites)

    def _wanted(self, process: Process, maps: ProcessMaps) -> dict[int, Site]:
        found = {}
        for mapping in maps:
            # A breakpoint in a shared mapping would be written to the file.
            if not mapping.is_executable or mapping.perms[3] != "p" or not mapping.is_file:
                continue
            for site in self.sites:
                address = mapping.start + site.offset - mapping.offset
                if mapping.start <= address < mapping.end and self._is_same_file(process, mapping, site):
                    found[address] = site
        return found

    def _is_same_file(self, process: Process, mapping: Mapping, site: Site) -> bool:
        if mapping.inode != site.inode:
            return False
        if mapping.device == site.device:
            return True
        # stat(2) and maps name different devices on btrfs and overlay file systems.
        key = (mapping.path, mapping.inode, mapping.device)
        same = self._same_file.get(key)
        if same is None:
            try:
                status = os.stat(f"/proc/{process.pid}/root{mapping.path}")
            except OSError:
                return False
            device = (os.major(status.st_dev), os.minor(status.st_dev))
            same = self._same_file[key] = (device, status.st_ino) == (site.device, site.inode)
        return same

    def _spaces(self) -> Iterable[tuple[Space, Process]]:
        """Each address space once, with a process that has it."""
        found = {id(process.space): (process.space, process) for process in self._processes.values()}
        return found.values()

    def _is_awaited(self, space: Space, address: int) -> bool:
        """Whether a call is to return to an address."""
        return any(
            frame.caller == address
            for process in self._processes.values()
            if process.space is space
            for thread in process.threads.values()
            for frame in thread.frames
        )

    # --- putting in and taking out

    def _put_in(self, process: Process, address: int, site: Site | None, events: Events) -> bool:
        space = process.space
        code = bytearray(process.read_some(address, x86.MAX_LENGTH))
        if not code:
            return False
        for other, point in space.points.items():
            if address < other < address + len(code):
                code[other - address] = point.original[0]
        try:
            x86.relocate(x86.decode(bytes(code)), address, address)
        except FormatError as error:
            if code[:1] != _INT3:  # one of the target's own: it is told of, and works
                place = f"{site.path} at offset {site.offset:#x}" if site else f"address {address:#x}"
                self._warn(events, f"no breakpoint in {place}: {error}")
                return False
        if not write_code(process, address, _INT3):
            self._warn(events, f"process {process.pid} does not let breakpoints be put into it")
            return False
        space.points[address] = Point(bytes(code), site)
        space.former.discard(address)
        return True

    def _take_out(self, process: Process, address: int, events: Events) -> None:
        space = process.space
        point = space.points.pop(address)
        space.former.add(address)
        if process.read_some(address, 1) != _INT3 or point.original[:1] == _INT3:
            return  # something else has been mapped there, or the process has gone
        if not write_code(process, address, point.original[:1]):
            self._warn(events, f"a breakpoint could not be taken out of process {process.pid}")

    def _warn(self, events: Events, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            events.warn(text)

    # --- threads that run into them

    def trapped(self, thread: Thread, siginfo: bytes, events: Events) -> bool:
        """Handle a SIGTRAP.  Whether it was ours: then the thread can go on without the signal."""
        space = thread.process.space
        if int.from_bytes(siginfo[8:12], "little", signed=True) != _SI_KERNEL:
            return False
        registers = thread.registers()
        address = get(registers, LAYOUT.pointer) - 1
        point = space.points.get(address)
        if point is None:
            if address in space.former and thread.process.read_some(address, 1) != _INT3:
                thread.set_registers((LAYOUT.pointer, address))
                return True
            return False
        thread.known_registers = put(registers, (LAYOUT.pointer, address))
        try:
            self._tell(thread, space, address, point, events)
        finally:
            is_ours = self._step_over(thread, space, address, events)
        return is_ours

    def _tell(self, thread: Thread, space: Space, address: int, point: Point, events: Events) -> None:
        stack = get(thread.registers(), LAYOUT.stack)
        if (address, stack) in thread.again:
            thread.again.discard((address, stack))
            return  # told before a signal came in between
        # Deeper calls have a lower stack pointer: those of them that are left were ended by longjmp(3).
        for index in range(len(thread.frames) - 1, -1, -1):
            frame = thread.frames[index]
            if frame.caller == address and frame.stack + 8 == stack:
                del thread.frames[index:]
                events.returned(thread, frame.key)
        site = point.site
        if site is None:
            return
        for key, returns in list(site.keys.items()):
            if returns:
                self._await_return(thread, space, key, stack, events)
            else:
                events.hit(thread, key)

    def _await_return(self, thread: Thread, space: Space, key: int, stack: int, events: Events) -> None:
        """The thread has entered a function whose return is wanted."""
        process = thread.process
        data = process.read(stack, 8)
        if data is None:
            return
        caller = int.from_bytes(data, "little")
        # A call that had its return address in the same place has been left, by longjmp(3) or the like.  But one with
        # the same return, of another function, has called this one as its last act.
        frames = thread.frames = [
            frame
            for frame in thread.frames
            if frame.stack != stack or (frame.key != key and frame.caller == caller)
        ]
        if caller not in space.points:
            mapping = space.maps.find(caller)
            if mapping is None:
                self.scan(process, events)
                mapping = space.maps.find(caller)
            if mapping is None or not mapping.is_executable or (mapping.perms[3] != "p" and mapping.is_file):
                self._warn(
                    events, "some returns are not seen: the caller is not in memory that takes a breakpoint"
                )
                return
            if not self._put_in(process, caller, None, events):
                return
        frames.append(Frame(key, stack, caller))
        if len(frames) > _MAX_FRAMES:
            del frames[0]

    def _step_over(self, thread: Thread, space: Space, address: int, events: Events) -> bool:
        """Have the thread run the instruction under a breakpoint.  False if that is an int3 of its own."""
        point = space.points.get(address)
        if point is None:
            thread.set_registers((LAYOUT.pointer, address))
            return True
        if point.original[:1] == _INT3:
            thread.set_registers((LAYOUT.pointer, address + 1))
            return False
        if not point.slot and not self._relocate(thread, space, address, point, events):
            self._take_out(thread.process, address, events)
            thread.set_registers((LAYOUT.pointer, address))
            return True
        thread.set_registers((LAYOUT.pointer, point.slot))
        assert point.moved is not None
        if point.moved.enters_kernel:
            thread.enters_from = point.slot
        return True

    def _relocate(self, thread: Thread, space: Space, address: int, point: Point, events: Events) -> bool:
        """Put a copy of the instruction under a breakpoint near it."""
        try:
            slot = self._slot_near(thread, space, address)
            if slot:
                moved = x86.relocate(x86.decode(point.original), address, slot)
                if write_code(thread.process, slot, moved.code):
                    point.slot, point.moved = slot, moved
                    space.slots[slot] = moved
                    return True
            reason = "there is no place for its instruction"
        except FormatError as error:
            reason = str(error)
        self._warn(
            events, f"a breakpoint at {address:#x} of process {thread.process.pid} is taken out: {reason}"
        )
        return False

    def _slot_near(self, thread: Thread, space: Space, address: int) -> int:
        """A free place for code near an address; 0 if there is none."""
        for page in space.pages:
            if page[1] < _SLOTS and abs(page[0] - address) < x86.REACH - _PAGE:
                page[1] += 1
                return page[0] + (page[1] - 1) * x86.SLOT_SIZE
        try:
            maps = read_maps(thread.process.pid)
        except (OSError, FormatError):
            return 0
        for start in free_pages(maps, address)[:8]:
            arguments = (
                start,
                _PAGE,
                _PROT_READ_EXEC,
                _MAP_PRIVATE_ANONYMOUS | _MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
            result = self._inject(thread, "mmap", arguments)
            if result is None:
                return 0
            if result == start:
                space.pages.append([start, 1])
                return start
        return 0

    # --- threads that are seen in relocated code

    def meaning(self, thread: Thread) -> bytes | None:
        """The registers that a thread would have if it had not been sent elsewhere; None if it has not been."""
        space = thread.process.space
        registers = thread.registers()
        pointer = get(registers, LAYOUT.pointer)
        slot = pointer - pointer % x86.SLOT_SIZE
        moved = space.slots.get(slot)
        real = moved.meanings.get(pointer - slot) if moved is not None else None
        if moved is None or real is None:
            return None
        stack = get(registers, LAYOUT.stack)
        if pointer - slot == moved.undone:
            stack += 8
        return put(registers, (LAYOUT.pointer, real), (LAYOUT.stack, stack))

    def correct_call(self, thread: Thread) -> None:
        """The thread has entered the kernel by a system call that was moved: let the kernel see the call's own place.

        It returns there, and starts the call again from there if a signal interrupts it.
        """
        slot, thread.enters_from = thread.enters_from, 0
        registers = thread.registers()
        behind = get(registers, LAYOUT.pointer)
        if slot in thread.process.space.slots:
            real = thread.process.space.slots[slot].meanings.get(behind - slot)
            if real is not None:
                # SYSCALL leaves the address behind it in rcx, too.
                is_kept = get(registers, _RCX) == behind
                thread.set_registers((LAYOUT.pointer, real), *([(_RCX, real)] if is_kept else []))


def _add(process: Process, address: int, number: int) -> bool:
    """Add to a u16 of a process; whether that could be done."""
    data = process.read(address, 2)
    if data is None:
        return False
    return process.write(address, (int.from_bytes(data, "little") + number & 0xFFFF).to_bytes(2, "little"))


def write_code(process: Process, address: int, data: bytes) -> bool:
    """Write to memory of a process that it may not write itself, such as its code.  Whether it worked."""
    for tid in (process.pid, *process.threads):
        try:
            fd = os.open(f"/proc/{tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if os.pwrite(fd, data, address) == len(data):
                return True
        except (OSError, OverflowError):
            pass
        finally:
            os.close(fd)
    # Where that file is closed to us, a tracer still may; but only by a thread that is stopped.
    for thread in process.threads.values():
        if thread.is_stopped:
            return _poke(thread.tid, process, address, data)
    return False


def _poke(tid: int, process: Process, address: int, data: bytes) -> bool:
    """Write by PTRACE_POKEDATA, which takes whole words."""
    start = address & ~7
    size = address + len(data) - start + 7 & ~7
    old = process.read(start, size)
    if old is None:
        return False
    new = old[: address - start] + data + old[address - start + len(data) :]
    words = (int.from_bytes(new[at : at + 8], "little") for at in range(0, size, 8))
    return all(ptrace.poke(tid, start + 8 * index, word) for index, word in enumerate(words))


def free_pages(maps: ProcessMaps, address: int) -> list[int]:
    """Pages with nothing in them, the nearest to an address first, as far as relocated code can be from it.

    They lie directly below a mapping: what is above one may be wanted for the heap.
    """
    found = []
    end = _MMAP_MIN
    for mapping in maps:
        page = mapping.start - _PAGE
        if page >= end and not mapping.path.startswith("[stack") and abs(page - address) < x86.REACH - _PAGE:
            found.append(page)
        end = max(end, mapping.end)
    return sorted(found, key=lambda page: abs(page - address))
