"""kprobe, fentry and what they share, compiled for machines that have and lack features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tracebee.btf import Btf, Member
from tracebee.btf.types import INT_BOOL, INT_CHAR, INT_SIGNED
from tracebee.btf.writer import BtfBuilder
from tracebee.language.probes.functions import merged_result, wrapper_of
from tracebee.spec.objects import Kprobe, KprobeMulti, Trampoline
from tracebee.spec.types import INT32, INT64, UINT64, Pointer, Void

from .fixtures import (
    ARM64,
    NEW,
    OLD,
    X86_64,
    FakeMachine,
    check_program,
    helper_calls,
    hint,
    messages,
    program_of,
    spec_of,
    typed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def functions_btf() -> Btf:
    """Functions of many shapes."""
    b = BtfBuilder()
    int_ = b.add_int("int", 4, INT_SIGNED)
    char = b.add_int("char", 1, INT_SIGNED | INT_CHAR)
    bool_ = b.add_int("_Bool", 1, INT_BOOL)
    u64 = b.add_int("long unsigned int", 8)
    s64 = b.add_int("long int", 8, INT_SIGNED)
    file = b.add_struct("file", 16, [Member("f_flags", u64, 0), Member("f_pos", s64, 64)])
    regs = b.add_struct("pt_regs", 168, [Member("dx", u64, 96 * 8)])
    pair = b.add_struct("pair", 16, [Member("one", u64, 0), Member("two", u64, 64)])
    wide = b.add_struct("wide", 24, [Member("one", u64, 0)])
    file_pointer = b.add_ptr(file)

    def function(name: str, result: int, *parameters: tuple[str, int]) -> None:
        b.add_func(name, b.add_func_proto(result, list(parameters)))

    read = (("file", file_pointer), ("buf", b.add_ptr(char)), ("count", u64), ("pos", b.add_ptr(s64)))
    function("vfs_read", s64, *read)
    function("vfs_write", s64, *read)
    function("vfs_open", int_, ("path", b.add_ptr(0)), ("file", file_pointer))
    function("fget", file_pointer, ("fd", int_))
    function("with_pair", int_, ("first", pair), ("flag", bool_))
    function("with_wide", int_, ("first", wide), ("second", int_))
    function("with_more", int_, ("format", b.add_ptr(char)), ("", 0))
    function("seven", int_, *((f"p{number}", u64) for number in range(7)))
    function("__x64_sys_read", s64, ("regs", b.add_ptr(regs)))
    function("__x64_sys_mystery", s64, ("regs", b.add_ptr(regs)))
    function("__do_sys_mystery", s64, ("which", int_), ("text", b.add_ptr(char)))
    return Btf.from_bytes(b.to_bytes())


BTF = functions_btf()
NAMES = (
    "vfs_read",
    "vfs_write",
    "vfs_open",
    "fget",
    "with_pair",
    "with_wide",
    "with_more",
    "seven",
    "__x64_sys_read",
    "__x64_sys_mystery",
    "no_type",
    "rcu_read",
    "twice",
    "twice",
)


class Kernel(FakeMachine):
    """A machine with the functions above."""

    def __init__(self, features: Sequence[str] | frozenset[str] = NEW, **options: object) -> None:
        super().__init__(features, btf=BTF, **options)  # type: ignore[arg-type]

    def kernel_functions(self) -> list[tuple[str, str]]:
        return [*(("vmlinux", name) for name in NAMES), ("ext4", "ext4_sync"), ("ext4", "twice")]


KERNEL = Kernel()


# --- places


def attached(script: str, machine: FakeMachine = KERNEL) -> list[object]:
    return [probe.attach for probe in spec_of(script, machine).probes]


@pytest.mark.parametrize(
    ("point", "name", "place"),
    [
        ("kprobe:vfs_read", "kprobe:vfs_read", Kprobe("vfs_read")),
        ("k:vmlinux:vfs_read", "kprobe:vmlinux:vfs_read", Kprobe("vfs_read")),
        ("kprobe:vfs_read+0x10", "kprobe:vfs_read+16", Kprobe("vfs_read", 16)),
        ("kr:vfs_read", "kretprobe:vfs_read", Kprobe("vfs_read", returns=True)),
        ("kprobe:ext4_sync", "kprobe:ext4_sync", Kprobe("ext4_sync", module="ext4")),
        ("kprobe:ext4:ext4_sync", "kprobe:ext4:ext4_sync", Kprobe("ext4_sync", module="ext4")),
        ("kprobe:twice", "kprobe:twice", Kprobe("twice", copies=3)),
        ("kprobe:vmlinux:twice", "kprobe:vmlinux:twice", Kprobe("twice", module="vmlinux", copies=2)),
        ("kprobe:ext4:twice", "kprobe:ext4:twice", Kprobe("twice", module="ext4")),
    ],
)
def test_where_a_kprobe_goes(point: str, name: str, place: Kprobe) -> None:
    (probe,) = spec_of(f"{point} {{ @ = 1 }}", KERNEL).probes
    assert (probe.name, probe.attach, probe.optional) == (name, place, False)


def test_a_wildcard_is_one_program_with_few_links() -> None:
    spec = spec_of("kprobe:vfs_* { @[probe, func] = count() }", KERNEL)
    (program,) = spec.programs
    assert program.expected_attach_type == "TRACE_KPROBE_MULTI"
    (probe,) = spec.probes
    assert probe.attach == KprobeMulti((Kprobe("vfs_open"), Kprobe("vfs_read"), Kprobe("vfs_write")))
    assert (probe.covers, probe.optional) == (3, True)
    assert spec.schema.functions == ("vfs_open", "vfs_read", "vfs_write")
    assert helper_calls(program)["bpf_get_attach_cookie"] == 1


def test_without_multi_links_each_place_has_its_cookie() -> None:
    machine = Kernel(NEW - {"kprobe_multi"})
    spec = spec_of("kprobe:vfs_* { @[func] = count() }", machine)
    assert [program.expected_attach_type for program in spec.programs] == [""]
    assert [(probe.attach, probe.cookie) for probe in spec.probes] == [
        (Kprobe("vfs_open"), 0),
        (Kprobe("vfs_read"), 1),
        (Kprobe("vfs_write"), 2),
    ]


def test_without_cookies_each_function_has_its_program() -> None:
    spec = spec_of("kprobe:vfs_* { @[func] = count() }", Kernel(OLD))
    assert len(spec.programs) == 3
    assert all("bpf_get_attach_cookie" not in helper_calls(program) for program in spec.programs)
    # Where nobody asks where it is, one does for all.
    assert len(spec_of("kprobe:vfs_* { @ = count() }", Kernel(OLD)).programs) == 1


def test_an_offset_takes_no_multi_link() -> None:
    spec = spec_of("kprobe:vfs_read+4,kprobe:vfs_open,kprobe:vfs_write { @ = count() }", KERNEL)
    assert [type(probe.attach) for probe in spec.probes] == [Kprobe, KprobeMulti]


def test_a_wildcard_leaves_out_what_runs_in_every_probe() -> None:
    names = [point.name for unit in typed("kprobe:*read* { @ = 1 }", KERNEL).units for point in unit.points]
    assert names == ["kprobe:__x64_sys_read", "kprobe:vfs_read"]
    assert attached("kprobe:rcu_read { @ = 1 }") == [Kprobe("rcu_read")]


def test_a_missing_function_is_told_with_its_reason() -> None:
    assert messages("kprobe:nosuch { }", machine=KERNEL) == [
        "No matches for kprobe nosuch: there is no nosuch"
    ]
    assert hint("fentry:nosuch { }", machine=KERNEL) == "the nearest is not nosuch"
    assert messages("kprobe:ext4:vfs_read { }", machine=KERNEL) == [
        "No matches for kprobe ext4:vfs_read: vfs_read is not in ext4, but in vmlinux"
    ]
    assert messages("kretprobe:vfs_read+1 { }", machine=KERNEL) == ["Offset not allowed"]
    assert messages("kprobe:vfs_read+x { }", machine=KERNEL) == ["invalid offset: x"]
    script = "config = { missing_probes = warn } kprobe:nosuch { } begin { }"
    (warning, *_) = typed(script, KERNEL).warnings
    assert warning.message == "No matches for kprobe nosuch: there is no nosuch. Skipping."


def test_listing() -> None:
    from tracebee.language.config import initial_config
    from tracebee.language.diagnostics import Diagnostics
    from tracebee.language.probes import get_kind
    from tracebee.language.probes.base import Expansion
    from tracebee.language.typetable import TypeTable

    context = Expansion(KERNEL, TypeTable(KERNEL.btf), initial_config(), Diagnostics())
    kprobe, fentry, fexit = (get_kind(name) for name in ("kprobe", "fentry", "fexit"))
    assert list(kprobe.listed("kprobe:vfs_r*", context)) == ["kprobe:vfs_read"]
    assert list(kprobe.listed("kprobe:ext4:ext4*", context)) == ["kprobe:ext4:ext4_sync"]
    # Only what has a type can have a trampoline.
    assert list(fentry.listed("fentry:no_ty*", context)) == []
    assert list(fentry.listed("fentry:vfs_r*", context)) == ["fentry:vmlinux:vfs_read"]
    assert list(kprobe.describe_arguments("kprobe:fget", context)) == [("int", "fd")]
    assert list(fexit.describe_arguments("fexit:vmlinux:fget", context)) == [
        ("int", "fd"),
        ("struct file *", "retval"),
    ]
    assert list(kprobe.describe_arguments("kprobe:__x64_sys_read", context)) == [
        ("unsigned int", "fd"),
        ("size_t", "count"),
    ]
    assert list(kprobe.describe_arguments("kprobe:__x64_sys_mystery", context)) == [
        ("int", "which"),
        ("char *", "text"),
    ]
    assert [name for _, name in fentry.describe_arguments("fentry:vmlinux:__x64_sys_read", context)] == [
        "regs",
        "fd",
        "count",
    ]


# --- arguments


def argument_types(point: str, names: Sequence[str], machine: FakeMachine = KERNEL) -> dict[str, str]:
    arguments = ", ".join(f"args.{name}" for name in names)
    compilation = typed(f"{point} {{ print(({arguments},)); }}", machine)
    unit = compilation.units[0]
    assert unit.arguments is not None
    return {field.name: str(field.type) for field in unit.arguments.fields}


def test_typed_arguments_of_kprobes() -> None:
    found = argument_types("kprobe:vfs_read", ["count"])
    assert found == {"file": "struct file *", "buf": "int8 *", "count": "uint64", "pos": "int64 *"}
    check_program(program_of("kprobe:vfs_read { print(args.file->f_flags + args.count); }", KERNEL))


def test_structures_take_the_registers_that_they_need() -> None:
    (unit,) = typed("kprobe:with_pair { print(args.flag) }", KERNEL).units
    assert unit.arguments is not None
    assert [(field.name, field.offset) for field in unit.arguments.fields] == [("first", 0), ("flag", 2)]
    check_program(program_of("kprobe:with_pair { print(args.first.two); }", KERNEL))
    assert messages("kprobe:with_wide { print(args.second); }", machine=KERNEL)[0].startswith(
        "The args builtin needs the kernel's BTF to have with_wide"
    )


def test_the_seventh_argument_is_on_the_stack() -> None:
    program = program_of("kprobe:seven { print(args.p6) }", KERNEL)
    assert helper_calls(program)["bpf_probe_read_kernel"] == 1
    assert helper_calls(program_of("kprobe:seven { print(args.p5) }", KERNEL))["bpf_probe_read_kernel"] == 0


def test_members_that_are_not_there() -> None:
    assert messages("kprobe:vfs_read { print(args.no) }", machine=KERNEL) == [
        "Can't find function parameter no"
    ]
    assert messages("fentry:vfs_read { print(args.no) }", machine=KERNEL) == [
        "Can't find function parameter no"
    ]
    assert "kept" not in hint("kprobe:no_type { print(args.a) }", machine=KERNEL)
    assert "fexit:vfs_read" in hint("kretprobe:vfs_read { print(args.count) }", machine=KERNEL)
    assert "begins" in messages("kprobe:vfs_read+4 { print(args.count) }", machine=KERNEL)[0]


@pytest.mark.parametrize(
    ("point", "type_"),
    [
        ("kretprobe:vfs_open", INT32),
        ("kretprobe:vfs_read", INT64),
        ("kretprobe:vfs_read,kretprobe:vfs_write", INT64),
        ("kretprobe:vfs_read,kretprobe:vfs_open", UINT64),
        ("kretprobe:no_type", UINT64),
        ("fexit:vfs_open", INT32),
    ],
)
def test_what_retval_is(point: str, type_: object) -> None:
    (unit,) = typed(f"{point} {{ @ = retval }}", KERNEL).units
    assert unit.kind.return_type(unit) == type_


def test_a_pointer_returned_can_be_followed() -> None:
    check_program(program_of("kretprobe:fget { print(retval->f_flags); }", KERNEL))


def test_results_that_agree() -> None:
    assert merged_result([INT32, INT32]) == INT32
    assert merged_result([INT32, INT64]) == UINT64
    assert merged_result([INT32, None]) == UINT64
    assert merged_result([Void()]) == UINT64
    assert merged_result([]) == UINT64
    assert isinstance(merged_result([Pointer(Void(), "kernel")]), Pointer)


# --- wrappers of system calls


@pytest.mark.parametrize(
    ("function", "name", "registers"),
    [
        ("__x64_sys_read", "read", ("di", "si", "dx", "r10", "r8", "r9")),
        ("__ia32_sys_read", "read", ("bx", "cx", "dx", "si", "di", "bp")),
        ("__ia32_compat_sys_ioctl", "ioctl", ("bx", "cx", "dx", "si", "di", "bp")),
    ],
)
def test_wrappers(function: str, name: str, registers: tuple[str, ...]) -> None:
    wrapper = wrapper_of(function, X86_64)
    assert wrapper is not None
    assert (wrapper.name, wrapper.registers, wrapper.narrow) == (name, registers, "ia32" in function)
    assert wrapper_of(function, ARM64) is None


def test_what_is_no_wrapper() -> None:
    assert wrapper_of("ksys_read", X86_64) is None
    assert wrapper_of("__x64_sys_read.cold", X86_64) is None
    arm = wrapper_of("__arm64_sys_read", ARM64)
    assert arm is not None and arm.registers[:2] == ("x0", "x1")


def test_the_arguments_of_a_system_call() -> None:
    script = "kprobe:__x64_sys_read { print((args.fd, args.count)); }"
    program = program_of(script, KERNEL)
    # One read for each: from the registers of the process, of which the wrapper has the address.
    assert helper_calls(program)["bpf_probe_read_kernel"] == 2
    direct = program_of("fentry:__x64_sys_read { print((args.fd, args.count)); }", KERNEL)
    assert helper_calls(direct)["bpf_probe_read_kernel"] == 0
    own = program_of("fentry:__x64_sys_read { print(args.regs->dx); }", KERNEL)
    for one in (program, direct, own):
        check_program(one)
    assert argument_types("kprobe:__x64_sys_mystery", ["which"])["text"] == "int8 *"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("print(arg0)", ["arg0 of __x64_sys_read is a pointer to the struct pt_regs"]),
        ("print(arg2)", ["arg2 of __x64_sys_read is whatever its register held"]),
        ("print(((struct pt_regs *)arg0)->dx)", []),
        ("print(args.fd)", []),
    ],
)
def test_numbered_arguments_of_wrappers_warn(body: str, told: list[str]) -> None:
    found = typed(f"kprobe:__x64_sys_read {{ {body} }}", KERNEL).warnings
    assert len(found) == len(told)
    for warning, start in zip(found, told, strict=True):
        assert warning.message.startswith(start)
        assert warning.hint == "use args.fd, args.count"
        assert warning.span is not None and warning.span.text.startswith("arg")


# --- fentry


def test_a_trampoline_says_its_function_and_module() -> None:
    spec = spec_of("fentry:vfs_read { @ = args.count }", KERNEL)
    (program,) = spec.programs
    assert (program.attach_to, program.attach_module) == ("vfs_read", "")
    assert spec.probes[0].attach == Trampoline()


def test_functions_without_a_place_for_a_trampoline() -> None:
    for name, reason in (
        ("no_type", "its type is not in the BTF"),
        ("with_more", "a variable number of arguments"),
        ("with_wide", "more than a trampoline can pass on"),
    ):
        assert reason in messages(f"fentry:{name} {{ }}", machine=KERNEL)[0]
        assert hint(f"fexit:{name} {{ }}", machine=KERNEL) == f"kretprobe:{name} needs no type"
    names = [point.name for unit in typed("fentry:with_* { @ = 1 }", KERNEL).units for point in unit.points]
    assert names == ["fentry:vmlinux:with_pair"]


def test_what_may_not_be_loaded_is_read() -> None:
    """A pointer to a number: Linux 5.10 lets no tracing program load it."""
    assert (
        helper_calls(program_of("fentry:vfs_read { @ = args.count }", KERNEL))["bpf_probe_read_kernel"] == 0
    )
    assert (
        helper_calls(program_of("fentry:vfs_read { @ = (uint64)args.pos }", KERNEL))["bpf_probe_read_kernel"]
        == 1
    )


def test_where_the_kernel_lacks_them() -> None:
    machine = Kernel(NEW - {"kprobe", "fentry"})
    assert "CONFIG_KPROBES is not set" in messages("kprobe:vfs_read { }", machine=machine)[0]
    assert "refuses fentry and fexit programs" in messages("fexit:vfs_read { }", machine=machine)[0]


def test_override_needs_its_helper() -> None:
    script = "kprobe:vfs_read { override(1); }"
    assert helper_calls(program_of(script, KERNEL, unsafe=True))["bpf_override_return"] == 1
    machine = Kernel(NEW - {"override_return"})
    assert "CONFIG_BPF_KPROBE_OVERRIDE" in messages(script, machine=machine, unsafe=True)[0]
