"""Built-ins about who is running, where and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import Builtin, Fact
from tracebee.spec.types import (
    UINT8,
    UINT32,
    UINT64,
    Bool,
    Pointer,
    Str,
    Struct,
    Type,
)
from tracebee.spec.types import (
    Username as UsernameType,
)

if TYPE_CHECKING:
    from tracebee.language.ir import Address, Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference

COMM_BYTES = 16
"""TASK_COMM_LEN."""


def load_id(low: Lowering, process: bool, in_namespace: bool = True) -> Operand:
    """The running task's process or thread id, in the pid namespace that tracebee runs in or in the first."""
    namespace = low.machine.pid_namespace()
    if in_namespace and namespace is not None:
        return low.fact(
            f"{'tgid' if process else 'tid'} in namespace", lambda: _id_in_namespace(low, process, *namespace)
        )
    both = low.fact("pid_tgid", lambda: low.call("get_current_pid_tgid"))
    if process:
        return low.fact("tgid", lambda: low.alu(">>", both, 32))
    return low.fact("tid", lambda: low.convert("zero", both, 32))


def _id_in_namespace(low: Lowering, process: bool, device: int, inode: int) -> Operand:
    with low.temporaries():
        ids = low.memory(8, on_stack=True)
        low.store(ids, 0, 8)
        low.call("get_ns_current_pid_tgid", device, inode, ids, 8)
        return low.load(ids.plus(4 if process else 0), 4)


class _Id(Builtin):
    """A process or thread id: of the pid namespace that tracebee runs in, or with ``init`` of the host."""

    bare = True
    maximum = 1
    words = frozenset(("init", "curr_ns"))
    high_half = False

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        if call.arguments and not isinstance(call.arguments[0], tree.Name):
            infer.error(f"{self.name}() only takes one of: curr_ns, init", call.span)
        return UINT32

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        return load_id(low, self.high_half, call.word("curr_ns") != "init")


class Pid(_Id):
    name = "pid"
    forms = ("pid", "pid(curr_ns)", "pid(init)")
    description = "process id (the kernel's thread group id)"
    high_half = True


class Tid(_Id):
    name = "tid"
    forms = ("tid", "tid(curr_ns)", "tid(init)")
    description = "thread id"


class Uid(Fact):
    name = "uid"
    description = "user id"
    type = UINT64

    def ask(self, low: Lowering) -> Operand:
        both = low.fact("uid_gid", lambda: low.call("get_current_uid_gid"))
        return low.convert("zero", both, 32)


class Gid(Fact):
    name = "gid"
    description = "group id"
    type = UINT64

    def ask(self, low: Lowering) -> Operand:
        both = low.fact("uid_gid", lambda: low.call("get_current_uid_gid"))
        return low.alu(">>", both, 32)


class Comm(Builtin):
    name = "comm"
    forms = ("comm", "comm(pid)")
    description = "name of the thread; with a process id, of that process"
    bare = True
    maximum = 1
    pads_text = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        if call.arguments:
            infer.number(call.arguments[0])
            kind = infer.unit.kind.name if infer.unit else ""
            if kind not in ("iter",):
                infer.error(
                    f"Syntax comm(PID) is not supported in this probe type yet. Type: {kind}", call.span
                )
        return Str(COMM_BYTES)

    def text(self, low: Lowering, call: tree.Call, to: Address, room: int) -> Operand:
        home = self.home(low, call)
        if home is not None:
            from tracebee.language.lower import memory

            memory.copy(low, to, home, COMM_BYTES)
        else:
            self._read(low, to)
        return COMM_BYTES

    @staticmethod
    def _read(low: Lowering, to: Address) -> None:
        """Linux 6.1 and before leave what lay behind the name's end as it was, which would tell map keys apart."""
        from tracebee.language.lower import memory

        memory.zero(low, to, COMM_BYTES)
        low.call("get_current_comm", low.pointer(to), COMM_BYTES)

    def home(self, low: Lowering, call: tree.Call) -> Address | None:
        """Where the name lies if the probe asks for it more than once."""
        if low.mentions(self.name) < 2:
            return None

        def ask() -> Operand:
            kept = low.kept_memory(COMM_BYTES, on_stack=True)
            self._read(low, low.address(kept))
            return low.move(kept)

        found = low.fact("comm", ask)
        return low.address(found)


class Cpu(Fact):
    name = "cpu"
    description = "number of the processor"
    type = UINT64

    def ask(self, low: Lowering) -> Operand:
        return low.call("get_smp_processor_id")


class Ncpus(Builtin):
    name = "ncpus"
    description = "number of possible processors"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        return low.machine.cpu_count


class Numaid(Fact):
    name = "numaid"
    description = "number of the NUMA node"
    type = UINT32

    def ask(self, low: Lowering) -> Operand:
        return low.call("get_numa_node_id")


class Curtask(Fact):
    name = "curtask"
    description = "pointer to the thread's struct task_struct"
    type = UINT64

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        task = infer.types.find("struct task_struct")
        return Pointer(task, "kernel") if isinstance(task, Struct) else UINT64

    def ask(self, low: Lowering) -> Operand:
        return low.call("get_current_task")


class Cgroup(Fact):
    name = "cgroup"
    description = "id of the cgroup"
    type = UINT64

    def ask(self, low: Lowering) -> Operand:
        return low.call("get_current_cgroup_id")


class Nsecs(Builtin):
    name = "nsecs"
    forms = ("nsecs", "nsecs(boot)", "nsecs(monotonic)", "nsecs(tai)", "nsecs(sw_tai)")
    description = "nanoseconds since boot, or of another clock"
    bare = True
    maximum = 1
    words = frozenset(("boot", "monotonic", "tai", "sw_tai"))

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        if call.arguments:
            word = call.arguments[0]
            if not isinstance(word, tree.Name):
                infer.error("nsecs() only takes one of: monotonic, boot, tai, sw_tai", call.span)
            elif word.name == "tai" and infer.final and not infer.context.machine.feature("ktime_get_tai_ns"):
                infer.error(
                    "The kernel does not support the helper ktime_get_tai_ns (since Linux 6.1)", call.span
                )
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        clock = call.word("boot")
        if clock == "sw_tai":
            boot = low.call("ktime_get_boot_ns")
            return low.alu("+", boot, low.machine.tai_offset())
        helper = {"boot": "ktime_get_boot_ns", "monotonic": "ktime_get_ns", "tai": "ktime_get_tai_ns"}[clock]
        if clock == "boot" and not low.machine.feature("ktime_get_boot_ns"):
            helper = "ktime_get_ns"
        return low.call(helper)


class Elapsed(Builtin):
    name = "elapsed"
    description = "nanoseconds since tracing started"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.ir import Address, MapSpot
        from tracebee.spec.objects import GLOBALS_MAP, Globals

        now = low.call("ktime_get_boot_ns")
        start = low.load(Address(low.move(MapSpot(GLOBALS_MAP, Globals.START)), 0), 8)
        return low.alu("-", now, start)


class Rand(Builtin):
    name = "rand"
    description = "a random number of 32 bits"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        return UINT32

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        return low.call("get_prandom_u32")


class Jiffies(Builtin):
    name = "jiffies"
    description = "the kernel's count of timer ticks"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        return low.call("jiffies64")


class Cpid(Fact):
    name = "cpid"
    description = "process id of the command that -c started"
    type = UINT64

    def ask(self, low: Lowering) -> Operand:
        from tracebee.language.ir import Address, MapSpot
        from tracebee.spec.objects import GLOBALS_MAP, Globals

        return low.load(Address(low.move(MapSpot(GLOBALS_MAP, Globals.CHILD_PID)), 0), 8)


class HasCpid(Builtin):
    name = "has_cpid"
    description = "whether -c started a command"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        return Bool()

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.builtins import find_builtin
        from tracebee.language.lower.expressions import boolean

        cpid = find_builtin("cpid")
        assert cpid is not None
        return boolean(low, cpid.value(low, call))


class Username(Builtin):
    name = "username"
    description = "name of the user; looked up when it is printed"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        return UsernameType()

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.builtins import find_builtin

        uid = find_builtin("uid")
        assert uid is not None
        low.store(to, uid.value(low, call), 4)


class Usermode(Builtin):
    name = "usermode"
    description = "1 if the processor was in user mode, 0 in kernel mode (x86-64)"
    bare = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        if infer.context.machine.arch.name != "x86_64":
            infer.error("'usermode' builtin is only supported on x86_64", call.span)
        return UINT8

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        kind = low.unit.kind
        if kind.space == "user" or kind.name in ("begin", "end", "self", "test", "bench"):
            return 1
        if not kind.has_registers:
            return 0
        selector = low.load(low.address(low.ctx()).plus(low.machine.arch.registers["cs"]), 8)
        # The privilege level is in the low two bits of the code segment: 3 in user mode.
        return low.alu(">>", low.alu("&", selector, 2), 1)
