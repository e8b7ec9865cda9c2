"""The tracepoints that ship with the package: their records, their numbers, and what this machine says of them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from tracebee.errors import NotSupportedError, PermissionRefused
from tracebee.host.identity import syscall_names
from tracebee.host.tracefs import TraceFs, TracepointField, TracepointFormat, parse_format
from tracebee.host.tracepoints import RENAMED, ShippedTracepoints, syscall_numbers

MACHINES = ("x86_64", "aarch64")

COMMON = """\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
"""

NUMBER = "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n"


def format_text(name: str, fields: str, id_: int = 0) -> str:
    return f'name: {name}\nID: {id_}\nformat:\n{COMMON}\n{fields}\nprint fmt: "x"\n'


def argument(declaration: str, position: int) -> str:
    return f"\tfield:{declaration};\toffset:{16 + 8 * position};\tsize:8;\tsigned:0;\n"


# ---------------------------------------------------------------------- records


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("category", "name", "fields"),
    [
        (
            "syscalls",
            "sys_enter_openat",
            NUMBER
            + argument("int dfd", 0)
            + argument("const char * filename", 1)
            + argument("int flags", 2)
            + argument("umode_t mode", 3),
        ),
        ("syscalls", "sys_enter_getpid", NUMBER),
        (
            "syscalls",
            "sys_exit_openat",
            NUMBER + "\tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;\n",
        ),
        (
            "raw_syscalls",
            "sys_enter",
            "\tfield:long id;\toffset:8;\tsize:8;\tsigned:1;\n"
            "\tfield:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;\n",
        ),
        (
            "raw_syscalls",
            "sys_exit",
            "\tfield:long id;\toffset:8;\tsize:8;\tsigned:1;\n\tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;\n",
        ),
        (
            "sched",
            "sched_process_fork",
            "\tfield:char parent_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n"
            "\tfield:pid_t parent_pid;\toffset:24;\tsize:4;\tsigned:1;\n"
            "\tfield:char child_comm[16];\toffset:28;\tsize:16;\tsigned:0;\n"
            "\tfield:pid_t child_pid;\toffset:44;\tsize:4;\tsigned:1;\n",
        ),
        (
            "sched",
            "sched_process_exec",
            "\tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;\n"
            "\tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;\n"
            "\tfield:pid_t old_pid;\toffset:16;\tsize:4;\tsigned:1;\n",
        ),
        (
            "sched",
            "sched_process_exit",
            "\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n"
            "\tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;\n"
            "\tfield:int prio;\toffset:28;\tsize:4;\tsigned:1;\n",
        ),
        (
            "signal",
            "signal_deliver",
            "\tfield:int sig;\toffset:8;\tsize:4;\tsigned:1;\n"
            "\tfield:int errno;\toffset:12;\tsize:4;\tsigned:1;\n"
            "\tfield:int code;\toffset:16;\tsize:4;\tsigned:1;\n"
            "\tfield:unsigned long sa_handler;\toffset:24;\tsize:8;\tsigned:0;\n"
            "\tfield:unsigned long sa_flags;\toffset:32;\tsize:8;\tsigned:0;\n",
        ),
    ],
)
def test_a_record_is_what_a_format_file_says(machine: str, category: str, name: str, fields: str) -> None:
    assert ShippedTracepoints(machine).format(category, name) == parse_format(format_text(name, fields))


def test_clone_by_machine() -> None:
    """CLONE_BACKWARDS puts tls before child_tidptr."""
    names = {
        machine: [
            field.name for field in ShippedTracepoints(machine).format("syscalls", "sys_enter_clone").fields
        ]
        for machine in MACHINES
    }
    assert names["x86_64"][-2:] == ["child_tidptr", "tls"]
    assert names["aarch64"][-2:] == ["tls", "child_tidptr"]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_format_can_be_made(machine: str) -> None:
    shipped = ShippedTracepoints(machine)
    events = list(shipped.events())
    assert len(events) == len(set(events)) > 600
    for category, name in events:
        assert shipped.has_event(category, name)
        found = shipped.format(category, name)
        assert found.name == name
        end = 8
        for field in found.arguments:
            assert field.offset >= end
            end = field.offset + field.size
        if category == "syscalls":
            assert len(found.arguments) <= 7
            assert not any(field.data_loc for field in found.fields)


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("syscalls", "sys_enter_frobnicate"),
        ("syscalls", "openat"),
        ("syscalls", "sys_enter_"),
        ("syscalls", "sys_enter_stat"),
        ("sched", "sched_switch"),
        ("sched", "sys_enter"),
        ("raw_syscalls", "sys_enter_openat"),
        ("", ""),
    ],
)
def test_no_such_event(category: str, name: str) -> None:
    shipped = ShippedTracepoints("x86_64")
    assert not shipped.has_event(category, name)
    with pytest.raises(KeyError, match=f"{category}:{name}"):
        shipped.format(category, name)


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("machine", "name", "number"),
    [
        ("x86_64", "read", 0),
        ("x86_64", "newfstat", 5),
        ("x86_64", "sendfile64", 40),
        ("x86_64", "newuname", 63),
        ("x86_64", "personality", 135),
        ("x86_64", "umount", 166),
        ("x86_64", "fadvise64", 221),
        ("x86_64", "newfstatat", 262),
        ("aarch64", "umount", 39),
        ("aarch64", "sendfile64", 71),
        ("aarch64", "newfstatat", 79),
        ("aarch64", "newfstat", 80),
        ("aarch64", "arm64_personality", 92),
        ("aarch64", "newuname", 160),
        ("aarch64", "fadvise64_64", 223),
    ],
)
def test_number_and_name(machine: str, name: str, number: int) -> None:
    shipped = ShippedTracepoints(machine)
    assert shipped.syscall_of(f"sys_enter_{name}") == number
    assert shipped.syscall_of(f"sys_exit_{name}") == number
    assert shipped.event_of(number) == name
    assert shipped.has_event("syscalls", f"sys_enter_{name}")
    assert shipped.has_event("syscalls", f"sys_exit_{name}")


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("x86_64", "fstat"),
        ("x86_64", "arm64_personality"),
        ("x86_64", "fadvise64_64"),
        ("aarch64", "personality"),
        ("aarch64", "fadvise64"),
        ("aarch64", "open"),
        ("aarch64", "arch_prctl"),
    ],
)
def test_what_a_machine_does_not_have(machine: str, name: str) -> None:
    shipped = ShippedTracepoints(machine)
    assert not shipped.has_event("syscalls", f"sys_enter_{name}")
    assert shipped.syscall_of(f"sys_enter_{name}") is None


NO_TRACEPOINT = {
    "x86_64": {
        *("_sysctl", "afs_syscall", "create_module", "epoll_ctl_old", "epoll_wait_old", "get_kernel_syms"),
        *("get_thread_area", "getpmsg", "nfsservctl", "putpmsg", "query_module", "security"),
        *("set_thread_area", "tuxcall", "uselib", "vserver"),
    },
    "aarch64": {"nfsservctl"},
}
"""Numbers that no kernel since 5.10 has more than an entry "not implemented" for, as usually configured."""


@pytest.mark.parametrize("machine", MACHINES)
def test_every_system_call_is_there(machine: str) -> None:
    shipped = ShippedTracepoints(machine)
    names = syscall_names(machine)
    assert {name for number, name in names.items() if shipped.event_of(number) is None} == NO_TRACEPOINT[
        machine
    ]
    calls = {name.removeprefix("sys_enter_") for _, name in shipped.events() if name.startswith("sys_enter_")}
    numbers = [shipped.syscall_of(name) for name in calls]
    assert set(numbers) <= set(names)
    assert len(set(numbers)) == len(numbers)


def test_another_machine_has_no_system_calls() -> None:
    shipped = ShippedTracepoints("vax")
    assert {category for category, _ in shipped.events()} == {"raw_syscalls", "sched", "signal"}
    assert shipped.event_of(0) is None


def test_numbers_by_the_names_of_tracepoints() -> None:
    x86, arm = syscall_numbers("x86_64"), syscall_numbers("aarch64")
    assert x86["newstat"] == x86["stat"] == 4
    assert x86["read"] == 0
    assert arm["arm64_personality"] == 92
    assert "newstat" not in arm
    assert syscall_numbers("vax") == {}
    assert not RENAMED.keys() & {name for machine in MACHINES for name in syscall_names(machine).values()}


# ---------------------------------------------------------------------- this machine

NEWER_FIELDS = {"sys_enter_bpf": {"uattr_common", "size_common"}}
"""What only kernels after 6.18 have."""

REWRITTEN = {
    ("sys_enter_futex", "utime"),
    ("sys_enter_getcpu", "unused"),
    ("sys_enter_name_to_handle_at", "mnt_id"),
    ("sys_enter_semop", "nsops"),
}
"""Arguments whose type kernels since 5.10 have written in two ways."""

MOVED = {"sched_process_fork": ("parent_comm", "parent_pid", "child_comm", "child_pid")}
"""Kernels after 6.12 have the names elsewhere; what is the same is which fields there are."""

BEHIND = {"sched_process_exit": {"group_dead"}}
"""Fields that newer kernels have behind those that ship."""


@pytest.fixture(scope="module")
def tracefs() -> TraceFs:
    from tracebee.session.machine import LiveMachine

    if os.uname().machine not in MACHINES:
        pytest.skip(f"no formats of system calls ship for {os.uname().machine}")
    try:
        tracefs = LiveMachine().tracefs
        tracefs.categories()
    except (PermissionRefused, NotSupportedError, OSError) as error:
        pytest.skip(f"tracefs cannot be read: {error}")
    return tracefs


def comparable(event: str, field: TracepointField) -> tuple[object, ...]:
    """A field, without what is known to differ: char is unsigned since 6.2 (-funsigned-char)."""
    c_type = "" if (event, field.name) in REWRITTEN else field.c_type
    signed = field.c_type != "char" and field.signed
    place = (field.offset, field.size, field.count, field.is_array, field.data_loc, field.is_common)
    return (field.name, c_type, signed, *place)


def expected(
    category: str, ours: TracepointFormat, theirs: TracepointFormat
) -> tuple[list[object], list[object]]:
    """What of a shipped format and of the machine's has to be equal."""
    known = {field.name for field in theirs.fields}
    newer = NEWER_FIELDS.get(ours.name, set()) - known
    behind = BEHIND.get(ours.name, set())
    return (
        [comparable(ours.name, field) for field in ours.fields if field.name not in newer],
        [
            comparable(ours.name, field)
            for field in theirs.fields
            if field.name not in behind and not (category == "syscalls" and field.data_loc)
        ],
    )


def test_formats_are_this_machines(tracefs: TraceFs) -> None:
    shipped = ShippedTracepoints(os.uname().machine)
    different = []
    compared = 0
    for category, name in tracefs.events():
        if not shipped.has_event(category, name):
            continue
        ours, theirs = shipped.format(category, name), tracefs.format(category, name)
        compared += 1
        if name in MOVED:
            assert MOVED[name] == tuple(field.name for field in theirs.arguments)
            assert MOVED[name] == tuple(field.name for field in ours.arguments)
            continue
        one, other = expected(category, ours, theirs)
        if one != other:
            different.append((ours, theirs))
    assert different == []
    assert compared > 500


def test_every_system_call_of_this_machine_is_there(tracefs: TraceFs) -> None:
    shipped = ShippedTracepoints(os.uname().machine)
    found = tracefs.events_of("syscalls")
    if not found:
        pytest.skip("a kernel without CONFIG_FTRACE_SYSCALLS")
    numbers = syscall_numbers()
    for event in found:
        name = event.removeprefix("sys_enter_").removeprefix("sys_exit_")
        # A kernel newer than the table of numbers has calls that are not in it.
        if name in numbers:
            assert shipped.has_event("syscalls", event)
            assert shipped.syscall_of(event) == numbers[name]


# ---------------------------------------------------------------------- the generator


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    path = Path(__file__).parents[3] / "tools" / "gen_tracepoints.py"
    spec = importlib.util.spec_from_file_location("gen_tracepoints", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RESULT = NUMBER + "\tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;\n"


def call_text(name: str, *declarations: str) -> str:
    fields = "".join(argument(text, position) for position, text in enumerate(declarations))
    return format_text(f"sys_enter_{name}", NUMBER + fields) + format_text(f"sys_exit_{name}", RESULT)


def calls(generator: ModuleType, *texts: str) -> dict[str, str]:
    kernels = [generator.Kernel("x86_64", f"7.{minor}", text) for minor, text in enumerate(texts)]
    found = generator.calls_of(kernels)
    assert isinstance(found, dict)
    return found


def test_calls_of_all_kernels_are_put_together(generator: ModuleType) -> None:
    copied = "\tfield:__data_loc char[] __path_val;\toffset:24;\tsize:4;\tsigned:0;\n"
    text = format_text("sys_enter_chdir", NUMBER + argument("const char * path", 0) + copied)
    found = calls(
        generator,
        "[ 1.0] a line of the console\r\n" + call_text("read", "int fd", "char * buf").replace("\n", "\r\n"),
        call_text("read", "int fd", "char * buf") + text + format_text("sys_exit_chdir", RESULT) + "# end\n",
    )
    assert found == {"chdir": "const char * path", "read": "int fd, char * buf"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((call_text("read", "int fd"), call_text("read", "long fd")), "kernels differ"),
        ((call_text("read", "int fd").partition("name: sys_exit")[0],), "without sys_exit_read"),
        (
            (
                call_text("read", "int fd").replace(
                    "offset:16;\tsize:8;\tsigned:0", "offset:24;\tsize:8;\tsigned:0"
                ),
            ),
            "fd",
        ),
        ((call_text("read", "int fd").replace("common_pid", "common_tid"),), "other common fields"),
        ((format_text("sys_enter_x", "\tfield:int y;\toffset:8;\tsize:4;\tsigned:1;\n"),), "no system call"),
        ((format_text("sys_exit_x", NUMBER),), "another record"),
        (
            (
                format_text(
                    "sys_enter_x",
                    NUMBER
                    + "\tfield:__data_loc char[] a;\toffset:16;\tsize:4;\tsigned:0;\n"
                    + argument("int b", 1),
                ),
            ),
            "behind a copied one",
        ),
        ((call_text("read", "int fd") + call_text("read", "long fd"),), "twice"),
    ],
)
def test_what_is_not_understood_is_refused(
    generator: ModuleType, texts: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        calls(generator, *texts)


def test_machines_have_to_agree(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "CONFIGURED_AWAY", {"aarch64": {"dup"}})
    monkeypatch.setattr(generator, "BY_HAND", {})
    x86 = {"clone": "int a, int b", "dup": "int fd", "personality": "int p", "open": ""}
    arm = {"clone": "int b, int a", "arm64_personality": "int p"}
    every, own = generator.merge({"x86_64": x86, "aarch64": arm})
    assert every == x86 | {"arm64_personality": "int p"}
    assert own == {
        "x86_64": {"arm64_personality": None},
        "aarch64": {"clone": "int b, int a", "personality": None},
    }
    with pytest.raises(SystemExit, match=r"dup: aarch64 has \(long fd\)"):
        generator.merge({"x86_64": x86, "aarch64": arm | {"dup": "long fd"}})
    with pytest.raises(SystemExit, match="x86_64: no number for frobnicate"):
        generator.merge({"x86_64": x86 | {"frobnicate": ""}})
    with pytest.raises(SystemExit, match="aarch64: no tracepoints for chdir, dup"):
        generator.merge({"x86_64": x86 | {"chdir": ""}, "aarch64": arm})
