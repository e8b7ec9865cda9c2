"""Attempts that were written down: a JSON object with the request, the calls, the texts and the machine.

Nothing in such a record is trusted: what has the wrong shape counts as not recorded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tracebee.explain.attach.attempt import Call, MapRequest, errno_name, first_text, make_attempt
from tracebee.explain.attach.machine import MOUNTS, UNLIMITED, Machine, parse_symbol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.explain.attach.attempt import Attempt

LIMITS = {"Max open files": "nofile", "Max locked memory": "memlock"}
"""The names of /proc/PID/limits, and ours."""


def read_attempt(record: Mapping[str, Any]) -> Attempt:
    """The attempt of a record; every part of it may be missing."""
    request = _object(record.get("request"))
    machine = read_machine(_object(record.get("environment")))
    calls = tuple(
        Call(str(step.get("call", "")), _errno(step))
        for step in _list(record.get("steps"))
        if isinstance(step, dict)
    )
    attach_type = request.get("expected_attach_type")
    return make_attempt(
        str(request.get("operation", "")),
        _texts(request.get("target")),
        machine,
        calls=calls,
        map=_map(_object(request.get("map"))),
        program_type=first_text(request, "program_type"),
        attach_type="" if attach_type is None else str(attach_type),
        helper=first_text(request, "helper"),
        kernel_version=first_text(request, "kern_version"),
        context_offset=_number(request.get("program_reads_context_at")),
        dmesg=_texts(record.get("dmesg")),
        error_log=first_text(record, "tracefs_error_log"),
        verifier_log=first_text(record, "verifier_log"),
        loader_text="\n".join(_texts(record.get("loader_text"))),
    )


def read_machine(record: Mapping[str, Any]) -> Machine:
    """The described machine of a record."""
    status = _object(record.get("proc_self_status"))
    files: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for path, content in _object(record.get("files")).items():
        if not isinstance(content, str):
            continue
        failed = re.match(r"(?:cat|head): .*: (.+)$", content.strip())
        if failed:
            unreadable[path] = failed[1]
        else:
            files[path] = content
    for name, why in record.items():
        if name.endswith("_error") and isinstance(why, str):
            unreadable[name.removesuffix("_error")] = why
    if isinstance(files.get(MOUNTS), str):
        files[MOUNTS] = files[MOUNTS].strip()
    uid_map = _texts(record.get("uid_map"))
    capabilities = first_text(status, "CapEff").strip()
    seccomp = first_text(status, "Seccomp").strip()
    uids = first_text(status, "Uid").split()
    sources = record.get("event_sources")
    similar = record.get("similar_events")
    return Machine(
        release=first_text(record, "uname_release"),
        arch=first_text(record, "arch"),
        files=files,
        unreadable=unreadable,
        config={name: str(value) for name, value in _object(record.get("config")).items()},
        symbols=_symbols(record.get("kallsyms_matches")),
        traceable=_names(record.get("available_filter_functions_matches"), first=True),
        blacklist=_names(record.get("kprobe_blacklist_matches"), first=False),
        btf_functions=_btf(record.get("btf")),
        capabilities=int(capabilities, 16) if re.fullmatch(r"[0-9a-fA-F]{1,16}", capabilities) else None,
        uid=int(uids[1]) if len(uids) > 1 and uids[1].isdigit() else None,
        seccomp=int(seccomp) if seccomp.isdigit() else None,
        limits=_limits(_object(record.get("limits"))),
        is_namespaced=None if not uid_map else " ".join(uid_map).split() != ["0", "0", "4294967295"],
        event_sources=_texts(sources) if isinstance(sources, list) else None,
        event_format=first_text(record, "event_format"),
        similar_events=_texts(similar) if isinstance(similar, list) else None,
    )


def _errno(step: Mapping[str, Any]) -> str:
    name = step.get("errno")
    if isinstance(name, str) and name:
        return name
    number = step.get("errno_number")
    if isinstance(number, int) and number:
        return errno_name(abs(number))
    return "" if step.get("ok", True) else "unknown"


def _map(record: Mapping[str, Any]) -> MapRequest | None:
    if not record:
        return None
    return MapRequest(
        first_text(record, "type"),
        _number(record.get("type_number")),
        _number(record.get("key_size")),
        _number(record.get("value_size")),
        _number(record.get("max_entries")),
        _number(record.get("map_flags")),
    )


def _symbols(lines: object) -> tuple[Any, ...] | None:
    if not isinstance(lines, list):
        return None
    found = (parse_symbol(line) for line in lines if isinstance(line, str))
    return tuple(symbol for symbol in found if symbol is not None)


def _names(lines: object, *, first: bool) -> tuple[str, ...] | None:
    """The names in lines of ``name [module]`` (first word) or of ``range name`` (last word)."""
    if not isinstance(lines, list):
        return None
    words = [line.split() for line in lines if isinstance(line, str)]
    return tuple(row[0] if first else row[-1] for row in words if row)


def _btf(lines: object) -> dict[str, bool]:
    found = {}
    for line in _texts(lines):
        match = re.match(r"FUNC '([^']*)' (not )?found", line)
        if match:
            found[match[1]] = not match[2]
    return found


def _limits(record: Mapping[str, Any]) -> dict[str, int]:
    found = {}
    for name, ours in LIMITS.items():
        soft = _object(record.get(name)).get("soft")
        if soft == "unlimited":
            found[ours] = UNLIMITED
        elif (number := _number(soft)) is not None:
            found[ours] = number
    return found


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value) else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(one) for one in value if isinstance(one, (str, int))) if isinstance(value, list) else ()
