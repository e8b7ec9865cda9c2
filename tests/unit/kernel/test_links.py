"""Attachments over system calls that are functions."""

from __future__ import annotations

import errno
import resource
from typing import Any

import pytest

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel import nofile
from tracebee.kernel.features import Features
from tracebee.kernel.links import Context, Link, attach, kprobe, kprobemulti, perf
from tracebee.kernel.programs import Program
from tracebee.spec.objects import Kprobe, KprobeMulti, PerfEvent, ProbeSpec, ProgramSpec
from tracebee.syscalls import bpf
from tracebee.syscalls import perf as perf_calls

PROGRAM = Program(ProgramSpec("program", "KPROBE", ()), 3)
ADDRESSES = {"twice": [0x100, 0x200], "in_module": [0x300]}


def context(**options: Any) -> Context:
    return Context(
        Features(),
        (0,),
        lambda: -1,
        addresses=lambda name, module: ADDRESSES.get(name, []),
        **options,
    )


class Kernel:
    """link_kprobes that knows some functions; `links` are (places, cookies) of each link made."""

    def __init__(self, *bad: str | int) -> None:
        self.bad = set(bad)
        self.calls = 0
        self.links: list[tuple[list[Any], list[int]]] = []

    def link(self, fd: int, cookies: list[int], *, names: Any = (), addresses: Any = (), **_: Any) -> int:
        self.calls += 1
        places = [*names, *addresses]
        assert len(places) == len(cookies)
        if self.bad & set(places):
            raise SyscallError("bpf(BPF_LINK_CREATE)", errno.ESRCH if names else errno.EINVAL)
        self.links.append((places, list(cookies)))
        return 1000 + len(self.links)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Descriptors that were closed: those here are none."""
    gone: list[int] = []
    monkeypatch.setattr("os.close", gone.append)
    return gone


def multi(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, *places: Kprobe, optional: bool = True) -> Link:
    monkeypatch.setattr(bpf, "link_kprobes", kernel.link)
    probe = ProbeSpec("kprobe:f*", "program", KprobeMulti(places), covers=len(places), optional=optional)
    return kprobemulti.attach(PROGRAM, probe, context())


def places(*names: str) -> list[Kprobe]:
    return [Kprobe(name) for name in names]


# --- multi links


def test_one_link_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    link = multi(kernel, monkeypatch, *places("a", "b", "c"))
    assert kernel.links == [(["a", "b", "c"], [0, 1, 2])]
    assert (link.fds, link.skipped) == ([1001], ())


def test_shared_names_and_modules_go_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    multi(
        kernel,
        monkeypatch,
        Kprobe("a"),
        Kprobe("twice", copies=2),
        Kprobe("b"),
        Kprobe("in_module", module="m"),
    )
    assert kernel.links == [(["a", "b"], [0, 2]), ([0x100, 0x200, 0x300], [1, 1, 3])]


def test_bad_functions_of_a_wildcard_are_found_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel("f3", "f11")
    link = multi(kernel, monkeypatch, *places(*(f"f{number}" for number in range(16))))
    hooked = [name for names, _ in kernel.links for name in names]
    assert hooked == [f"f{number}" for number in range(16) if number not in (3, 11)]
    assert all(
        name == f"f{cookie}"
        for names, cookies in kernel.links
        for name, cookie in zip(names, cookies, strict=True)
    )
    assert [name for name, _ in link.skipped] == ["kprobe:f3", "kprobe:f11"]
    assert kernel.calls < 20


def test_one_of_several_copies_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(0x200)
    link = multi(kernel, monkeypatch, Kprobe("twice", copies=2))
    assert kernel.links == [([0x100], [0])]
    assert link.skipped == ()


def test_a_plain_function_that_is_bad_is_an_error(monkeypatch: pytest.MonkeyPatch, closed: list[int]) -> None:
    with pytest.raises(AttachError) as caught:
        multi(Kernel("b"), monkeypatch, *places("a", "b", "c"), optional=False)
    assert caught.value.probe == "kprobe:b"
    assert closed == [1002, 1001]


def test_nothing_to_hook_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttachError):
        multi(Kernel("a", "b"), monkeypatch, *places("a", "b"))


def test_a_list_of_nonsense_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"f{number}" for number in range(1000)]
    kernel = Kernel(*names)
    with pytest.raises(AttachError):
        multi(kernel, monkeypatch, *places(*names))
    assert kernel.calls < 300


def test_other_errors_are_not_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(*args: Any, **options: Any) -> int:
        calls.append(args)
        raise SyscallError("bpf(BPF_LINK_CREATE)", errno.EPERM)

    monkeypatch.setattr(bpf, "link_kprobes", refuse)
    with pytest.raises(AttachError, match="EPERM"):
        kprobemulti.attach(PROGRAM, ProbeSpec("k", "p", KprobeMulti(tuple(places("a", "b")))), context())
    assert len(calls) == 1


# --- perf events


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, closed: list[int]) -> dict[Any, int]:
    """The errno of perf_event_open by name or address; the events that were opened are under "opened"."""
    answers: dict[Any, Any] = {"opened": []}

    def open_event(**options: Any) -> int:
        key = options["config1"] or options["config2"]
        number = answers.get(key, 0)
        if number:
            raise SyscallError("perf_event_open", number)
        answers["opened"].append(key)
        return 2000 + len(answers["opened"])

    monkeypatch.setattr(perf_calls, "perf_event_open", open_event)
    monkeypatch.setattr(kprobe, "event_type", lambda source, probe: 8)
    monkeypatch.setattr(kprobe, "return_bit", lambda source: 0)
    monkeypatch.setattr(kprobe, "attach_events", lambda program, probe, context, found: Link(list(found)))
    return answers


def hook(place: Kprobe) -> Link:
    return kprobe.attach(PROGRAM, ProbeSpec("kprobe:f", "program", place), context())


def test_a_unique_name_goes_by_name(events: dict[Any, Any]) -> None:
    hook(Kprobe("f", 4))
    assert events["opened"] == [b"f"]


def test_copies_go_by_address_each(events: dict[Any, Any]) -> None:
    assert len(hook(Kprobe("twice", copies=2)).fds) == 2
    assert events["opened"] == [0x100, 0x200]


def test_a_name_that_turns_out_to_be_shared(events: dict[Any, Any]) -> None:
    events[b"twice"] = errno.EADDRNOTAVAIL
    events[0x100] = errno.EINVAL
    hook(Kprobe("twice"))
    assert events["opened"] == [0x200]


def test_a_module_whose_addresses_are_hidden_goes_by_both_names(events: dict[Any, Any]) -> None:
    hook(Kprobe("secret", module="ext4"))
    assert events["opened"] == [b"ext4:secret"]


@pytest.mark.parametrize(
    ("place", "number", "words"),
    [
        (Kprobe("f"), errno.ENOENT, "there is no function f"),
        (Kprobe("f"), errno.EINVAL, "marked notrace"),
        (Kprobe("f", returns=True), errno.EINVAL, "cannot be probed on return"),
        (Kprobe("f", 1), errno.EILSEQ, r"f\+1 is not where an instruction starts"),
        (Kprobe("f"), errno.EPERM, "kprobes are refused"),
        (Kprobe("f"), errno.EBUSY, "EBUSY"),
    ],
)
def test_why_a_kprobe_was_refused(events: dict[Any, Any], place: Kprobe, number: int, words: str) -> None:
    events[b"f"] = number
    with pytest.raises(AttachError, match=words):
        hook(place)


def test_lockdown_is_named(events: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    events[b"f"] = errno.EPERM
    for mode, words in (("confidentiality", "locked down"), ("none", "CAP_PERFMON")):
        monkeypatch.setattr("tracebee.host.rights.read_lockdown", lambda mode=mode: mode)
        with pytest.raises(AttachError) as caught:
            hook(Kprobe("f"))
        assert words in caught.value.hint


def test_events_that_were_opened_are_closed_when_there_is_no_room(
    events: dict[Any, Any], closed: list[int]
) -> None:
    events[0x200] = errno.EMFILE
    with pytest.raises(AttachError):
        hook(Kprobe("twice", copies=2))
    assert closed == [2001]


# --- the limit on open files


def test_the_limit_is_raised_once_and_the_attachment_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def no_room(program: Program, probe: ProbeSpec, context: Context) -> Link:
        tries.append(probe.name)
        if len(tries) == 1:
            raise AttachError(probe.name, "no room") from SyscallError("perf_event_open", errno.EMFILE)
        return Link([])

    monkeypatch.setattr(kprobe, "attach", no_room)
    monkeypatch.setattr("tracebee.kernel.links.raise_nofile", lambda: True)
    attach(PROGRAM, ProbeSpec("kprobe:f", "program", Kprobe("f")), context())
    assert len(tries) == 2
    monkeypatch.setattr("tracebee.kernel.links.raise_nofile", lambda: False)
    tries.clear()
    with pytest.raises(AttachError):
        attach(PROGRAM, ProbeSpec("kprobe:f", "program", Kprobe("f")), context())
    assert len(tries) == 1


def test_the_limit_is_put_back_for_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(60, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: limits.append(pair))
    monkeypatch.setattr(nofile, "_before", [])
    nofile.restore_nofile()
    assert limits == [(60, 4096)]
    assert nofile.raise_nofile()
    assert limits[-1] == (4096, 4096)
    assert not nofile.raise_nofile()
    nofile.restore_nofile()
    assert limits[-1] == (60, 4096)


def test_the_hint_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (60, 4096))
    assert "4096 files" in perf.hint_for(SyscallError("perf_event_open", errno.EMFILE))


# --- counters


@pytest.mark.parametrize(("number", "told"), [(errno.ENOENT, True), (errno.EACCES, False)])
def test_a_processor_without_counters_is_told(
    monkeypatch: pytest.MonkeyPatch, number: int, told: bool
) -> None:
    from tracebee.kernel.links import perfevent

    def refuse(**options: Any) -> int:
        raise SyscallError("perf_event_open", number)

    monkeypatch.setattr(perf_calls, "perf_event_open", refuse)
    probe = ProbeSpec("hardware:cycles:1000", "program", PerfEvent(0, 0, 1000))
    with pytest.raises(AttachError) as caught:
        perfevent.attach(PROGRAM, probe, context())
    assert ("no counter for cycles" in caught.value.reason) is told
