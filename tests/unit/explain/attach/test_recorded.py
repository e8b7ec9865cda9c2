"""Records of attempts: read with care, whatever they hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tracebee.explain.attach.attempt import kind_of, parse_probe_event
from tracebee.explain.attach.diagnose import diagnose
from tracebee.explain.attach.recorded import read_attempt

RECORD: dict[str, Any] = {
    "request": {"operation": "kprobe event (tracefs)", "target": ["r:grp/ev hunt+4 a=%di"]},
    "steps": [{"call": "write(/sys/kernel/tracing/kprobe_events)", "ok": False, "errno": "EINVAL"}],
    "environment": {
        "uname_release": "6.6.1",
        "files": {"/sys/kernel/security/lockdown": "[none] x", "/a": "cat: can't open '/a': Not permitted"},
        "kallsyms_matches": ["ffffffff81000010 t hunt\t[snark]", "T bare", "nonsense line here it is"],
        "available_filter_functions_matches": ["hunt [snark]"],
        "kprobe_blacklist_matches": ["0xffffffff81000010-0xffffffff81000020\tother"],
        "proc_self_status": {"Uid": "0\t1000\t0\t0", "CapEff": "0000000000200000", "Seccomp": "2"},
        "limits": {
            "Max open files": {"soft": "99", "hard": "99"},
            "Max locked memory": {"soft": "unlimited"},
        },
        "uid_map": ["0", "0", "4294967295"],
        "btf": ["FUNC 'hunt' found", "FUNC 'gone' not found"],
    },
}


def test_a_whole_record() -> None:
    attempt = read_attempt(RECORD)
    machine = attempt.machine
    assert (attempt.kind, attempt.target, attempt.offset, attempt.is_return) == (
        "kprobe event",
        "hunt",
        4,
        True,
    )
    assert attempt.errno == "EINVAL"
    assert machine.version() == (6, 6, 1)
    assert machine.symbols is not None
    assert [(one.name, one.letter, one.address, one.module) for one in machine.symbols] == [
        ("hunt", "t", 0xFFFFFFFF81000010, "snark"),
        ("bare", "T", None, ""),
    ]
    assert (machine.traceable, machine.blacklist) == (("hunt",), ("other",))
    assert (machine.uid, machine.seccomp, machine.has("CAP_BPF")) == (1000, 2, True)
    assert machine.limits == {"nofile": 99, "memlock": -1}
    assert machine.unreadable == {"/a": "Not permitted"}
    assert machine.btf_functions == {"hunt": True, "gone": False}
    assert machine.is_namespaced is False


def test_what_is_not_recorded_is_not_known() -> None:
    machine = read_attempt({}).machine
    assert machine.symbols is None
    assert machine.has("CAP_BPF") is None
    assert machine.is_older_than("5.0") is None
    assert machine.mount_points("tracefs") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("az_.:/[]0x% \n", max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("az_.:/", max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*RECORD, "dmesg", "verifier_log", "loader_text"]), JSON))
def test_no_record_raises(record: dict[str, Any]) -> None:
    diagnose(read_attempt(record)).text()


@given(
    st.sampled_from(
        ["kprobe", "fentry", "tracepoint", "uprobe", "map create", "pin", "kprobe.multi", "lsm", "load"]
    ),
    st.lists(st.text("az_.:/[]0x% \n", max_size=12), max_size=3),
    st.sampled_from(["ENOENT", "EINVAL", "EPERM", "EACCES", "EBUSY", "ENOTSUPP", "", "E2BIG", "ESRCH"]),
    st.dictionaries(st.sampled_from(list(RECORD["environment"])), JSON),
)
def test_no_attempt_raises(
    operation: str, targets: list[str], errno: str, environment: dict[str, Any]
) -> None:
    call = {"call": "bpf(BPF_LINK_CREATE)", "errno": errno, "ok": not errno}
    request = {"operation": operation, "target": targets, "map": {"type": "hash", "key_size": 0}}
    found = diagnose(read_attempt({"request": request, "steps": [call], "environment": environment}))
    assert found.sentence


def test_kinds_by_their_words() -> None:
    for words, kind in (
        ("kprobe (perf_event_open)", "kprobe"),
        ("kretprobe event (tracefs)", "kprobe event"),
        ("kprobe.multi", "kprobe.multi"),
        ("uprobe (perf_event_open)", "uprobe"),
        ("raw tracepoint", "raw tracepoint"),
        ("tracepoint", "tracepoint"),
        ("map create", "map"),
        ("read a file", "file"),
        ("program load", "load"),
        ("something else", "something else"),
    ):
        assert kind_of(words) == kind


def test_lines_of_probe_events() -> None:
    found = parse_probe_event("r10:g/e f+0x8 a=%di b=$retval")
    assert found is not None
    assert (found.is_return, found.group, found.name, found.place) == (True, "g", "e", "f+0x8")
    assert found.arguments == ("a=%di", "b=$retval")
    assert parse_probe_event("nonsense") is None
    assert parse_probe_event("-:g/e x") is None
