"""Programs as machine code for a caller that is machine code too: no Python between one event and the next.

Besides what tracebee.engine.native does, the helper functions that most events need are machine code: who the
thread is, the clocks, the ring buffer, and lookups in hash maps whose key was looked up before.  All others are
Python as ever, which sees the world as machine code has left it.

The maps and regions are those of the machine, whose programs can still be run from Python between the events.

A hash map has a table of where values lie, an entry for a key by its hash: u64 the address for programs, or 0,
then the key, padded to 8 bytes.  A record of the ring buffer that is reserved by machine code is written to a
region of its own, and copied when it is submitted.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from tracebee.engine import native
from tracebee.engine.maps.ring import BUSY, DISCARDED, HEADER, RingMap
from tracebee.engine.memory import MASK32
from tracebee.engine.native import NativeEngine, NativeFunction, NativeModule
from tracebee.engine.runtime import MASK64, UNIT
from tracebee.errors import NotSupportedError
from tracebee.insn import opcodes as op

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.engine.maps.base import EngineMap
    from tracebee.engine.native import NativeDoor
    from tracebee.engine.runtime import Helper, Linked, Runtime

# The state goes on: who the thread is, the cookie, whether Python was called, the ring's start and end, where in it
# a record is reserved plus one, and a word for the caller.
_CURRENT, _COOKIE, _CALLED, _RING_START, _RING_END, _OPEN, _CALLER = range(192, 248, 8)

CURRENT, COOKIE, CALLER, RING_START, RING_END = _CURRENT, _COOKIE, _CALLER, _RING_START, _RING_END

SCRATCH = 4096
"""Bytes of the largest record that machine code reserves."""

CONTEXT = 256
"""Bytes of the largest context."""

ENTRIES = 512
"""Of the table of a hash map."""
LARGEST_KEY = 56
_MULTIPLIER = 0x9E3779B97F4A7C15

_LOOKUP, _CLOCK, _PID, _BOOT, _OUTPUT, _RESERVE, _SUBMIT, _DISCARD, _COOKIE_OF, _TAI = (
    *(1, 5, 14, 125, 130, 131, 132, 133, 174, 208),
)
_CLOCKS = {_CLOCK: 1, _BOOT: 7, _TAI: 11}  # include/uapi/linux/time.h
_CACHED = ("HASH", "PERCPU_HASH")


class Embedded(NativeEngine):
    """The programs of a machine for a caller in machine code.

    `attending` is called before any Python that a program needs: time to tell the world whose event it is.
    """

    state_bytes = 256

    def __init__(self, runtime: Runtime, door: NativeDoor, ring: RingMap | None) -> None:
        super().__init__(runtime, door)
        self.attending: Callable[[], None] = lambda: None
        self.ring = ring
        self.caches: dict[int, _Places] = {}
        self.context = bytearray(CONTEXT)
        self._context_pin = door.pin(self.context)
        self.context_address = self._context_pin.address
        self._context_number = runtime.context >> 32
        self._length = 0
        self.scratch = runtime.memory.add(bytearray(SCRATCH), True, "a ring record")
        self._scratch_place = (self.scratch >> 32 & 0xFF_FFFF) * 32
        self._resize_scratch()
        if ring is not None:
            self._ring_pin = door.pin(ring.data)
        self._clock = door.symbol("clock_gettime")

    def _resize_scratch(self) -> None:
        self.table[self._scratch_place + 16 : self._scratch_place + 32] = bytes(16)

    # --- a burst of runs

    def translate(self, programs: Sequence[Linked], more: str) -> Callable[[str], int]:
        """Compile programs with `more` text, which can use @run; addresses of functions by name.

        Raises NotSupportedError if there is no compiler, or it would take it seconds.  Then, too, `close` it.
        """
        if not native.are_short([one.code for one in programs]):
            raise NotSupportedError("machine code of programs that are so long")
        self.programs = programs
        return self.door.compile(NativeModule(programs, self).text() + more)

    def close(self) -> None:
        super().close()
        for table in self.runtime.maps.values():
            table.moved = None
        self.runtime.memory.drop(self.scratch)

    def begin(self) -> None:
        """Runs by machine code follow."""
        place = (self._context_number & 0xFF_FFFF) * 32
        self.table[place : place + 32] = native.ENTRY.pack(self._context_number, self.context_address, 0, 0)
        ring = self.ring
        if ring is not None:
            self._put(_RING_START, ring.start)
            self._put(_RING_END, ring.end)

    def end(self) -> None:
        """No more runs for now."""
        place = (self._context_number & 0xFF_FFFF) * 32
        self.table[place : place + 32] = native.FREE
        self.runtime.memory.replace(self.runtime.context, b"")
        self._put(_CALLED, 0)
        ring = self.ring
        if ring is not None:
            ring.end = self._get(_RING_END)

    def caller(self) -> int:
        """The caller's word."""
        return self._get(_CALLER)

    def cookie(self) -> int:
        return self._get(_COOKIE)

    def stopped(self, kind: int) -> BaseException:
        """Why the last run was stopped, by what @run has given; to be asked before `end`."""
        self._show_context()
        self._put(native.KIND, native.RUNNING)
        return self._stop(kind)

    # --- Python in between

    def _guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        inner = super()._guarded(function)

        def call(*arguments: int) -> int:
            self._arrive()
            try:
                return inner(*arguments)
            finally:
                self._leave()

        return call

    def _arrive(self) -> None:
        runtime = self.runtime
        if not self._get(_CALLED):
            self._put(_CALLED, 1)
            runtime.tail_calls = 0
            runtime.remaining = runtime.budget
            runtime.units = repeat(None, runtime.budget // UNIT + 1)
            self._show_context()
            self.attending()
        ring = self.ring
        if ring is not None:
            ring.end = self._get(_RING_END)
            open_at = self._get(_OPEN)
            if open_at:
                ring.hold(self.scratch, open_at - 1)

    def _leave(self) -> None:
        ring = self.ring
        if ring is not None:
            ring.let_go(self.scratch)
            self._put(_RING_START, ring.start)
            self._put(_RING_END, ring.end)

    def _show_context(self) -> None:
        """Let Python see the context of the run."""
        length = native.ENTRY.unpack_from(self.table, (self._context_number & 0xFF_FFFF) * 32)[2]
        self.runtime.memory.readable[self._context_number] = memoryview(self.context)[:length]

    def _settle(self) -> int:
        """A run in which Python was called is over."""
        shared = self.runtime.shared
        self._put(_CALLED, 0)
        if shared.retired or shared.records:
            shared.settle()
        return 0

    def helper(self, number: int, helper: Helper) -> int:
        if number == _LOOKUP:
            helper = self._filling(helper)
        return super().helper(number, helper)

    def _filling(self, helper: Helper) -> Helper:
        caches, memory = self.caches, self.runtime.memory

        def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
            result = helper(r1, r2, r3, r4, r5)
            cache = caches.get(r1)
            if cache is not None and result:
                cache.fill(memory.read(r2, cache.key_size), result)
            return result

        return call

    # --- code

    @property
    def prelude(self) -> str:
        settle = self.door.callback(self._settle, 0)
        number = self._context_number
        return _PRELUDE.format(
            clock=self._clock,
            budget=self.address + native.BUDGET,
            budget_value=self.runtime.budget,
            kind=self.address + native.KIND,
            called=self.address + _CALLED,
            open=self.address + _OPEN,
            start=self.address + _RING_START,
            end=self.address + _RING_END,
            table=self.address + native.TABLE,
            settle=settle,
            context=_signed(self.runtime.context),
            context_size=(number & 0xFF_FFFF) * 32 + 16,
            scratch=_signed(self.scratch),
            scratch_next=_signed(self.scratch + 1),
            scratch_size=self._scratch_place + 16,
            scratch_data=self._pins[self.scratch >> 32].address,
            largest=SCRATCH,
            header=HEADER,
            busy=BUSY - (1 << 32),
            discarded=DISCARDED,
            ring_data=self._ring_pin.address if self.ring is not None else 0,
            ring_size=self.ring.size if self.ring is not None else 0,
            mask32=MASK32,
        )

    def inline(self, function: NativeFunction, number: int) -> bool:
        if number == _PID:
            function.set(0, function.let(f"load i64, {function.state(_CURRENT)}"))
        elif number == _COOKIE_OF:
            function.set(0, function.let(f"load i64, {function.state(_COOKIE)}"))
        elif number in _CLOCKS:
            function.set(0, function.let(f"call i64 @clock(i32 {_CLOCKS[number]})"))
        elif number == _LOOKUP:
            return self._inline_lookup(function)
        elif number in (_RESERVE, _OUTPUT):
            ring = self.runtime.maps.get(function.constants.get(op.R1, 0))
            if ring is None or ring is not self.ring:
                return False
            if number == _RESERVE:
                call = f"@reserve(i64 {function.get(2)}, i64 {function.get(3)})"
            else:
                call = f"@output(i64 {function.get(2)}, i64 {function.get(3)}, i64 {function.get(4)})"
            self._or_python(function, number, call)
        elif number in (_SUBMIT, _DISCARD):
            mark = DISCARDED if number == _DISCARD else 0
            self._or_python(function, number, f"@submit(i64 {function.get(1)}, i32 {mark})")
        else:
            return False
        return True

    def _or_python(self, function: NativeFunction, number: int, call: str) -> None:
        """r0 is what machine code gives, minus 1; where that has given 0, Python is called."""
        result = function.let(f"call i64 {call}")
        is_done = function.let(f"icmp ne i64 {result}, 0")
        fine, python, end = function.label(), function.label(), function.label()
        function.branch(is_done, fine, python)
        function.start(fine)
        function.set(0, function.let(f"sub i64 {result}, 1"))
        if number != _OUTPUT:
            function.forget_regions()
        function.emit(f"br label %{end}")
        function.start(python)
        function.call_helper(number)
        function.emit(f"br label %{end}")
        function.start(end)

    def _inline_lookup(self, function: NativeFunction) -> bool:
        table = self.runtime.maps.get(function.constants.get(op.R1, 0))
        if table is None or table.spec.type not in _CACHED or table.cpus != 1 or table.key_size > LARGEST_KEY:
            return False
        cache = self.caches.get(table.handle)
        if cache is None:
            cache = self.caches[table.handle] = _Places(table, self.door)
        let = function.let
        pointer = let(f"call ptr @region(i64 {function.get(2)}, i64 {table.key_size})")
        is_there = let(f"icmp ne ptr {pointer}, null")
        look, python, found, end = (function.label() for _ in range(4))
        function.branch(is_there, look, python)
        function.start(look)
        words = []
        for at in range(0, table.key_size, 8):
            words.append(self._load_word(function, pointer, at, min(8, table.key_size - at)))
        mixed = "0"
        for word in words:
            mixed = let(f"xor i64 {mixed}, {word}")
            mixed = let(f"mul i64 {mixed}, {_signed(_MULTIPLIER)}")
        high = let(f"lshr i64 {mixed}, 40")
        index = let(f"and i64 {high}, {ENTRIES - 1}")
        offset = let(f"mul i64 {index}, {cache.stride}")
        place = let(f"add i64 {offset}, {cache.address}")
        entry = let(f"inttoptr i64 {place} to ptr")
        value = let(f"load i64, ptr {entry}")
        same = let(f"icmp ne i64 {value}, 0")
        for number, word in enumerate(words, 1):
            part = let(f"getelementptr i8, ptr {entry}, i64 {8 * number}")
            kept = let(f"load i64, ptr {part}")
            equal = let(f"icmp eq i64 {kept}, {word}")
            same = let(f"and i1 {same}, {equal}")
        function.branch(same, found, python)
        function.start(found)
        function.emit(f"store i64 {value}, ptr %r0")
        function.emit(f"br label %{end}")
        function.start(python)
        function.call_helper(_LOOKUP)
        function.emit(f"br label %{end}")
        function.start(end)
        return True

    def _load_word(self, function: NativeFunction, pointer: str, at: int, size: int) -> str:
        """Up to 8 bytes as a number."""
        let = function.let
        place = let(f"getelementptr i8, ptr {pointer}, i64 {at}")
        kind = f"i{8 * size}"
        value = let(f"load {kind}, ptr {place}, align 1")
        return value if size == 8 else let(f"zext {kind} {value} to i64")


class _Places:
    """Where the values of a hash map lie, for machine code."""

    def __init__(self, table: EngineMap, door: NativeDoor) -> None:
        self.key_size = table.key_size
        self.stride = 8 + (table.key_size + 7) // 8 * 8
        self.data = bytearray(self.stride * ENTRIES)
        self._pin = door.pin(self.data)
        self.address = self._pin.address
        table.moved = self.forget

    def _place(self, key: bytes) -> int:
        mixed = 0
        for at in range(0, len(key), 8):
            mixed = (mixed ^ int.from_bytes(key[at : at + 8], "little")) * _MULTIPLIER & MASK64
        return (mixed >> 40 & ENTRIES - 1) * self.stride

    def fill(self, key: bytes, address: int) -> None:
        place = self._place(key)
        self.data[place : place + self.stride] = address.to_bytes(8, "little") + key.ljust(
            self.stride - 8, b"\0"
        )

    def forget(self, key: bytes) -> None:
        place = self._place(key)
        self.data[place : place + 8] = bytes(8)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_PRELUDE = """\
declare i64 @llvm.umin.i64(i64, i64)

define internal ptr @region(i64 %address, i64 %size) {{
  %entry = call ptr @resolve(i64 %address)
  %none = icmp eq ptr %entry, null
  br i1 %none, label %bad, label %look
look:
  %roomp = getelementptr i8, ptr %entry, i64 16
  %room = load i64, ptr %roomp
  %low = and i64 %address, {mask32}
  %end = add i64 %low, %size
  %over = icmp ugt i64 %end, %room
  br i1 %over, label %bad, label %fine
fine:
  %hostp = getelementptr i8, ptr %entry, i64 8
  %host = load i64, ptr %hostp
  %place = add i64 %host, %low
  %result = inttoptr i64 %place to ptr
  ret ptr %result
bad:
  ret ptr null
}}

define internal i64 @clock(i32 %id) {{
  %time = alloca [2 x i64]
  %done = call i32 inttoptr (i64 {clock} to ptr)(i32 %id, ptr %time)
  %seconds = load i64, ptr %time
  %rest = getelementptr i8, ptr %time, i64 8
  %part = load i64, ptr %rest
  %whole = mul i64 %seconds, 1000000000
  %result = add i64 %whole, %part
  ret i64 %result
}}

define internal i64 @room(i64 %size) {{
  %large = icmp ugt i64 %size, {largest}
  br i1 %large, label %no, label %look
look:
  %padded = add i64 %size, 15
  %length = and i64 %padded, -8
  %start = load i64, ptr inttoptr (i64 {start} to ptr)
  %end = load i64, ptr inttoptr (i64 {end} to ptr)
  %next = add i64 %end, %length
  %behind = icmp ugt i64 %next, {ring_size}
  br i1 %behind, label %no, label %more
more:
  %used = sub i64 %next, %start
  %full = icmp uge i64 %used, {ring_size}
  br i1 %full, label %no, label %yes
yes:
  store i64 %next, ptr inttoptr (i64 {end} to ptr)
  %place = add i64 %end, {ring_data}
  %head = inttoptr i64 %place to ptr
  %after = getelementptr i8, ptr %head, i64 4
  store i32 0, ptr %after
  %result = add i64 %end, 1
  ret i64 %result
no:
  ret i64 0
}}

define internal void @size_scratch(i64 %size) {{
  %table = load i64, ptr inttoptr (i64 {table} to ptr)
  %place = add i64 %table, {scratch_size}
  %entry = inttoptr i64 %place to ptr
  store i64 %size, ptr %entry
  %second = getelementptr i8, ptr %entry, i64 8
  store i64 %size, ptr %second
  ret void
}}

define internal i64 @reserve(i64 %size, i64 %flags) {{
  %open = load i64, ptr inttoptr (i64 {open} to ptr)
  %unusual = or i64 %open, %flags
  %wrong = icmp ne i64 %unusual, 0
  br i1 %wrong, label %no, label %look
look:
  %at = call i64 @room(i64 %size)
  %full = icmp eq i64 %at, 0
  br i1 %full, label %no, label %yes
yes:
  store i64 %at, ptr inttoptr (i64 {open} to ptr)
  %offset = sub i64 %at, 1
  %place = add i64 %offset, {ring_data}
  %head = inttoptr i64 %place to ptr
  %short = trunc i64 %size to i32
  %word = or i32 %short, {busy}
  store i32 %word, ptr %head
  call void @llvm.memset.p0.i64(ptr inttoptr (i64 {scratch_data} to ptr), i8 0, i64 %size, i1 false)
  call void @size_scratch(i64 %size)
  ret i64 {scratch_next}
no:
  ret i64 0
}}

define internal i64 @submit(i64 %address, i32 %mark) {{
  %open = load i64, ptr inttoptr (i64 {open} to ptr)
  %none = icmp eq i64 %open, 0
  br i1 %none, label %no, label %look
look:
  %same = icmp eq i64 %address, {scratch}
  br i1 %same, label %yes, label %no
yes:
  %offset = sub i64 %open, 1
  %place = add i64 %offset, {ring_data}
  %head = inttoptr i64 %place to ptr
  %word = load i32, ptr %head
  %short = and i32 %word, 1073741823
  %size = zext i32 %short to i64
  %data = getelementptr i8, ptr %head, i64 {header}
  call void @llvm.memcpy.p0.p0.i64(ptr %data, ptr inttoptr (i64 {scratch_data} to ptr), i64 %size, i1 false)
  %marked = or i32 %short, %mark
  store i32 %marked, ptr %head
  store i64 0, ptr inttoptr (i64 {open} to ptr)
  call void @size_scratch(i64 0)
  ret i64 1
no:
  ret i64 0
}}

define internal i64 @output(i64 %address, i64 %size, i64 %flags) {{
  %usual = icmp eq i64 %flags, 0
  br i1 %usual, label %look, label %no
look:
  %large = icmp ugt i64 %size, {largest}
  br i1 %large, label %no, label %more
more:
  %source = call ptr @region(i64 %address, i64 %size)
  %none = icmp eq ptr %source, null
  br i1 %none, label %no, label %last
last:
  %at = call i64 @room(i64 %size)
  %full = icmp eq i64 %at, 0
  br i1 %full, label %no, label %yes
yes:
  %offset = sub i64 %at, 1
  %place = add i64 %offset, {ring_data}
  %head = inttoptr i64 %place to ptr
  %short = trunc i64 %size to i32
  store i32 %short, ptr %head
  %data = getelementptr i8, ptr %head, i64 {header}
  call void @llvm.memcpy.p0.p0.i64(ptr %data, ptr %source, i64 %size, i1 false)
  ret i64 1
no:
  ret i64 0
}}

define internal i64 @run(ptr %program, i64 %length) {{
  store i64 {budget_value}, ptr inttoptr (i64 {budget} to ptr)
  %table = load i64, ptr inttoptr (i64 {table} to ptr)
  %place = add i64 %table, {context_size}
  %entry = inttoptr i64 %place to ptr
  store i64 %length, ptr %entry
  %r0 = call i64 %program(i64 {context}, i64 %length, i64 0, i64 0, i64 0, i64 0)
  %kind = load i64, ptr inttoptr (i64 {kind} to ptr)
  %called = load i64, ptr inttoptr (i64 {called} to ptr)
  %open = load i64, ptr inttoptr (i64 {open} to ptr)
  %left = icmp ne i64 %open, 0
  br i1 %left, label %drop, label %next
drop:
  %dropped = call i64 @submit(i64 {scratch}, i32 {discarded})
  br label %next
next:
  %python = icmp ne i64 %called, 0
  br i1 %python, label %settle, label %end
settle:
  %settled = call i64 inttoptr (i64 {settle} to ptr)()
  br label %end
end:
  ret i64 %kind
}}
"""
