"""What the compiler must know of a machine, as a protocol.

`host` and `kernel` supply the real one; tests and a compilation for another machine supply recorded facts.
Nothing in the language reads a file or makes a system call by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.btf import Btf
    from tracebee.spec.types import Type


class Arch(Frozen):
    """What differs between processors.

    `registers` gives the byte offset of each register in struct pt_regs by its names, `function_arguments`
    and `syscall_arguments` the registers that carry arguments, `returned` the one with a function's result.
    """

    name: str
    registers: dict[str, int]
    function_arguments: tuple[str, ...]
    syscall_arguments: tuple[str, ...]
    returned: str
    instruction_pointer: str
    stack_pointer: str
    syscall_number: str
    syscall_wrapper: str
    overlapping_addresses: bool = False


X86_64 = Arch(
    "x86_64",
    # struct pt_regs, arch/x86/include/asm/ptrace.h
    {
        name: 8 * number
        for number, names in enumerate(
            (
                ("r15",),
                ("r14",),
                ("r13",),
                ("r12",),
                ("bp", "rbp"),
                ("bx", "rbx"),
                ("r11",),
                ("r10",),
                ("r9",),
                ("r8",),
                ("ax", "rax"),
                ("cx", "rcx"),
                ("dx", "rdx"),
                ("si", "rsi"),
                ("di", "rdi"),
                ("orig_ax", "orig_rax"),
                ("ip", "rip", "pc"),
                ("cs",),
                ("flags", "eflags"),
                ("sp", "rsp"),
                ("ss",),
            )
        )
        for name in names
    },
    ("di", "si", "dx", "cx", "r8", "r9"),
    ("di", "si", "dx", "r10", "r8", "r9"),
    "ax",
    "ip",
    "sp",
    "orig_ax",
    "__x64_sys_",
)

ARM64 = Arch(
    "aarch64",
    # struct user_pt_regs, arch/arm64/include/uapi/asm/ptrace.h; syscallno follows orig_x0 in struct pt_regs
    {f"{letter}{number}": 8 * number for number in range(31) for letter in ("x", "r")}
    | {
        "fp": 8 * 29,
        "lr": 8 * 30,
        "sp": 8 * 31,
        "pc": 8 * 32,
        "ip": 8 * 32,
        "pstate": 8 * 33,
        "orig_x0": 8 * 34,
    },
    tuple(f"x{number}" for number in range(8)),
    tuple(f"x{number}" for number in range(6)),
    "x0",
    "pc",
    "sp",
    "x8",
    "__arm64_sys_",
)

ARCHES = {arch.name: arch for arch in (X86_64, ARM64)}


class EventField(Protocol):
    """A field of a tracepoint's record; see tracebee.host.tracefs."""

    @property
    def name(self) -> str: ...

    @property
    def c_type(self) -> str: ...

    @property
    def offset(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def signed(self) -> bool: ...

    @property
    def count(self) -> int: ...

    @property
    def is_array(self) -> bool: ...

    @property
    def data_loc(self) -> str: ...

    @property
    def is_common(self) -> bool: ...


class EventFormat(Protocol):
    """The layout of a tracepoint's record."""

    @property
    def fields(self) -> Sequence[EventField]: ...


class UserSymbol(Protocol):
    """A symbol of a program or library; see tracebee.host.elfsymbols."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> int: ...

    @property
    def size(self) -> int: ...


class UsdtArgument(Protocol):
    """An operand of a USDT note; see tracebee.host.usdt."""

    @property
    def size(self) -> int: ...

    @property
    def signed(self) -> bool: ...

    @property
    def kind(self) -> str: ...

    @property
    def register(self) -> str: ...

    @property
    def offset(self) -> int: ...

    @property
    def index(self) -> str: ...

    @property
    def scale(self) -> int: ...

    @property
    def shift(self) -> int: ...


class UsdtPlace(Protocol):
    """A USDT note; see tracebee.host.usdt."""

    @property
    def provider(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> int: ...

    @property
    def file_offset(self) -> int | None: ...

    @property
    def semaphore_offset(self) -> int | None: ...

    @property
    def arguments(self) -> str: ...


class FunctionArgument(Frozen):
    """A parameter of a user function: `c_type` as C writes it, `type` as a script sees it (Void: not at all).

    `position` is the number of the ``argN`` that holds it, or None where none does.
    """

    name: str
    c_type: str
    type: Type
    position: int | None


class UserFile(Protocol):
    """A program or library; addresses are those of its ELF file."""

    @property
    def path(self) -> str: ...

    @property
    def is_relocated(self) -> bool:
        """Whether it may be loaded at other addresses than the file's."""

    def functions(self) -> Sequence[UserSymbol]: ...

    def find_function(self, name: str) -> UserSymbol | None: ...

    def find_data(self, name: str) -> UserSymbol | None: ...

    def file_offset(self, address: int) -> int | None: ...

    def usdt_probes(self) -> Sequence[UsdtPlace]: ...


class Machine(Protocol):
    """Facts about the machine that a script is compiled for."""

    @property
    def arch(self) -> Arch: ...

    @property
    def possible_cpus(self) -> int:
        """How many values per-CPU maps have for a key."""

    @property
    def cpu_count(self) -> int:
        """How many processors there can be, for `ncpus`."""

    @property
    def page_size(self) -> int: ...

    @property
    def attaches_cheaply(self) -> bool:
        """Whether being attached to hundreds of places costs no more than to one."""

    def feature(self, name: str) -> bool:
        """Whether the kernel has a feature of tracebee.kernel.features."""

    def why_unseen(self, kind: str, place: Sequence[str]) -> tuple[str, str]:
        """Why whatever runs the programs sees nothing of a kind of probe at such a place: message and hint.

        `kind` is the full name, `place` what is written behind it.  Both are empty where it can be seen.
        """

    def why_no_helper(self, helper: str) -> tuple[str, str]:
        """Why programs cannot call a helper function, and what to try; empty for those that they can."""

    def btf(self) -> Btf | None:
        """The kernel's types, or None where it has none that can be read."""

    def kfunc_allowed(self, name: str, program_type: str) -> bool:
        """Whether programs of a type may call a function that the kernel's BTF has."""

    def tracepoints(self) -> Iterable[tuple[str, str]]:
        """Category and name of every tracepoint."""

    def has_tracepoint(self, category: str, name: str) -> bool:
        """Whether there is such a tracepoint."""

    def tracepoint_format(self, category: str, name: str) -> EventFormat | None:
        """The record of a tracepoint; None where there is no such tracepoint."""

    def syscall_numbers(self) -> dict[str, int]:
        """The number of each system call of this architecture, by its name in tracepoints (newstat, not stat)."""

    def names_by_number(self, table: str) -> Sequence[str]:
        """What user space calls the numbers of a table of tracebee.spec.types.Named, from 0 on; the last entry
        is for all others."""

    def read_header(self, name: str, folders: Sequence[str]) -> tuple[str, str] | None:
        """Path and text of a C header, looked for in some folders first; None where there is none."""

    def read_import(self, target: str, importer: str, folders: Sequence[str]) -> list[tuple[str, str]] | str:
        """Path and text of the files that an import means; a text says why one is refused."""

    def pid_namespace(self) -> tuple[int, int] | None:
        """Device and inode of the pid namespace that process ids are to be seen from; None for the host's."""

    def tai_offset(self) -> int:
        """Nanoseconds from the clock of boot time to that of atomic time, as user space has it."""

    def module_btf(self, module: str) -> Btf | None:
        """The types of a loaded module; None where it has none that can be read."""

    def kernel_functions(self) -> Iterable[tuple[str, str]]:
        """Module ("vmlinux" for the kernel itself) and name of the functions that may be probed.

        Where several functions share a name, it comes as often.
        """

    def function_modules(self, name: str, by_kprobe: bool = True) -> Sequence[str]:
        """The module of each function of a name that may be probed, or hooked in other ways than a kprobe."""

    def why_no_function(self, name: str) -> tuple[str, str]:
        """Why no function of this name can be probed, and what to try; for the others it is undefined."""

    def kernel_address(self, symbol: str) -> int | None:
        """The address of a kernel symbol; None where there is none or it is hidden."""

    def cgroup_id(self, path: str) -> int | None:
        """The id of a cgroup by its path."""

    def expand_paths(self, pattern: str) -> list[str]:
        """The files that a path pattern, a program on PATH or the name of a library means."""

    def process_files(self, pid: int) -> list[str]:
        """The program and libraries that a process has mapped."""

    def user_file(self, path: str) -> UserFile:
        """A program or library.  Raises OSError, FormatError."""

    def function_arguments(self, path: str, address: int) -> Sequence[FunctionArgument] | None:
        """The parameters of the function at an address of a file, by its debug information; None without.

        Raises OSError, FormatError.
        """

    def usdt_arguments(self, text: str) -> Sequence[UsdtArgument]:
        """The operands of a USDT note, taken apart for this processor."""
