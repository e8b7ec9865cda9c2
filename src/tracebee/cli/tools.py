"""The tools that ship: scripts of tracebee.scripts, run by their names with options of their own.

All that is known of a tool stands in the comment at the head of its script, which is also its help:

* the first line says what it does,
* ``USAGE:`` names the words that it takes behind its options, which become named parameters,
* under ``OPTIONS`` each line is one option; what the script asks for with getopt() is given to it as a named
  parameter, what reads ``($1, else WORD)`` as a positional one, and all others are tracebee's own,
* under ``HOOKS`` each line is a place in the kernel or a program that the tool cannot do without, or several
  with ``or`` between.
"""

from __future__ import annotations

import os
import re
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING

from tracebee.cli.names import ALIASES, FOLDER, SUFFIX, is_tool
from tracebee.errors import NotSupportedError, UsageError
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.language.compile import Compilation

OWN_OPTIONS = "-c COMMAND, -f json, -o FILE, -B MODE, -q, -k, -v, --no-warnings, --dry-run, --backend WHERE"
"""What tracebee itself does for every tool, for the help."""

_OPTION = re.compile(
    r"  (?:-(?P<letter>\w), |    )--(?P<name>[\w-]+)(?: (?P<value>[A-Z]+))?(?:  +(?P<text>.*))?"
)
_POSITION = re.compile(r"\(\$(\d)(?:, else (\S+))?\)")
_SKIPPED = "; skipping this one"


class Option(Frozen):
    """An option of a tool: `letter` may be empty; `value` names what it takes, and is empty where it is a flag.

    `position` is the number of the positional parameter that it becomes, or 0; `default` is that parameter's
    value without the option.
    """

    letter: str
    name: str
    value: str
    position: int = 0
    default: str = ""


class Tool(Frozen):
    """A script that ships, by what its head says.

    `hooks` has a tuple of alternatives for each place that it needs; `words` are the names of its arguments.
    """

    name: str
    path: str
    summary: str
    usage: str
    help: str
    options: tuple[Option, ...]
    words: tuple[str, ...]
    hooks: tuple[tuple[str, ...], ...]
    asked: frozenset[str]


def tool_names() -> list[str]:
    """The names of all tools, those that stand for others too."""
    names = [entry.removesuffix(SUFFIX) for entry in os.listdir(FOLDER) if entry.endswith(SUFFIX)]
    return sorted([*names, *ALIASES])


def read_tool(name: str) -> Tool:
    """A tool by its name, or by one that stands for it."""
    script = ALIASES[name][0] if name in ALIASES else name
    path = os.path.join(FOLDER, script + SUFFIX)
    with open(path, encoding="utf-8") as file:
        return parse_tool(script, path, file.read())


def parse_tool(name: str, path: str, text: str) -> Tool:
    """What the head of a script says."""
    lines = []
    for line in text.splitlines():
        if line.startswith("#!"):
            continue
        if not line.startswith("//"):
            break
        lines.append(line[2:].removeprefix(" ").rstrip())
    summary = lines[0].partition(": ")[2] if lines else ""
    section = usage = ""
    options, hooks = [], []
    for line in lines:
        if line.startswith("USAGE:"):
            usage = line.partition(":")[2].strip()
        elif line and not line.startswith(" "):
            section = line
        elif section == "OPTIONS" and (found := _OPTION.fullmatch(line)):
            options.append(_option(found))
        elif section == "HOOKS" and line:
            hooks.append(tuple(re.split(r"  +", line.strip())[0].split(" or ")))
    words = tuple(re.findall(r"[a-z]+", usage.partition("[options]")[2]))
    shown = "\n".join(
        _POSITION.sub(lambda found: f"(default: {found[2]})" if found[2] else "", line) for line in lines
    )
    for option in options:
        if option.position:
            shown = shown.replace(f"${option.position}", option.value)
    asked = frozenset(re.findall(r'getopt\("([\w-]+)"', _without_comments(text)))
    return Tool(
        name, path, summary, usage, shown, tuple(options), words, tuple(hooks), asked | _asked_by_parts(text)
    )


def _option(found: re.Match[str]) -> Option:
    position = _POSITION.search(found["text"] or "")
    return Option(
        found["letter"] or "",
        found["name"],
        found["value"] or "",
        int(position[1]) if position else 0,
        (position[2] or "") if position else "",
    )


def _without_comments(text: str) -> str:
    return re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)


def _asked_by_parts(text: str) -> frozenset[str]:
    """The parameters that the imported parts ask for."""
    names: set[str] = set()
    for part in re.findall(r'^import "(parts/[\w.]+)";', text, re.MULTILINE):
        with open(os.path.join(FOLDER, part), encoding="utf-8") as file:
            names.update(re.findall(r'getopt\("([\w-]+)"', _without_comments(file.read())))
    return frozenset(names)


def run(words: Sequence[str]) -> int:
    """``tracebee tools``: list the tools, or print one's script; the exit status."""
    if words and words[0] in ("-h", "--help"):
        print("USAGE: tracebee tools          list the tools that ship")
        print("       tracebee tools NAME     print the script of one")
        return 0
    if words:
        tool = _known_tool(words[0])
        with open(tool.path, encoding="utf-8") as file:
            print(file.read(), end="")
        return 0
    for name in tool_names():
        print(f"{name:<14} {read_tool(name).summary}{_standing_for(name)}")
    return 0


def _standing_for(name: str) -> str:
    return f" ({ALIASES[name][0]} {' '.join(ALIASES[name][1])})" if name in ALIASES else ""


def _known_tool(name: str) -> Tool:
    if not is_tool(name):
        from tracebee.language.diagnostics import nearest

        raise UsageError(
            f"there is no tool called {name!r}", nearest(name, tool_names()) or "tracebee tools lists them"
        )
    return read_tool(name)


def run_tool(name: str, words: Sequence[str], before: Sequence[str] = ()) -> int:
    """Run a tool with the words behind its name; `before` are options of tracebee in front of it.

    The exit status.  Raises UsageError, NotSupportedError, and what running a script raises.
    """
    tool = read_tool(name)
    preset = ALIASES[name][1] if name in ALIASES else ()
    own, parameters = arguments_of(tool, [*preset, *words])
    if own is None:
        print(f"{tool.help.rstrip()}\n\nOptions of tracebee itself: {OWN_OPTIONS}")
        return 0
    from tracebee.cli.trace import run as trace

    return trace(
        [*before, *own, tool.path, *parameters], lambda compilation: check_hooks(tool, name, compilation)
    )


def arguments_of(tool: Tool, words: Sequence[str]) -> tuple[list[str] | None, list[str]]:
    """The options for tracebee, and what stands behind the script; no options at all where help is wanted.

    Raises UsageError.
    """
    from tracebee.cli.trace import LONG, SHORT

    letters = {option.letter: option for option in tool.options if option.letter}
    by_name = {option.name: option for option in tool.options}
    short = "".join(part for part in re.findall(r"\w:?", SHORT) if part[0] not in letters)
    short += "".join(f"{letter}:" if option.value else letter for letter, option in letters.items())
    long = [entry for entry in LONG if entry.rstrip("=") not in by_name]
    long += [f"{option.name}=" if option.value else option.name for option in tool.options]
    behind: list[str] = []
    words = list(words)
    if "--" in words:
        at = words.index("--")
        words, behind = words[:at], words[at + 1 :]
    try:
        given, rest = gnu_getopt(words, short, long)
    except GetoptError as error:
        from tracebee.language.diagnostics import nearest

        hint = nearest(error.opt, [entry.rstrip("=") for entry in long]) if len(error.opt) > 1 else ""
        raise UsageError(
            f"{error.msg}\n\nUSAGE: tracebee {tool.usage}",
            hint or f"tracebee {tool.name} --help lists the options",
        ) from None
    own: list[str] = []
    named: list[str] = []
    positional = {option.position: option.default for option in tool.options if option.position}
    for flag, value in given:
        if flag in ("-h", "--help"):
            return None, []
        option = by_name.get(flag[2:]) if flag.startswith("--") else letters.get(flag[1:])
        if option is not None and option.position:
            positional[option.position] = value
        elif option is not None and option.name in tool.asked:
            named.append(f"--{option.name}={value}" if option.value else f"--{option.name}")
        elif flag.startswith("--") and value:
            own.append(f"{flag}={value}")
        else:
            own += [flag, value] if value else [flag]
    if len(rest) > len(tool.words):
        raise UsageError(f"too many arguments: {rest[len(tool.words)]}\n\nUSAGE: tracebee {tool.usage}")
    named += [f"--{word}={value}" for word, value in zip(tool.words, rest, strict=False)]
    return own, [*(positional[number] for number in sorted(positional)), "--", *named, *behind]


def check_hooks(tool: Tool, name: str, compilation: Compilation) -> None:
    """Refuse to run where a place that the tool needs does not exist; `name` is what the user calls it.

    Raises NotSupportedError.
    """
    from fnmatch import fnmatchcase

    positional = compilation.options.parameters.positional
    there = [point.name for unit in compilation.units for point in unit.points]
    for needed in tool.hooks:
        hooks = [re.sub(r"\$(\d)", lambda found: positional[int(found[1]) - 1], hook) for hook in needed]
        if any(fnmatchcase(place, hook) for hook in hooks for place in there):
            continue
        refused = [found for found in compilation.warnings if found.message.endswith(_SKIPPED)]
        if refused:
            reason, hint = refused[0].message.removesuffix(_SKIPPED), refused[0].hint
        else:
            reason, hint = f"there is no {' and no '.join(hooks)}", ""
        raise NotSupportedError(f"{name} cannot run here: {reason}", hint=hint)
