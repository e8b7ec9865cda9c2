"""What is said about a refusal: the value, and how it reads.

One kind of value serves the verifier's refusals and failed attaches, a person, `tracebee explain -j` and the
API.  The order of its text is the order in which a person needs it: what is wrong, where, how it came to be,
what to change, where to read on, and what the judgement rests on.
"""

from __future__ import annotations

from typing import Any

from tracebee.records import Frozen

MAIN_PART = 1200
"""Characters of the text that a person is sure to read; all that matters is in there."""

MAX_STEPS = 8
MAX_QUOTE = 160


class SourceLine(Frozen):
    """A line of source: `line` counts from 1 and is 0 where only the text is known."""

    file: str = ""
    line: int = 0
    text: str = ""

    def place(self) -> str:
        """``file:line``, or what is known of it; empty where nothing is."""
        if self.line:
            return f"{self.file}:{self.line}" if self.file else f"line {self.line}"
        return self.file

    def __str__(self) -> str:
        text = shorten(self.text.strip())
        return ": ".join(part for part in (self.place(), text) if part)


class Step(Frozen):
    """A step of a register's story, in the order of the program.

    `insn` is the slot of the instruction or None, `text` what happened there, `source` the line it came from.
    """

    text: str
    insn: int | None = None
    source: SourceLine | None = None

    def __str__(self) -> str:
        head = f"{self.insn}: " if self.insn is not None else ""
        place = self.source.place() if self.source is not None else ""
        return f"{head}{self.text}" + (f" ({place})" if place else "")


class Edit(Frozen):
    """A change of the source: the `old` lines become the `new` ones.

    `line` is the number of the first old line, or of the line to insert before where `old` is empty; 0 is unknown.
    """

    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return "\n".join([*(f"- {line}" for line in self.old), *(f"+ {line}" for line in self.new)])


class Explanation(Frozen):
    """Why something was refused, or never fires.

    =========== ===============================================================================================
    cause       a stable id of `explain.causes`, or of the attach causes; empty if it is not known
    sure        False where the evidence allows another cause; `cause` is then the likeliest
    sentence    the cause in plain words, naming the register, variable, helper, map or symbol
    advice      what to change or to do, in plain words
    insn        the slot of the instruction where the verifier stopped
    stop        the source line of that instruction
    fix         the source lines to change, best first
    story       how it came to be
    edit        the advice as a change of the source, where that is possible
    reference   where to read on
    kernel_says the kernel's own words, in short
    evidence    what the judgement rests on
    others      causes that are also possible, best first
    also        further advice: the nearest hooks that work, or a second way out
    =========== ===============================================================================================
    """

    cause: str
    sure: bool
    sentence: str
    advice: str = ""
    insn: int | None = None
    stop: SourceLine | None = None
    fix: tuple[SourceLine, ...] = ()
    story: tuple[Step, ...] = ()
    edit: Edit | None = None
    reference: str = ""
    kernel_says: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def line(self) -> int | None:
        """The one line to look at: where it stopped, or else where to mend it."""
        if self.stop is not None and self.stop.line:
            return self.stop.line
        return next((place.line for place in self.fix if place.line), None)

    def main_text(self) -> str:
        """What is wrong, where, what to change: at most `MAIN_PART` characters."""
        parts = [self.sentence if self.sure or not self.cause else f"Probably: {self.sentence}"]
        if self.stop is not None and str(self.stop):
            parts.append(
                f"at: {self.stop}" + (f" [instruction {self.insn}]" if self.insn is not None else "")
            )
        elif self.insn is not None:
            parts.append(f"at: instruction {self.insn}")
        if self.advice:
            parts.append(f"change: {self.advice}")
        if self.edit is not None:
            parts.append(_indented(str(self.edit)))
        elif self.fix:
            new = [place for place in self.fix if self.stop is None or place.line != self.stop.line]
            parts += [f"where: {place}" for place in new[:2]]
        return visible(shorten("\n".join(parts), MAIN_PART))

    def text(self) -> str:
        """All of it, for a person: the main part, the story, the kernel's words, the reference."""
        parts = [self.main_text()]
        parts += [f"also: {line}" for line in self.also]
        if self.story:
            parts.append("how it came to be:")
            parts += [f"  {step}" for step in self.story[-MAX_STEPS:]]
        if self.kernel_says:
            parts.append("the kernel says:")
            parts += [f"  {shorten(line)}" for line in self.kernel_says]
        if self.evidence:
            parts.append("because: " + "; ".join(self.evidence))
        if self.others:
            parts.append("also possible: " + ", ".join(self.others))
        if self.reference:
            parts.append(f"see: {self.reference}")
        if self.cause:
            parts.append(f"id: {self.cause}" + ("" if self.sure else " (not sure)"))
        return visible("\n".join(parts))

    def to_json(self) -> dict[str, Any]:
        """Plain values under stable names; what is not known is absent."""
        row: dict[str, Any] = {"cause": self.cause, "sure": self.sure, "sentence": self.sentence}
        if self.advice:
            row["advice"] = self.advice
        if self.insn is not None:
            row["insn"] = self.insn
        if self.stop is not None:
            row["stop"] = _line_json(self.stop)
        if self.fix:
            row["fix"] = [_line_json(place) for place in self.fix]
        if self.story:
            row["story"] = [_step_json(step) for step in self.story]
        if self.edit is not None:
            edit = self.edit
            row["edit"] = {"old": list(edit.old), "new": list(edit.new), "file": edit.file, "line": edit.line}
        for name in ("kernel_says", "evidence", "others", "also"):
            if getattr(self, name):
                row[name] = list(getattr(self, name))
        if self.reference:
            row["reference"] = self.reference
        return row


def shorten(text: str, length: int = MAX_QUOTE) -> str:
    """The text, cut to a length with a mark where it was cut."""
    return text if len(text) <= length else text[: length - 3].rstrip() + "..."


def visible(text: str) -> str:
    """The text with signs written out that a terminal would take for orders: a log may come from anywhere."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _line_json(place: SourceLine) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if place.file:
        row["file"] = place.file
    if place.line:
        row["line"] = place.line
    if place.text:
        row["text"] = place.text
    return row


def _step_json(step: Step) -> dict[str, Any]:
    row: dict[str, Any] = {"text": step.text}
    if step.insn is not None:
        row["insn"] = step.insn
    if step.source is not None:
        row["source"] = _line_json(step.source)
    return row
