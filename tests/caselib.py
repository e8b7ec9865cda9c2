"""Language cases as data: what tests/cases/*.toml may say, how one case is run, what counts as passing.

A case is a script, how it is started, and what must come out.  It does not say which backend runs it:
a runner names the words of `needs` that its backend has, and gives the command that stands in for
``tracebee``.  tests/cases/README.md is the format for a reader; `FIELDS` is the same for the loader.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent / "cases"
TARGETS = CASES / "targets"

NEEDS = {
    "btf": "the running kernel's own types",
    "cgroup": "a mounted cgroup file system",
    "everywhere": "events of processes that the case did not start",
    "fentry": "fentry and fexit probes",
    "iter": "iter probes",
    "kernel": "reads the running kernel's memory",
    "kprobe": "kprobe and kretprobe probes",
    "large-keys": "keys of maps that are larger than 512 bytes; without them str() gives 200",
    "long-loops": "loops of more rounds than the verifier walks through",
    "path-iter": "path() in an iterator",
    "perf": "software and hardware perf events",
    "process": "facts of a real process: its credentials, command line, maps, file descriptors",
    "rawtracepoint": "rawtracepoint probes",
    "signal": "sends signals to a process that the case started",
    "stack": "kernel stacks, and the kernel's symbols",
    "system": "starts commands, or reads files, on behalf of the script",
    "timer": "interval and profile probes",
    "tracepoint": "tracepoint probes",
    "uprobe-callers": "a user stack at a function's first instruction that has the function's caller",
    "uprobe": "uprobe and uretprobe probes",
    "usdt": "usdt probes",
    "watchpoint": "watchpoint probes",
    "x86_64": "names registers or relies on the layout of x86-64",
}
"""What a backend may lack.  A compiled target needs gcc too, which `Case.target` says by itself."""

FIELDS: dict[str, type] = {
    "name": str,
    "script": str,
    "stdin": str,
    "files": dict,
    "args": list,
    "params": list,
    "command": str,
    "beside": str,
    "target": str,
    "env": dict,
    "send": dict,
    "timeout": int,
    "exit": int,
    "stdout": str,
    "stdout_exact": str,
    "stdout_any_order": str,
    "stdout_has": list,
    "stdout_lacks": list,
    "stderr": list,
    "needs": list,
    "differs": str,
    "note": str,
}
FILE_FIELDS: dict[str, type] = {"about": str, "needs": list, "case": list}
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
PLACEHOLDERS = {"dir", "target", "pid"}
NOTICE = re.compile(r"Attached \d+ probes?")
"""What every run says on stderr.  A case that does not mention stderr allows nothing else there."""


class CaseError(Exception):
    """A case file that is not as the format says; the message starts with the file's and case's name."""


class NoTarget(Exception):
    """The program that a case is about cannot be compiled here."""


@dataclass(frozen=True)
class Case:
    """One case.  The fields are the keys of the file; an `id` such as ``maps:delete`` names it."""

    area: str
    name: str
    script: str = ""
    stdin: str = ""
    files: dict[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    command: str = ""
    beside: str = ""
    target: str = ""
    env: dict[str, str] = field(default_factory=dict)
    send: dict[str, str] = field(default_factory=dict)
    timeout: int = 20
    exit: int = 0
    stdout: str | None = None
    stdout_exact: str | None = None
    stdout_any_order: str | None = None
    stdout_has: tuple[str, ...] = ()
    stdout_lacks: tuple[str, ...] = ()
    stderr: tuple[str, ...] | None = None
    needs: frozenset[str] = frozenset()
    differs: str = ""
    note: str = ""

    @property
    def id(self) -> str:
        return f"{self.area}:{self.name}"


@dataclass(frozen=True)
class Outcome:
    """What a run gave.  `status` is the exit code, negative for a signal, None where time ran out."""

    stdout: str
    stderr: str
    status: int | None


Start = Callable[[list[str], dict[str, str], Path], "subprocess.Popen[bytes]"]
"""Starts tracebee with arguments, an environment and a directory; whatever is used of a Popen will do."""


KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "USER")


def check_here(case: Case, tool: Start, targets: Path, folder: Path) -> None:
    """Run a case in a process of its own on this machine; AssertionError if it does not pass.

    `targets` is where compiled targets are kept, `folder` an empty one for the case.  Raises NoTarget.
    """
    target = None
    if case.target:
        try:
            target = build_target(case.target, targets)
        except FileNotFoundError as error:
            raise NoTarget(str(error)) from error
    # BPFTRACE_ and TRACEBEE_ variables of whoever runs the tests would change what scripts do.
    env = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    outcome = run_case(case, tool, folder, env, target)
    problems = failures(case, outcome)
    assert not problems, report(case, outcome, problems)


# --------------------------------------------------------------------- loading


def load_cases(folder: Path = CASES) -> list[Case]:
    """Every case of a folder, in the order of file names and of the files.  Raises CaseError."""
    cases: list[Case] = []
    for path in sorted(folder.glob("*.toml")):
        cases += parse_cases(path.stem, path.read_text())
    return cases


def parse_cases(area: str, text: str) -> list[Case]:
    """The cases of one file's text.  Raises CaseError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CaseError(f"{area}: {error}") from None
    check_keys(area, table, FILE_FIELDS)
    if not table.get("about") or not table.get("case"):
        raise CaseError(f"{area}: a file says what it is about, and has cases")
    shared = string_list(area, "needs", table.get("needs", []))
    cases = [parse_case(area, raw, shared) for raw in table["case"]]
    names: set[str] = set()
    for case in cases:
        if case.name in names:
            raise CaseError(f"{case.id}: there are two cases of this name")
        names.add(case.name)
    return cases


def parse_case(area: str, raw: dict[str, Any], shared_needs: tuple[str, ...] = ()) -> Case:
    """One [[case]] table.  Raises CaseError for anything that the format does not know."""
    where = f"{area}:{raw.get('name', '?')}"
    check_keys(where, raw, FIELDS)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", raw.get("name", "")):
        raise CaseError(f"{where}: a name is lower-case words with dashes")
    given: dict[str, Any] = dict(raw)
    for key, kind in FIELDS.items():
        if kind is list and key in given:
            given[key] = string_list(where, key, given[key])
        if kind is dict and key in given and not all(isinstance(v, str) for v in given[key].values()):
            raise CaseError(f"{where}: the values of {key} are strings")
    given["needs"] = frozenset((*shared_needs, *given.get("needs", ())))
    case = Case(area=area, **given)
    check_case(case)
    return case


def check_keys(where: str, table: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in table.items():
        if key not in known:
            raise CaseError(f"{where}: unknown key {key!r}")
        # A TOML boolean is an int to Python; no field is a boolean.
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise CaseError(f"{where}: {key} must be a {known[key].__name__}")


def string_list(where: str, key: str, value: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(item, str) for item in value):
        raise CaseError(f"{where}: {key} is a list of strings")
    return tuple(value)


def check_case(case: Case) -> None:
    """What the keys may not say together."""
    unknown = case.needs - NEEDS.keys()
    if unknown:
        raise CaseError(f"{case.id}: unknown need {sorted(unknown)[0]!r}")
    if not case.script and not case.args:
        raise CaseError(f"{case.id}: neither a script nor arguments")
    if not expects_something(case):
        raise CaseError(f"{case.id}: expects nothing, so nothing could fail it")
    if case.send and case.send.keys() != {"after", "signal"}:
        raise CaseError(f"{case.id}: send has the keys after and signal")
    if case.send and not hasattr(signal, case.send["signal"]):
        raise CaseError(f"{case.id}: unknown signal {case.send['signal']!r}")
    if case.target and not (TARGETS / f"{case.target}.c").exists():
        raise CaseError(f"{case.id}: there is no tests/cases/targets/{case.target}.c")
    used = set(PLACEHOLDER.findall(" ".join(texts_of(case))))
    if used - PLACEHOLDERS:
        raise CaseError(f"{case.id}: unknown placeholder {sorted(used - PLACEHOLDERS)[0]!r}")
    if ("target" in used) != bool(case.target) or ("pid" in used and not case.beside):
        raise CaseError(f"{case.id}: target and {{{{target}}}}, beside and {{{{pid}}}} go together")
    for pattern in (*case.stdout_has, *case.stdout_lacks):
        try:
            re.compile(pattern)
        except re.error as error:
            raise CaseError(f"{case.id}: {pattern!r} is no regular expression: {error}") from None


def expects_something(case: Case) -> bool:
    texts = (case.stdout, case.stdout_exact, case.stdout_any_order)
    return any(text is not None for text in texts) or bool(case.stdout_has or case.stderr or case.exit)


def texts_of(case: Case) -> list[str]:
    """The texts in which placeholders stand for something."""
    return [
        case.script,
        case.stdin,
        case.command,
        case.beside,
        *case.args,
        *case.params,
        *case.files.values(),
    ]


# --------------------------------------------------------------------- running


def build_target(name: str, folder: Path) -> Path:
    """Compile tests/cases/targets/NAME.c into `folder`, once.  Raises FileNotFoundError without a gcc."""
    program = folder / name
    if not program.exists():
        compiler = shutil.which("gcc")
        if compiler is None:
            raise FileNotFoundError("there is no gcc to build the target with")
        source = str(TARGETS / f"{name}.c")
        # Not optimised, with frame pointers and debug information: the functions are there to be found.
        flags = ["-O0", "-g", "-fno-omit-frame-pointer"]
        subprocess.run([compiler, *flags, "-o", str(program), source], check=True, timeout=60)
    return program


def command(*tool: str) -> Start:
    """Starts cases as a command of its own each: `tool` and the case's arguments."""

    def start(arguments: list[str], env: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*tool, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=folder,
        )

    return start


def run_case(
    case: Case, start: Start, folder: Path, env: dict[str, str], target: Path | None = None
) -> Outcome:
    """Run a case as `start` starts it, in the empty directory `folder`.

    A process that the case wants beside is started first and ended at the end.  Raises OSError where a
    command cannot be started.
    """
    words = {"dir": str(folder), "target": str(target or "")}

    def fill(text: str) -> str:
        return PLACEHOLDER.sub(lambda found: words[found[1]], text)

    beside: subprocess.Popen[bytes] | None = None
    if case.beside:
        beside = subprocess.Popen(shlex.split(fill(case.beside)), stdout=subprocess.DEVNULL)
        words["pid"] = str(beside.pid)
    try:
        for name, text in case.files.items():
            (folder / name).write_text(fill(text))
        argv = list(map(fill, case.args))
        if case.command:
            argv += ["-c", fill(case.command)]
        if case.script:
            argv += ["-e", fill(case.script)]
        argv += map(fill, case.params)
        with start(argv, env | case.env, folder) as process:
            return collect(process, case, fill(case.stdin), beside)
    finally:
        if beside is not None:
            beside.kill()
            beside.wait()


def collect(
    process: subprocess.Popen[bytes], case: Case, stdin: str, beside: subprocess.Popen[bytes] | None = None
) -> Outcome:
    """Read both streams to their ends, and send the case's signal once its word has come up."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(stdin.encode())
    process.stdin.close()
    deadline = time.monotonic() + case.timeout
    taken = {"stdout": b"", "stderr": b""}
    to_send = dict(case.send)
    late = False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "stdout")
        selector.register(process.stderr, selectors.EVENT_READ, "stderr")
        while selector.get_map() and not late:
            if beside is not None:
                beside.poll()  # reaps it: for -p, a zombie has not ended
            for key, _ in selector.select(min(max(deadline - time.monotonic(), 0), 0.1)):
                chunk = os.read(key.fd, 65536)
                taken[key.data] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
            if to_send and to_send["after"].encode() in taken["stdout"] + taken["stderr"]:
                process.send_signal(getattr(signal, to_send["signal"]))
                to_send = {}
            late = time.monotonic() >= deadline
    if late:
        process.kill()
    status = process.wait()
    stdout, stderr = (text.decode(errors="surrogateescape") for text in taken.values())
    return Outcome(stdout, stderr, None if late else status)


# --------------------------------------------------------------------- judging


def failures(case: Case, outcome: Outcome) -> list[str]:
    """What is not as the case wants it, a sentence each; empty for a pass."""
    found: list[str] = []
    lines = outcome.stdout.splitlines()
    if outcome.status is None:
        found.append(f"did not end within {case.timeout} s")
    elif outcome.status != case.exit:
        found.append(f"exit status {outcome.status}, not {case.exit}")
    if case.stdout_exact is not None and outcome.stdout != case.stdout_exact:
        found.append(f"stdout is not exactly {case.stdout_exact!r}")
    if case.stdout is not None and outcome.stdout.strip("\n") != case.stdout.strip("\n"):
        found.append(f"stdout is not {case.stdout!r}")
    if case.stdout_any_order is not None:
        wanted = sorted(case.stdout_any_order.strip("\n").splitlines())
        if sorted(outcome.stdout.strip("\n").splitlines()) != wanted:
            found.append(f"stdout does not have the lines {wanted!r}")
    rest = iter(lines)
    for pattern in case.stdout_has:
        # The iterator is shared: the lines come in the order of the patterns.
        if not any(re.fullmatch(pattern, line) for line in rest):
            found.append(f"no line (after those before) matches {pattern!r}")
            break
    for pattern in case.stdout_lacks:
        found += [f"{line!r} matches {pattern!r}" for line in lines if re.fullmatch(pattern, line)]
    if case.stderr is None:
        extra = [line for line in outcome.stderr.splitlines() if line and not NOTICE.fullmatch(line)]
        if extra:
            found.append(f"stderr says {extra[0]!r}")
    else:
        found += [f"stderr lacks {part!r}" for part in case.stderr if part not in outcome.stderr]
    return found


def report(case: Case, outcome: Outcome, problems: list[str]) -> str:
    """A failed case for a reader: what was wrong, the script, what came out."""
    parts = [f"{case.id}: " + "; ".join(problems), "--- script", case.script]
    parts += ["--- stdout", outcome.stdout[:4000], "--- stderr", outcome.stderr[:4000]]
    return "\n".join(parts)
