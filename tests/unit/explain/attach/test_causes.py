"""Each cause from facts and answers of our own making: what tells it, and what must not be taken for it."""

from __future__ import annotations

from typing import Any

import pytest

from tracebee.explain.attach.attempt import Attempt, Call, MapRequest, make_attempt
from tracebee.explain.attach.causes import CAUSES
from tracebee.explain.attach.diagnose import diagnose, obstacles
from tracebee.explain.attach.machine import (
    KPROBES_ENABLED,
    LOCKDOWN,
    LSM_LIST,
    MOUNTS,
    Machine,
    PathFacts,
    Symbol,
)

LOAD = Call("bpf(BPF_PROG_LOAD)")
ALL_RIGHTS = (1 << 41) - 1
BPF_AND_PERFMON = 1 << 39 | 1 << 38
TRACEFS = "t /sys/kernel/tracing tracefs rw 0 0\nb /sys/fs/bpf bpf rw 0 0"


def machine(release: str = "6.1.100", **facts: Any) -> Machine:
    """A machine where root may do everything and every list was read; `files` are added to the usual ones."""
    files = {LOCKDOWN: "[none] integrity confidentiality", MOUNTS: TRACEFS} | facts.pop("files", {})
    values: dict[str, Any] = {
        "release": release,
        "arch": "x86_64",
        "capabilities": ALL_RIGHTS,
        "uid": 0,
        "seccomp": 0,
        "is_namespaced": False,
        "event_sources": ("kprobe", "software", "tracepoint", "uprobe"),
        "symbols": (),
        "traceable": (),
        "blacklist": (),
    }
    return Machine(files=files, **(values | facts))


def code(*names: str) -> tuple[Symbol, ...]:
    return tuple(Symbol(name, "t", 0xFFFFFFFF81000000 + 64 * number) for number, name in enumerate(names, 1))


def kprobe(name: str, errno: str, where: Machine, *, load: str = "", **facts: Any) -> Attempt:
    """A kprobe by perf_event_open(2)."""
    calls = (Call(LOAD.what, load), Call("perf_event_open(kprobe)", errno))
    return make_attempt("kprobe (perf_event_open)", (name,), where, calls=calls, **facts)


def event(line: str, errno: str, where: Machine, said: str = "") -> Attempt:
    """A line for kprobe_events or uprobe_events."""
    kind = "uprobe" if "/" in line.split()[1] else "kprobe"
    caret = " " * (len("  Command: ") + line.rfind(" ") + 1)
    log = f"[  1.0] trace_{kind}: error: {said}\n  Command: {line}\n{caret}^" if said else ""
    calls = (Call(f"write(/sys/kernel/tracing/{kind}_events)", errno),)
    return make_attempt(f"{kind} event (tracefs)", (line,), where, calls=calls, error_log=log)


def told(attempt: Attempt, cause: str, *words: str, sure: bool = True) -> None:
    """The diagnosis has this cause, and a person can read these words in the first lines."""
    found = diagnose(attempt)
    assert (found.cause, found.sure) == (cause, sure), found.text()
    assert found.cause in CAUSES
    shown = found.text()[:1200].lower()
    assert all(word.lower() in shown for word in words), shown


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("errno", ["ENOENT", "EINVAL"])
@pytest.mark.parametrize("name", ["sys_fchmodat", "SyS_fchmodat"])
def test_a_syscall_has_the_name_of_its_wrapper(name: str, errno: str) -> None:
    symbols = code("__x64_sys_fchmodat", "__ia32_sys_fchmodat")
    told(kprobe(name, errno, machine(symbols=symbols)), "syscall-renamed", "__x64_sys_fchmodat", "4.17")


def test_a_wrapper_of_another_architecture() -> None:
    where = machine(symbols=code("__arm64_sys_dup"), arch="aarch64")
    told(kprobe("__x64_sys_dup", "ENOENT", where), "syscall-renamed", "__arm64_sys_dup")


def test_before_wrappers_the_plain_name_is_not_renamed() -> None:
    found = diagnose(kprobe("sys_nothing", "ENOENT", machine("4.14.3", symbols=code("sys_other"))))
    assert found.cause != "syscall-renamed"


@pytest.mark.parametrize(
    "suffix", [".isra.0", ".part.3", ".constprop.0", ".isra.0.constprop.1", ".llvm.98127"]
)
def test_only_a_variant_is_there(suffix: str) -> None:
    where = machine(symbols=code(f"mangle{suffix}", "mangle.cold"))
    told(kprobe("mangle", "ENOENT", where), "suffixed-variant", f"mangle{suffix}", "compiler")


def test_a_cold_part_is_no_variant() -> None:
    told(kprobe("mangle", "ENOENT", machine(symbols=code("mangle.cold"))), "inlined-or-missing", "no symbol")


def test_a_function_that_was_replaced() -> None:
    where = machine("6.12.1", symbols=code("handle_softirqs", "sched_tick"))
    told(kprobe("scheduler_tick", "ENOENT", where), "renamed-function", "sched_tick", "6.10")


def test_a_replacement_of_later_kernels_is_not_offered_before() -> None:
    assert diagnose(kprobe("scheduler_tick", "ENOENT", machine("6.1.0"))).cause != "renamed-function"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("Udp_Sendmsg", "udp_sendmsg"),
        ("ip_outptu", "ip_output"),
        ("tcpsendmsg", "tcp_sendmsg"),
        ("ip_ouput", "ip_output"),
    ],
)
def test_slips_of_the_hand(name: str, right: str) -> None:
    told(kprobe(name, "ENOENT", machine(symbols=code(right))), "misspelt", right)


@pytest.mark.parametrize("other", ["tcp_v6_rcv", "tcp_v4_send", "ip_v4_rcv", "tcq_v4_rcv"])
def test_another_word_is_no_slip(other: str) -> None:
    assert diagnose(kprobe("tcp_v4_rcv", "ENOENT", machine(symbols=code(other)))).cause != "misspelt"


def test_a_module_that_is_not_loaded() -> None:
    told(kprobe("btrfs_sync_log", "ENOENT", machine()), "module-not-loaded", "modprobe btrfs")


def test_a_loaded_module_is_not_blamed() -> None:
    where = machine(modules=("btrfs",))
    assert diagnose(kprobe("btrfs_sync_log", "ENOENT", where)).cause == "inlined-or-missing"


def test_a_module_known_from_the_disk() -> None:
    where = machine(modules=(), module_files=("snark",))
    told(kprobe("snark_hunt", "ENOENT", where), "module-not-loaded", "snark")


def test_inlined_where_btf_has_it() -> None:
    where = machine(btf_functions={"small_one": True})
    told(kprobe("small_one", "ENOENT", where), "inlined-or-missing", "inlined", "BTF")


def test_an_unreadable_list_is_not_an_empty_one() -> None:
    where = machine(symbols=None, unreadable={"/proc/kallsyms": "Permission denied"})
    found = diagnose(kprobe("whatever_it_is", "ENOENT", where))
    assert not found.sure
    assert "Permission denied" in found.text()
    assert "could not be read" in found.sentence


def test_several_functions_of_a_name() -> None:
    where = machine(symbols=code("show", "show", "show"))
    told(kprobe("show", "EADDRNOTAVAIL", where), "ambiguous-symbol", "not unique", "offset")
    told(event("p:a/b show", "EINVAL", where, "The symbol is not unique"), "ambiguous-symbol", "not unique")


def test_an_old_kernel_takes_the_first_of_several() -> None:
    where = machine("5.10.2", symbols=code("show", "show"), traceable=("show",))
    told(kprobe("show", "", where), "ambiguous-symbol", "2")


# ---------------------------------------------------------------------- places


NOT_TRACED = "trace_kprobe: Could not probe notrace function {}"


def test_five_reasons_behind_one_line_of_dmesg() -> None:
    where = machine(
        symbols=(*code("entry_code", "plain"), Symbol("a_table", "D", 1), Symbol("late_thing", "t", 0x5000)),
        blacklist=("entry_code",),
        init_range=(0x4000, 0x6000),
    )
    for name, cause, word in (
        ("entry_code", "blacklisted", "blacklist"),
        ("plain", "notrace", "notrace"),
        ("a_table", "not-a-function", "variable"),
        ("late_thing", "init-function", "boot"),
    ):
        told(kprobe(name, "EINVAL", where, dmesg=(NOT_TRACED.format(name),)), cause, word)


def test_the_blacklist_is_believed_without_a_symbol() -> None:
    where = machine(symbols=code("other"), blacklist=("snark_entry",))
    told(kprobe("snark_entry", "EINVAL", where), "blacklisted", "snark_entry")


def test_a_slip_that_the_loader_met_before_the_load() -> None:
    """libbpf looks the function up in BTF first, and has ESRCH for one that is not there."""
    where = machine(symbols=code("hunt_snark_locked"), btf_functions={"hunt_snark_lockd": False})
    calls = (Call("find BTF id", "ESRCH"),)
    told(Attempt("fentry", ("hunt_snark_lockd",), calls, where), "misspelt", "hunt_snark_locked")


def test_a_name_of_the_start_where_addresses_are_not_known() -> None:
    where = machine(symbols=code("start_kernel", "frob_init"))
    told(kprobe("start_kernel", "EINVAL", where), "init-function", "__init")
    told(kprobe("frob_init", "EINVAL", where), "init-function", "__init", sure=False)


def test_a_traceable_function_is_not_called_notrace() -> None:
    where = machine(symbols=code("fine"), traceable=("fine",))
    assert diagnose(kprobe("fine", "EINVAL", where)).cause == ""


@pytest.mark.parametrize(
    ("attempt", "word"),
    [
        (lambda where: kprobe("fine", "EILSEQ", where, offset=3), "instruction"),
        (lambda where: kprobe("fine+3", "EILSEQ", where), "fine+3"),
        (lambda where: event("r:a/b fine+8", "EINVAL", where), "return"),
        (
            lambda where: event("p:a/b fine+0x40000", "EINVAL", where, "Failed to register probe event"),
            "outside",
        ),
    ],
)
def test_offsets(attempt: Any, word: str) -> None:
    told(attempt(machine(symbols=code("fine"), traceable=("fine",))), "bad-offset", word, "offset")


def test_an_address_that_was_hidden() -> None:
    where = machine(symbols=(Symbol("f", "T", 0),), files={"/proc/sys/kernel/kptr_restrict": "2\n"})
    calls = (Call("perf_event_open(kprobe, addr)", "EINVAL"),)
    told(make_attempt("kprobe at an address", ("0x0",), where, calls=calls), "kptr-restrict", "kptr_restrict")


# ---------------------------------------------------------------------- probe events


@pytest.mark.parametrize(
    ("line", "said", "cause", "word"),
    [
        ("p:g/n fine a=%bogus", "Invalid register name", "bad-fetch-arg", "%bogus"),
        ("p:g/n fine a=$retval", "$retval is not available on probe", "bad-fetch-arg", "r:"),
        ("p:g/n fine a=%di:u128", "Unknown type is specified", "bad-fetch-arg", "type"),
        ("p:g/n fine a=+16(%si", "Dereference brace is not closed", "bad-fetch-arg", "bracket"),
        ("p:g/n fine a=+0($comm)", "$comm can not be dereferenced", "bad-fetch-arg", "$comm"),
        ("p:g/n fine a=@no/", "Invalid memory address", "bad-fetch-arg", "address"),
        ("p:g/n fine a=boojum", "Invalid fetch argument", "bad-fetch-arg", "argument"),
        ("p:g/n fine a=+0(+0(+0(%di)))", "Dereference is too much nested", "bad-fetch-arg", "dereference"),
        ("p:g/n fine $arg* $arg*", "$arg* can be used only once", "bad-fetch-arg", "once"),
        (
            "p:g/n-x fine",
            "Event name must follow the same rules as C identifiers",
            "bad-event-name",
            "identifier",
        ),
        (
            "p:9g/n fine",
            "Group name must follow the same rules as C identifiers",
            "bad-event-name",
            "identifier",
        ),
        ("p:g/n fine", "There is already the exact same probe event", "event-exists", "remove"),
        ("p:g/n /no/file:0x10", "Failed to find the given file", "uprobe-file", "/no/file"),
        ("p:g/n /usr:0x10", "Not a regular file", "uprobe-file", "regular"),
    ],
)
def test_words_of_the_error_log(line: str, said: str, cause: str, word: str) -> None:
    where = machine(symbols=code("fine"), traceable=("fine",))
    told(event(line, "EINVAL", where, said), cause, word)


def test_a_line_without_a_log_is_looked_at_itself() -> None:
    where = machine(symbols=code("fine"), traceable=("fine",))
    told(event("p:g/n fine a=%nope", "EINVAL", where), "bad-fetch-arg", "%nope")
    told(event("p:g.r/a-b fine", "EINVAL", where), "bad-event-name", "identifier")


# ---------------------------------------------------------------------- tracepoints


def tracepoint(errno: str, where: Machine, call: str = "", **facts: Any) -> Attempt:
    calls = (LOAD, Call(call or "open(/sys/kernel/tracing/events/net/snark/id)", errno))
    return make_attempt("tracepoint", ("net", "snark"), where, calls=calls, **facts)


def test_a_tracepoint_that_is_not_there() -> None:
    near = machine(similar_events=("net:snarl",))
    told(tracepoint("ENOENT", near), "tracepoint-missing", "net:snark", "net:snarl")


def test_no_tracefs_is_not_no_tracepoint() -> None:
    told(tracepoint("ENOENT", machine(files={MOUNTS: ""})), "tracefs-not-mounted", "mount -t tracefs")


def test_lockdown_at_boot_empties_tracefs() -> None:
    where = machine(files={LOCKDOWN: "none integrity [confidentiality]"})
    told(tracepoint("ENOENT", where), "lockdown", "lockdown")


FORMAT = "field:int a;\toffset:8;\tsize:4;\tsigned:1;\nfield:int b;\toffset:12;\tsize:4;\tsigned:1;\n"


@pytest.mark.parametrize("call", ["ioctl(PERF_EVENT_IOC_SET_BPF)", "bpf(BPF_LINK_CREATE)"])
def test_eacces_at_attach_is_a_record_that_is_too_short(call: str) -> None:
    attempt = tracepoint("EACCES", machine(event_format=FORMAT), call, context_offset=40)
    told(attempt, "tracepoint-arg-offset", "offset 40", "16 bytes", "format")


def test_eacces_at_open_is_a_right() -> None:
    where = machine(uid=1000, capabilities=BPF_AND_PERFMON)
    told(tracepoint("EACCES", where), "no-capability", "root", "mode")


@pytest.mark.parametrize(
    ("name", "advice"),
    [("net:snark", "write snark"), ("sys_enter_dup", "sys_enter"), ("sys_exit_dup", "sys_exit")],
)
def test_names_of_raw_tracepoints(name: str, advice: str) -> None:
    calls = (LOAD, Call("bpf(BPF_RAW_TRACEPOINT_OPEN)", "ENOENT"))
    told(make_attempt("raw tracepoint", (name,), machine(), calls=calls), "raw-tracepoint-name", advice)


# ---------------------------------------------------------------------- trampolines and links


def link(kind: str, name: str, errno: str, where: Machine, **facts: Any) -> Attempt:
    calls = (LOAD, Call("bpf(BPF_RAW_TRACEPOINT_OPEN)", errno))
    return make_attempt(kind, (name,), where, calls=calls, **facts)


def refused(kind: str, name: str, where: Machine, log: str, errno: str = "EINVAL") -> Attempt:
    calls = (Call(LOAD.what, errno),)
    return make_attempt(kind, (name,), where, calls=calls, verifier_log=f"{log}\nprocessed 0 insns")


def test_trampolines() -> None:
    where = machine(symbols=code("f"), traceable=("f",), btf_functions={"f": True})
    off = machine(symbols=code("f"), files={"/proc/sys/kernel/ftrace_enabled": "0"})
    told(link("fentry", "f", "EBUSY", off), "ftrace-disabled", "ftrace_enabled")
    told(link("fentry", "f", "EBUSY", machine(symbols=code("f"))), "notrace", "notrace")
    told(link("fentry", "f", "EBUSY", where), "fentry-target", "taken")
    told(link("fexit", "f", "ENOTSUPP", machine("5.15.1", arch="aarch64")), "fentry-unsupported", "arm64")
    told(refused("fmod_ret", "f", where, "f() is not modifiable"), "fentry-target", "modif")
    log = "Attaching fexit/fmod_ret to __noreturn functions is rejected. noreturn function 'f'"
    told(refused("fexit", "f", where, log), "fentry-target", "return")
    missing = machine(btf_functions={"g": False})
    told(refused("fentry", "g", missing, "Tracing programs must provide btf_id"), "fentry-target", "BTF")


def test_lsm() -> None:
    off = machine(files={LSM_LIST: "capability,yama"})
    told(link("lsm", "file_open", "", off), "bpf-lsm-off", "lsm=capability,yama,bpf")
    on = machine(files={LSM_LIST: "capability,bpf"})
    assert diagnose(link("lsm", "file_open", "", on)).cause == ""
    none = machine(btf_functions={"bpf_lsm_hunt": False})
    told(refused("lsm", "hunt", none, "Tracing programs must provide btf_id"), "fentry-target", "hook")


def multi(errno: str, where: Machine, names: tuple[str, ...] = ("f", "g"), **facts: Any) -> Attempt:
    calls = (LOAD, Call("bpf(BPF_LINK_CREATE kprobe_multi)", errno))
    return make_attempt("kprobe.multi", names, where, calls=calls, **facts)


def test_multi_kprobes() -> None:
    both = machine("6.12.1", symbols=code("f", "g"), traceable=("f",))
    told(multi("ESRCH", both), "kprobe-multi-symbol", "g (notrace")
    told(
        multi("ESRCH", machine("6.12.1", symbols=code("f"), traceable=("f",))),
        "kprobe-multi-symbol",
        "g (unknown",
    )
    told(multi("ESRCH", machine("6.12.1", symbols=None), ("f", "f")), "kprobe-multi-symbol", "given twice")
    told(multi("EINVAL", machine("5.10.1")), "kprobe-multi-unsupported", "5.18")
    told(multi("EOPNOTSUPP", machine(config={"CONFIG_FPROBE": "n"})), "kprobe-multi-unsupported", "FPROBE")
    told(multi("EINVAL", both, attach_type="0"), "program-type-mismatch", "KPROBE_MULTI")


def test_a_program_of_another_type() -> None:
    call = "ioctl(PERF_EVENT_IOC_SET_BPF)"
    told(
        tracepoint("EINVAL", machine(), call, program_type="xdp"),
        "program-type-mismatch",
        "xdp",
        "tracepoint",
    )


# ---------------------------------------------------------------------- rights and settings


def test_rights_by_what_decides() -> None:
    nobody = {"capabilities": 0, "uid": 1000}
    told(kprobe("f", "EACCES", machine(**nobody), load="EPERM"), "no-capability", "CAP_BPF", "CAP_PERFMON")
    half = machine(capabilities=1 << 39, uid=1000)
    told(kprobe("f", "EACCES", half, load="EPERM"), "no-capability", "CAP_PERFMON is missing")
    old = machine("5.4.1", **nobody)
    told(kprobe("f", "EACCES", old, load="EPERM"), "no-capability", "CAP_SYS_ADMIN")
    inside = machine(is_namespaced=True)
    told(kprobe("f", "EACCES", inside, load="EPERM"), "user-namespace", "user namespace")
    filtered = machine(seccomp=2)
    told(kprobe("f", "EPERM", filtered, load="EPERM"), "seccomp", "seccomp")
    level = {"/proc/sys/kernel/perf_event_paranoid": "4"}
    strict = machine(capabilities=BPF_AND_PERFMON, uid=1000, files=level)
    told(kprobe("f", "EACCES", strict), "perf-paranoid", "perf_event_paranoid is 4")
    full = machine(limits={"nofile": 64})
    told(kprobe("f", "EMFILE", full), "too-many-files", "RLIMIT_NOFILE is 64")


def test_a_container_without_rights_and_with_a_filter_is_not_certain() -> None:
    found = diagnose(kprobe("f", "EPERM", machine(seccomp=2, capabilities=0xA80425FB), load="EPERM"))
    assert {found.cause, *found.others} >= {"no-capability", "seccomp"}


def ring(release: str, **facts: Any) -> Attempt:
    request = MapRequest("ringbuf", 27, 0, 0, 1 << 20, 0)
    calls = (Call("bpf(BPF_MAP_CREATE)", "EPERM"),)
    return make_attempt(
        "map create", (), machine(release, limits={"memlock": 65536}, **facts), calls=calls, map=request
    )


def test_memlock_only_where_the_kernel_counts_it() -> None:
    told(ring("5.10.200"), "memlock", "RLIMIT_MEMLOCK", "65536")
    assert diagnose(ring("5.15.1")).cause != "memlock"
    assert diagnose(ring("5.10.200", capabilities=0)).cause == "no-capability"


@pytest.mark.parametrize(
    ("mode", "dmesg", "errno", "cause"),
    [
        ("none integrity [confidentiality]", (), "EPERM", "lockdown"),
        (
            "[none] integrity confidentiality",
            ("Lockdown: x: use of kprobes is restricted",),
            "EPERM",
            "lockdown",
        ),
        ("none [integrity] confidentiality", (), "EPERM", ""),
    ],
)
def test_lockdown_of_kprobes(mode: str, dmesg: tuple[str, ...], errno: str, cause: str) -> None:
    assert diagnose(kprobe("f", errno, machine(files={LOCKDOWN: mode}), dmesg=dmesg)).cause == cause


@pytest.mark.parametrize(
    ("helper", "mode", "cause"),
    [
        ("probe_read_user", "confidentiality", "lockdown"),
        ("probe_read_kernel_str", "confidentiality", "lockdown"),
        ("probe_write_user", "integrity", "lockdown"),
        ("probe_read_kernel", "integrity", "program-type-mismatch"),
    ],
)
def test_helpers_that_lockdown_takes_away(helper: str, mode: str, cause: str) -> None:
    text = "none integrity confidentiality".replace(mode, f"[{mode}]")
    log = f"3: (85) call bpf_{helper}#1\nprogram of this type cannot use helper bpf_{helper}#1\nprocessed 3 insns"
    calls = (Call(LOAD.what, "EINVAL"),)
    where = machine(files={LOCKDOWN: text})
    assert diagnose(make_attempt("program load", (), where, calls=calls, verifier_log=log)).cause == cause


def test_a_helper_that_needs_an_option() -> None:
    log = "unknown func bpf_override_return#58"
    calls = (Call(LOAD.what, "EINVAL"),)
    where = machine(config={"CONFIG_BPF_KPROBE_OVERRIDE": "n"})
    attempt = make_attempt("program load", (), where, calls=calls, verifier_log=log, program_type="kprobe")
    told(attempt, "config-missing", "CONFIG_BPF_KPROBE_OVERRIDE")


def test_switched_off_and_silent() -> None:
    where = {"symbols": code("f"), "traceable": ("f",)}
    disarmed = machine(files={KPROBES_ENABLED: "0\n"}, **where)
    told(kprobe("f", "", disarmed), "kprobes-disarmed", "kprobes/enabled")
    stopped = machine(files={"/proc/sys/kernel/ftrace_enabled": "0"}, **where)
    told(kprobe("f", "", stopped), "ftrace-disabled", "never fires")
    assert diagnose(kprobe("f", "", machine(**where))).cause == ""


def test_a_kernel_without_kprobes() -> None:
    config = {"CONFIG_KPROBES": "n"}
    where = machine(config=config, event_sources=("software",), symbols=code("f"))
    calls = (Call("open(/sys/kernel/tracing/kprobe_events)", "ENOENT"),)
    told(
        make_attempt("kprobe event (tracefs)", ("p:a/b f",), where, calls=calls),
        "config-missing",
        "CONFIG_KPROBES",
    )


def test_a_version_in_the_program() -> None:
    calls = (Call(LOAD.what, "EINVAL"),)
    for release, given, cause in (
        ("4.9.1-3", "4.9.2", "kernel-version-mismatch"),
        ("4.9.1-3", "4.9.1", ""),
        ("5.4.1", "4.9.2", ""),
    ):
        where = machine(release)
        attempt = make_attempt("kprobe", ("f",), where, calls=calls, kernel_version=given)
        assert diagnose(attempt).cause == cause, release


# ---------------------------------------------------------------------- maps, pins, files


def test_types_that_came_later() -> None:
    calls = (Call("bpf(BPF_MAP_CREATE)", "EINVAL"),)
    request = MapRequest("bloom_filter", 30, 0, 8, 64, 0)
    for release, cause in (("5.10.9", "map-type-unsupported"), ("6.1.9", "map-attributes")):
        attempt = make_attempt("map create", (), machine(release), calls=calls, map=request)
        assert diagnose(attempt).cause == cause
    attempt = make_attempt("map create", (), machine("4.18.0-553.el8_10"), calls=calls, map=request)
    assert diagnose(attempt).cause != "map-type-unsupported", "Red Hat's kernels have later types"
    load = make_attempt(
        "program load", (), machine(), calls=(Call(LOAD.what, "EINVAL"),), program_type="netfilter"
    )
    told(load, "program-type-unsupported", "6.4")


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (MapRequest("array", 2, 8, 8, 1, 0), "4 bytes"),
        (MapRequest("hash", 1, 0, 8, 1, 0), "key size is 0"),
        (MapRequest("hash", 1, 4, 0, 1, 0), "value size is 0"),
        (MapRequest("hash", 1, 4, 8, 0, 0), "max_entries is 0"),
        (MapRequest("hash", 1, 4, 8, 1, 1 << 20), "flag"),
        (MapRequest("lru_hash", 9, 4, 8, 1, 1), "BPF_F_NO_PREALLOC"),
        (MapRequest("lpm_trie", 11, 8, 8, 1, 0), "BPF_F_NO_PREALLOC"),
        (MapRequest("lpm_trie", 11, 4, 8, 1, 1), "5 to 260"),
        (MapRequest("stack_trace", 7, 4, 12, 1, 0), "multiple of 8"),
        (MapRequest("ringbuf", 27, 0, 0, 5000, 0), "power of two"),
        (MapRequest("ringbuf", 27, 4, 0, 4096, 0), "has no key"),
        (MapRequest("queue", 22, 4, 8, 1, 0), "has no key"),
        (MapRequest("percpu_array", 6, 4, 40000, 1, 0), "32768"),
        (MapRequest("perf_event_array", 4, 4, 8, 1, 0), "4 bytes"),
        (MapRequest("task_storage", 29, 4, 8, 5, 1), "must be 0"),
    ],
)
def test_attributes_of_maps(request_: MapRequest, word: str) -> None:
    calls = (Call("bpf(BPF_MAP_CREATE)", "EINVAL"),)
    told(make_attempt("map create", (), machine(), calls=calls, map=request_), "map-attributes", word)


@pytest.mark.parametrize(
    ("path", "errno", "mounts", "word"),
    [
        ("/sys/fs/bpf/x", "ENOENT", "", "mount -t bpf"),
        ("/var/x", "EPERM", TRACEFS, "bpffs"),
        ("/sys/fs/bpf/a.b", "EPERM", TRACEFS, "dot"),
        ("/sys/fs/bpf/x", "EEXIST", TRACEFS, "already"),
        ("/sys/fs/bpf/d/x", "ENOENT", TRACEFS, "mkdir"),
    ],
)
def test_pins(path: str, errno: str, mounts: str, word: str) -> None:
    calls = (Call("bpf(BPF_MAP_CREATE)"), Call("bpf(BPF_OBJ_PIN)", errno))
    told(make_attempt("pin", (path,), machine(files={MOUNTS: mounts}), calls=calls), "pin", word)


@pytest.mark.parametrize(
    ("targets", "errno", "facts", "cause"),
    [
        (("/no/such", "0x10"), "ENOENT", None, "uprobe-file"),
        (("/some/where", "0x10"), "EINVAL", PathFacts("directory"), "uprobe-file"),
        (("/usr/lib", "0x10"), "EINVAL", None, "uprobe-file"),
        (("/some/tool", "0x9000"), "EINVAL", PathFacts("file", 4096), "uprobe-offset"),
        (("/some/tool", "0x10"), "ENOTSUPP", PathFacts("file", 4096), "uprobe-offset"),
    ],
)
def test_uprobes(targets: tuple[str, str], errno: str, facts: PathFacts | None, cause: str) -> None:
    where = machine(paths={targets[0]: facts} if facts is not None else {})
    calls = (LOAD, Call("perf_event_open(uprobe)", errno))
    told(make_attempt("uprobe", targets, where, calls=calls), cause)


@pytest.mark.parametrize(
    "text",
    ["failed to find symbol 'f' in '/x'", "could not determine address of symbol f", "f: no such symbol"],
)
def test_a_symbol_that_is_not_in_the_file(text: str) -> None:
    calls = (Call("attach uprobe", "EINVAL"),)
    attempt = make_attempt("uprobe", ("/x", "f"), machine(), calls=calls, loader_text=text)
    told(attempt, "uprobe-symbol", "symbol", "stripped")


# ---------------------------------------------------------------------- nothing known, nothing tried


def test_what_no_rule_knows_is_said_to_be_unknown() -> None:
    found = diagnose(kprobe("f", "EXDEV", machine(symbols=code("f"), traceable=("f",)), dmesg=("odd words",)))
    assert (found.cause, found.sure) == ("", False)
    assert "EXDEV" in found.sentence
    assert "odd words" in found.text()


@pytest.mark.parametrize(
    ("attempt", "cause"),
    [
        (kprobe("f", "ENOENT", Machine(release="6.1.1"), loader_text="x"), "inlined-or-missing"),
        (link("lsm", "file_open", "", Machine()), "bpf-lsm-off"),
        (ring("x"), "no-capability"),
        (refused("fentry", "f", Machine(), "", "EPERM"), "no-capability"),
    ],
)
def test_the_likeliest_is_told_without_being_sure(attempt: Attempt, cause: str) -> None:
    if attempt.map is not None:
        attempt = make_attempt("map create", (), Machine(), calls=attempt.calls, map=attempt.map)
    told(attempt, cause, sure=False)


def test_missing_types_of_the_kernel() -> None:
    calls = (Call("open(/sys/kernel/btf/vmlinux)", "ENOENT"),)
    told(make_attempt("fentry", ("f",), Machine(), calls=calls), "config-missing", "CONFIG_DEBUG_INFO_BTF")
    text = "libbpf: failed to find kernel BTF type ID of 'f'"
    where = machine(btf_functions={"f": False})
    calls = (Call(LOAD.what, "ESRCH"),)
    told(make_attempt("fentry", ("f",), where, calls=calls, loader_text=text), "fentry-target", "BTF")


def test_facts_that_nobody_looked_at_prove_nothing() -> None:
    for errno in ("EPERM", "EACCES", "EINVAL"):
        assert not diagnose(kprobe("some_name", errno, Machine())).sure


def test_ahead_of_an_attempt() -> None:
    fine = Attempt("kprobe", ("f",), (), machine(symbols=code("f"), traceable=("f",)))
    assert obstacles(fine) == []
    gone = Attempt("kprobe", ("sys_dup",), (), machine(symbols=code("__x64_sys_dup")))
    assert [one.cause for one in obstacles(gone)] == ["syscall-renamed"]
    nobody: dict[str, Any] = {"capabilities": 0, "uid": 1, "event_sources": ()}
    bare = machine(config={"CONFIG_KPROBES": "n"}, symbols=code("f"), traceable=("f",), **nobody)
    causes = {one.cause for one in obstacles(Attempt("kprobe", ("f",), (), bare))}
    assert causes == {"config-missing", "no-capability"}
