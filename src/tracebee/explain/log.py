"""The verifier's log as a value, for the logs of Linux 4.15 to 7.3 and for what loaders and people make of them.

A log is read line by line and never kept whole: a level 1 log may have hundreds of megabytes.  What is kept is
its end (the failing path is the last one printed), the names of the called functions and the source lines of all
instructions, and the lines that are no instruction, state, source or statistics.  What the lines mean is known
from kernel/bpf/verifier.c and kernel/bpf/log.c; nothing here raises for any text.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from tracebee.explain.explanation import SourceLine
from tracebee.explain.states import State, parse_state
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

MAX_LINE = 16_384
"""Characters of a line that are looked at; a state with all stack slots has some 8,000."""

KEEP_INSNS = 30_000
"""Instructions at the end of the log that are kept with their states."""

KEEP_OTHERS = 400
"""Lines of other kinds that are kept from the start, and from the end."""

MAX_PLACES = 300_000
"""Instructions whose source line is remembered."""

MAX_CALLS = 300_000
"""Calls that are remembered by their instruction."""

BLOCK = 1 << 18
HEAD = 1 << 18
"""Characters at the start of a log that are read line by line."""

TAIL = 1 << 22
"""The same at the end: more than `KEEP_INSNS` instructions with their states."""

INSN = re.compile(r"(\d{1,9}): (?:\(([0-9a-f]{2})\) ?|(?=<invalid ))(.*)", re.DOTALL)
JOINED = re.compile(r"(.{0,200}?) (infinite loop detected at insn \d{1,9})$")
STATE_LINE = re.compile(r"(?:(\d{1,9}): )?(?:frame(\d+): ?)?(?:R\d+(?:_[rwD]+)?=|fp-\d+(?:_[rwD]+)?=)")
FROM = re.compile(r"from (\d{1,9}) to (\d{1,9})(?: \([^)]*\))?:(.*)", re.DOTALL)
PROCESSED = re.compile(r"processed (\d{1,12}) insns")
PREFIX = re.compile(r"(?:\[ *\d+\.\d+\] ?)?(?:libbpf: (?=(?:-- |; |\d+: |R\d|processed )))?[ \t>|]*")
ESCAPED = re.compile(r"\\n(?=\d+: |; |R\d|processed |from \d)")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
CUT = re.compile(
    r"\[?\(?(?:\.\.\.|\[\.\.\.\]|\[\.\.\. .* \.\.\.\]|\d+ lines? omitted.*|\(\d+ line\(s\) omitted\).*)\]?\)?$"
)
PLACE = re.compile(r"(.*):(\d{1,9})$", re.DOTALL)
VALIDATING = re.compile(r"Validating (\S+)\(\) func#(\d+)")
CALL_LINE = re.compile(r"^(?:; ?([^\n]{0,400})\n)?(\d{1,9}): \(85\) call ([^\n; ]{1,200})", re.MULTILINE)
FRAMING_WORDS = "-- BEGIN PROG LOAD LOG --"
OUTPUT = re.compile(r".{0,300}?[Vv]erifier (?:output|log|error)s?:\s*")
"""What some loaders write on the log's first line."""

FRAMING = re.compile(r".{0,400}-- (BEGIN|END) (?:(?:PROG LOAD|DUMP) )?LOG --")
LOADER = re.compile(r"(?:libbpf|libxdp|libbpfgo|bpftool|bpf|HINT|WARN|ERROR|Error|error):? ")

NOISE = re.compile(
    r"processed \d|verification time|stack depth|insns processed|max_states|peak_states|\d+: safe|safe$|"
    r"subprog \d+ \(|subprog#|mark_precise:|force_precise:|last_idx \d|regs=|parent (?:didn|already|state)|"
    r"frame ?\d+: ?(?:propagating|$)|propagating |Live regs before insn|\d+: [.0-9]{10} |"
    r"Func#\d+ |func#\d+ @|Validating |returning from callee|caller:|callee:|to caller at|async_cb|"
    r"cur state:|old state:|SCC |scc exit|add backedge|liveness |stack use/def|topo_order|insn history|"
    r"branches_to_explore|Note, BPF_LSM|-- (?:BEGIN|END) PROG|signature verification passed|"
    r"func '[^']*' arg\d+ has btf_id|refs=\d|BPF program load failed|failed to load"
)
"""What the verifier prints besides errors."""

NOTES = re.compile(
    r"arg#\d+ type is not a struct|Unrecognized arg#\d+ type|R\d type=ctx expected=fp$|"
    r"reg type unsupported for arg#\d+|arg#\d+ reference type\(.*size cannot be determined|"
    r"Cannot find btf of tracepoint template|REG INVARIANTS VIOLATION"
)
"""Remarks about BTF at the head of a log (5.10 to 6.18), and others: errors only where nothing else is there."""

SECTIONS = ("Reason:", "At:", "Causal path:", "Suggestion:")
VERDICT = "Verification failed:"


class Insn:
    """An instruction as the verifier walked over it; the same one may come several times.

    `index` is its slot, `text` the disassembly, `opcode` the first byte or -1, `source` the line it belongs to.
    `order` counts in the log.  `frame` is the depth of calls.  `origin` is the order of the instruction that
    was walked over before it on the same path, or -1.
    """

    __slots__ = ("_after", "_before", "frame", "index", "opcode", "order", "origin", "source", "text")

    def __init__(
        self, index: int, opcode: int, text: str, after: str, source: SourceLine | None, order: int
    ) -> None:
        self.index = index
        self.opcode = opcode
        self.text = text
        self.source = source
        self.order = order
        self.frame = 0
        self.origin = order - 1
        self._after: str | State = after
        self._before: str | State = ""

    def after(self) -> State:
        """What the verifier printed of its state after the instruction; on newer kernels what changed."""
        if isinstance(self._after, str):
            self._after = parse_state(self._after)
        return self._after

    def before(self) -> State:
        """The state printed ahead of it: at the start of a path, and always on old kernels with level 2."""
        if isinstance(self._before, str):
            self._before = parse_state(self._before)
        return self._before

    def add_after(self, text: str) -> None:
        """Further state, printed on a line of its own."""
        known = self._after if isinstance(self._after, str) else ""
        self._after = f"{known} {text}"

    def set_before(self, text: str) -> None:
        self._before = text

    def __repr__(self) -> str:
        return f"Insn({self.index}: {self.text})"


class KernelReason(Frozen):
    """What Linux 7.3 and later says of its own: `category` and `problem`, and the paragraphs below them."""

    category: str = ""
    problem: str = ""
    reason: str = ""
    at: str = ""
    causal: tuple[str, ...] = ()
    suggestion: str = ""


class VerifierLog(Frozen):
    """A log.

    `insns` is the end of the walk, in the log's order.  `calls` and `places` know all instructions: the called
    function and the source line by slot.  `errors` are the lines that say what is wrong, in order; `notes` those
    that only seem to.  `validating` is the global function that was looked at.  `loader` is what the loader said.
    `head_cut`, `tail_cut`: the start or the end is missing; `gap`: someone cut lines out, `gap_at_end`: after
    the last instruction.
    """

    insns: list[Insn]
    errors: tuple[str, ...]
    notes: tuple[str, ...]
    calls: dict[int, str]
    places: dict[int, SourceLine]
    loader: tuple[str, ...] = ()
    reason: KernelReason | None = None
    processed: int | None = None
    validating: str = ""
    source: SourceLine | None = None
    head_cut: bool = False
    tail_cut: bool = False
    gap: bool = False
    gap_at_end: bool = False
    lines: int = 0

    def last(self) -> Insn | None:
        """The last instruction that was walked over, or None."""
        return self.insns[-1] if self.insns else None

    def place(self, index: int) -> SourceLine | None:
        """The source line of the instruction in slot `index`: printed with it, or with the one before it."""
        for insn in reversed(self.insns[-2000:]):
            if insn.index == index and insn.source is not None:
                return insn.source
        return self.places.get(index)


def read_text(text: str) -> VerifierLog:
    """The value of a text."""
    return _read(text[start : start + BLOCK] for start in range(0, len(text), BLOCK))


def read_stream(stream: TextIO) -> VerifierLog:
    """The value of a stream, in memory that does not grow with it."""
    return _read(iter(lambda: stream.read(BLOCK), ""))


def _read(blocks: Iterable[str]) -> VerifierLog:
    """The head line by line, the end line by line, and what is between by a glance."""
    reader = _Reader()
    head = 0
    kept: deque[str] = deque()
    size = 0
    for block in _aligned(blocks):
        if head < HEAD:
            head += len(block)
            reader.feed_block(block)
            continue
        kept.append(block)
        size += len(block)
        while size - len(kept[0]) >= TAIL:
            size -= len(kept[0])
            reader.skip_block(kept.popleft())
    for block in kept:
        reader.feed_block(block)
    return reader.finish()


def _aligned(blocks: Iterable[str]) -> Iterator[str]:
    """The same text in blocks that end with a line; of an endless line the start."""
    rest = ""
    for block in blocks:
        text = rest + block
        at = text.rfind("\n") + 1
        if at:
            yield text[:at]
        rest = text[at : at + MAX_LINE]
    if rest:
        yield rest


class _Reader:
    """The state of reading: one program's log at a time; a new one starts where framing or numbering says so."""

    def __init__(self) -> None:
        self.loader: deque[str] = deque(maxlen=KEEP_OTHERS)
        self.lines = 0
        self.done: _Section | None = None
        self.section = _Section()

    def feed_block(self, text: str) -> None:
        """Read whole lines."""
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        self.lines += len(lines)
        for line in lines:
            self.feed(line)

    def skip_block(self, text: str) -> None:
        """Take from the middle of a long log what may be asked of later: functions, and who calls what."""
        self.lines += text.count("\n")
        if FRAMING_WORDS in text:
            self._frame("BEGIN")
        section = self.section
        section.skipped = True
        section.pending_origin = -1
        at = text.rfind("Validating ")
        if at >= 0 and (found := VALIDATING.match(text, at)):
            section.validating = found[1]
        if "(85) call " not in text:
            return
        calls, places = section.calls, section.places
        for found in CALL_LINE.finditer(text):
            source, slot, name = found.groups()
            index = int(slot)
            if index in calls or len(calls) >= MAX_CALLS:
                continue
            calls[index] = name
            if source is not None:
                section.set_source(source.strip())
                if section.source is not None:
                    places[index] = section.source

    def feed(self, raw: str) -> None:
        line = raw[:MAX_LINE].rstrip()
        # Most lines of a large log are plain instructions and quoted source; nothing else is asked of them.
        first = line[:1]
        if first.isdigit() and self._insn(line):
            return
        if first == ";" and "\\" not in line:
            self.section.set_source(line[1:].strip())
            return
        if not line:
            self.section.blank()
            return
        if "\x1b" in line:
            line = ANSI.sub("", line)
        if "\\n" in line and ESCAPED.search(line):
            for part in ESCAPED.split(line)[:KEEP_OTHERS]:
                self._line(part)
            return
        self._line(line)

    def _insn(self, line: str) -> bool:
        found = INSN.match(line)
        if found is None:
            return False
        index, opcode, rest = found.groups()
        text, _, state = rest.partition("; ")
        text = text.rstrip(" ;")
        if "infinite loop" in text and (joined := JOINED.match(text)):
            # Where there is no source to quote, this message stands on the jump's line.
            self.section.add_insn(int(index), int(opcode, 16) if opcode else -1, joined[1], "")
            self.section.add_other(joined[2])
            return True
        # A call into a callback prints the callee's first state on the same line.
        if opcode == "85" and " " in text[5:]:
            text, _, tail = text.partition(": frame")
            text = text.rpartition(" ")[0] if tail else text
            state = f"frame{tail}" if tail else state
        self.section.add_insn(int(index), int(opcode, 16) if opcode else -1, text, state)
        return True

    def _line(self, raw: str) -> None:
        framing = FRAMING.match(raw)
        if framing:
            self._frame(framing[1])
            return
        prefix = PREFIX.match(raw)
        indent = prefix.end() if prefix else 0
        line = raw[indent:]
        if not line:
            return
        if line[0].isdigit() and self._insn(line):
            return
        section = self.section
        if section.feed_reason(line, indent):
            return
        if not section.count and (output := OUTPUT.match(line)) and output.end() < len(line):
            self._line(line[output.end() :])
            return
        at = line.find("processed ")
        if at >= 0:
            found = PROCESSED.match(line, at)
            if found:
                if at:
                    self._line(line[:at])
                section.processed = int(found[1])
                return
        if line.startswith(";"):
            section.set_source(line[1:].strip())
        elif STATE_LINE.match(line):
            section.add_state(line)
        elif line.startswith("from ") and (found := FROM.match(line)):
            section.branch(int(found[1]), int(found[2]), found[3])
        elif CUT.match(line):
            section.cut()
        elif LOADER.match(line) or line.startswith("libbpf:"):
            self.loader.append(line)
        else:
            section.add_other(line)

    def _frame(self, word: str) -> None:
        if word == "BEGIN":
            # What stood before the framing is the loader's; what an earlier program said counts only
            # if this one says nothing.
            if self.section.has_news():
                self.done = self.section
            self.section = _Section()
        else:
            self.section.closed = True

    def finish(self) -> VerifierLog:
        section = self.section
        if not section.has_news() and self.done is not None:
            section = self.done
        return section.finish(tuple(self.loader), self.lines)


class _Section:
    def __init__(self) -> None:
        self.insns: deque[Insn] = deque(maxlen=KEEP_INSNS)
        self.count = 0
        self.calls: dict[int, str] = {}
        self.places: dict[int, SourceLine] = {}
        self.source: SourceLine | None = None
        self.head: list[tuple[int, str]] = []
        self.tail: deque[tuple[int, str]] = deque(maxlen=KEEP_OTHERS)
        self.pending_before = ""
        self.pending_origin: int | None = None
        self.visits: dict[int, list[int]] = {}
        self.processed: int | None = None
        self.validating = ""
        self.reason: dict[str, list[str]] = {}
        self.verdict = ""
        self.part = ""
        self.first_index = 0
        self.gap = False
        self.gap_at_head = False
        self.gap_at_end = False
        self.closed = False
        self.skipped = False

    def has_news(self) -> bool:
        return bool(self.count or self.head or self.verdict)

    def blank(self) -> None:
        if self.part == "Suggestion:" and self.reason.get(self.part):
            self.part = ""

    def feed_reason(self, line: str, indent: int) -> bool:
        """Take a line of the kernel's own explanation; False if it is none."""
        if line.startswith(VERDICT):
            self.verdict = line[len(VERDICT) :].strip()
            self.part = VERDICT
            return True
        if self.part and line.startswith("processed "):
            self.part = ""
            return False
        if not indent and line in SECTIONS:
            self.part = line
            return True
        if self.part and self.part != VERDICT:
            if not indent and self.part == "Suggestion:":
                self.part = ""
                return False
            lines = self.reason.setdefault(self.part, [])
            if len(lines) < KEEP_OTHERS:
                lines.append(line)
            return True
        return False

    def add_insn(self, index: int, opcode: int, text: str, state: str) -> None:
        # The statistics end a log: what follows is the same one again, or the next program's.
        if self.count and self.processed is not None:
            self._start_over()
        source = self.source
        known = self.places.get(index)
        if source is None:
            source = known
        elif known is None and len(self.places) < MAX_PLACES:
            self.places[index] = source
        order = self.count
        insn = Insn(index, opcode, text, state, source, order)
        if self.pending_before:
            insn.set_before(self.pending_before)
            self.pending_before = ""
        if self.pending_origin is not None:
            insn.origin = self.pending_origin
            self.pending_origin = None
        if not order:
            self.first_index = index
            insn.origin = -1
        self.insns.append(insn)
        self.count += 1
        self.gap_at_end = False
        if opcode == 0x85:
            if len(self.calls) < MAX_CALLS:
                self.calls[index] = text[5:]
        elif opcode & 7 in (5, 6):
            visits = self.visits.setdefault(index, [])
            visits.append(order)
            if len(visits) > 64:
                del visits[:32]

    def _start_over(self) -> None:
        self.insns.clear()
        self.count = 0
        self.head.clear()
        self.tail.clear()
        self.visits.clear()
        self.processed = None
        self.reason.clear()
        self.verdict = self.part = ""

    def set_source(self, text: str) -> None:
        body, at, place = text.rpartition("@ ")
        found = PLACE.match(place) if at else None
        if found:
            line = int(found[2])
            # Line 0 is code that the compiler made up.
            self.source = SourceLine(found[1], line, body.strip()) if line else self.source
        elif text:
            self.source = SourceLine("", 0, text)

    def add_state(self, line: str) -> None:
        found = STATE_LINE.match(line)
        numbered = found is not None and found[1] is not None
        if numbered:
            self.pending_before = line.partition(": ")[2]
            if "safe" in line[-6:]:
                self.pending_before = ""
        elif self.insns:
            self.insns[-1].add_after(line)
        else:
            self.pending_before = line

    def branch(self, source: int, target: int, state: str) -> None:
        if state.strip() == "safe" or state.endswith(": safe"):
            return
        visits = self.visits.get(source)
        self.pending_origin = visits.pop() if visits else -1
        self.pending_before = state

    def cut(self) -> None:
        self.gap = True
        if not self.count:
            self.gap_at_head = True
        self.gap_at_end = True

    def add_other(self, line: str) -> None:
        found = VALIDATING.match(line)
        if found:
            self.validating = found[1]
        if NOISE.match(line):
            return
        if len(self.head) < KEEP_OTHERS:
            self.head.append((self.count, line))
        else:
            self.tail.append((self.count, line))

    def finish(self, loader: tuple[str, ...], lines: int) -> VerifierLog:
        others = [*self.head, *self.tail]
        insns = list(self.insns)
        _count_frames(insns)
        notes = [line for at, line in others if at < self.count and NOTES.match(line)]
        news = [(at, line) for at, line in others if at == self.count or not NOTES.match(line)]
        if not insns:
            plain = [(at, line) for at, line in news if not NOTES.match(line)]
            if plain:
                notes, news = [line for _, line in news if NOTES.match(line)], plain
        errors = [line for at, line in news if at == self.count]
        if not any(line.startswith("Caller passes") for line in errors):
            errors = [line for line in errors if not NOTES.match(line)] or errors
        ends = bool(errors)
        if not errors:
            # Nothing after the last instruction: what was said last, unless the log goes on after it.
            errors = [line for _, line in news[-3:]]
        verdict, _, problem = self.verdict.partition(": ")
        reason = None
        if self.verdict or self.reason:
            parts = {name: " ".join(self.reason.get(name, ())) for name in SECTIONS}
            reason = KernelReason(
                verdict,
                problem,
                parts["Reason:"],
                next(iter(self.reason.get("At:", ())), ""),
                tuple(self.reason.get("Causal path:", ())),
                parts["Suggestion:"],
            )
        head_cut = (
            self.skipped
            or self.gap_at_head
            or (bool(insns) and insns[0].origin == -1 and self.first_index != 0)
        )
        if self.validating and not self.gap and not self.skipped:
            head_cut = False
        return VerifierLog(
            insns,
            tuple(dict.fromkeys(errors)),
            tuple(notes),
            self.calls,
            self.places,
            loader,
            reason,
            self.processed,
            self.validating,
            self.source,
            head_cut,
            bool(insns) and self.processed is None and not ends and not self.closed,
            self.gap,
            self.gap_at_end,
            lines,
        )


def _count_frames(insns: list[Insn]) -> None:
    """Give each instruction its depth: what the log prints, or else what calls and returns make of it."""
    by_order: dict[int, Insn] = {}
    for insn in insns:
        by_order[insn.order] = insn
        before = by_order.get(insn.origin)
        if before is None:
            insn.frame = insn.before().frame
            continue
        frame = before.frame
        called = before.opcode == 0x85
        if called and (before.text.startswith("call pc") or insn.index != before.index + 1):
            frame += 1
        elif before.opcode == 0x95:
            frame = max(frame - 1, 0)
        insn.frame = frame
