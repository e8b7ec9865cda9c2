"""The shape of the project: who imports whom, what start-up costs, what generators have made."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "tracebee"
MODULES = sorted(PACKAGE.rglob("*.py"))

# This table is the architecture: the rooms of src/tracebee, from the ground up, and what each may import,
# for type checkers or at run time.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "records": set(),
    "_version": set(),
    "insn": {"errors", "records"},
    "btf": {"errors", "records", "insn"},
    "spec": {"errors", "records", "insn", "btf"},
    # Above the waist: nothing that touches the machine.
    "language": {"errors", "records", "insn", "btf", "spec"},
    "render": {"errors", "records", "spec"},
    "engine": {"errors", "records", "insn", "btf", "spec"},
    "object": {"errors", "records", "insn", "btf", "spec"},
    "explain": {"errors", "records", "insn", "btf", "spec"},
    # Below it: nothing that knows of scripts.
    "syscalls": {"errors", "records"},
    "host": {"errors", "records", "syscalls"},
    "kernel": {"errors", "records", "insn", "btf", "spec", "syscalls", "host"},
    "microvm": {"errors", "records", "syscalls", "host"},
    "inferior": {"errors", "records", "syscalls", "host"},
    # Where both meet.
    "session": {
        *("errors", "records", "insn", "btf", "spec", "language", "render", "engine", "object", "explain"),
        *("syscalls", "host", "kernel", "inferior"),
    },
    "cli": {
        *("errors", "records", "_version", "insn", "btf", "spec", "language", "render", "syscalls", "host"),
        *("engine", "object", "explain", "kernel", "microvm", "inferior", "session"),
    },
    "__main__": {"cli"},
    "testing": {"session"},
    # The public face takes its pieces from everywhere but the command line.
    "__init__": {
        *("errors", "records", "_version", "insn", "btf", "spec", "language", "render", "syscalls", "host"),
        *("engine", "object", "explain", "kernel", "session"),
    },
}

# SourceError carries diagnostics, and is below the language that makes them; VerifierError an explanation.
TYPING_ONLY = {("errors", "tracebee.language.diagnostics"), ("errors", "tracebee.explain.explanation")}

STANDS_ALONE = PACKAGE / "microvm/guest.py"
"""Copied into a guest, where it runs without the package."""

ONE_DOOR = {"ctypes": "syscalls"}
"""Modules of the standard library that one room alone may use."""

BUCKETS = {"utils", "util", "common", "helper", "misc", "shared", "lib"}


class Import(NamedTuple):
    """An import statement: the module that it names, where it stands, and whether it is for type checkers."""

    module: str
    line: int
    for_types: bool


def imports_of(tree: ast.AST, for_types: bool = False) -> Iterator[Import]:
    """Every import in a syntax tree, those inside functions and ``if TYPE_CHECKING`` too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}" if node.module == "tracebee" else node.module
                yield Import(name, node.lineno, for_types)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports_of(ast.Module(node.body, []), True)
            yield from imports_of(ast.Module(node.orelse, []), for_types)
        else:
            yield from imports_of(node, for_types)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def breaches(path: Path, tree: ast.Module) -> list[str]:
    """What a module imports that its room may not, as "room → module (line)"."""
    room = room_of(path)
    found = []
    for one in imports_of(tree):
        top, _, rest = one.module.partition(".")
        if top == "tracebee":
            target = rest.partition(".")[0]
            if target == room or target in MAY_IMPORT[room]:
                continue
            if one.for_types and (room, one.module) in TYPING_ONLY:
                continue
        elif ONE_DOOR.get(top, room) == room or path == STANDS_ALONE:
            continue
        found.append(f"{room} → {one.module} (line {one.line})")
    return found


# ---------------------------------------------------------------------- imports


def test_the_table_names_every_room() -> None:
    assert {room_of(path) for path in MODULES} == set(MAY_IMPORT)


def test_the_table_has_no_circle() -> None:
    order = list(MAY_IMPORT)
    for room, allowed in MAY_IMPORT.items():
        if room != "__init__":
            assert all(order.index(below) < order.index(room) for below in allowed), room


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert breaches(path, syntax_tree(path)) == []


@pytest.mark.parametrize(
    ("room", "text", "found"),
    [
        ("language", "import tracebee.kernel.ring", ["language → tracebee.kernel.ring (line 1)"]),
        ("language", "from tracebee import host", ["language → tracebee.host (line 1)"]),
        ("render", "def f():\n    from tracebee.session import x", ["render → tracebee.session (line 2)"]),
        ("kernel", "import ctypes", ["kernel → ctypes (line 1)"]),
        ("syscalls", "import ctypes", []),
        ("errors", "if TYPE_CHECKING:\n    from tracebee.language.diagnostics import D", []),
        (
            "errors",
            "from tracebee.language.diagnostics import D",
            ["errors → tracebee.language.diagnostics (line 1)"],
        ),
        (
            "spec",
            "if TYPE_CHECKING:\n    from tracebee.session import x",
            ["spec → tracebee.session (line 2)"],
        ),
    ],
)
def test_a_breach_is_seen(room: str, text: str, found: list[str]) -> None:
    assert breaches(PACKAGE / room / "x.py", ast.parse(text)) == found


def test_no_bucket() -> None:
    """A module is named for what it does, so that a stranger finds it."""
    named = {part.lower() for path in MODULES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert named & BUCKETS == set()
    # The one "helpers" is the kernel's word: the table of BPF helper functions.
    helpers = [path for path in MODULES if path.stem == "helpers"]
    assert helpers == [PACKAGE / "insn" / "helpers.py"]


def test_only_the_command_line_prints() -> None:
    found = []
    for path in MODULES:
        if room_of(path) == "cli":
            continue
        for node in ast.walk(syntax_tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(syntax_tree(path))


# ---------------------------------------------------------------------- start-up

TOO_COSTLY = {
    "argparse",
    "asyncio",
    "dataclasses",
    "elftools",
    "importlib.resources",
    "inspect",
    "json",
    "logging",
    "platform",
    "pwd",
    "shlex",
    "socket",
    "subprocess",
    "tempfile",
    "urllib",
    "unittest",
}
"""What takes a millisecond or more, or stands for a feature that few scripts use."""

PROBE = """
import sys
before = set(sys.modules)
sys.path.insert(0, {source!r})
{body}
print("\\n".join(sorted(set(sys.modules) - before)), file=sys.stderr)
"""


def modules_of(body: str) -> set[str]:
    """What a fresh interpreter has imported after running `body`.

    It runs without `site`, whose .pth files import what they like.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROBE.format(source=str(SOURCE), body=body)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stderr.split())


def test_import_of_the_package() -> None:
    found = modules_of("import tracebee")
    assert "tracebee" in found
    assert found & TOO_COSTLY == set()
    assert {name for name in found if name.startswith("tracebee.")} <= {"tracebee._version"}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_help_and_version(arguments: list[str]) -> None:
    found = modules_of(f"from tracebee.cli.main import main\nmain({arguments})")
    ours = {name for name in found if name.startswith("tracebee.")}
    assert ours <= {
        f"tracebee.{name}" for name in ("cli", "cli.main", "cli.messages", "cli.usage", "errors", "_version")
    }
    assert found & (TOO_COSTLY | {"ctypes", "getopt"}) == set()


def test_modules_of_every_script() -> None:
    """What every script needs, named here; tests/live/test_session.py looks at a run."""
    names = ("cli.trace", "cli.output", "session.session", "session.kernel", "session.child", "render.text")
    body = "\n".join(f"import tracebee.{name}" for name in (*names, "session.machine", "language.compile"))
    assert modules_of(body) & TOO_COSTLY == set()


# ---------------------------------------------------------------------- what generators have made


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_generated_file_names_its_generator() -> None:
    made = [path for path in MODULES if path.stem.startswith("_") and not path.stem.startswith("__")]
    by_hand = {"_version.py", "_helper_summaries.py"}
    for path in made:
        if path.name in by_hand:
            continue
        named = re.search(r"tools/(\w+)\.py", path.read_text(encoding="utf-8")[:400])
        assert named is not None, path
        assert (ROOT / "tools" / f"{named[1]}.py").is_file()


def test_uapi_is_what_its_generator_writes() -> None:
    path = PACKAGE / "syscalls" / "_uapi.py"
    committed = path.read_text(encoding="utf-8")
    made_from = re.search(r"BTF of Linux (\S+);", committed)
    assert made_from is not None
    if os.uname().release.partition("-")[0] != made_from[1]:
        pytest.skip(f"_uapi.py was made from the BTF of Linux {made_from[1]}, which does not run here")
    if not os.access("/sys/kernel/btf/vmlinux", os.R_OK):
        pytest.skip("no readable /sys/kernel/btf/vmlinux")
    generator = tool("gen_uapi")
    written = io.StringIO()
    arguments, sys.argv = sys.argv, ["gen_uapi.py"]
    try:
        with contextlib.redirect_stdout(written):
            generator.main()
    finally:
        sys.argv = arguments
    assert written.getvalue() == committed


def exported_headers(version: str) -> Path:
    """The folder of headers that the wheel of ziglang carries, if it is of this version; else skips."""
    found = importlib.util.find_spec("ziglang")
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the headers of Linux {version} are not here (package ziglang)")
    folder = Path(found.submodule_search_locations[0]) / "lib" / "libc" / "include"
    text = (folder / "any-linux-any" / "linux" / "version.h").read_text(encoding="ascii")
    parts = dict(re.findall(r"#define LINUX_VERSION_(MAJOR|PATCHLEVEL) (\d+)", text))
    if f"{parts['MAJOR']}.{parts['PATCHLEVEL']}" != version:
        pytest.skip(f"the headers here are not those of Linux {version}")
    return folder


def test_system_calls_are_what_their_generator_writes() -> None:
    path = PACKAGE / "host" / "_syscalls.py"
    committed = path.read_text(encoding="utf-8")
    made_from = re.search(r"as Linux (\S+) exports it", committed)
    assert made_from is not None
    folder = exported_headers(made_from[1])
    written = tool("gen_syscalls").main(
        [
            str(folder / "any-linux-any" / "linux" / "version.h"),
            f"x86_64={folder / 'x86-linux-any' / 'asm' / 'unistd_64.h'}",
            f"aarch64={folder / 'aarch64-linux-any' / 'asm' / 'unistd_64.h'}",
        ]
    )
    assert written == committed


def test_instruction_tables_are_what_their_generator_writes(tmp_path: Path) -> None:
    committed = (PACKAGE / "insn" / "_helper_names.py").read_text(encoding="utf-8")
    made_from = re.search(r"linux/bpf\.h of Linux (\S+) \(LINUX_VERSION_CODE (\d+)\)", committed)
    assert made_from is not None
    folder = exported_headers(made_from[1]) / "any-linux-any" / "linux"
    (tmp_path / "linux").mkdir()
    for name in ("bpf.h", "bpf_common.h"):
        (tmp_path / "linux" / name).symlink_to(folder / name)
    # Releases of one series differ in nothing but their last number.
    (tmp_path / "linux" / "version.h").write_text(f"#define LINUX_VERSION_CODE {made_from[2]}\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "gen_insn_tables.py"), "--include", str(tmp_path), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
