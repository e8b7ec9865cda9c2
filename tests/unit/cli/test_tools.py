"""The tools that ship: what their heads say, and how their options become parameters."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tracebee.cli import main as border
from tracebee.cli import tools
from tracebee.cli.main import tool_position
from tracebee.cli.names import ALIASES, is_tool
from tracebee.cli.trace import LONG, SHORT
from tracebee.errors import NotSupportedError, UsageError
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.parser import parse
from tracebee.language.source import Source

from ..language.fixtures import MACHINES, FakeMachine, typed

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "src" / "tracebee" / "scripts"
PATHS = sorted(SCRIPTS.glob("*.bt"))
EXPECTED = [
    "bashreadline",
    "biolatency",
    "capable",
    "dcsnoop",
    "execsnoop",
    "ext4dist",
    "fsdist",
    "killsnoop",
    "oomkill",
    "opensnoop",
    "readpath",
    "runqlat",
    "statsnoop",
    "swapin",
    "syscount",
    "tcpconnect",
    "tcplife",
    "threadsnoop",
    "vfsstat",
    "writeback",
    "xfsdist",
]

EXAMPLE = """\
#!/usr/bin/env tracebee
// example: what it is for
//
// USAGE: example [options] [interval [count]]
//
// OPTIONS
//   -p, --pid PID         only this process
//   -x, --failed          only failures
//   -d, --duration SECS   how long
//   -s, --shell FILE      where ($1, else /bin/sh)
//       --top N           so many
//
// HOOKS
//   kprobe:$1_read or tracepoint:sched:sched_switch   either will do
//   kprobe:vfs_write

// A remark: getopt("remark", 0) is not asked for.
begin {
  print((getopt("failed"), getopt("duration", 0), getopt("top", 0)));
  print((getopt("interval", 1), getopt("count", 0)));
}
"""


@pytest.fixture
def example() -> tools.Tool:
    return tools.parse_tool("example", "/scripts/example.bt", EXAMPLE)


# --- the scripts


def test_names() -> None:
    assert tools.tool_names() == EXPECTED


def test_scripts_are_in_the_package() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = data["tool"]["setuptools"]["package-data"]["tracebee"]
    assert {"scripts/*.bt", "scripts/parts/*.bt"} <= set(patterns)


@pytest.mark.parametrize("path", [*PATHS, *sorted(SCRIPTS.glob("parts/*.bt"))], ids=lambda path: path.stem)
def test_script_parses(path: Path) -> None:
    diagnostics = Diagnostics()
    parse(Source(str(path), path.read_text()), diagnostics)
    assert diagnostics.all == ()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_head(path: Path) -> None:
    """Each head says what its script does, and nothing that is not so."""
    text = path.read_text()
    tool = tools.read_tool(path.stem)
    assert text.startswith(f"#!/usr/bin/env tracebee\n// {path.stem}: {tool.summary}\n")
    assert tool.usage.startswith(f"{path.stem} [options]")
    for section in ("COLUMNS", "OPTIONS", "HOOKS", "KERNELS", "EXAMPLES"):
        assert f"\n// {section}\n" in text, section
    assert tool.hooks
    letters = [option.letter for option in tool.options if option.letter]
    assert len(set(letters)) == len(letters)
    assert "$" not in tool.help
    listed = re.search(r"\n// OPTIONS\n(.*?)\n//\n", text, re.DOTALL)
    assert listed is not None
    assert len(listed[1].splitlines()) == len(tool.options), "a line is no option"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_options_are_what_the_script_asks_for(path: Path) -> None:
    tool = tools.read_tool(path.stem)
    own = {entry.rstrip("=") for entry in LONG}
    takers = {entry.rstrip("=") for entry in LONG if entry.endswith("=")}
    for option in tool.options:
        if option.name not in tool.asked and not option.position:
            assert option.name in own, f"nothing takes --{option.name}"
            assert bool(option.value) == (option.name in takers)
            assert option.letter in SHORT
    offered = {option.name for option in tool.options} | set(tool.words)
    assert tool.asked - offered <= {"name"}, "asked for, but no option"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_hooks_are_attach_points_of_the_script(path: Path) -> None:
    text = re.sub(r"^//.*$", "", path.read_text(), flags=re.MULTILINE)
    for group in tools.read_tool(path.stem).hooks:
        for hook in group:
            kind, _, place = hook.partition(":")
            assert f"{kind}:{place.removeprefix('*:')}" in text or f":{hook.rpartition(':')[2]}" in text, hook


def test_no_script_has_its_maps_printed_twice() -> None:
    for path in PATHS:
        assert "print_maps_on_exit = false" in path.read_text(), path.stem


# --- the command line


def test_options_become_parameters(example: tools.Tool) -> None:
    words = ["-x", "--duration=5", "-p", "12", "--top", "3", "-f", "json", "7", "2"]
    own, parameters = tools.arguments_of(example, words)
    assert own == ["-p", "12", "-f", "json"]
    assert parameters == [
        "/bin/sh",
        "--",
        "--failed",
        "--duration=5",
        "--top=3",
        "--interval=7",
        "--count=2",
    ]


def test_an_option_can_be_a_positional_parameter(example: tools.Tool) -> None:
    assert tools.arguments_of(example, ["-s", "/bin/zsh"]) == ([], ["/bin/zsh", "--"])


def test_options_of_the_tool_go_before_those_of_tracebee(example: tools.Tool) -> None:
    """-d prints a stage of the compilation elsewhere."""
    assert tools.arguments_of(example, ["-d", "5"]) == ([], ["/bin/sh", "--", "--duration=5"])


def test_parameters_can_be_given_as_to_a_script(example: tools.Tool) -> None:
    assert tools.arguments_of(example, ["-q", "--", "--top=9"]) == (["-q"], ["/bin/sh", "--", "--top=9"])


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_asked_for(example: tools.Tool, word: str) -> None:
    assert tools.arguments_of(example, ["-x", word]) == (None, [])


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--faild"], "option --faild not recognized", "did you mean 'failed'?"),
        (["-Z"], "option -Z not recognized", "tracebee example --help lists the options"),
        (["--top"], "option --top requires argument", "did you mean 'top'?"),
        (["1", "2", "3"], "too many arguments: 3", ""),
    ],
)
def test_wrong_words(example: tools.Tool, words: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        tools.arguments_of(example, words)
    assert str(caught.value) == f"{message}\n\nUSAGE: tracebee example [options] [interval [count]]"
    assert caught.value.hint == hint


def test_help_is_the_head(capsys: pytest.CaptureFixture[str]) -> None:
    assert border.main(["biolatency", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "biolatency: how long disks take for a request, as a histogram\n\nUSAGE: biolatency [options]"
    )
    assert "Options of tracebee itself: -c COMMAND, -f json" in out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert border.main(["tools"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == EXPECTED
    assert lines[EXPECTED.index("opensnoop")] == (
        "opensnoop      which program opens which file, and which attempts fail"
    )
    assert lines[EXPECTED.index("ext4dist")].endswith("(fsdist --type=ext4)")


def test_script_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert border.main(["tools", "ext4dist"]) == 0
    assert capsys.readouterr().out == (SCRIPTS / "fsdist.bt").read_text()


def test_unknown_tool(capfd: pytest.CaptureFixture[str]) -> None:
    assert border.main(["tools", "opensnop"]) == 1
    assert (
        capfd.readouterr().err
        == "ERROR: there is no tool called 'opensnop'\nHINT: did you mean 'opensnoop'?\n"
    )


@pytest.mark.parametrize(
    ("words", "at"),
    [
        (["opensnoop"], 0),
        (["ext4dist", "-m"], 0),
        (["-f", "json", "opensnoop", "-x"], 2),
        (["--output=f", "-q", "opensnoop", "-x"], 2),
        (["-o", "opensnoop", "script.bt"], None),
        (["script.bt", "opensnoop"], None),
        (["-e", "BEGIN {}", "opensnoop"], None),
        (["./opensnoop"], None),
        (["parts"], None),
        (["-l"], None),
        ([], None),
    ],
)
def test_where_the_name_of_a_tool_stands(words: list[str], at: int | None) -> None:
    assert tool_position(words) == at


@pytest.mark.parametrize("word", ["", "..", "../scripts/opensnoop", "open*", "opensnoop.bt", "__init__"])
def test_what_is_no_tool(word: str) -> None:
    assert not is_tool(word)


def test_every_alias_names_a_tool_and_its_options() -> None:
    for name, (script, words) in ALIASES.items():
        own, _ = tools.arguments_of(tools.read_tool(name), list(words))
        assert (own, tools.read_tool(name).name) == ([], script)


# --- places that a kernel lacks


def refused(text: str, machine: FakeMachine, positional: tuple[str, ...] = ()) -> NotSupportedError | None:
    """Why the example cannot run on a machine with the probes of a script; None where it can."""
    from tracebee.language.passes.parameters import Parameters

    found = tools.parse_tool("example", "example.bt", EXAMPLE)
    compilation = typed(
        f'config = {{ missing_probes = "ignore" }} begin {{ print($#); }} {text}',
        machine,
        parameters=Parameters(positional),
    )
    try:
        tools.check_hooks(found, "sample", compilation)
    except NotSupportedError as error:
        return error
    return None


@pytest.mark.parametrize("first", ["kprobe:vfs_read", "tracepoint:sched:sched_switch"])
def test_one_of_the_alternatives_is_enough(first: str) -> None:
    assert refused(f"{first}, kprobe:vfs_write {{ @ = 1; }}", MACHINES["new"], ("vfs",)) is None


def test_a_missing_place_is_named() -> None:
    error = refused("kprobe:vfs_write { @ = 1; }", MACHINES["new"], ("foo",))
    assert (
        str(error)
        == "sample cannot run here: there is no kprobe:foo_read and no tracepoint:sched:sched_switch"
    )


def test_a_missing_kind_is_the_reason() -> None:
    error = refused(
        "tracepoint:sched:sched_switch { @ = 1; } kprobe:vfs_write { @ = 1; }", MACHINES["bare"], ("vfs",)
    )
    assert error is not None
    assert str(error).startswith("sample cannot run here: kprobe")
    assert "no kprobes" in str(error)
    assert "skipping" not in str(error)
    assert error.hint
