"""What a guest finds in its root file system: this Python, this tracebee, some tools, and what a command names.

It comes in three archives.  The first holds Python, its library and the tools, the second this package; they are
kept in the cache under digests of the files' times and sizes.  The third is made for each run.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
import sysconfig
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.microvm.cpio import write_archive
from tracebee.microvm.tree import Tree
from tracebee.records import Frozen, Mutable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.microvm.kernels import Kernel

FORMAT = 1
"""Part of the digest: another number makes every archive anew."""

TOOLS = (
    *(
        "sh",
        "bash",
        "env",
        "cat",
        "ls",
        "true",
        "false",
        "sleep",
        "dd",
        "echo",
        "printf",
        "head",
        "tail",
        "wc",
    ),
    *(
        "sort",
        "uniq",
        "cut",
        "tr",
        "tee",
        "touch",
        "rm",
        "mkdir",
        "rmdir",
        "cp",
        "mv",
        "ln",
        "chmod",
        "chown",
    ),
    *("date", "uname", "id", "test", "[", "seq", "yes", "basename", "dirname", "readlink", "stat", "mktemp"),
    *("timeout", "kill", "mount", "umount", "grep", "sed", "awk", "find", "xargs", "sync", "pwd", "expr"),
    *("nproc", "md5sum", "sha256sum", "od", "hostname", "nice", "setsid", "dmesg", "sysctl"),
)
FOLDERS = ("/proc", "/sys", "/dev", "/run", "/root", "/var/tmp", "/usr/local/bin", "/usr/bin", "/etc")
SETTINGS = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "localtime", "hosts", "protocols", "services")

# Of the standard library: what is for testing, for screens, or for installing.
LEFT_OUT = frozenset(
    (
        *("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data"),
        *("site-packages", "dist-packages", "__pycache__", "__phello__", "turtle.py"),
    )
)
MODULES_LEFT_OUT = ("_test", "_tkinter", "_ctypes_test", "xx", "nis.")

# Of a folder that is shown to the guest: what tools make for themselves.
NOT_SHOWN = frozenset(
    (
        ".git",
        ".hg",
        ".svn",
        ".venv",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        "node_modules",
    )
)
UNUSED = 24 * 3600
"""Seconds after which a layer that was not used is removed when another of its kind is made."""

MOST_SHOWN = 256 << 20
"""Bytes of a folder beyond which it is not shown: everything is held in the guest's memory."""


def base_tree() -> Tree:
    """What is the same for every command."""
    tree = Tree(strip=True)
    for folder in FOLDERS:
        tree.add_folder(folder)
    tree.add_folder("/tmp", 0o1777)
    for link in ("/bin", "/sbin", "/lib", "/lib64", "/var/run"):
        tree.add(link)
    for name in SETTINGS:
        tree.add(f"/etc/{name}")
    for name in TOOLS:
        found = find_tool(name)
        if found:
            tree.add_program(found)
    add_python(tree)
    return tree


def find_tool(name: str) -> str:
    for folder in ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        path = f"{folder}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""


def add_python(tree: Tree) -> None:
    """The interpreter that runs this, and its standard library, without what no program needs."""
    tree.add_program(sys.executable)
    real = os.path.realpath(sys.executable)
    tree.add_link("/.python", real)
    if "/usr/local/bin/python3" not in tree:
        tree.add_link("/usr/local/bin/python3", sys.executable)
    if sys.prefix != sys.base_prefix:
        tree.add(os.path.join(sys.prefix, "pyvenv.cfg"))
    for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        tree.add_tree(path, is_library)
        add_modules(tree, os.path.join(path, "lib-dynload"))
    add_bytecode(tree, sources=False)


def is_library(folder: str, entry: os.DirEntry[str]) -> bool:
    """Whether the guest's Python library has this file or folder."""
    return (
        not entry.name.startswith("config-") and entry.name not in LEFT_OUT and not entry.name.endswith(".so")
    )


def add_modules(tree: Tree, folder: str) -> None:
    """The libraries that extension modules need."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in sorted(names):
        if not name.startswith(MODULES_LEFT_OUT):
            tree.add_program(os.path.join(folder, name))


def add_bytecode(tree: Tree, sources: bool = True) -> None:
    """Compiled modules for the sources in a tree, since compiling takes long under emulation.

    Beside the sources, or in their place: that halves the library, and only tracebacks show it.
    """
    from importlib.util import cache_from_source

    for entry in list(tree.entries()):
        if not entry.source.endswith(".py"):
            continue
        data = bytecode(entry.source)
        if data and sources:
            tree.add_data(cache_from_source(entry.path), data)
        elif data:
            tree.add_data(entry.path + "c", data)
            tree.remove(entry.path)


def bytecode(path: str) -> bytes:
    """A module compiled: from the cache that Python keeps, or now.  Empty if it has mistakes."""
    from importlib._bootstrap_external import _code_to_timestamp_pyc  # type: ignore[attr-defined]
    from importlib.util import MAGIC_NUMBER, cache_from_source

    try:
        status = os.stat(path)
        stamp = MAGIC_NUMBER + bytes(4) + (int(status.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        stamp += (status.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        try:
            with open(cache_from_source(path), "rb") as file:
                data = file.read()
            if data.startswith(stamp):
                return data
        except OSError:
            pass
        with open(path, "rb") as file:
            source = file.read()
        code = compile(source, path, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return b""
    made: bytes = bytes(_code_to_timestamp_pyc(code, int(status.st_mtime), status.st_size))
    return made


class Layer(Frozen):
    """An archive in the cache, and the paths of what it holds."""

    archive: str
    paths: frozenset[str]


def python_layer(folder: str) -> Layer:
    """Python, its library and the tools."""
    paths = [sys.executable, "/etc/ld.so.cache", __file__, *(f"/etc/{name}" for name in SETTINGS)]
    paths += [find_tool(name) for name in TOOLS]
    stdlib = sysconfig.get_path("stdlib")
    paths += [stdlib, f"{stdlib}/lib-dynload", f"{stdlib}/os.py"]
    return cached_layer(folder, "python", f"{sys.version} {sys.executable} {sys.prefix}", paths, base_tree)


def package_layer(folder: str) -> Layer:
    """This package, and those that it needs."""
    tree = Tree()
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    tree.add_tree(package, lambda folder, entry: entry.name != "__pycache__")
    for path in distribution_files("pyelftools"):
        tree.add(path)
    add_launcher(tree)

    def compiled() -> Tree:
        add_bytecode(tree)
        return tree

    return cached_layer(folder, "package", sys.version, list(tree.paths()), compiled)


def cached_layer(folder: str, kind: str, facts: str, paths: Sequence[str], make: Callable[[], Tree]) -> Layer:
    """A layer from the cache, or made now and put there.

    It is known by `facts`, and by the sizes and times of `paths`.
    """
    digest = hashlib.sha256(f"{FORMAT} {facts}\n".encode())
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    archive = os.path.join(folder, f"{kind}-{digest.hexdigest()[:32]}.cpio")
    try:
        with open(f"{archive}.paths", "rb") as file:
            found = Layer(archive, frozenset(os.fsdecode(file.read()).split("\n")))
        os.utime(archive)
        return found
    except FileNotFoundError:
        pass
    import tempfile

    os.makedirs(folder, exist_ok=True)
    tree = make()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        with open(f"{made}/archive", "wb") as file:
            write_archive(tree.entries(), file)
        with open(f"{made}/paths", "wb") as file:
            file.write(os.fsencode("\n".join(tree.paths())))
        remove_unused(folder, kind)
        # The list last: where it is, the archive is.
        os.rename(f"{made}/archive", archive)
        os.rename(f"{made}/paths", f"{archive}.paths")
    return Layer(archive, frozenset(tree.paths()))


def remove_unused(folder: str, kind: str) -> None:
    """Remove the layers of a kind that nobody has used for long; one in use stays, as its time is new.

    Others may do the same at this moment, and a run that was killed may have left an archive without its list.
    """
    for name in os.listdir(folder):
        if not (name.startswith(f"{kind}-") and name.endswith(".cpio")):
            continue
        path = os.path.join(folder, name)
        with suppress(FileNotFoundError):
            if time.time() - os.stat(path).st_mtime > UNUSED:
                with suppress(FileNotFoundError):
                    os.unlink(f"{path}.paths")
                os.unlink(path)


class Job(Mutable):
    """A command for a guest.

    `words` are the command and its arguments, `folder` where it runs, `paths` further files, folders and programs
    that the guest is to have.  `environment` is the command's whole environment.
    """

    words: list[str]
    folder: str
    environment: dict[str, str]
    paths: Sequence[str] = ()
    show_folder: bool = True


def is_shown(folder: str, entry: os.DirEntry[str]) -> bool:
    """Whether the guest sees this of a folder."""
    return entry.name not in NOT_SHOWN and not is_mount(folder, entry)


def is_mount(folder: str, entry: os.DirEntry[str]) -> bool:
    """Whether something is mounted there: such as a tracefs, whose files can be read without end."""
    try:
        return entry.is_dir(follow_symlinks=False) and (
            entry.stat(follow_symlinks=False).st_dev != os.stat(folder).st_dev
        )
    except OSError:
        return True


def job_tree(job: Job, kernel: Kernel, layers: Sequence[Layer]) -> tuple[Tree, list[str]]:
    """What one run needs beside its layers, and warnings about what the guest will not have.

    Raises UsageError if the command is none.
    """
    tree = Tree(known=frozenset().union(*(layer.paths for layer in layers)))
    warnings: list[str] = []
    if kernel.config:
        with open(kernel.config, "rb") as file:
            tree.add_data(f"/boot/config-{kernel.release}", file.read())
    if job.show_folder:
        size = shown_size(job.folder)
        if size <= MOST_SHOWN:
            tree.add_tree(job.folder, is_shown)
        else:
            warnings.append(
                f"the guest does not see {job.folder}: it holds more than {MOST_SHOWN >> 20} MiB; "
                "start from a smaller folder, or name what is needed with --share PATH"
            )
    for path in job.paths:
        if os.path.isdir(path):
            tree.add_tree(path, is_shown)
        else:
            tree.add_program(path)
    program = find_command(job)
    tree.add_program(program)
    for word in job.words[1:]:
        if word.startswith("/") and os.path.isfile(word):
            tree.add_program(word)
    spec = {
        "words": job.words,
        "program": program,
        "folder": job.folder,
        "environment": job.environment,
        "umask": 0o022,
    }
    tree.add_data("/run.spec", marshal.dumps(spec))
    with open(os.path.join(os.path.dirname(__file__), "guest.py"), "rb") as file:
        tree.add_data("/init", b"#!/.python -IS\n" + file.read(), 0o755)
    return tree, warnings


def find_command(job: Job) -> str:
    """The path of the command's program.  Raises UsageError."""
    from tracebee.host.libraries import find_program

    name = job.words[0]
    if "/" in name:
        path = os.path.join(job.folder, name)
        if not os.path.isfile(path):
            raise UsageError(f"{name}: no such file")
        if not os.access(path, os.X_OK):
            raise UsageError(f"{name}: is not executable")
        return os.path.abspath(path)
    if name == "tracebee":
        return "/usr/local/bin/tracebee"
    if name in ("python3", "python"):
        return sys.executable
    found = find_program(name)
    if found is None:
        raise UsageError(f"{name}: there is no such command on PATH")
    return found


def add_launcher(tree: Tree) -> None:
    """The command ``tracebee``, which needs no environment."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    text = f"""#!{sys.executable}
import sys

sys.path.insert(0, {os.path.dirname(package)!r})
from tracebee.cli.main import run

run()
"""
    tree.add_data("/usr/local/bin/tracebee", text.encode(), 0o755)


def distribution_files(name: str) -> list[str]:
    """The files of an installed package."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        found = files(name) or []
    except PackageNotFoundError:
        return []
    return [str(path.locate()) for path in found if path.suffix != ".pyc" and ".." not in path.parts]


def shown_size(folder: str) -> int:
    """Bytes of what would be shown of a folder; counting stops behind the limit."""
    total = 0
    pending = [folder]
    while pending and total <= MOST_SHOWN:
        inside = pending.pop()
        try:
            found = list(os.scandir(inside))
        except OSError:
            continue
        for entry in found:
            if entry.is_symlink() or not is_shown(inside, entry):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                # Also an empty file takes a page, and a header of the archive.
                total += entry.stat().st_size + 512
    return total
