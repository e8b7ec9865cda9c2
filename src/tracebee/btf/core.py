"""CO-RE: what an instruction that depends on a type has to become for another kernel.

A compiler notes, for each such instruction, a type, a path into it and a question (`CoreRelo`): at which byte is
the field, how large is it, is it there at all.  Here the question is asked again of the types of the kernel
that the program is for.  The rules are those of libbpf (relo_core.c), which the kernel uses too: a type of the
target is a candidate if it has the same kind and the same name, without the "flavor" behind ``___`` that the
object may give it; fields are found by name; all candidates have to give the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.format import declaration
from tracebee.btf.types import (
    Array,
    Composite,
    Enum,
    Enumeration,
    Float,
    FuncProto,
    Fwd,
    Int,
    Member,
    Modifier,
    Ptr,
    Type,
    TypeTag,
    Union,
    Void,
)
from tracebee.errors import FormatError
from tracebee.insn import opcodes as op
from tracebee.insn.codec import LDDW, MASK64, Insn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.btf.ext import CoreRelo
    from tracebee.btf.reader import Btf

FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_EXISTS, FIELD_SIGNED, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64 = range(6)
TYPE_ID_LOCAL, TYPE_ID_TARGET, TYPE_EXISTS, TYPE_SIZE, ENUMVAL_EXISTS, ENUMVAL_VALUE, TYPE_MATCHES = range(
    6, 13
)
"""enum bpf_core_relo_kind of linux/bpf.h."""

KIND_NAMES = (
    *("byte_off", "byte_sz", "field_exists", "signed", "lshift_u64", "rshift_u64"),
    *("local_type_id", "target_type_id", "type_exists", "type_size", "enumval_exists", "enumval_value"),
    "type_matches",
)

QUESTIONS = (
    *("offset of the field", "size of the field", "is the field there", "is the field signed"),
    *("left shift of the bitfield", "right shift of the bitfield", "id of the type in the object"),
    *("id of the type in the kernel", "is the type there", "size of the type", "is the constant there"),
    *("value of the constant", "is the type the same"),
)
"""What each kind asks, for people."""

POISON = 0xBAD2310
"""The helper that instructions call which nothing on the target answers to; there is none with this number."""

MAX_DEPTH = 64
"""Accesses in a path, and structures within each other."""

_FLAVOR = "___"
_SIZE_MASK = 0x18
_SIZE_CODES = {1: op.BPF_B, 2: op.BPF_H, 4: op.BPF_W, 8: op.BPF_DW}


class Unresolved(Exception):
    """A question that the target has no answer to, in words."""


class Answer(NamedTuple):
    """`value` is what the instruction must hold.

    `size` are the bytes of the field, 0 where that does not matter, and `adjusts` says whether a load of
    it may become one of another size.  `is_certain` says that a compiler must have put this very value into the
    instruction, if the answer is of the object's own types: bitfields can be loaded in more than one way, and
    ids change when objects are linked.
    """

    value: int
    size: int = 0
    adjusts: bool = False
    is_certain: bool = True


class Targets:
    """The types that answer: those of a kernel and, for what it does not have at all, those of its modules.

    `modules` gives the modules' types, which continue those of the kernel; it is called if they are needed.
    """

    def __init__(self, btf: Btf, modules: Callable[[], Iterable[Btf]] | None = None) -> None:
        self.btf = btf
        self.modules = modules
        self._known: dict[tuple[str, tuple[type[Type], ...]], list[tuple[Btf, int]]] = {}

    def candidates(self, name: str, kinds: tuple[type[Type], ...]) -> list[tuple[Btf, int]]:
        """The types of these kinds whose essential name is `name`, each with the BTF that it is in."""
        found = self._known.get((name, kinds))
        if found is None:
            found = [(self.btf, type_id) for type_id in _called(self.btf, name, kinds)]
            if not found and self.modules is not None:
                for module in self.modules():
                    ids = _called(module, name, kinds)
                    found += [(module, type_id) for type_id in ids if type_id >= module.first_id]
            self._known[name, kinds] = found
        return found


def _called(btf: Btf, name: str, kinds: tuple[type[Type], ...]) -> list[int]:
    """The ids of types called `name`, or so with a flavor."""
    names = [one for one in btf.names_beginning(name + _FLAVOR) if essential(one) == name]
    return sorted({type_id for one in (name, *names) for type_id in btf.find_all(one, kinds)})


class _Step(NamedTuple):
    """One step of a path: the member or element number in the structure or array `type_id`.

    `name` is that of the member, empty for elements and for the first step, which counts whole `type_id`.
    """

    type_id: int
    place: int
    name: str = ""


class _Spec(NamedTuple):
    """A path in one BTF: where it leads, in bits from the start, and the type and member there."""

    steps: tuple[_Step, ...]
    bit_offset: int
    type_id: int
    member: Member | None


def essential(name: str) -> str:
    """A name without its flavor: ``task_struct___new`` means ``task_struct``."""
    at = name.rfind(_FLAVOR)
    return name[:at] if at > 0 and name[at - 1] != "_" and len(name) > at + 3 else name


def patch(insn: Insn, relo: CoreRelo, local: Btf, target: Btf | Targets) -> Insn:
    """The instruction as it must be on the target; a call of POISON if the target cannot answer.

    Raises FormatError if the relocation or the instruction makes no sense.
    """
    if not isinstance(target, Targets):
        target = Targets(target)
    before = _own_answer(relo, local)
    if isinstance(before, Unresolved):
        raise FormatError(f"CO-RE: relocation at instruction {relo.insn_offset}: {before}")
    _check_value(insn, relo, before)
    after = before if target.btf is local else _answer(relo, local, target)
    if isinstance(after, Unresolved):
        return Insn(op.BPF_JMP | op.BPF_CALL, imm=POISON)
    return _patched(insn, relo, before, after)


def resolve(relo: CoreRelo, local: Btf, target: Btf | Targets) -> Answer:
    """What the target answers.  Raises Unresolved, or FormatError for a relocation that makes no sense."""
    if not isinstance(target, Targets):
        target = Targets(target)
    found = _own_answer(relo, local) if target.btf is local else _answer(relo, local, target)
    if isinstance(found, Unresolved):
        raise found
    return found


def spelled(relo: CoreRelo, local: Btf) -> str:
    """What a relocation is about, as C would say it.

    That is ``struct task_struct.mm``, ``struct task.list[2].y``, ``enum color::RED`` or ``struct task``.  Raises
    FormatError for a relocation that makes no sense.
    """
    spec = _local_spec(relo, local)
    root = declaration(local, _root(relo, local))
    if not spec.steps:
        return root
    if relo.kind in (ENUMVAL_EXISTS, ENUMVAL_VALUE):
        return f"{root}::{spec.steps[0].name}"
    first = spec.steps[0].place
    parts = [f"[{first}]"] if first else []
    parts += [f".{step.name}" if step.name else f"[{step.place}]" for step in spec.steps[1:]]
    return root + "".join(parts)


def _patched(insn: Insn, relo: CoreRelo, before: Answer, after: Answer) -> Insn:
    code = insn.code & 7
    if code in (op.BPF_ALU, op.BPF_ALU64):
        if insn.code & op.BPF_X:
            raise FormatError(f"CO-RE: instruction {relo.insn_offset} takes its value from a register")
        value = after.value & 0xFFFF_FFFF
        return insn._replace(imm=value - (value >> 31 << 32))
    if code in (op.BPF_LDX, op.BPF_ST, op.BPF_STX):
        if not 0 <= after.value <= 0x7FFF:
            return Insn(op.BPF_JMP | op.BPF_CALL, imm=POISON)
        insn = insn._replace(off=after.value)
        if after.size != before.size:
            size = _SIZE_CODES.get(after.size)
            if size is None or not before.adjusts or not after.adjusts:
                return Insn(op.BPF_JMP | op.BPF_CALL, imm=POISON)
            insn = insn._replace(code=insn.code & ~_SIZE_MASK | size)
        return insn
    if insn.code == LDDW:
        return insn._replace(imm=after.value & MASK64)
    raise FormatError(f"CO-RE: instruction {relo.insn_offset} has no place for a relocated value")


def _check_value(insn: Insn, relo: CoreRelo, before: Answer) -> None:
    """Raises FormatError if an instruction holds another value than its relocation is about."""
    if not before.is_certain or relo.kind in (TYPE_ID_LOCAL, TYPE_ID_TARGET):
        return
    holds = insn.off if insn.code & 7 in (op.BPF_LDX, op.BPF_ST, op.BPF_STX) else insn.imm
    if (holds ^ before.value) & 0xFFFF_FFFF:
        raise FormatError(
            f"CO-RE: instruction {relo.insn_offset} holds {holds}, and its relocation says {before.value}"
        )


def _own_answer(relo: CoreRelo, local: Btf) -> Answer | Unresolved:
    """What the object's own types say, which is what the compiler has put into the instruction."""
    spec = _local_spec(relo, local)
    return Answer(relo.type_id) if relo.kind == TYPE_ID_LOCAL else _value(relo.kind, spec, local)


def _answer(relo: CoreRelo, local: Btf, target: Targets) -> Answer | Unresolved:
    kind = relo.kind
    spec = _local_spec(relo, local)
    if kind == TYPE_ID_LOCAL:
        return Answer(relo.type_id)
    name = essential(local.name_of(_root(relo, local)))
    if not name:
        raise FormatError(f"CO-RE: type {relo.type_id} has no name")
    answers: list[Answer] = []
    for btf, candidate in target.candidates(name, _kinds(relo, local)):
        found = _match(kind, spec, local, candidate, btf)
        if found is None:
            continue
        answer = _value(kind, found, btf)
        if isinstance(answer, Unresolved):
            return answer
        answers.append(answer)
    if kind == TYPE_ID_TARGET and answers:
        return answers[0]
    if len({(answer.value, answer.size, answer.adjusts) for answer in answers}) > 1:
        return Unresolved(f"types called {name} differ about it")
    if answers:
        return answers[0]
    if TYPE_ID_TARGET <= kind <= ENUMVAL_EXISTS or kind in (FIELD_EXISTS, TYPE_MATCHES):
        return Answer(0)  # also the size and the id of a type that is not there
    return Unresolved(f"the target has nothing like it in {name}")


def _root(relo: CoreRelo, local: Btf) -> int:
    """The type that a relocation names: behind qualifiers, but not behind typedefs."""
    at = relo.type_id
    for _ in range(MAX_DEPTH):
        found = local.type(at)
        if not isinstance(found, Modifier | TypeTag):
            return at
        at = found.type_id
    raise FormatError(f"CO-RE: type {relo.type_id} is nested too deeply")


def _kinds(relo: CoreRelo, local: Btf) -> tuple[type[Type], ...]:
    """The kinds of types that can answer."""
    kind = type(local.type(_root(relo, local)))
    if issubclass(kind, Enumeration):
        return (Enumeration,)
    return (Composite,) if kind is Fwd else (kind,)


# --- paths


def _path(relo: CoreRelo) -> list[int]:
    parts = relo.access.split(":")
    if (
        not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts)
        or len(parts) > MAX_DEPTH
    ):
        raise FormatError(f"CO-RE: {relo.access!r} is no path into a type")
    return [int(part) for part in parts]


def _local_spec(relo: CoreRelo, local: Btf) -> _Spec:
    if relo.kind > TYPE_MATCHES:
        raise FormatError(f"CO-RE: unknown kind {relo.kind} of relocation")
    path = _path(relo)
    if TYPE_ID_LOCAL <= relo.kind <= TYPE_SIZE or relo.kind == TYPE_MATCHES:
        if path != [0]:
            raise FormatError(f"CO-RE: {relo.access!r} is a path where there can be none")
        return _Spec((), 0, relo.type_id, None)
    if relo.kind in (ENUMVAL_EXISTS, ENUMVAL_VALUE):
        enum = local.type(local.resolve(relo.type_id))
        if not isinstance(enum, Enumeration) or len(path) != 1 or path[0] >= len(enum.values):
            raise FormatError(f"CO-RE: type {relo.type_id} has no constant {relo.access!r}")
        return _Spec((_Step(relo.type_id, path[0], enum.values[path[0]].name),), 0, relo.type_id, None)
    type_id = local.resolve(relo.type_id)
    spec = _Spec((_Step(type_id, path[0]),), 8 * path[0] * local.size_of(type_id), type_id, None)
    for place in path[1:]:
        spec = _step(spec, place, local)
    return spec


def _step(spec: _Spec, place: int, btf: Btf) -> _Spec:
    """One step further, into a member or an element by its number."""
    type_id = btf.resolve(spec.type_id)
    found = btf.type(type_id)
    if isinstance(found, Composite):
        if place >= len(found.members):
            raise FormatError(f"CO-RE: {found.name or 'a structure'} has no member {place}")
        member = found.members[place]
        steps = (*spec.steps, _Step(type_id, place, member.name)) if member.name else spec.steps
        inside = member if member.name else None
        return _Spec(steps, spec.bit_offset + member.bit_offset, member.type_id, inside)
    if isinstance(found, Array):
        if place >= found.count and not _is_flexible(spec, btf):
            raise FormatError(f"CO-RE: an array of {found.count} has no element {place}")
        offset = spec.bit_offset + 8 * place * btf.size_of(found.type_id)
        return _Spec((*spec.steps, _Step(type_id, place)), offset, found.type_id, None)
    raise FormatError("CO-RE: a path leads into something that has no parts")


def _is_flexible(spec: _Spec, btf: Btf) -> bool:
    """Whether the array that a path has come to is the last member of its structure, and may be longer."""
    if spec.member is None or not spec.steps:
        return False
    composite = btf.type(spec.steps[-1].type_id)
    array = btf.type(btf.resolve(spec.type_id))
    return (
        isinstance(composite, Composite)
        and isinstance(array, Array)
        and array.count <= 1
        and spec.steps[-1].place == len(composite.members) - 1
    )


# --- matching


def _match(kind: int, spec: _Spec, local: Btf, candidate: int, target: Btf) -> _Spec | None:
    """The path on the target that a local one stands for, from a candidate type on; None if there is none."""
    if kind in (ENUMVAL_EXISTS, ENUMVAL_VALUE):
        enum = target.type(target.resolve(candidate))
        wanted = essential(spec.steps[0].name)
        if not isinstance(enum, Enumeration):
            return None
        for place, value in enumerate(enum.values):
            if essential(value.name) == wanted:
                return _Spec((_Step(candidate, place, value.name),), 0, candidate, None)
        return None
    if kind >= TYPE_ID_LOCAL:
        pairs = _Pairs(local, target)
        fits = (pairs.match if kind == TYPE_MATCHES else pairs.compatible)(spec.type_id, candidate)
        return _Spec((), 0, candidate, None) if fits else None
    type_id = target.resolve(candidate)
    first = spec.steps[0].place
    found = _Spec((_Step(type_id, first),), 8 * first * target.size_of(type_id), type_id, None)
    for step in spec.steps[1:]:
        if step.name:
            composite = local.type(step.type_id)
            assert isinstance(composite, Composite)
            wanted_type = composite.members[step.place].type_id
            following = _find_member(found, step.name, local, wanted_type, target, set())
            if following is None:
                return None
            found = following
        else:
            array = target.type(target.resolve(found.type_id))
            if not isinstance(array, Array):
                return None
            if step.place >= array.count and not _is_flexible(found, target):
                return None
            found = _step(found, step.place, target)
    return found


def _find_member(
    spec: _Spec, name: str, local: Btf, wanted_type: int, target: Btf, seen: set[int]
) -> _Spec | None:
    """The member called `name` of the structure that a path has come to, or of an anonymous one in it.

    `seen` are the structures that it is not in.
    """
    type_id = target.resolve(spec.type_id)
    composite = target.type(type_id)
    if not isinstance(composite, Composite) or type_id in seen:
        return None
    seen.add(type_id)
    if len(seen) > MAX_DEPTH * MAX_DEPTH:
        raise FormatError("CO-RE: too many structures within each other")
    for place, member in enumerate(composite.members):
        if not member.name:
            found = _find_member(_step(spec, place, target), name, local, wanted_type, target, seen)
            if found is not None:
                return found
        elif member.name == name:
            fits = _fields_compatible(local, wanted_type, target, member.type_id)
            return _step(spec, place, target) if fits else None
    return None


def _fields_compatible(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Whether a field may have changed its type so: integers may change their size, structures their name."""
    for _ in range(MAX_DEPTH):
        mine = local.type(local.resolve(local_id))
        theirs = target.type(target.resolve(target_id))
        if isinstance(mine, Composite) and isinstance(theirs, Composite):
            return True
        if isinstance(mine, Enumeration) and isinstance(theirs, Enumeration):
            return _names_agree(mine.name, theirs.name)
        if type(mine) is not type(theirs):
            return False
        if isinstance(mine, Fwd):
            return _names_agree(mine.name, theirs.name)
        if isinstance(mine, Array) and isinstance(theirs, Array):
            local_id, target_id = mine.type_id, theirs.type_id
            continue
        if isinstance(mine, Int) and isinstance(theirs, Int):
            return mine.bit_offset == theirs.bit_offset == 0
        return isinstance(mine, Ptr | Float)
    raise FormatError("CO-RE: arrays are nested too deeply")


def _names_agree(mine: str, theirs: str) -> bool:
    return not mine or not theirs or essential(mine) == essential(theirs)


class _Pairs:
    """What of the two sides has been compared already, or is being compared: that is taken to agree.

    Everything has to agree in the end, so that a pair that does not is found where it is compared first.
    """

    def __init__(self, local: Btf, target: Btf) -> None:
        self.local = local
        self.target = target
        self.seen: set[tuple[int, int, bool]] = set()

    def compatible(self, local_id: int, target_id: int, depth: int = MAX_DEPTH) -> bool:
        """Whether a type is there, with the same kinds all the way (bpf_core_types_are_compat)."""
        mine, theirs = self._enter(local_id, target_id, depth, False)
        if mine is None or (isinstance(mine, Enumeration) and isinstance(theirs, Enumeration)):
            return True
        if type(mine) is not type(theirs):
            return False
        if isinstance(mine, Ptr | Array) and isinstance(theirs, Ptr | Array):
            return self.compatible(mine.type_id, theirs.type_id, depth - 1)
        if isinstance(mine, FuncProto) and isinstance(theirs, FuncProto):
            pairs = _prototype_pairs(mine, theirs)
            return pairs is not None and all(self.compatible(a, b, depth - 1) for a, b in pairs)
        return isinstance(mine, Void | Composite | Fwd | Int)

    def match(self, local_id: int, target_id: int, depth: int = MAX_DEPTH, behind: bool = False) -> bool:
        """Whether a type is there and looks the same, member by member (bpf_core_types_match).

        `behind` a pointer the name of a structure is enough.
        """
        mine, theirs = self._enter(local_id, target_id, depth, behind)
        if mine is None:
            return True
        if isinstance(mine, Composite | Fwd | Enumeration) and essential(mine.name) != essential(theirs.name):
            return False
        if behind and isinstance(mine, Composite | Fwd) and isinstance(theirs, Composite | Fwd):
            return _is_union(mine) == _is_union(theirs)
        if isinstance(mine, Enumeration) and isinstance(theirs, Enumeration):
            names = {value.name for value in theirs.values}
            return mine.size == theirs.size and all(value.name in names for value in mine.values)
        if type(mine) is not type(theirs):
            return False
        if isinstance(mine, Int) and isinstance(theirs, Int):
            return mine.size == theirs.size and mine.is_signed == theirs.is_signed
        if isinstance(mine, Ptr) and isinstance(theirs, Ptr):
            return self.match(mine.type_id, theirs.type_id, depth - 1, True)
        if isinstance(mine, Array) and isinstance(theirs, Array):
            return mine.count == theirs.count and self.match(mine.type_id, theirs.type_id, depth - 1, behind)
        if isinstance(mine, FuncProto) and isinstance(theirs, FuncProto):
            pairs = _prototype_pairs(mine, theirs)
            return pairs is not None and all(self.match(a, b, depth - 1) for a, b in pairs)
        if isinstance(mine, Composite) and isinstance(theirs, Composite):
            return self._members_match(mine, theirs, depth)
        return isinstance(mine, Void | Fwd)

    def _members_match(self, mine: Composite, theirs: Composite, depth: int) -> bool:
        by_name = {essential(member.name): member for member in theirs.members}
        for member in mine.members:
            other = by_name.get(essential(member.name))
            if other is None or not self.match(member.type_id, other.type_id, depth - 1):
                return False
        return True

    def _enter(self, local_id: int, target_id: int, depth: int, behind: bool) -> tuple[Type | None, Type]:
        """Both types, or None for the first where the pair is known."""
        if not depth:
            raise FormatError("CO-RE: types are nested too deeply")
        local_id, target_id = self.local.resolve(local_id), self.target.resolve(target_id)
        pair = (local_id, target_id, behind)
        theirs = self.target.type(target_id)
        if pair in self.seen:
            return None, theirs
        self.seen.add(pair)
        return self.local.type(local_id), theirs


def _prototype_pairs(mine: FuncProto, theirs: FuncProto) -> list[tuple[int, int]] | None:
    """Results and parameters side by side; None if there are not as many."""
    if len(mine.params) != len(theirs.params):
        return None
    params = [(a.type_id, b.type_id) for a, b in zip(mine.params, theirs.params, strict=True)]
    return [(mine.return_type_id, theirs.return_type_id), *params]


def _is_union(found: Composite | Fwd) -> bool:
    return found.is_union if isinstance(found, Fwd) else found.KIND == Union.KIND


# --- answers


def _value(kind: int, spec: _Spec, btf: Btf) -> Answer | Unresolved:
    """What a question comes to for a path that is there."""
    if kind in (FIELD_EXISTS, TYPE_EXISTS, ENUMVAL_EXISTS, TYPE_MATCHES):
        return Answer(1)
    if kind == TYPE_ID_TARGET:
        return Answer(spec.type_id)
    if kind == TYPE_SIZE:
        return Answer(btf.size_of(spec.type_id))
    if kind == ENUMVAL_VALUE:
        enum = btf.type(btf.resolve(spec.type_id))
        assert isinstance(enum, Enumeration)
        value = enum.values[spec.steps[0].place].value
        # Of 32 bits it is a signed number for libbpf, whatever the type says: older BTF does not say.
        return Answer(value - (value >> 31 << 32) if isinstance(enum, Enum) and value >= 0 else value)
    return _field_value(kind, spec, btf)


def _field_value(kind: int, spec: _Spec, btf: Btf) -> Answer | Unresolved:
    size = btf.size_of(spec.type_id)
    bits = spec.member.bitfield_size if spec.member is not None else 0
    if not bits:
        byte, width = spec.bit_offset // 8, size
        bits = 8 * size
    else:
        # The smallest load that has all bits of the field, from a multiple of its own size on.
        width = size or 1
        byte = spec.bit_offset // 8 // width * width
        while spec.bit_offset + bits > 8 * (byte + width):
            if width >= 8:
                return Unresolved("a bitfield does not fit a load")
            width *= 2
            byte = spec.bit_offset // 8 // width * width
    if kind == FIELD_BYTE_OFFSET:
        is_bitfield = spec.member is not None and spec.member.bitfield_size
        if is_bitfield:
            return Answer(byte, is_certain=False)
        return Answer(byte, width, _adjusts(spec, btf))
    is_bitfield = spec.member is not None and spec.member.bitfield_size
    if kind == FIELD_BYTE_SIZE:
        return Answer(width, is_certain=not is_bitfield)
    if kind == FIELD_SIGNED:
        found = btf.type(btf.resolve(spec.type_id))
        return Answer(int(found.is_signed if isinstance(found, Int) else getattr(found, "signed", False)))
    if kind == FIELD_RSHIFT_U64:
        return Answer(64 - bits) if bits <= 64 else Unresolved("the field has more than 64 bits")
    skipped = spec.bit_offset - 8 * byte
    if btf.byteorder == "little":
        value = 64 - skipped - bits
    else:
        value = 8 * (8 - width) + skipped
    if skipped + bits > 64 or width > 8:
        return Unresolved("the field is too large")
    return Answer(value, is_certain=not is_bitfield)


def _adjusts(spec: _Spec, btf: Btf) -> bool:
    """Whether a load of the field may become one of another size: it is a pointer or an unsigned number."""
    found = btf.type(btf.resolve(spec.type_id))
    return isinstance(found, Ptr) or (isinstance(found, Int) and not found.is_signed)


__all__ = [
    "KIND_NAMES",
    "POISON",
    "QUESTIONS",
    "Answer",
    "Targets",
    "Unresolved",
    "essential",
    "patch",
    "resolve",
    "spelled",
]
