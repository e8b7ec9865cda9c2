"""``tracebee vm``: the table of kernels, its other words, and the bar."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from tracebee.cli import main as border
from tracebee.cli.progress import Progress
from tracebee.cli.vm import HELP

from ..microvm.fakearchive import FakeArchive, image_of, named, use

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    archive = FakeArchive(tmp_path)
    use(archive, monkeypatch)
    archive.add_kernel("bookworm", "6.1.0-50", "6.1.176")
    return archive


def run(*words: str) -> int:
    return border.main(["vm", *words])


@pytest.mark.parametrize(
    "words", [[], ["-h"], ["--help"], ["help"], ["list", "-h"], ["fetch", "6.1", "--help"]]
)
def test_help(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 0
    assert capfd.readouterr() == (HELP, "")
    first = HELP.splitlines()[:3]
    assert all(line.startswith("  tracebee vm ") for line in first)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["lsit"],
            "ERROR: unknown command: tracebee vm lsit\nHINT: the commands are run, list, fetch, clean\n",
        ),
        (["list", "6.1"], "ERROR: tracebee vm list takes no 6.1\n"),
        (["fetch"], "ERROR: which kernel?\n"),
        (["fetch", "6.1", "--all"], "ERROR: '--all' is neither a kernel version nor the path of a vmlinuz\n"),
        (["fetch", "/boot/vmlinuz"], "ERROR: '/boot/vmlinuz' is neither"),
        (["clean", "../.."], "ERROR: '../..' is neither"),
    ],
)
def test_mistakes(
    fake: FakeArchive, words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(message)
    # Nothing was fetched for the words before the bad one.
    assert fake.commands("update") == []


def test_list(fake: FakeArchive, capfd: pytest.CaptureFixture[str]) -> None:
    release = named("7.0.13+deb13")
    image = {f"./usr/lib/modules/{release}/vmlinuz": image_of(release) + bytes(2_000_000)}
    fake.add("trixie-backports", f"linux-binary-{release}", "7.0.13-1", image)
    assert run("fetch", "6.1") == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"6.1: {named('6.1.0-50')}, {fake.folder}/cache/tracebee/kernels/")
    assert err.splitlines() == [
        "reading the package lists of bookworm",
        f"fetching {named('6.1.0-50')} (0.0 MB)",
        f"unpacking {named('6.1.0-50')}",
    ]
    assert run("list") == 0
    out, err = capfd.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert rows == [
        ["VERSION", "RELEASE", "SUITE", "TO", "FETCH", "CACHED"],
        ["7.0.13", release, "trixie-backports", "2.0", "MB,", "no", "modules"],
        ["6.1.176", named("6.1.0-50"), "bookworm", "0.0", "MB", "0.0", "MB"],
    ]
    assert err == "reading the package lists of bullseye, trixie, trixie-backports, sid\n"
    assert run("list", "--refresh") == 0
    again, err = capfd.readouterr()
    assert again == out
    assert err == "reading the package lists of bullseye, bookworm, trixie, trixie-backports, sid\n"


def test_list_without_apt(fake: FakeArchive, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("fetch", "6.1") == 0
    (fake.bin / "apt-get").unlink()
    capfd.readouterr()
    assert run("list") == 0
    out, err = capfd.readouterr()
    # What the lists said before is still told.
    assert [line.split()[1:3] for line in out.splitlines()[1:]] == [[named("6.1.0-50"), "bookworm"]]
    assert err == "WARNING: fetching a kernel needs apt-get, which is not here\n"
    # Without lists too, what is in the cache can be used.
    (fake.folder / "cache" / "tracebee" / "apt" / "catalogue.json").unlink()
    assert run("list") == 0
    out, err = capfd.readouterr()
    assert [line.split()[1:3] for line in out.splitlines()[1:]] == [[named("6.1.0-50"), "-"]]
    assert err == "WARNING: fetching a kernel needs apt-get, which is not here\n"
    assert run("clean") == 0
    capfd.readouterr()
    assert run("list") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("ERROR: fetching a kernel needs apt-get, which is not here\nHINT: install apt")


def test_list_with_a_suite_missing(fake: FakeArchive, capfd: pytest.CaptureFixture[str]) -> None:
    del fake.suites["sid"]
    fake.write()
    assert run("list") == 0
    out, err = capfd.readouterr()
    assert named("6.1.0-50") in out
    assert err.splitlines()[1:] == ["WARNING: the package lists of sid cannot be read: 404  Not Found"]


def test_unknown_version(fake: FakeArchive, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("fetch", "4.19") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-2:] == [
        "ERROR: no kernel 4.19: there are 6.1",
        "HINT: `tracebee vm list` shows every release",
    ]


def test_clean(fake: FakeArchive, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("fetch", "6.1") == 0
    capfd.readouterr()
    assert run("clean", "6.1") == 0
    assert capfd.readouterr() == ("freed 0.0 MB\n", "")
    assert run("clean", "6.1") == 1
    assert capfd.readouterr() == ("", "ERROR: no kernel 6.1 in the cache: it has no kernels\n")


# ---------------------------------------------------------------------- the bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, steps: list[tuple[str, float]]) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(Progress, "columns", staticmethod(lambda: 60))
    with Progress() as progress:
        for text, share in steps:
            progress(text, share)
    return stream.getvalue()


STEPS = [
    ("fetching", 0.0),
    ("fetching", 0.5),
    ("fetching", 0.501),
    ("it is damaged", -1.0),
    ("unpacking", 1.0),
]


def test_a_line_for_each_step_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), STEPS) == "fetching\nit is damaged\nunpacking\n"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Terminal(), STEPS) == (
        f"\rfetching  [{'.' * 20}]   0%\x1b[K"
        f"\rfetching  [{'#' * 10}{'.' * 10}]  50%\x1b[K"
        "\nit is damaged\n"
        f"\runpacking  [{'#' * 20}] 100%\x1b[K\n"
    )


def test_a_bar_keeps_to_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal(), [("x" * 200, 0.25)])
    assert len(text.removeprefix("\r").removesuffix("\x1b[K\n")) < 60
