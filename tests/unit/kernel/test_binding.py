"""What takes the place of names in programs; maps that are there already; what programs learn of static probes."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from tracebee.btf.reader import Btf
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import NotSupportedError, UsageError, VerifierError
from tracebee.host.usdt import parse_arguments
from tracebee.insn import Insn
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, LDDW, KernelSymbol, Kfunc, MapFd, MapValue
from tracebee.kernel import reuse
from tracebee.kernel.links.clsact import attribute
from tracebee.kernel.links.usdt import CONST, REG, REG_DEREF, SIB, fill_spec
from tracebee.kernel.programs import POISON_CALL, Binding, load_program
from tracebee.kernel.symbols import Found, KernelNames
from tracebee.spec.objects import MapSpec, ProgramSpec
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls import bpf

EXIT = op.BPF_JMP | op.BPF_EXIT


def kernel() -> Btf:
    builder = BtfBuilder()
    number = builder.add_int("int", 4)
    proto = builder.add_func_proto(number)
    builder.add_func("bpf_core_function", proto)
    builder.add_func("vfs_read", proto)
    builder.add_func("bpf_lsm_file_open", proto)
    builder.add_var("a_variable", number)
    builder.add_typedef("btf_trace_sched_switch", number)
    builder.add_typedef("vfs_write", number)
    return Btf.from_bytes(builder.to_bytes())


def module(base: Btf) -> Btf:
    builder = BtfBuilder(base)
    builder.add_func("bpf_module_function", 2)
    builder.add_var("a_module_variable", 1)
    return Btf.from_bytes(builder.to_bytes(), base)


class Names(KernelNames):
    """A kernel with the module "m", whose BTF is descriptor 90, and an address that it hides."""

    def __init__(self) -> None:
        base = kernel()
        addresses = {"jiffies": 0x1234_5678_9ABC, "hidden": 0}
        super().__init__(lambda: base, {"m": module(base)}.get, lambda: ["empty", "m"], addresses.get)
        self.lookups: list[str] = []

    def _find(self, name: str, module: str) -> Found | None:
        self.lookups.append(name)
        return super()._find(name, module)

    def module_fd(self, module: str) -> int:
        assert module == "m"
        return 90


def bound(*insns: Insn) -> tuple[list[Insn], Binding]:
    binding = Binding({"map": 7}, Names())
    return binding.bind(insns), binding


def call(name: str, weak: bool = False) -> Insn:
    return Insn(CALL, src=op.BPF_PSEUDO_KFUNC_CALL, ref=Kfunc(name, weak))


def load(name: str, src: int = op.BPF_PSEUDO_BTF_ID, weak: bool = False) -> Insn:
    return Insn(LDDW, 1, src, ref=KernelSymbol(name, weak))


# --------------------------------------------------------------------- names


def test_maps_are_descriptors() -> None:
    insns, _ = bound(
        Insn(LDDW, 1, op.BPF_PSEUDO_MAP_FD, ref=MapFd("map")),
        Insn(LDDW, 1, op.BPF_PSEUDO_MAP_VALUE, ref=MapValue("map", 16)),
    )
    assert [insn.imm for insn in insns] == [7, 16 << 32 | 7]


def test_functions_of_the_kernel_and_of_modules() -> None:
    insns, binding = bound(
        call("bpf_core_function"), call("bpf_module_function"), call("bpf_module_function___new")
    )
    ids = [Names().get(name).type_id for name in ("bpf_core_function", "bpf_module_function")]
    assert [(insn.imm, insn.off) for insn in insns] == [(ids[0], 0), (ids[1], 1), (ids[1], 1)]
    assert binding.fd_array == [0, 90]


def test_variables_by_type_and_by_address() -> None:
    insns, binding = bound(load("a_variable"), load("a_module_variable"), load("jiffies", 0))
    ids = [Names().get(name).type_id for name in ("a_variable", "a_module_variable")]
    assert [insn.imm for insn in insns] == [ids[0], 90 << 32 | ids[1], 0x1234_5678_9ABC]
    assert binding.fd_array == []


def test_weak_names_that_are_missing() -> None:
    insns, binding = bound(
        load("no_variable", weak=True),
        load("no_symbol", 0, weak=True),
        call("no_function", weak=True),
        call("bpf_core_function", weak=True),
        call("no_other", weak=True),
    )
    assert insns[0] == Insn(LDDW, 1, 0) == insns[1]
    assert (insns[2].src, insns[2].imm, insns[4].imm) == (0, POISON_CALL, POISON_CALL + 1)
    assert insns[3].src == op.BPF_PSEUDO_KFUNC_CALL
    assert binding.missing == {POISON_CALL: "no_function", POISON_CALL + 1: "no_other"}


@pytest.mark.parametrize(
    ("insn", "words", "hint"),
    [
        (call("bpf_core_funktion"), "bpf_core_funktion, which the kernel's BTF has not", "bpf_core_function"),
        (load("a_variabel"), "a_variabel", ""),
        (load("no_symbol", 0), "no_symbol, which is not in /proc/kallsyms", ""),
        (load("hidden", 0), "the address of hidden", "kptr_restrict"),
        (load("hidden", 0, weak=True), "the address of hidden", "kptr_restrict"),
    ],
)
def test_names_that_have_to_be_there(insn: Insn, words: str, hint: str) -> None:
    with pytest.raises(NotSupportedError, match=words) as caught:
        bound(insn)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("btf_trace_sched_swich", "the raw tracepoint sched_swich", "sched_switch"),
        ("bpf_lsm_file_opn", "the security hook file_opn", "file_open"),
        ("bpf_iter_tsak", "the iterator tsak", ""),
        ("vfs_raed", "vfs_raed", "vfs_read"),
        ("vfs_write", "vfs_write", ""),  # a typedef is nothing that can be attached to
    ],
)
def test_what_programs_are_for(name: str, words: str, hint: str) -> None:
    with pytest.raises(NotSupportedError, match=words) as caught:
        Names().get(name)
    assert hint in caught.value.hint


def test_a_name_is_looked_for_once() -> None:
    names = Names()
    assert names.get("vfs_read") == names.get("vfs_read")
    assert names.find("nothing") is None is names.find("nothing")
    assert names.lookups == ["vfs_read", "nothing"]


def test_a_kernel_without_types() -> None:
    with pytest.raises(NotSupportedError, match="vmlinux") as caught:
        KernelNames().get("vfs_read")
    assert "CONFIG_DEBUG_INFO_BTF" in caught.value.hint


# --------------------------------------------------------------------- maps


def info(**fields: int) -> bytes:
    data = bytearray(uapi.BPF_MAP_INFO_SIZE)
    values = {"type": 1, "key_size": 4, "value_size": 8, "max_entries": 16} | fields
    for name, value in values.items():
        offset, size = uapi.BPF_MAP_INFO[name]
        data[offset : offset + size] = value.to_bytes(size, "little")
    return bytes(data)


HASH = MapSpec("pinned", "HASH", 4, 8, 16)


@pytest.mark.parametrize(
    ("spec", "fields", "expected"),
    [
        (HASH, {}, []),
        (HASH, {"map_flags": 1 << 16}, []),
        (HASH, {"type": 2}, ["it is of type ARRAY, not HASH"]),
        (HASH, {"key_size": 8}, ["it has keys of 8 bytes, not 4"]),
        (HASH, {"map_flags": 1}, ["its flags are 0x1, not 0x0"]),
        (HASH, {"map_flags": 1 << 7}, ["its flags are 0x80, not 0x0"]),
        (HASH, {"map_extra": 3}, ["it has 3 as map_extra, not 0"]),
        (
            HASH,
            {"value_size": 4, "max_entries": 8},
            ["it has values of 4 bytes, not 8", "it has 8 entries at most, not 16"],
        ),
        (MapSpec("d", "DEVMAP", 4, 8, 16), {"type": 14, "map_flags": 1 << 7}, []),
        (MapSpec("p", "PERF_EVENT_ARRAY", 4, 4, 0), {"type": 4, "value_size": 4, "max_entries": 4}, []),
    ],
)
def test_how_a_map_differs(spec: MapSpec, fields: dict[str, int], expected: list[str]) -> None:
    assert reuse.differences(spec, info(**fields), 4) == expected


def test_a_map_that_differs_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr("tracebee.syscalls.bpf.object_info", lambda fd, size: info(key_size=8))
    monkeypatch.setattr("os.close", closed.append)
    with pytest.raises(UsageError, match="pinned at /pins/pinned is not the object's map pinned") as caught:
        reuse.reused_map(HASH, 33, 4, "/pins/pinned")
    assert closed == [33]
    assert "rm /pins/pinned" in caught.value.hint


# --------------------------------------------------------------------- static probes

REGISTERS = {"rax": 80, "rdi": 112, "rsp": 152, "rcx": 88}


def described(text: str, **more: int) -> dict[str, Any]:
    """A struct __bpf_usdt_spec for arguments on x86_64."""
    fields = {"val_off": 0, "arg_type": 0, "reg_off": 0, "arg_signed": False, "arg_bitshift": 0} | more
    value: dict[str, Any] = {"args": [dict(fields) for _ in range(12)], "usdt_cookie": 0, "arg_cnt": 0}
    fill_spec(value, parse_arguments(text, "x86_64"), REGISTERS, 5)
    assert (value["usdt_cookie"], value["arg_cnt"]) == (5, len(text.split()))
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-4@%edi", {"arg_type": REG, "reg_off": 112, "arg_signed": True, "arg_bitshift": 32}),
        ("8@%rax", {"arg_type": REG, "reg_off": 80, "arg_bitshift": 0}),
        ("1@$-3", {"arg_type": CONST, "val_off": (1 << 64) - 3, "arg_bitshift": 56}),
        ("2@-8(%rsp)", {"arg_type": REG_DEREF, "reg_off": 152, "val_off": (1 << 64) - 8, "arg_bitshift": 48}),
    ],
)
def test_an_argument_as_programs_are_told_it(text: str, expected: dict[str, int]) -> None:
    found = described(text)["args"][0]
    assert {name: found[name] for name in expected} == expected


def test_an_argument_with_an_index() -> None:
    found = described("8@16(%rax,%rcx,4)", idx_reg_off=0, scale_bitshift=0)["args"][0]
    assert (found["arg_type"], found["reg_off"], found["idx_reg_off"], found["scale_bitshift"]) == (
        SIB,
        80,
        88,
        2,
    )


@pytest.mark.parametrize(
    "text",
    [
        *("8@16(%rax,%rcx,4)", "8f@%xmm0", "8@%fs:8", "1@%ah", "8@counter(%rip)", "16@%rax", "8@%r9"),
        " ".join(["8@%rax"] * 13),
    ],
)
def test_arguments_that_programs_cannot_be_told(text: str) -> None:
    with pytest.raises(NotSupportedError):
        described(text)


# --------------------------------------------------------------------- netlink


def test_attributes_are_padded() -> None:
    assert attribute(1, b"bpf\0") == struct.pack("=HH4s", 8, 1, b"bpf")
    assert attribute(2, b"clsact\0") == struct.pack("=HH8s", 11, 2, b"clsact")


# --------------------------------------------------------------------- loading


class Loader:
    """bpf.prog_load of a kernel that refuses what `refuses` says, with an errno and a log."""

    def __init__(self, refuses: Any) -> None:
        self.refuses = refuses
        self.calls: list[dict[str, Any]] = []

    def load(self, kind: str, code: bytes, **options: Any) -> tuple[int, str]:
        self.calls.append({"kind": kind, **options})
        answer = self.refuses(self.calls[-1])
        if answer is not None:
            raise bpf.LoadRefused(*answer)
        return 5, ""


def program(kind: str, **fields: Any) -> ProgramSpec:
    return ProgramSpec("f", kind, (Insn(EXIT),), **fields)


def test_flags_and_what_a_program_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Loader(lambda call: None)
    monkeypatch.setattr(bpf, "prog_load", kernel.load)
    load_program(program("XDP", frags=True), {}, 0, Names())
    load_program(program("TRACING", attach_to="vfs_read", sleepable=True), {}, 0, Names())
    assert [call["flags"] for call in kernel.calls] == [1 << 5, 1 << 4]
    assert "attach_btf_id" not in kernel.calls[0]
    assert kernel.calls[1]["attach_btf_id"] == Names().get("vfs_read").type_id
    load_program(program("TRACING", attach_to="bpf_module_function"), {}, 0, Names())
    assert kernel.calls[2]["attach_btf_fd"] == 90


def test_an_old_kernel_that_does_not_want_the_attach_type(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Loader(lambda call: (errno.EINVAL, "") if call["expected_attach_type"] else None)
    monkeypatch.setattr(bpf, "prog_load", kernel.load)
    made = load_program(program("SK_MSG", expected_attach_type="SK_MSG_VERDICT"), {}, 0, Names())
    assert (made.fd, len(kernel.calls)) == (5, 3)


def test_a_needed_attach_type_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Loader(lambda call: (errno.EINVAL, "") if call.get("expected_attach_type") else None)
    monkeypatch.setattr(bpf, "prog_load", kernel.load)
    monkeypatch.setattr("tracebee.kernel.probing.probe_program_type", lambda name: True)
    with pytest.raises(VerifierError) as caught:
        load_program(program("SK_LOOKUP", expected_attach_type="SK_LOOKUP"), {}, 0, Names())
    assert "attach type SK_LOOKUP" in caught.value.hint


def test_a_type_of_programs_that_a_kernel_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "prog_load", Loader(lambda call: (errno.EINVAL, "")).load)
    with pytest.raises(VerifierError) as caught:
        load_program(program("NETFILTER", expected_attach_type="NETFILTER"), {}, 0, Names())
    assert caught.value.hint == "this kernel has no programs of type NETFILTER"


def test_a_call_of_what_is_missing_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    log = f"call unknown#{POISON_CALL}\ninvalid func unknown#{POISON_CALL}\n"
    monkeypatch.setattr(bpf, "prog_load", Loader(lambda call: (errno.EINVAL, log)).load)
    spec = ProgramSpec("f", "XDP", (call("bpf_new", weak=True), Insn(EXIT)))
    with pytest.raises(VerifierError) as caught:
        load_program(spec, {}, 0, Names())
    assert caught.value.log == log
    assert "bpf_ksym_exists(bpf_new)" in caught.value.hint
