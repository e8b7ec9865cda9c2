"""tracebee.session.objects: objects before they are loaded, which touches nothing of this machine."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import tracebee
from tracebee.errors import FormatError, UsageError
from tracebee.session.objects.events import candidate_types, event_codec, evident_type, find_type
from tracebee.session.objects.targets import read_target
from tracebee.spec.objects import Cgroup, NetworkNamespace, PerfEvent, Tcx, Tracepoint, Xdp

ROOT = Path(__file__).parents[4]
OBJECTS = ROOT / "tests/data/objects"
SNOOP = ROOT / "examples/opensnoop/opensnoop.bpf.o"


class Here:
    """A machine that nothing may be asked of but its types, and that has none."""

    def btf(self) -> None:
        return None


@pytest.fixture
def snoop() -> tracebee.Object:
    return tracebee.Object.from_elf(SNOOP)


def contents(found: tracebee.Object, section: str) -> bytes:
    spec = found.make_spec(Here())  # type: ignore[arg-type]
    return next(one.contents for one in spec.maps if one.name == section)


# ---------------------------------------------------------------------- variables


def test_variables_have_their_types(snoop: tracebee.Object) -> None:
    assert dict(snoop.variables) == {
        "targ_pid": 0,
        "targ_tgid": 0,
        "targ_uid": 0xFFFFFFFF,
        "targ_failed": False,
    }
    assert snoop.variables["targ_failed"] is False
    assert snoop.variables.describe("targ_pid").type == "u32"


def test_constants_get_into_what_is_loaded() -> None:
    found = tracebee.Object.from_elf(SNOOP, constants={"targ_pid": 123, "targ_failed": True})
    assert contents(found, ".rodata") == struct.pack("<IIIB", 123, 0, 0xFFFFFFFF, 1)
    found.variables["targ_pid"] = 7
    assert found.variables["targ_pid"] == 7
    assert contents(found, ".rodata")[:4] == b"\x07\0\0\0"


def test_variables_of_all_sections() -> None:
    found = tracebee.Object.from_elf((OBJECTS / "openers.bpf.o").read_bytes())
    assert found.variables["greeting"] == "hello"
    assert (found.variables["largest"], found.variables["calls"]) == (5, 0)
    found.variables["calls"] = 9
    found.variables["greeting"] = "bye"
    assert contents(found, ".bss")[:8] == struct.pack("<Q", 9)
    assert contents(found, ".rodata")[4:12] == b"bye\0\0\0\0\0"


@pytest.mark.parametrize(
    ("constants", "message", "hint"),
    [
        ({"targ_pod": 1}, "the object has no constant 'targ_pod'", "did you mean 'targ_pid'?"),
        (
            {"nothing_like_it": 1},
            "the object has no constant 'nothing_like_it'",
            "it has targ_pid, targ_tgid",
        ),
        ({"targ_pid": 1 << 32}, "must be 0 to 4294967295", ""),
        ({"targ_pid": "x"}, "'x' is no u32", ""),
    ],
)
def test_constants_that_are_none(constants: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        tracebee.Object.from_elf(SNOOP, constants=constants)
    assert hint in caught.value.hint


def test_a_variable_is_no_constant() -> None:
    with pytest.raises(UsageError, match=r"largest is no constant, but a variable of \.data"):
        tracebee.Object.from_elf(OBJECTS / "openers.bpf.o", constants={"largest": 1})


def test_an_unknown_variable_has_a_nearest_one(snoop: tracebee.Object) -> None:
    with pytest.raises(KeyError, match="did you mean 'targ_uid'"):
        snoop.variables["targ_uit"]


# ---------------------------------------------------------------------- programs and maps


def test_programs_say_what_they_are(snoop: tracebee.Object) -> None:
    assert list(snoop.programs)[:2] == ["enter_open", "enter_openat"]
    program = snoop.programs["enter_openat"]
    assert (program.type, program.section) == ("TRACEPOINT", "tracepoint/syscalls/sys_enter_openat")
    assert program.hook == "a tracepoint"
    assert program.place == Tracepoint("syscalls", "sys_enter_openat")
    assert program.autoload
    with pytest.raises(KeyError, match="did you mean 'enter_open'"):
        snoop.programs["enter_opn"]


def test_what_is_loaded_is_a_choice() -> None:
    found = tracebee.Object.from_elf(OBJECTS / "watch.bpf.o")
    assert not found.programs["elsewhere"].autoload  # its section begins with a question mark
    found.programs["elsewhere"].autoload = True
    found.programs["any_call"].autoload = False
    spec = found.make_spec(Here())  # type: ignore[arg-type]
    assert [one.name for one in spec.programs] == ["enter_setlocale", "elsewhere"]


def test_maps_can_be_made_larger(snoop: tracebee.Object) -> None:
    snoop.maps["start"].max_entries = 5
    spec = snoop.make_spec(Here())  # type: ignore[arg-type]
    assert {one.name: one.max_entries for one in spec.maps if not one.name.startswith(".")} == {
        "start": 5,
        "events": 0,
    }
    with pytest.raises(UsageError, match="is no number of entries"):
        snoop.maps["start"].max_entries = 0


def test_nothing_works_before_loading(snoop: tracebee.Object) -> None:
    for call in (snoop.attach, snoop.events, snoop.notices, lambda: snoop.programs["enter_open"].fd):
        with pytest.raises(UsageError, match="not loaded"):
            call()
    assert not snoop.is_loaded
    snoop.close()


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        tracebee.Object.from_elf(tmp_path / "nothing.o")
    with pytest.raises(FormatError):
        tracebee.Object.from_elf(b"\x7fELF")
    (tmp_path / "types").write_bytes(b"nonsense" * 4)
    with pytest.raises(FormatError, match="types: BTF"):
        tracebee.Object.from_elf(SNOOP, btf=tmp_path / "types")


# ---------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("name", "target", "place"),
    [
        ("x", "eth0", Xdp("eth0", "")),
        ("x", "eth0:generic", Xdp("eth0", "generic")),
        ("tc/egress", "lo", Tcx("lo", True)),
        ("tcx/ingress", "lo", Tcx("lo", False)),
        ("cgroup_skb/egress", "/sys/fs/cgroup/a", Cgroup("/sys/fs/cgroup/a")),
        ("sk_lookup", "/proc/1/ns/net", NetworkNamespace("/proc/1/ns/net")),
        ("perf_event", "hz:99", PerfEvent(1, 0, 0, 99)),
        ("perf_event", "0:3:1000", PerfEvent(0, 3, 1000)),
        ("tp", "sched/sched_switch", Tracepoint("sched", "sched_switch")),
    ],
)
def test_targets_in_words(name: str, target: str, place: object) -> None:
    from tracebee.object.hooks import read_section

    hook = read_section("xdp" if name == "x" else name).hook
    assert read_target(target, hook, "program") == place


@pytest.mark.parametrize(
    ("name", "target", "hint"),
    [
        ("perf_event", "fast", "hz:FREQUENCY"),
        ("perf_event", "hz:0", "hz:FREQUENCY"),
        ("tp", "sched", "category/event"),
        ("socket", "eth0", "the descriptor of a socket"),
        ("fentry", "vfs_read", 'SEC("fentry/vfs_read")'),
    ],
)
def test_targets_that_make_no_sense(name: str, target: str, hint: str) -> None:
    from tracebee.object.hooks import read_section

    with pytest.raises(UsageError) as caught:
        read_target(target, read_section(name).hook, "program")
    assert hint in caught.value.hint


# ---------------------------------------------------------------------- types of events


def test_the_type_of_events_is_found(snoop: tracebee.Object) -> None:
    assert find_type(snoop.btf, "event")[0] == find_type(snoop.btf, "struct event")[0]
    with pytest.raises(UsageError) as caught:
        find_type(snoop.btf, "evnt")
    assert caught.value.hint == "did you mean 'event'?"
    with pytest.raises(UsageError, match="no type 'union event'"):
        find_type(snoop.btf, "union event")
    assert {"event", "call", "enter"} <= set(candidate_types(snoop.btf))


def test_the_type_of_events_may_be_evident(snoop: tracebee.Object) -> None:
    assert snoop.buffers == {"events": "struct event"}
    assert evident_type(None, snoop.maps["events"].spec) == ""
    found = tracebee.Object.from_elf(OBJECTS / "watch.bpf.o")
    assert found.buffers == {"openings": "", "calls": ""}


def test_a_record_has_the_names_of_its_members(snoop: tracebee.Object) -> None:
    codec = event_codec(snoop.btf, "event")
    data = struct.pack("<QIIIii16s256s", 5, 1, 2, 3, -2, 4, b"cat", b"/etc/hostname")
    event = codec.decode(data.ljust(codec.size, b"\0"))
    assert (event.when, event.ret, event.comm, event.path) == (5, -2, "cat", "/etc/hostname")


def test_a_member_may_be_called_like_a_method_of_tuples() -> None:
    found = tracebee.Object.from_elf(OBJECTS / "watch.bpf.o")
    event = event_codec(found.btf, "opened").decode(struct.pack("<II56s", 1, 33, b"x"))
    assert event.count == 33
