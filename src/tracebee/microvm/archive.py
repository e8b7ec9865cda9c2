"""Debian's archive, read through this machine's apt, with package lists of our own.

Kernels of several Debian releases are wanted, while a machine's own apt knows one release at most.  So apt is
run with a configuration that puts its lists, its cache and its sources into a folder of ours: nothing of the
system's is written, no root is needed, and nothing is ever installed.  What must come from the system still
does: proxies, credentials and certificates from apt's configuration, and the address of the archive and the
key that signs it from apt's sources.  apt checks the signatures of the lists and the digests of the packages.

Environment: TRACEBEE_DEBIAN_ARCHIVE gives the address of a Debian archive and TRACEBEE_DEBIAN_KEYRING the file
with its keys, for machines that are not Debian themselves.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import zlib
from typing import IO, TYPE_CHECKING

from tracebee.errors import NotSupportedError, TargetError
from tracebee.records import Frozen
from tracebee.syscalls.process import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Progress = Callable[[str, float], None]

SUITES = ("bullseye", "bookworm", "trixie", "trixie-backports", "sid")
"""The suites that hold kernels for us, oldest first."""

ALIASES = {*SUITES, "stable", "oldstable", "oldoldstable", "testing", "unstable", "forky"}
"""Names of suites by which an entry of apt's sources is taken for Debian's archive where no list says so."""

KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
)
ADDRESS_VARIABLE = "TRACEBEE_DEBIAN_ARCHIVE"
KEYRING_VARIABLE = "TRACEBEE_DEBIAN_KEYRING"

INSTALL_APT = (
    "install apt and dpkg (most distributions have packages of these names), or give a vmlinuz by its path"
)
NO_SOURCE = (
    f"set {ADDRESS_VARIABLE} to the address of a Debian archive and {KEYRING_VARIABLE} to its keyring "
    "(package debian-archive-keyring), or give a vmlinuz by its path"
)

STALLED_S = 60
"""Seconds without progress after which apt-get is ended; its own limits below add up to less."""

LIST_BYTES = 40_000_000
"""What the largest package list takes while it is fetched, packed in two ways."""

UNREACHABLE = "the archive must be in reach; kernels in the cache work without it"
UNSIGNED = (
    f"the keys come from the package debian-archive-keyring, or from the file that {KEYRING_VARIABLE} names"
)

TARGET_FORMAT = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)"

# `apt-config dump` of a host may name hooks to run after an update (command-not-found, docker-clean): they
# are the system's, and this is not the system's update.  #clear works in a file only, and only in one that
# is read after the host's own (apt.conf(5)).  Lists are kept as .gz, which Python can read.
CONFIGURATION = """\
#clear APT::Update;
Dir::Etc::SourceList "{folder}/sources.sources";
Dir::Etc::SourceParts "-";
Dir::Etc::Preferences "-";
Dir::Etc::PreferencesParts "-";
Dir::State "{folder}";
Dir::State::Lists "{lists}";
Dir::State::Status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::IndexTargets::deb::Packages::KeepCompressedAs "gz";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
APT::Get::List-Cleanup "false";
APT::Get::Show-User-Simulation-Note "false";
"""

SOURCES = """\
Types: deb
URIs: {address}
Suites: {suites}
Components: main
Architectures: {architecture}
Targets: Packages
PDiffs: no
"""


class Source(Frozen):
    """Where Debian's archive is, and the file with its keys ("" for those that apt trusts anyway)."""

    address: str
    keyring: str


class Package(Frozen):
    """A package of a suite; `size` is that of its file, `installed` of what it unpacks to, both in bytes.

    `depends` are the names that it depends on.
    """

    name: str
    version: str
    suite: str
    size: int
    installed: int
    depends: tuple[str, ...] = ()


class DownloadError(TargetError):
    """A package could not be had; lists that are read anew may help."""


class Archive:
    """apt with a folder of its own, made when it is needed.

    One process at a time may use a folder (the caller holds a lock).
    """

    def __init__(self, folder: str, source: Source, architecture: str) -> None:
        self.folder = folder
        # Lists of another address are none of this one's.
        self.lists = os.path.join(folder, "lists-" + hashlib.sha256(source.address.encode()).hexdigest()[:12])
        self.source = source
        self.architecture = architecture

    def update(self, suites: Sequence[str], progress: Progress) -> dict[str, str]:
        """Fetch the package lists of `suites`; for those that could not be had, the reason.

        Raises as run_apt, and TargetError for a disk that has no room for lists.
        """
        self._prepare(suites)
        if shutil.disk_usage(self.folder).free < LIST_BYTES * len(suites):
            raise disk_full(self.folder, LIST_BYTES * len(suites))
        text = f"reading the package lists of {', '.join(suites)}"
        progress(text, 0.0)
        done = self._apt(["update"], self.folder, lambda share: progress(text, share))
        if not done:
            return {}
        failed = {}
        for suite in suites:
            # "… http://…/dists/sid/InRelease  Could not …", "The repository 'http://… sid InRelease' is not …"
            named = [reason for reason in done if re.search(rf"[/ ]{re.escape(suite)}[/ ]", reason)]
            if named:
                failed[suite] = re.sub(r"^Failed to fetch \S+ +", "", named[0])
            elif self._list_of(suite) is None:
                failed[suite] = done[0]
        # A message that names no suite: then nothing is known to be good.
        return failed or dict.fromkeys(suites, done[0])

    def packages(self, suite: str, pattern: str) -> list[Package]:
        """The packages of a suite whose names match `pattern` (a regular expression, from the start)."""
        path = self._list_of(suite)
        if path is None:
            return []
        try:
            with gzip.open(path) as file:
                text = file.read()
        except (OSError, EOFError, zlib.error) as error:
            raise TargetError(
                path, f"is damaged: {error}", "tracebee vm list --refresh reads it again"
            ) from error
        return parse_packages(text, suite, pattern)

    def download(self, what: str, packages: Sequence[Package], folder: str, progress: Progress) -> list[str]:
        """Fetch packages of `what` into `folder`; the paths of the files.  Raises DownloadError, and as run_apt."""
        self._prepare(sorted({package.suite for package in packages}))
        size = sum(package.size for package in packages)
        text = f"fetching {what} ({megabytes(size)})"
        progress(text, 0.0)
        words = ["download", *(f"{package.name}={package.version}" for package in packages)]
        failed = self._apt(words, folder, lambda share: progress(text, share))
        found = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".deb")]
        if failed or len(found) != len(packages):
            raise DownloadError(
                packages[0].name,
                f"cannot be fetched: {'; '.join(failed) or 'apt-get brought something else'}",
                UNREACHABLE,
            )
        return found

    def _prepare(self, suites: Sequence[str]) -> None:
        os.makedirs(os.path.join(self.lists, "partial"), exist_ok=True)
        os.makedirs(os.path.join(self.folder, "cache", "archives", "partial"), exist_ok=True)
        text = SOURCES.format(
            address=self.source.address, suites=" ".join(suites), architecture=self.architecture
        )
        if self.source.keyring:
            text += f"Signed-By: {self.source.keyring}\n"
        configuration = CONFIGURATION.format(folder=self.folder, lists=self.lists)
        if os.geteuid() == 0:
            # apt would drop its rights to a user who cannot read a cache below /root.
            configuration += 'APT::Sandbox::User "root";\n'
        for name, data in (("sources.sources", text), ("apt.conf", configuration), ("status", "")):
            with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
                file.write(data)

    def _list_of(self, suite: str) -> str | None:
        """The file that apt has made for a suite: the address, with / as _, comes before what is looked for."""
        ending = f"_dists_{suite}_main_binary-{self.architecture}_Packages.gz"
        try:
            names = [name for name in os.listdir(self.lists) if name.endswith(ending)]
        except FileNotFoundError:
            return None
        return os.path.join(self.lists, names[0]) if names else None

    def _apt(self, words: Sequence[str], folder: str, progress: Callable[[float], None]) -> list[str]:
        """Run apt-get in `folder`; why it failed, or nothing."""
        configuration = os.path.join(self.folder, "apt.conf")
        return run_apt(["-c", configuration, "-q=2", *words], folder, progress)


def find_source() -> Source:
    """Debian's archive as this machine's apt, or the environment, knows it.

    Raises NotSupportedError where neither does, or where there is no apt.
    """
    keyring = os.environ.get(KEYRING_VARIABLE, "") or next(filter(os.path.isfile, KEYRINGS), "")
    address = os.environ.get(ADDRESS_VARIABLE, "")
    if not address:
        require("apt-get")
        address = find_address(_index_targets()) or find_address(_index_targets("--no-release-info"))
    if keyring and not os.path.isfile(keyring):
        raise TargetError(keyring, f"there is no such keyring, which {KEYRING_VARIABLE} names")
    for what in (address, keyring):
        if re.search(r"\s", what):
            raise TargetError(repr(what), "an address or a keyring has no spaces or line breaks")
    if not address:
        raise NotSupportedError(
            "fetching a kernel needs a Debian archive, and apt knows none here", hint=NO_SOURCE
        )
    return Source(address, keyring)


def find_address(lines: Sequence[str]) -> str:
    """The address of Debian's archive among apt's index targets (TARGET_FORMAT), or ""."""
    for line in lines:
        fields = line.split("|")
        if len(fields) != 5:
            continue
        origin, label, component, release, address = fields
        if component != "main" or not re.match(r"[\w+-]+:/", address) or address.startswith("cdrom:"):
            continue
        # A field that apt does not know stays as it was written: before the first update, origin and label.
        unknown = origin in ("", "$(ORIGIN)") and release in ALIASES and "security" not in address
        if unknown or (origin == label == "Debian"):
            return address
    return ""


def _index_targets(*options: str) -> list[str]:
    done = subprocess.run(
        ["apt-get", "indextargets", *options, "--format", TARGET_FORMAT, "Identifier: Packages"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    return done.stdout.splitlines()


def parse_packages(text: bytes, suite: str, pattern: str) -> list[Package]:
    """Packages in the text of a Packages file (deb822, a paragraph each) whose names match `pattern`.

    Paragraphs that lack a version or a size are passed over.
    """
    found = []
    # The list of a suite has 60,000 paragraphs: only those of interest are looked at one by one.
    for start in re.finditer(rb"^Package: (?=%s)" % pattern.encode(), text, re.MULTILINE):
        end = text.find(b"\n\n", start.start())
        paragraph = text[start.start() : end if end >= 0 else len(text)].decode("utf-8", "replace")
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[\w-]+: ", line))
        sizes = [fields.get("Size", ""), fields.get("Installed-Size", "0")]
        if "Version" in fields and all(re.fullmatch(r"[0-9]{1,15}", size) for size in sizes):
            depends = tuple(re.findall(r"(?:^|, )([^\s,|]+)", fields.get("Depends", "")))
            # Installed-Size is in KiB (deb-control(5)).
            size, installed = int(sizes[0]), int(sizes[1]) * 1024
            found.append(Package(fields["Package"], fields["Version"], suite, size, installed, depends))
    return found


def run_apt(words: Sequence[str], folder: str, progress: Callable[[float], None]) -> list[str]:
    """Run apt-get in `folder`, telling `progress` the share that is done; why it failed, or nothing.

    Raises NotSupportedError without apt-get, OSError (ENOSPC) where the disk is full, DownloadError where apt
    stands still.
    """
    require("apt-get")
    status, status_writer = os.pipe()
    with open(status, "rb", buffering=0) as reader, tempfile.TemporaryFile() as complaints:
        try:
            child = subprocess.Popen(
                ["apt-get", "-o", f"APT::Status-Fd={status_writer}", *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=complaints,
                stderr=complaints,
                pass_fds=(status_writer,),
                env=os.environ | {"LC_ALL": "C"},
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - a system call that takes no lock
            )
        finally:
            os.close(status_writer)
        try:
            for share in _shares(reader):
                progress(share)
            status_code = child.wait()
        except BaseException:
            child.terminate()
            child.wait()
            raise
        complaints.seek(0)
        text = complaints.read().decode("utf-8", "replace")
    if os.strerror(errno.ENOSPC) in text or "enough free space" in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
    # A list that cannot be fetched, or is signed by a stranger, is but a warning to apt, which ends with 0.
    complaint = re.compile(r"E: |W: (?=GPG error|Failed to fetch|An error occurred)")
    reasons = [line[found.end() :] for line in text.splitlines() if (found := complaint.match(line))]
    if status_code != 0 and not reasons:
        reasons = [f"apt-get ended with status {status_code}"]
    return list(dict.fromkeys(reasons))


def _shares(reader: IO[bytes]) -> Iterator[float]:
    """The share that is done, 0 to 1, each time that apt-get tells, until it ends.

    Raises DownloadError where nothing changes for STALLED_S: apt 2.6 waits for ever for its own helper that
    has met a full disk.
    """
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    data, said = b"", b""
    deadline = time.monotonic() + STALLED_S
    while True:
        if poll.poll(1000):
            piece = reader.read(4096)
            if not piece:
                return
            *lines, data = (data + piece).split(b"\n")
            # dlstatus:1:23.4500:Retrieving file 1 of 3
            for line in lines:
                share = re.match(rb"dlstatus:[^:]*:([0-9]+(?:\.[0-9]*)?)", line)
                if share is not None and line != said:
                    said = line
                    deadline = time.monotonic() + STALLED_S
                    yield min(float(share[1]) / 100, 1.0)
        if time.monotonic() > deadline:
            raise DownloadError("apt-get", f"has done nothing for {STALLED_S} s", UNREACHABLE)


def _end_with_parent() -> None:
    die_with_parent(signal.SIGTERM)


def read_package(path: str, take: Callable[[str, int, IO[bytes]], None]) -> None:
    """Hand the regular files of a .deb to `take`: path as it is written there, size in bytes, and contents.

    Raises TargetError for a damaged package, NotSupportedError without dpkg-deb, and what `take` raises.
    """
    require("dpkg-deb")
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=os.environ | {"LC_ALL": "C"},
            preexec_fn=_end_with_parent,  # noqa: PLW1509
        )
        assert child.stdout is not None
        damage = ""
        try:
            with tarfile.open(fileobj=child.stdout, mode="r|") as tar:
                for member in tar:
                    contents = tar.extractfile(member) if member.isreg() else None
                    if contents is not None:
                        take(member.name, member.size, contents)
            # What is left is padding; unread it would end dpkg-deb by SIGPIPE.
            while child.stdout.read(1 << 16):
                pass
            child.wait()
        except tarfile.TarError as error:
            damage = str(error)
        finally:
            child.stdout.close()
            child.terminate()
            status = child.wait()
        if status or damage:
            complaints.seek(0)
            said = complaints.read().decode("utf-8", "replace").strip()
            raise TargetError(os.path.basename(path), f"cannot be unpacked: {said or damage}")


def require(program: str) -> None:
    """Raises NotSupportedError where a program is not on PATH."""
    if shutil.which(program) is None:
        raise NotSupportedError(f"fetching a kernel needs {program}, which is not here", hint=INSTALL_APT)


def disk_full(folder: str, needed: int = 0) -> TargetError:
    """The error for a disk that has no room; `needed` in bytes, 0 if it is not known."""
    what = f"the disk is full; {megabytes(needed)} are needed" if needed else "the disk is full"
    return TargetError(
        folder, what, "`tracebee vm clean` frees the cache; XDG_CACHE_HOME puts it on another disk"
    )


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size < 1e8 else f"{size / 1e6:.0f} MB"
