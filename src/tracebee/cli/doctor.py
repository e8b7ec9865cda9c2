"""``tracebee doctor``: one page on what this machine and this process can trace."""

from __future__ import annotations

import json
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING, Any

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from tracebee.session.doctor import Report

USAGE = """\
  tracebee doctor
  tracebee doctor -j | jq .unlock

tracebee doctor: say what this machine and this process can trace.  The kernel is asked, by programs and maps that
are let go at once; nothing is attached and nothing is changed.  Works for everybody: what may not be asked is
"unknown", with the right that is missing.

USAGE:
    tracebee doctor [options]

OPTIONS:
    -v               name every helper, not only how many there are
    -j               JSON, with all answers
    -h, --help       print this help
"""

SHOWN_CONFIG = (
    *(
        "BPF_SYSCALL",
        "BPF_EVENTS",
        "KPROBES",
        "FPROBE",
        "UPROBES",
        "FTRACE_SYSCALLS",
        "DEBUG_INFO_BTF",
        "BPF_LSM",
    ),
)


def run(words: list[str]) -> int:
    """Run ``tracebee doctor``; the exit status."""
    try:
        options, rest = gnu_getopt(words, "jvh", ["json", "help"])
    except GetoptError as error:
        raise UsageError(f"doctor: {error.msg}", "tracebee doctor --help lists the options") from None
    names = {name for name, _ in options}
    if names & {"-h", "--help"}:
        print(USAGE, end="")
        return 0
    if rest:
        raise UsageError(f"doctor: {rest[0]}: nothing is expected here")
    from tracebee.session.doctor import examine
    from tracebee.session.machine import LiveMachine

    live = LiveMachine()
    try:
        report = examine(live)
    finally:
        live.close()
    if names & {"-j", "--json"}:
        print(json.dumps(to_json(report), indent=1))
    else:
        print(to_text(report, verbose="-v" in names))
    return 0


def to_json(report: Report) -> dict[str, Any]:
    """Plain values under stable names."""
    row = report._asdict()
    row["probes"] = {name: {"works": works.answer, "why": works.why} for name, works in report.probes.items()}
    row["unlock"] = [{"change": one.change, "gives": one.gives} for one in report.unlock]
    row["mounts"] = {kind: list(places) for kind, places in report.mounts.items()}
    row["lsm"] = None if report.lsm is None else list(report.lsm)
    return row


def to_text(report: Report, *, verbose: bool) -> str:
    """The page for a person."""
    kernel = report.kernel
    rights = report.rights
    lines = [
        f"Linux {kernel['release']} on {kernel['arch']}, {kernel['cpus']} CPUs; Python {kernel['python']}",
        row(
            "config", " ".join(f"{name}={report.config.get(f'CONFIG_{name}', '?')}" for name in SHOWN_CONFIG)
        ),
        row("BTF", _btf(report)),
        row("lockdown", report.lockdown or _unread(report, "/sys/kernel/security/lockdown")),
        row("LSMs", ",".join(report.lsm) if report.lsm else _unread(report, "/sys/kernel/security/lsm")),
        row("user", _user(rights)),
        row(
            "mounts",
            ", ".join(f"{kind}: {places[0] if places else '-'}" for kind, places in report.mounts.items()),
        ),
        row("sysctls", ", ".join(f"{name}={_or_dash(value)}" for name, value in report.sysctls.items())),
        row(
            "limits", ", ".join(f"{name}={'unlimited' if n < 0 else n}" for name, n in report.limits.items())
        ),
        "",
        "Probes",
    ]
    for name, works in report.probes.items():
        lines.append(f"  {name:14} {works.answer}" + (f": {works.why}" if works.why else ""))
    lines += ["", "Kernel features"]
    lines += _answers(report.features)
    lines += ["", "Program types"]
    lines += _answers(report.program_types)
    lines += ["", "Map types"]
    lines += _answers(report.map_types)
    if report.helpers:
        lines += ["", "Helpers"]
    for name, answers in report.helpers.items():
        have = [helper for helper, answer in answers.items() if answer == "yes"]
        lines.append(f"  {name.lower():14} {len(have)} of {len(answers)}")
        if verbose:
            lines += wrapped(have, "    ")
    lines += ["", f"Backend of 'auto': {report.backend['auto']}"]
    if report.backend["reason"]:
        lines.append(f"  {report.backend['reason']}")
    lines += [
        "",
        "What one change would unlock" if report.unlock else "Nothing more would be unlocked by one change",
    ]
    lines += [f"  {one.change}\n      gives {one.gives}" for one in report.unlock]
    return "\n".join(lines)


def row(label: str, text: str) -> str:
    return f"  {label:10} {text}"


def _btf(report: Report) -> str:
    if not report.btf["vmlinux"]:
        return "none of the kernel (CONFIG_DEBUG_INFO_BTF)"
    return f"{report.btf['types']} types of the kernel, {report.btf['modules']} modules"


def _user(rights: dict[str, Any]) -> str:
    names = rights["capabilities"]
    shown = [
        name
        for name in names
        if name in ("CAP_SYS_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_SYSLOG")
    ]
    text = f"uid {rights['uid']}, {len(names)} capabilities" + (f" ({', '.join(shown)})" if shown else "")
    if rights["user_namespace"]:
        text += ", in a user namespace, where they do not count"
    if rights["seccomp"]:
        text += ", under seccomp"
    return text


def _unread(report: Report, path: str) -> str:
    why = report.unreadable.get(path)
    return f"not known: {path}: {why}" if why else "not known"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _answers(answers: dict[str, str]) -> list[str]:
    """Names by answer, those that work first, a line (or more) for each answer."""
    groups: dict[str, list[str]] = {}
    for name, answer in answers.items():
        groups.setdefault(answer, []).append(name.lower())
    lines: list[str] = []
    for answer in sorted(groups, key=lambda one: one != "yes"):
        names = [name for name in groups[answer] if name]
        shown = {"yes": "yes:", "no": "no:"}.get(answer, f"{answer}:" if names else answer)
        lines += wrapped([shown, *names], "  ")
    return lines


def wrapped(words: list[str], indent: str, width: int = 110) -> list[str]:
    """Words in lines of at most `width` characters."""
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > width - len(indent):
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [f"{indent}{line}" for line in lines]
