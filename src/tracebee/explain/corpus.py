"""Reads the cases of a corpus of refusals, and answers them: how good the rules are is a number.

A case is a JSON object with ``id`` and ``input``; the answer is one line of JSON with ``cause``, ``insn``, ``line``,
``text`` and ``sure``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tracebee.explain.chooser import explain_text
from tracebee.explain.facts import Facts, Source

if TYPE_CHECKING:
    from tracebee.explain.explanation import Explanation


def facts_of(given: dict[str, Any]) -> Facts:
    """The facts in the ``input`` of a verifier case; what is absent or null is not known."""
    kernel = given.get("kernel") or {}
    program = given.get("program") or {}
    loader = given.get("loader") or {}
    source = given.get("source") or {}
    files = given.get("environment") or {}
    return Facts(
        errno=given.get("errno") or "",
        quiet_errno=given.get("errno_without_log") or "",
        release=kernel.get("release") or "",
        arch=kernel.get("arch") or "",
        section=program.get("section") or "",
        license=program.get("license") or "",
        privileges=program.get("privileges") or "",
        instructions=program.get("insns") or 0,
        cpu=(program.get("mcpu") or "").removeprefix("default"),
        log_size=given.get("log_size") or 0,
        loader=loader.get("text") or "",
        files={str(path): str(content) for path, content in files.items()} if isinstance(files, dict) else {},
        source=Source.of(source.get("file") or "", source["text"]) if source.get("text") else None,
    )


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """The answer to a verifier case."""
    given = case["input"]
    return answer_of(case["id"], explain_text(given.get("log") or "", facts_of(given)))


def answer_of(name: str, told: Explanation) -> dict[str, Any]:
    """An explanation as an answer."""
    row: dict[str, Any] = {"id": name, "sure": told.sure, "text": told.text()}
    if told.cause:
        row["cause"] = told.cause
    if told.insn is not None:
        row["insn"] = told.insn
    line = told.line()
    if line is not None:
        row["line"] = line
    return row


def answer_file(path: str) -> str:
    """The answer to the case in a file, as a line of JSON."""
    with open(path, encoding="utf-8") as file:
        case = json.load(file)
    return json.dumps(answer_attach(case) if "request" in case["input"] else answer(case))


def answer_attach(case: dict[str, Any]) -> dict[str, Any]:
    """The answer to an attach case, from what was recorded of that machine."""
    from tracebee.explain.attach.diagnose import diagnose
    from tracebee.explain.attach.recorded import read_attempt

    return answer_of(case["id"], diagnose(read_attempt(case["input"])))
