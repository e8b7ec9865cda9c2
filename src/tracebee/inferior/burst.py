"""A loop in machine code for system call stops that follow each other, as Python costs more than the stop does.

It handles what is plain: stops of our filter and the ends of calls whose exit is wanted, of threads that nothing
else is the matter with.  For each it calls a function in machine code, the hook, in place of an Events method.
At anything else it leaves: the stop is then handled as ever, with the Thread objects brought up to date.

    i64 hook(slot, is_exit)    0 to go on, PAUSE to leave once the thread goes on, more if there was an error

A slot is what the loop knows of a thread; slots are a hash table with linear probing:

    u64 tid, 0 if free    u64 pid << 32 | tid    u32 exit wanted    u32 was stopped    i64 result
    32: struct ptrace_syscall_info of the last entry
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Protocol

from tracebee.inferior.filter import MARK
from tracebee.syscalls import ptrace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from tracebee.inferior.processes import Thread

    class Pin(Protocol):
        address: int

    class Door(Protocol):
        """As tracebee.syscalls.nativecode has it."""

        def compile(self, text: str) -> Callable[[str], int]: ...

        def symbol(self, name: str) -> int: ...

        def pin(self, data: bytes | bytearray | memoryview) -> Pin: ...

        def function(self, address: int, arguments: int) -> Callable[..., int]: ...


class Hook(Protocol):
    """What happens at the stops.  `begin` and `end` come around each burst.

    `begin` gets a function that brings up to date and gives the thread of a slot, by the slot's address.
    """

    address: int

    def begin(self, thread_at: Callable[[int], Thread]) -> None: ...

    def end(self, error: int) -> None:
        """`error` is what the hook has given, or 0.  Events that come from now on are told as ever."""


PAUSE = 1
"""What a hook gives when the burst should end."""

NUMBERS = 1024
"""System calls that the loop knows; there are no larger numbers."""
ENTERS, EXITS, INNER = 1, 2, 4

SLOT = 128
TID, OWNER, WANTS, STOPPED, RESULT, INFO, NUMBER, ARGUMENTS = 0, 8, 16, 20, 24, 32, 56, 64
_HEAD = struct.Struct("=QQII")
_CALL = struct.Struct("=q6Q")  # from NUMBER on
_BATCH = 64
"""Stops that are taken together."""

# Why the loop has ended
TIME_IS_UP, NOBODY, OTHER, PAUSED, FAILED = range(5)

_STATE_BYTES = 256
_FIELDS = (
    "deadline",
    "looks",
    "slots",
    "mask",
    "touched",
    "touches",
    "flags",
    "batch",
    "count",
    "at",
    "many",
)
_OFFSET = {name: 8 + 8 * index for index, name in enumerate((*_FIELDS, "error", "stops"))}
_EXIT_INFO, _TIME = 128, 224

_LOOKS = 200


class Burst:
    """The loop over stops, with its tables.  `enter` and `exit` are numbers, `inner` those left to the caller."""

    def __init__(
        self,
        door: Door,
        hook: Hook,
        enter: Iterable[int],
        exits: Iterable[int],
        inner: Iterable[int],
        native: int,
    ) -> None:
        self.hook = hook
        self._door = door
        flags = bytearray(NUMBERS)
        for numbers, bit in ((enter, ENTERS), (exits, EXITS), (inner, INNER)):
            for number in numbers:
                if 0 <= number < NUMBERS:
                    flags[number] |= bit
        self._flags = flags
        self._state = bytearray(_STATE_BYTES)
        self._batch = bytearray(8 * _BATCH)
        self._kept = [door.pin(one) for one in (self._flags, self._state, self._batch)]
        self._at = self._kept[1].address
        self._put("flags", self._kept[0].address)
        self._put("batch", self._kept[2].address)
        self._capacity = 0
        self._grow(64)
        address_of = door.compile(_text(door, hook.address, native))
        self._loop = door.function(address_of("burst"), 1)
        self._threads: dict[int, Thread] = {}
        self._judge = _Judge()
        self.is_stale = True

    def _put(self, name: str, value: int) -> None:
        struct.pack_into("=Q", self._state, _OFFSET[name], value)

    def _get(self, name: str) -> int:
        value: int = struct.unpack_from("=Q", self._state, _OFFSET[name])[0]
        return value

    def _grow(self, capacity: int) -> None:
        self._capacity = capacity
        self._slots = bytearray(SLOT * capacity)
        self._touched = bytearray(8 * capacity)
        self._tables = [self._door.pin(self._slots), self._door.pin(self._touched)]
        self._put("slots", self._tables[0].address)
        self._put("touched", self._tables[1].address)
        self._put("mask", capacity - 1)

    def run(self, threads: Collection[Thread], first: tuple[int, int], deadline: float) -> int:
        """Handle stops until `deadline` (time.monotonic()) or until one of them is not plain; why it has ended.

        `first` is a stop that is there already, as `rest` are those that are still to be handled afterwards.
        `is_stale` has to be set if anything about a thread has changed since the last burst.
        """
        if self.is_stale:
            self._fill(threads)
            self.is_stale = False
        else:
            self._clean()
        struct.pack_into("=2i", self._batch, 0, *first)
        self._put("count", 1)
        self._put("at", 0)
        many = len(threads) > 2
        self._put("deadline", int(deadline * 1e9))
        self._put("many", many)
        self._put("touches", 0)
        self._put("stops", 0)
        self._put("error", 0)
        self._put("looks", self._judge.looks)
        self.hook.begin(self._thread_at)
        began = time.perf_counter()
        why = self._loop(self._at)
        self._judge.take(time.perf_counter() - began, self._get("stops"))
        for index in self._stopped():
            self._update(index * SLOT)
        return why

    def _stopped(self) -> tuple[int, ...]:
        """The slots of the threads that have stopped in the burst."""
        return struct.unpack_from(f"={self._get('touches')}Q", self._touched)

    def _clean(self) -> None:
        for index in self._stopped():
            struct.pack_into("=I", self._slots, index * SLOT + STOPPED, 0)

    @property
    def rest(self) -> list[tuple[int, int]]:
        """Stops that wait(2) has told of and nobody has handled: thread ids and statuses."""
        if self._get("count") <= self._get("at"):
            return []
        words = struct.unpack_from(f"={2 * self._get('count')}i", self._batch)
        return list(zip(words[::2], words[1::2], strict=True))[self._get("at") :]

    @property
    def error(self) -> int:
        return self._get("error")

    @property
    def failed(self) -> int:
        """The thread whose event the hook did not like; it is still stopped."""
        tid: int = struct.unpack_from("=i", self._batch, 8 * (self._get("at") - 1))[0]
        return tid

    def _fill(self, threads: Iterable[Thread]) -> None:
        wanted = [one for one in threads if _is_plain(one)]
        capacity = self._capacity
        while capacity < 2 * len(wanted):
            capacity *= 2
        if capacity > self._capacity:
            self._grow(capacity)
        slots, mask = self._slots, self._capacity - 1
        slots[:] = bytes(len(slots))
        self._threads = found = {}
        for thread in wanted:
            tid = thread.tid
            index = tid & mask
            while index in found:
                index = index + 1 & mask
            found[index] = thread
            _HEAD.pack_into(slots, index * SLOT, tid, thread.process.pid << 32 | tid, thread.wants_exit, 0)
            _CALL.pack_into(slots, index * SLOT + NUMBER, thread.number, *thread.arguments)

    def _update(self, place: int) -> Thread:
        """Let a Thread be as its slot says."""
        thread = self._threads[place // SLOT]
        thread.known_registers = None
        wants = _HEAD.unpack_from(self._slots, place)[2]
        thread.wants_exit = bool(wants)
        number, *arguments = _CALL.unpack_from(self._slots, place + NUMBER)
        thread.number, thread.arguments, thread.is_compat = number, tuple(arguments), False
        thread.result = struct.unpack_from("=q", self._slots, place + RESULT)[0]
        return thread

    def _thread_at(self, address: int) -> Thread:
        thread = self._update(address - self._tables[0].address)
        thread.is_stopped = True
        return thread


def _is_plain(thread: Thread) -> bool:
    """Whether nothing is the matter with a thread that the loop does not know."""
    process = thread.process
    return (
        process.is_filtered
        and not process.stops_every_call
        and not (thread.is_interrupted or thread.is_leaving or thread.given_to or thread.enters_from)
        and not (thread.wants_exit and (thread.is_compat or thread.number < 0))
    )


class _Judge:
    """Whether the loop should look for a stop some times before it sleeps: tried by bursts, as the Waiter does."""

    def __init__(self) -> None:
        self.looks = 0
        self._costs = [0.0, 0.0]
        self._until = 8
        self._keep = 16

    def take(self, seconds: float, stops: int) -> None:
        """What a burst has cost."""
        if stops < 32:
            return
        way = 1 if self.looks else 0
        cost = seconds / stops
        costs = self._costs
        costs[way] = cost if not costs[way] else (3 * costs[way] + cost) / 4
        self._until -= 1
        if self._until > 0:
            return
        if self._until == 0:
            way = 1 - way  # try the other
        else:
            way = 1 if costs[1] < 0.9 * costs[0] else 0
            self._keep = min(2 * self._keep, 256)
            self._until = self._keep
        self.looks = _LOOKS if way else 0


def _text(door: Door, hook: int, native: int) -> str:
    """The loop in LLVM's text."""
    return _LOOP.format(
        **_OFFSET,
        exit_info=_EXIT_INFO,
        time=_TIME,
        wait4=door.symbol("wait4"),
        ptrace=door.symbol("ptrace"),
        clock=door.symbol("clock_gettime"),
        hook=hook,
        native=native - (1 << 32) if native >> 31 else native,
        mark=MARK,
        slot=SLOT,
        owner=OWNER,
        wants=WANTS,
        stopped=STOPPED,
        result=RESULT,
        info=INFO,
        arch=INFO + 4,
        number=NUMBER,
        verdict=INFO + 80,
        get_info=ptrace.GET_SYSCALL_INFO,
        info_size=ptrace.call_info.size,
        cont=ptrace.CONT,
        syscall=ptrace.SYSCALL,
        wall=ptrace.WALL,
        hang=ptrace.WALL | ptrace.WNOHANG,
        filter_stop=(5 | ptrace.EVENT_SECCOMP << 8) << 8 | 0x7F,
        call_stop=(5 | 0x80) << 8 | 0x7F,
        numbers=NUMBERS,
        inner=INNER,
        batch_size=_BATCH,
        op_exit=ptrace.SYSCALL_INFO_EXIT,
        pause=PAUSE,
        time_is_up=TIME_IS_UP,
        nobody=NOBODY,
        other=OTHER,
        paused=PAUSED,
        failed=FAILED,
    )


_LOOP = """\
define i64 @burst(i64 %place) {{
entry:
  %s = inttoptr i64 %place to ptr
  %p_deadline = getelementptr i8, ptr %s, i64 {deadline}
  %p_looks = getelementptr i8, ptr %s, i64 {looks}
  %p_slots = getelementptr i8, ptr %s, i64 {slots}
  %p_mask = getelementptr i8, ptr %s, i64 {mask}
  %p_touched = getelementptr i8, ptr %s, i64 {touched}
  %p_touches = getelementptr i8, ptr %s, i64 {touches}
  %p_flags = getelementptr i8, ptr %s, i64 {flags}
  %p_batch = getelementptr i8, ptr %s, i64 {batch}
  %p_count = getelementptr i8, ptr %s, i64 {count}
  %p_at = getelementptr i8, ptr %s, i64 {at}
  %p_many = getelementptr i8, ptr %s, i64 {many}
  %p_error = getelementptr i8, ptr %s, i64 {error}
  %p_stops = getelementptr i8, ptr %s, i64 {stops}
  %exit_info = getelementptr i8, ptr %s, i64 {exit_info}
  %time = getelementptr i8, ptr %s, i64 {time}
  %deadline = load i64, ptr %p_deadline
  %looks = load i64, ptr %p_looks
  %slots = load ptr, ptr %p_slots
  %mask = load i64, ptr %p_mask
  %touched = load ptr, ptr %p_touched
  %flags = load ptr, ptr %p_flags
  %batch = load ptr, ptr %p_batch
  %many_word = load i64, ptr %p_many
  %many = icmp ne i64 %many_word, 0
  br label %next

round:
  store i64 0, ptr %p_count
  store i64 0, ptr %p_at
  %timed = call i32 inttoptr (i64 {clock} to ptr)(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %p_rest = getelementptr i8, ptr %time, i64 8
  %rest = load i64, ptr %p_rest
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  %late = icmp ugt i64 %now, %deadline
  br i1 %late, label %time_is_up, label %look

look:
  %left = phi i64 [ %looks, %round ], [ %less, %again ]
  %tired = icmp eq i64 %left, 0
  br i1 %tired, label %sleep, label %again
again:
  %less = sub i64 %left, 1
  %p_first_status = getelementptr i8, ptr %batch, i64 4
  %seen = call i32 inttoptr (i64 {wait4} to ptr)(i32 -1, ptr %p_first_status, i32 {hang}, ptr null)
  %nothing = icmp eq i32 %seen, 0
  br i1 %nothing, label %look, label %first
sleep:
  %p_same_status = getelementptr i8, ptr %batch, i64 4
  %woken = call i32 inttoptr (i64 {wait4} to ptr)(i32 -1, ptr %p_same_status, i32 {wall}, ptr null)
  br label %first
first:
  %one = phi i32 [ %seen, %again ], [ %woken, %sleep ]
  %fails = icmp slt i32 %one, 1
  br i1 %fails, label %nobody, label %found
found:
  store i32 %one, ptr %batch
  store i64 1, ptr %p_count
  br i1 %many, label %collect, label %next

collect:
  %sofar = load i64, ptr %p_count
  %enough = icmp uge i64 %sofar, {batch_size}
  br i1 %enough, label %next, label %collect_one
collect_one:
  %offset_more = shl i64 %sofar, 3
  %p_more = getelementptr i8, ptr %batch, i64 %offset_more
  %p_more_status = getelementptr i8, ptr %p_more, i64 4
  %more = call i32 inttoptr (i64 {wait4} to ptr)(i32 -1, ptr %p_more_status, i32 {hang}, ptr null)
  %none_more = icmp slt i32 %more, 1
  br i1 %none_more, label %next, label %collected
collected:
  store i32 %more, ptr %p_more
  %plus = add i64 %sofar, 1
  store i64 %plus, ptr %p_count
  br label %collect

next:
  %at = load i64, ptr %p_at
  %count = load i64, ptr %p_count
  %through = icmp uge i64 %at, %count
  br i1 %through, label %round, label %handle

handle:
  %offset = shl i64 %at, 3
  %p_tid = getelementptr i8, ptr %batch, i64 %offset
  %p_status = getelementptr i8, ptr %p_tid, i64 4
  %tid = load i32, ptr %p_tid
  %status = load i32, ptr %p_status
  %wide = zext i32 %tid to i64
  %home = and i64 %wide, %mask
  br label %probe
probe:
  %index = phi i64 [ %home, %handle ], [ %following, %collision ]
  %far = mul i64 %index, {slot}
  %slot = getelementptr i8, ptr %slots, i64 %far
  %owner = load i64, ptr %slot
  %is_it = icmp eq i64 %owner, %wide
  br i1 %is_it, label %known, label %not_it
not_it:
  %free = icmp eq i64 %owner, 0
  br i1 %free, label %other, label %collision
collision:
  %increased = add i64 %index, 1
  %following = and i64 %increased, %mask
  br label %probe

known:
  %p_wants = getelementptr i8, ptr %slot, i64 {wants}
  %is_filter = icmp eq i32 %status, {filter_stop}
  br i1 %is_filter, label %begins, label %maybe_call
maybe_call:
  %is_call = icmp eq i32 %status, {call_stop}
  br i1 %is_call, label %ends, label %other

begins:
  %info = getelementptr i8, ptr %slot, i64 {info}
  %asked = call i64 inttoptr (i64 {ptrace} to ptr)(i32 {get_info}, i32 %tid, i64 {info_size}, ptr %info)
  %gone = icmp slt i64 %asked, 0
  br i1 %gone, label %done, label %check_mark
check_mark:
  %p_verdict = getelementptr i8, ptr %slot, i64 {verdict}
  %verdict = load i32, ptr %p_verdict
  %ours = icmp eq i32 %verdict, {mark}
  %p_arch = getelementptr i8, ptr %slot, i64 {arch}
  %arch = load i32, ptr %p_arch
  %is_native = icmp eq i32 %arch, {native}
  %p_number = getelementptr i8, ptr %slot, i64 {number}
  %number = load i64, ptr %p_number
  %small = icmp ult i64 %number, {numbers}
  %two = and i1 %ours, %is_native
  %three = and i1 %two, %small
  br i1 %three, label %check_number, label %other
check_number:
  %p_flag = getelementptr i8, ptr %flags, i64 %number
  %flag = load i8, ptr %p_flag
  %inner = and i8 %flag, {inner}
  %is_inner = icmp ne i8 %inner, 0
  br i1 %is_inner, label %other, label %enter
enter:
  %wants = lshr i8 %flag, 1
  %wants32 = zext i8 %wants to i32
  store i32 %wants32, ptr %p_wants
  call void @touch(ptr %slot, i64 %index, ptr %touched, ptr %p_touches)
  %told = and i8 %flag, 1
  %is_told = icmp ne i8 %told, 0
  br i1 %is_told, label %tell_enter, label %go_on
tell_enter:
  %answer1 = call i64 inttoptr (i64 {hook} to ptr)(ptr %slot, i64 0)
  br label %answered

ends:
  %wanted = load i32, ptr %p_wants
  %unwanted = icmp eq i32 %wanted, 0
  br i1 %unwanted, label %other, label %ask_exit
ask_exit:
  %asked2 = call i64 inttoptr (i64 {ptrace} to ptr)(i32 {get_info}, i32 %tid, i64 {info_size}, ptr %exit_info)
  %gone2 = icmp slt i64 %asked2, 0
  br i1 %gone2, label %done, label %check_exit
check_exit:
  %op = load i8, ptr %exit_info
  %is_exit = icmp eq i8 %op, {op_exit}
  br i1 %is_exit, label %leave, label %other
leave:
  %p_value = getelementptr i8, ptr %exit_info, i64 24
  %value = load i64, ptr %p_value
  %p_result = getelementptr i8, ptr %slot, i64 {result}
  store i64 %value, ptr %p_result
  store i32 0, ptr %p_wants
  call void @touch(ptr %slot, i64 %index, ptr %touched, ptr %p_touches)
  %answer2 = call i64 inttoptr (i64 {hook} to ptr)(ptr %slot, i64 1)
  br label %answered

answered:
  %answer = phi i64 [ %answer1, %tell_enter ], [ %answer2, %leave ]
  %good = icmp eq i64 %answer, 0
  br i1 %good, label %go_on, label %keep_answer
keep_answer:
  store i64 %answer, ptr %p_error
  %only_pause = icmp eq i64 %answer, {pause}
  br i1 %only_pause, label %go_on, label %failed

go_on:
  %wants_now = load i32, ptr %p_wants
  %to_stop = icmp ne i32 %wants_now, 0
  %request = select i1 %to_stop, i32 {syscall}, i32 {cont}
  %went = call i64 inttoptr (i64 {ptrace} to ptr)(i32 %request, i32 %tid, i64 0, i64 0)
  br label %done
done:
  %handled = add i64 %at, 1
  store i64 %handled, ptr %p_at
  %stops = load i64, ptr %p_stops
  %stops2 = add i64 %stops, 1
  store i64 %stops2, ptr %p_stops
  %error = load i64, ptr %p_error
  %quiet = icmp eq i64 %error, 0
  br i1 %quiet, label %next, label %paused

failed:
  %handled2 = add i64 %at, 1
  store i64 %handled2, ptr %p_at
  ret i64 {failed}
time_is_up:
  ret i64 {time_is_up}
nobody:
  ret i64 {nobody}
other:
  ret i64 {other}
paused:
  ret i64 {paused}
}}

define internal void @touch(ptr %slot, i64 %index, ptr %touched, ptr %p_touches) alwaysinline {{
  %p_mark = getelementptr i8, ptr %slot, i64 {stopped}
  %mark = load i32, ptr %p_mark
  %known = icmp ne i32 %mark, 0
  br i1 %known, label %end, label %new
new:
  store i32 1, ptr %p_mark
  %count = load i64, ptr %p_touches
  %offset = shl i64 %count, 3
  %place = getelementptr i8, ptr %touched, i64 %offset
  store i64 %index, ptr %place
  %more = add i64 %count, 1
  store i64 %more, ptr %p_touches
  br label %end
end:
  ret void
}}
"""
