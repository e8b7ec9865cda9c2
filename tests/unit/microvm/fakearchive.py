"""A Debian archive without a network: an apt-get and a dpkg-deb that serve what a test has put into a file.

They understand the command lines that tracebee uses.  tests/vm/test_fetch.py holds tracebee to the real ones.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

APT = r"""
import gzip, json, os, re, signal, sys, time
words = sys.argv[1:]
world = json.load(open(os.environ["FAKE_WORLD"]))
options, rest = {}, []
while words:
    word = words.pop(0)
    if word == "-o":
        key, _, value = words.pop(0).partition("=")
        options[key] = value
    elif word in ("-c", "--format"):
        options[word] = words.pop(0)
    elif word.startswith("-q"):
        pass
    else:
        rest.append(word)
with open(os.environ["FAKE_WORLD"] + ".log", "a") as log:
    log.write(" ".join(rest) + "\n")
if rest[0] == "indextargets":
    print("\n".join(world["unread" if "--no-release-info" in rest else "targets"]))
    sys.exit()
def tell(share):
    os.write(int(options["APT::Status-Fd"]), f"dlstatus:1:{share:.4f}:Retrieving file 1 of 1\n".encode())
failure = world["fail"].get(rest[0], "")
tell(0)
if failure == "hang":
    open(os.environ["FAKE_WORLD"] + ".hangs", "w").write(str(os.getpid()))
    while not os.path.exists(os.environ["FAKE_WORLD"] + ".go"):
        time.sleep(0.01)
elif failure.startswith("say "):
    print(failure[4:], file=sys.stderr)
    sys.exit(100)
conf = open(options["-c"]).read()
set_to = dict(re.findall(r'^([\w:]+) "(.*)";$', conf, re.M))
sources = dict(line.split(": ", 1) for line in open(set_to["Dir::Etc::SourceList"]).read().splitlines())
if rest[0] == "update":
    for suite in sources["Suites"].split():
        if suite not in world["suites"]:
            print(f"W: Failed to fetch {sources['URIs']}/dists/{suite}/InRelease  404  Not Found", file=sys.stderr)
            continue
        text = "\n".join(
            f"Package: {name}\nVersion: {version}\nInstalled-Size: {size // 1024 + 1}\nDepends: {depends}\n"
            f"Size: {size}\n" for name, version, size, depends in world["suites"][suite])
        place = f"fake_dists_{suite}_main_binary-{sources['Architectures']}_Packages.gz"
        with gzip.open(os.path.join(set_to["Dir::State::Lists"], place), "wb") as file:
            file.write(text.encode())
else:
    for word in rest[1:]:
        name, _, version = word.partition("=")
        if word not in world["debs"]:
            print(f"E: Version '{version}' for '{name}' was not found", file=sys.stderr)
            sys.exit(100)
        with open(f"{name}_{version}_amd64.deb", "wb") as file:
            file.write(open(world["debs"][word], "rb").read())
tell(100)
"""

DPKG = """
import shutil, sys
assert sys.argv[1] == "--fsys-tarfile"
shutil.copyfileobj(open(sys.argv[2], "rb"), sys.stdout.buffer)
"""


ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")


def named(number: str) -> str:
    """The release of a kernel for this machine: 6.1.0-50 → 6.1.0-50-cloud-amd64."""
    return f"{number}-cloud-{ARCHITECTURE}"


def image_of(release: str) -> bytes:
    """The least that is a bzImage: the header, and the version string that it points at."""
    text = f"{release} (builder) #1 SMP".encode() + b"\0"
    header = bytearray(0x600)
    header[0x202:0x206] = b"HdrS"
    header[0x20E:0x210] = (0x400 - 0x200).to_bytes(2, "little")
    header[0x400 : 0x400 + len(text)] = text
    return bytes(header)


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar as it is in a .deb."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


class FakeArchive:
    """Put `bin` first on PATH and `environment` into the environment, then add packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.file = folder / "world.json"
        self.suites: dict[str, list[list[Any]]] = {}
        self.debs: dict[str, str] = {}
        self.fail: dict[str, str] = {}
        self.targets = ["Debian|Debian|main|bookworm|http://archive.invalid/debian/"]
        for name, text in (("apt-get", APT), ("dpkg-deb", DPKG)):
            path = self.bin / name
            path.write_text(f"#!{sys.executable} -IS\n{text}")
            path.chmod(0o755)
        for suite in ("bullseye", "bookworm", "trixie", "trixie-backports", "sid"):
            self.suites[suite] = []
        self.write()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(self.bin),
            "FAKE_WORLD": str(self.file),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def write(self) -> None:
        """Let the programs see what was changed."""
        world = {
            "suites": self.suites,
            "debs": self.debs,
            "fail": self.fail,
            "targets": self.targets,
            "unread": [],
        }
        self.file.write_text(json.dumps(world))

    def add(
        self, suite: str, name: str, version: str, files: dict[str, bytes], depends: str = "kmod"
    ) -> None:
        """Offer a package."""
        self.add_raw(suite, name, version, tar_of(files), depends)

    def add_raw(self, suite: str, name: str, version: str, data: bytes, depends: str = "kmod") -> None:
        """Offer a package whose tar is as it may be."""
        path = self.folder / f"{name}_{version}.tar"
        path.write_bytes(data)
        self.debs[f"{name}={version}"] = str(path)
        self.suites[suite].append([name, version, len(data), depends])
        self.write()

    def add_kernel(self, suite: str, number: str, version: str) -> None:
        """Offer a kernel of one package; `number` is that of its release."""
        release = named(number)
        self.add(
            suite,
            f"linux-image-{release}",
            f"{version}-1",
            {
                f"./boot/vmlinuz-{release}": image_of(release),
                f"./boot/config-{release}": b"CONFIG_BPF=y\n",
                f"./boot/System.map-{release}": b"x",
                f"./lib/modules/{release}/modules.order": b"kernel/a.ko\n",
                f"./lib/modules/{release}/kernel/a.ko": b"ELF" * 100,
                "./usr/share/doc/x": b"text",
            },
        )

    def commands(self, word: str) -> list[str]:
        """The command lines with which apt-get was run, those that begin with a word."""
        try:
            lines = Path(f"{self.file}.log").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if line.split()[0] == word]

    def let_go(self) -> None:
        """End the wait of an apt-get that hangs."""
        Path(f"{self.file}.go").touch()

    def hanging(self) -> int | None:
        """The process id of an apt-get that hangs, once there is one."""
        try:
            return int(Path(f"{self.file}.hangs").read_text() or 0) or None
        except FileNotFoundError:
            return None


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def use(archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have tracebee in this process see the archive."""
    for name, value in archive.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("TRACEBEE_DEBIAN_ARCHIVE", "TRACEBEE_DEBIAN_KEYRING"):
        monkeypatch.delenv(name, raising=False)
