"""Couples the loop of tracebee.inferior.burst to programs in machine code (tracebee.engine.embedded).

The hook lays the event out as tracebee.session.user.records does, and runs what is attached to the call.  By number
there is a row of programs for entries, and one for exits:

    row: u64 address of the first, u64 how many        program: u64 address of its code, u64 cookie
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tracebee.engine.embedded import CALLER, COOKIE, CURRENT, RING_END, RING_START, Embedded
from tracebee.errors import EngineFault, TracebeeError
from tracebee.inferior import burst

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.inferior.processes import Thread
    from tracebee.session.user.tracer import TracerProcess
    from tracebee.syscalls.nativecode import Door

_PAIR = struct.Struct("=QQ")
_ENTER_BYTES, _EXIT_BYTES = 64, 24
"""Sizes of the records of entries and exits; those of syscalls:* and raw_syscalls:* look the same."""


class ProgramHook:
    """The hook of a tracer process (tracebee.inferior.burst.Hook)."""

    def __init__(self, tracer: TracerProcess, door: Door, backlog: int) -> None:
        """Compile what is attached.  `backlog` is how many bytes of records may wait in the ring.

        Raises NotSupportedError if there is no compiler, or too much for it; all is as before then.
        """
        self._tracer = tracer
        machine = tracer.engine.machine
        self._machine = machine
        self._embedded = embedded = Embedded(machine.runtime, door, machine.ring)
        embedded.attending = self._attend
        self._thread_at: Callable[[int], Thread] | None = None
        places = tracer.places
        used = list(dict.fromkeys(one.program for one in places.calls()))
        numbers = {program: number for number, program in enumerate(machine.programs.values())}
        linked = [machine.linked[numbers[program]] for program in used]
        size = machine.ring.size if machine.ring is not None else 0
        self._rows = bytearray(2 * burst.NUMBERS * _PAIR.size)
        self._rows_pin = door.pin(self._rows)
        text = _HOOK.format(
            rows=self._rows_pin.address,
            second=burst.NUMBERS * _PAIR.size,
            owner=burst.OWNER,
            number=burst.NUMBER,
            arguments=burst.ARGUMENTS,
            result=burst.RESULT,
            context=embedded.context_address,
            caller=embedded.address + CALLER,
            current=embedded.address + CURRENT,
            cookie=embedded.address + COOKIE,
            ring_start=embedded.address + RING_START,
            ring_end=embedded.address + RING_END,
            backlog=min(backlog, size // 4),
            enter_bytes=_ENTER_BYTES,
            exit_bytes=_EXIT_BYTES,
            pause=burst.PAUSE,
        )
        try:
            address_of = embedded.translate(linked, text)
        except TracebeeError:
            embedded.close()
            raise
        codes = {program: address_of(f"f{at}_0") for at, program in enumerate(used)}
        entries = bytearray()
        for base, some, every in ((0, places.enter, places.every_enter), (1, places.exit, places.every_exit)):
            for number in range(burst.NUMBERS):
                row = [*some.get(number, ()), *every]
                _PAIR.pack_into(
                    self._rows, (base * burst.NUMBERS + number) * _PAIR.size, len(entries), len(row)
                )
                for one in row:
                    entries += _PAIR.pack(codes[one.program], one.cookie)
        self._entries = entries
        self._entries_pin = door.pin(entries)
        for at in range(0, len(self._rows), _PAIR.size):
            first, count = _PAIR.unpack_from(self._rows, at)
            _PAIR.pack_into(self._rows, at, first + self._entries_pin.address, count)
        self.address = address_of("event")

    def begin(self, thread_at: Callable[[int], Thread]) -> None:
        self._thread_at = thread_at
        self._embedded.begin()

    def end(self, error: int) -> None:
        embedded = self._embedded
        fault: BaseException | None = None
        if error > burst.PAUSE:
            fault = embedded.stopped(error - burst.PAUSE)
            if isinstance(fault, Exception):
                fault = self._machine.explain(fault)
        embedded.end()
        if isinstance(fault, EngineFault):
            self._tracer.give_up(fault)
        elif fault is not None:
            raise fault
        elif error:
            self._tracer.keep_up()

    def _attend(self) -> None:
        """A program needs Python: let the world be about the thread that has stopped."""
        assert self._thread_at is not None
        world = self._tracer.world
        world.thread = self._thread_at(self._embedded.caller())
        world.attach_cookie = self._embedded.cookie()


_HOOK = """\
define i64 @event(ptr %slot, i64 %is_exit) {{
entry:
  %context = inttoptr i64 {context} to ptr
  %p_owner = getelementptr i8, ptr %slot, i64 {owner}
  %owner = load i64, ptr %p_owner
  store i64 %owner, ptr inttoptr (i64 {current} to ptr)
  %caller = ptrtoint ptr %slot to i64
  store i64 %caller, ptr inttoptr (i64 {caller} to ptr)
  %tid = trunc i64 %owner to i32
  store i32 0, ptr %context
  %p_tid = getelementptr i8, ptr %context, i64 4
  store i32 %tid, ptr %p_tid
  %p_number = getelementptr i8, ptr %slot, i64 {number}
  %number = load i64, ptr %p_number
  %p_there = getelementptr i8, ptr %context, i64 8
  store i64 %number, ptr %p_there
  %p_values = getelementptr i8, ptr %context, i64 16
  %exits = icmp ne i64 %is_exit, 0
  br i1 %exits, label %exit, label %enter
exit:
  %p_result = getelementptr i8, ptr %slot, i64 {result}
  %result = load i64, ptr %p_result
  store i64 %result, ptr %p_values
  br label %find
enter:
  %p_arguments = getelementptr i8, ptr %slot, i64 {arguments}
  call void @llvm.memcpy.p0.p0.i64(ptr %p_values, ptr %p_arguments, i64 48, i1 false)
  br label %find
find:
  %base = phi i64 [ {second}, %exit ], [ 0, %enter ]
  %length = phi i64 [ {exit_bytes}, %exit ], [ {enter_bytes}, %enter ]
  %offset = shl i64 %number, 4
  %inside = add i64 %base, %offset
  %place = add i64 %inside, {rows}
  %row = inttoptr i64 %place to ptr
  %first = load ptr, ptr %row
  %p_count = getelementptr i8, ptr %row, i64 8
  %count = load i64, ptr %p_count
  br label %next
next:
  %at = phi ptr [ %first, %find ], [ %after, %ran ]
  %left = phi i64 [ %count, %find ], [ %less, %ran ]
  %none = icmp eq i64 %left, 0
  br i1 %none, label %done, label %one
one:
  %code = load ptr, ptr %at
  %p_cookie = getelementptr i8, ptr %at, i64 8
  %cookie = load i64, ptr %p_cookie
  store i64 %cookie, ptr inttoptr (i64 {cookie} to ptr)
  %kind = call i64 @run(ptr %code, i64 %length)
  %fine = icmp eq i64 %kind, 0
  br i1 %fine, label %ran, label %failed
ran:
  %after = getelementptr i8, ptr %at, i64 16
  %less = sub i64 %left, 1
  br label %next
failed:
  %error = add i64 %kind, {pause}
  ret i64 %error
done:
  %start = load i64, ptr inttoptr (i64 {ring_start} to ptr)
  %end = load i64, ptr inttoptr (i64 {ring_end} to ptr)
  %waits = sub i64 %end, %start
  %much = icmp ugt i64 %waits, {backlog}
  %answer = select i1 %much, i64 {pause}, i64 0
  ret i64 %answer
}}
"""
