"""CO-RE: questions asked of one BTF and answered by another."""

from __future__ import annotations

from typing import Any

import pytest

from tracebee.btf import Btf, Member
from tracebee.btf.core import (
    ENUMVAL_EXISTS,
    ENUMVAL_VALUE,
    FIELD_BYTE_OFFSET,
    FIELD_BYTE_SIZE,
    FIELD_EXISTS,
    FIELD_LSHIFT_U64,
    FIELD_RSHIFT_U64,
    FIELD_SIGNED,
    POISON,
    TYPE_EXISTS,
    TYPE_ID_LOCAL,
    TYPE_ID_TARGET,
    TYPE_MATCHES,
    TYPE_SIZE,
    Targets,
    Unresolved,
    essential,
    patch,
    resolve,
)
from tracebee.btf.ext import CoreRelo
from tracebee.btf.types import INT_SIGNED
from tracebee.btf.writer import BtfBuilder
from tracebee.errors import FormatError
from tracebee.insn import LDDW, Insn
from tracebee.insn import opcodes as op

LOAD = op.BPF_LDX | op.BPF_MEM
MOVE = op.BPF_ALU64 | op.BPF_MOV


class Types:
    """A builder with the usual integers."""

    def __init__(self) -> None:
        self.builder = BtfBuilder()
        self.int = self.builder.add_int("int", 4, INT_SIGNED)
        self.u8 = self.builder.add_int("unsigned char", 1)
        self.u16 = self.builder.add_int("unsigned short", 2)
        self.u32 = self.builder.add_int("unsigned int", 4)
        self.u64 = self.builder.add_int("unsigned long", 8)

    def struct(self, name: str, size: int, *members: tuple[Any, ...]) -> int:
        """Members are (name, type, offset in bits[, bits])."""
        return self.builder.add_struct(name, size, [Member(*member) for member in members])

    def union(self, name: str, size: int, *members: tuple[Any, ...]) -> int:
        return self.builder.add_union(name, size, [Member(*member) for member in members])

    @property
    def btf(self) -> Btf:
        return Btf.from_bytes(self.builder.to_bytes())


def ask(local: Types, type_id: int, access: str, kind: int, target: Types) -> int:
    return resolve(CoreRelo(0, type_id, access, kind), local.btf, target.btf).value


def nothing(local: Types, type_id: int, access: str, kind: int, target: Types) -> str:
    with pytest.raises(Unresolved) as caught:
        ask(local, type_id, access, kind, target)
    return str(caught.value)


def task(types: Types) -> int:
    """struct task { int pid; unsigned flags; struct inside { int x, y; } in, list[4]; }"""
    inside = types.struct("inside", 8, ("x", types.int, 0), ("y", types.int, 32))
    array = types.builder.add_array(inside, 4, types.u32)
    return types.struct(
        "task", 48, ("pid", types.int, 0), ("flags", types.u32, 32), ("in", inside, 64), ("list", array, 128)
    )


def moved(types: Types) -> int:
    """The same with everything at another place."""
    inside = types.struct("inside", 16, ("new", types.u64, 0), ("y", types.int, 64), ("x", types.int, 96))
    array = types.builder.add_array(inside, 8, types.u32)
    return types.struct(
        "task",
        160,
        ("list", array, 0),
        ("in", inside, 1024),
        ("flags", types.u64, 1152),
        ("pid", types.int, 1216),
    )


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("task", "task"),
        ("task___v2", "task"),
        ("task___v2___v3", "task___v2"),
        ("___v2", "___v2"),
        ("task____v2", "task____v2"),
        ("task___", "task___"),
    ],
)
def test_flavors(name: str, plain: str) -> None:
    assert essential(name) == plain


@pytest.mark.parametrize(
    ("access", "offset", "elsewhere"),
    [
        ("0:0", 0, 152),
        ("0:1", 4, 144),
        ("0:2", 8, 128),
        ("0:2:1", 12, 136),
        ("0:3:2:0", 32, 44),
        ("1:0", 48, 312),
        ("0", 0, 0),
    ],
)
def test_offsets(access: str, offset: int, elsewhere: int) -> None:
    local, target = Types(), Types()
    type_id = task(local)
    moved(target)
    assert ask(local, type_id, access, FIELD_BYTE_OFFSET, target) == elsewhere
    same = Types()
    task(same)
    assert ask(local, type_id, access, FIELD_BYTE_OFFSET, same) == offset
    btf = local.btf
    assert resolve(CoreRelo(0, type_id, access, FIELD_BYTE_OFFSET), btf, btf).value == offset


def test_fields_that_are_not_there() -> None:
    local, target = Types(), Types()
    type_id = task(local)
    target.struct("task", 4, ("pid", target.int, 0))
    assert ask(local, type_id, "0:0", FIELD_EXISTS, target) == 1
    assert ask(local, type_id, "0:1", FIELD_EXISTS, target) == 0
    assert (
        nothing(local, type_id, "0:1", FIELD_BYTE_OFFSET, target) == "the target has nothing like it in task"
    )
    assert ask(local, type_id, "0:2:0", FIELD_EXISTS, target) == 0


def test_fields_of_another_type() -> None:
    local, target = Types(), Types()
    type_id = task(local)
    pointer = target.builder.add_ptr(0)
    target.struct("task", 16, ("pid", pointer, 0), ("flags", target.u8, 64))
    assert ask(local, type_id, "0:0", FIELD_EXISTS, target) == 0
    assert ask(local, type_id, "0:1", FIELD_BYTE_SIZE, target) == 1


def test_arrays_have_bounds_unless_they_are_flexible() -> None:
    local, target = Types(), Types()
    array = local.builder.add_array(local.u32, 8, local.u32)
    type_id = local.struct("s", 32, ("a", array, 0))
    shorter = target.builder.add_array(target.u32, 4, target.u32)
    target.struct("s", 16, ("a", shorter, 0))
    assert ask(local, type_id, "0:0:3", FIELD_BYTE_OFFSET, target) == 12
    assert nothing(local, type_id, "0:0:4", FIELD_BYTE_OFFSET, target)
    flexible = Types()
    open_array = flexible.builder.add_array(flexible.u32, 0, flexible.u32)
    flexible.struct("s", 4, ("n", flexible.u32, 0), ("a", open_array, 32))
    assert ask(local, type_id, "0:0:4", FIELD_BYTE_OFFSET, flexible) == 20


def test_members_of_anonymous_members() -> None:
    local, target = Types(), Types()
    inner = local.union("", 8, ("one", local.u32, 0), ("other", local.u64, 0))
    type_id = local.struct("s", 16, ("first", local.u64, 0), ("", inner, 64))
    deepest = target.struct("", 8, ("pad", target.u32, 0), ("one", target.u32, 32))
    deep = target.union("", 8, ("", deepest, 0), ("other", target.u64, 0))
    target.struct("s", 24, ("x", target.u64, 0), ("y", target.u64, 64), ("", deep, 128))
    assert ask(local, type_id, "0:1:0", FIELD_BYTE_OFFSET, target) == 20
    assert ask(local, type_id, "0:1:1", FIELD_BYTE_OFFSET, target) == 16


def test_flavors_and_typedefs_on_the_way() -> None:
    local, target = Types(), Types()
    number = local.builder.add_typedef("number", local.builder.add_const(local.u32))
    type_id = local.struct("s___new", 8, ("field", number, 32), ("other___old", number, 0))
    members = [("field", target.builder.add_volatile(target.u32), 96), ("other", target.u32, 0)]
    target.struct("s", 16, *members)
    assert ask(local, local.builder.add_const(type_id), "0:0", FIELD_BYTE_OFFSET, target) == 12
    # Types have flavors, and fields have none.
    assert nothing(local, type_id, "0:1", FIELD_BYTE_OFFSET, target)
    # What another flavor of the kernel's says has to agree.
    target.struct("s___2", 24, *members, ("third", target.u32, 128))
    assert ask(local, type_id, "0:0", FIELD_BYTE_OFFSET, target) == 12
    target.struct("s___3", 24, ("field", target.u32, 64))
    assert nothing(local, type_id, "0:0", FIELD_BYTE_OFFSET, target)
    assert ask(local, type_id, "0:0", FIELD_EXISTS, target) == 1


def test_only_a_flavor_is_there() -> None:
    local, target = Types(), Types()
    type_id = local.struct("s", 8, ("field", local.u32, 32))
    target.struct("s___kept", 16, ("field", target.u32, 96))
    target.struct("s_____", 16, ("field", target.u32, 0))
    assert ask(local, type_id, "0:0", FIELD_BYTE_OFFSET, target) == 12


def test_modules_are_asked_where_the_kernel_has_nothing() -> None:
    local, target = Types(), Types()
    type_id = local.struct("s", 4, ("x", local.u32, 0))
    both = local.struct("both", 4, ("x", local.u32, 0))
    target.struct("both", 8, ("x", target.u32, 32))
    kernel = target.btf
    asked = []

    def modules() -> list[Btf]:
        asked.append(1)
        found = []
        for offset in (64, 64):
            builder = BtfBuilder(kernel)
            u32 = kernel.find("unsigned int") or 0
            builder.add_struct("s", 16, [Member("x", u32, offset)])
            builder.add_struct("both", 16, [Member("x", u32, offset)])
            found.append(Btf.from_bytes(builder.to_bytes(), kernel))
        return found

    targets = Targets(kernel, modules)

    def offset(of: int) -> int:
        return resolve(CoreRelo(0, of, "0:0", FIELD_BYTE_OFFSET), local.btf, targets).value

    assert (offset(both), asked) == (4, [])
    assert (offset(type_id), offset(type_id), asked) == (8, 8, [1])
    with pytest.raises(Unresolved):
        resolve(CoreRelo(0, type_id, "0:0", FIELD_BYTE_OFFSET), local.btf, kernel)


def bits(types: Types) -> int:
    """Bitfields of 3 and 5 bits behind 16, a signed one, and one that crosses a word."""
    return types.struct(
        "b",
        16,
        ("flags", types.u16, 0),
        ("low", types.u32, 16, 3),
        ("high", types.u32, 19, 5),
        ("minus", types.int, 24, 6),
        ("across", types.u32, 60, 8),
    )


@pytest.mark.parametrize(
    ("member", "offset", "size", "left", "right", "signed"),
    [
        (0, 0, 2, 48, 48, 0),
        (1, 0, 4, 45, 61, 0),
        (2, 0, 4, 40, 59, 0),
        (3, 0, 4, 34, 58, 1),
        (4, 0, 16, -1, 56, 0),
    ],
)
def test_bitfields(member: int, offset: int, size: int, left: int, right: int, signed: int) -> None:
    local, target = Types(), Types()
    type_id = bits(local)
    bits(target)
    access = f"0:{member}"
    if left < 0:  # no load of up to eight bytes has them all
        assert nothing(local, type_id, access, FIELD_BYTE_OFFSET, target) == "a bitfield does not fit a load"
        return
    assert ask(local, type_id, access, FIELD_SIGNED, target) == signed
    assert ask(local, type_id, access, FIELD_BYTE_OFFSET, target) == offset
    assert ask(local, type_id, access, FIELD_BYTE_SIZE, target) == size
    assert ask(local, type_id, access, FIELD_LSHIFT_U64, target) == left
    assert ask(local, type_id, access, FIELD_RSHIFT_U64, target) == right


def test_the_shifts_take_out_a_bitfield() -> None:
    """A load, a shift up and a shift down have to give the field, whatever the byte order."""
    for order in ("little", "big"):
        types = Types()
        type_id = bits(types)
        btf = Btf.from_bytes(types.builder.to_bytes(order))
        other = Btf.from_bytes(types.builder.to_bytes(order))
        for member, first, width in ((1, 16, 3), (2, 19, 5)):
            values = [
                resolve(CoreRelo(0, type_id, f"0:{member}", kind), btf, other).value
                for kind in (FIELD_BYTE_OFFSET, FIELD_BYTE_SIZE, FIELD_LSHIFT_U64, FIELD_RSHIFT_U64)
            ]
            offset, size, left, right = values
            # All bits of the field set, and no other; on big-endian machines bits count from the top.
            mask = (1 << width) - 1
            data = mask << first if order == "little" else mask << 128 - first - width
            memory = data.to_bytes(16, order)
            loaded = int.from_bytes(memory[offset : offset + size], order)
            assert (loaded << left & (1 << 64) - 1) >> right == mask, (order, member)


def test_types() -> None:
    local, target = Types(), Types()
    type_id = task(local)
    there = moved(target)
    missing = local.struct("missing", 4, ("x", local.int, 0))
    assert ask(local, type_id, "0", TYPE_ID_LOCAL, target) == type_id
    assert ask(local, type_id, "0", TYPE_ID_TARGET, target) == there
    assert ask(local, type_id, "0", TYPE_SIZE, target) == 160
    assert ask(local, type_id, "0", TYPE_EXISTS, target) == 1
    assert ask(local, missing, "0", TYPE_EXISTS, target) == 0
    assert ask(local, missing, "0", TYPE_MATCHES, target) == 0
    # As libbpf has it, and programs ask by it.
    assert ask(local, missing, "0", TYPE_SIZE, target) == 0
    assert ask(local, missing, "0", TYPE_ID_TARGET, target) == 0


def test_a_type_of_another_kind_is_another_type() -> None:
    local, target = Types(), Types()
    type_id = local.builder.add_typedef("x", local.builder.add_ptr(local.int))
    target.builder.add_typedef("x", target.int)
    assert ask(local, type_id, "0", TYPE_EXISTS, target) == 0
    same = Types()
    same.builder.add_typedef("x", same.builder.add_ptr(same.u64))
    assert ask(local, type_id, "0", TYPE_EXISTS, same) == 1
    assert ask(local, type_id, "0", TYPE_MATCHES, same) == 0


def test_functions_as_types() -> None:
    def made(count: int) -> tuple[Types, int]:
        types = Types()
        proto = types.builder.add_func_proto(
            types.int, [(f"p{number}", types.u64) for number in range(count)]
        )
        return types, types.builder.add_typedef("callback", types.builder.add_ptr(proto))

    local, type_id = made(2)
    assert [ask(local, type_id, "0", TYPE_EXISTS, made(count)[0]) for count in (1, 2, 3)] == [0, 1, 0]
    assert [ask(local, type_id, "0", TYPE_MATCHES, made(count)[0]) for count in (1, 2, 3)] == [0, 1, 0]


def test_matching_goes_through_the_members() -> None:
    def made(size: int, extra: bool, pointed: str = "other") -> tuple[Types, int]:
        types = Types()
        pointer = types.builder.add_ptr(types.builder.add_fwd(pointed))
        field = {4: types.u32, 8: types.u64}[size]
        members = [("a", field, 0), ("p", pointer, 64)]
        members += [("more", types.int, 128)] if extra else []
        return types, types.struct("s", 24, *members)

    local, type_id = made(4, False)
    assert ask(local, type_id, "0", TYPE_MATCHES, made(4, True)[0]) == 1
    assert ask(local, type_id, "0", TYPE_MATCHES, made(8, True)[0]) == 0
    assert ask(local, type_id, "0", TYPE_MATCHES, made(4, True, "another")[0]) == 0
    local, type_id = made(4, True)
    assert ask(local, type_id, "0", TYPE_MATCHES, made(4, False)[0]) == 0


def test_types_that_refer_to_themselves() -> None:
    def made() -> tuple[Types, int]:
        types = Types()
        type_id = types.builder.reserve()
        pointer = types.builder.add_ptr(type_id)
        from tracebee.btf.types import Struct

        types.builder.define(
            type_id, Struct("list", 16, (Member("next", pointer, 0), Member("n", types.u64, 64)))
        )
        return types, type_id

    local, type_id = made()
    assert ask(local, type_id, "0", TYPE_MATCHES, made()[0]) == 1


def test_constants_of_enumerations() -> None:
    local, target = Types(), Types()
    enum = local.builder.add_enum("color", [("RED", 1), ("GREEN", 2), ("BLUE", 3)])
    target.builder.add_enum64("color", [("GREEN", 1 << 40), ("RED___old", 7)])
    assert ask(local, enum, "0", ENUMVAL_VALUE, target) == 7
    assert ask(local, enum, "1", ENUMVAL_VALUE, target) == 1 << 40
    assert ask(local, enum, "2", ENUMVAL_EXISTS, target) == 0
    assert ask(local, enum, "1", ENUMVAL_EXISTS, target) == 1
    assert nothing(local, enum, "2", ENUMVAL_VALUE, target)


def test_candidates_have_to_agree() -> None:
    local, target = Types(), Types()
    type_id = local.struct("s", 4, ("x", local.int, 0), ("y", local.int, 32))
    target.struct("s", 8, ("x", target.int, 0), ("y", target.int, 32))
    target.struct("s", 8, ("x", target.int, 32), ("y", target.int, 32))
    target.struct("s", 4, ("z", target.int, 0))
    assert ask(local, type_id, "0:1", FIELD_BYTE_OFFSET, target) == 4
    assert nothing(local, type_id, "0:0", FIELD_BYTE_OFFSET, target) == "types called s differ about it"


# ---------------------------------------------------------------------- instructions


def patched(insn: Insn, member: int, change: Any) -> Insn:
    """What a load or a number becomes; the field is the second of two, and `change` makes that of the target."""
    local, target = Types(), Types()
    fields = (("s", local.int), ("u", local.u32), ("p", local.builder.add_ptr(0)))
    type_id = local.struct("s", 24, *((name, kind, 64 * index) for index, (name, kind) in enumerate(fields)))
    target.struct("s", 400, (fields[member][0], change(target), 800))
    relo = CoreRelo(0, type_id, f"0:{member}", FIELD_BYTE_OFFSET)
    return patch(insn, relo, local.btf, target.btf)


def test_numbers_in_instructions() -> None:
    u32 = lambda types: types.u32  # noqa: E731
    assert patched(Insn(MOVE, 1, imm=8), 1, u32) == Insn(MOVE, 1, imm=100)
    assert patched(Insn(LDDW, 1, imm=8), 1, u32) == Insn(LDDW, 1, imm=100)
    load = Insn(LOAD | op.BPF_W, 2, 1, 8)
    assert patched(load, 1, u32) == load._replace(off=100)
    for insn in (Insn(op.BPF_JMP | op.BPF_EXIT), Insn(MOVE | op.BPF_X, 1, 2)):
        with pytest.raises(FormatError, match="CO-RE: instruction 0"):
            patched(insn, 1, u32)


@pytest.mark.parametrize(
    ("member", "change", "size"),
    [
        (1, lambda types: types.u64, op.BPF_DW),
        (1, lambda types: types.u8, op.BPF_B),
        (1, lambda types: types.int, op.BPF_W),
        (0, lambda types: types.u64, None),
        (2, lambda types: types.builder.add_ptr(0), op.BPF_W),
    ],
)
def test_loads_of_fields_that_have_grown(member: int, change: Any, size: int | None) -> None:
    """A load follows an unsigned number to its new size; of a signed one it would miss the sign."""
    code = LOAD | op.BPF_W
    found = patched(Insn(code, 2, 1, 8 * member), member, change)
    if size is None:
        assert found == Insn(op.BPF_JMP | op.BPF_CALL, imm=POISON)
    else:
        assert found == Insn(LOAD | size, 2, 1, 100)


def test_an_instruction_has_to_hold_what_its_relocation_says() -> None:
    u32 = lambda types: types.u32  # noqa: E731
    for insn in (Insn(MOVE, 1, imm=9), Insn(LDDW, 1, imm=9), Insn(LOAD | op.BPF_W, 2, 1, 9)):
        with pytest.raises(FormatError, match="instruction 0 holds 9, and its relocation says 8"):
            patched(insn, 1, u32)


def test_what_has_no_answer_is_poisoned() -> None:
    poison = Insn(op.BPF_JMP | op.BPF_CALL, imm=POISON)
    structure = lambda types: types.struct("x", 4)  # noqa: E731
    assert patched(Insn(MOVE, 1, imm=8), 1, structure) == poison
    local, target = Types(), Types()
    type_id = local.struct("s", 4, ("x", local.u32, 0))
    target.struct("s", 1 << 20, ("x", target.u32, 1 << 20))
    relo = CoreRelo(0, type_id, "0:0", FIELD_BYTE_OFFSET)
    assert patch(Insn(LOAD | op.BPF_W, 1, 2, 0), relo, local.btf, target.btf) == poison


@pytest.mark.parametrize(
    ("access", "kind"),
    [
        ("", FIELD_BYTE_OFFSET),
        ("0:9", FIELD_BYTE_OFFSET),
        ("0:0:0", FIELD_BYTE_OFFSET),
        ("0:x", FIELD_BYTE_OFFSET),
        ("0:-1", FIELD_BYTE_OFFSET),
        ("0:" * 99 + "0", FIELD_BYTE_OFFSET),
        ("0:99999999999", FIELD_BYTE_OFFSET),
        ("0:3:4", FIELD_BYTE_OFFSET),
        ("1", TYPE_SIZE),
        ("0", ENUMVAL_VALUE),
        ("0", 13),
    ],
)
def test_relocations_that_make_no_sense(access: str, kind: int) -> None:
    local = Types()
    type_id = task(local)
    with pytest.raises(FormatError, match="CO-RE"):
        ask(local, type_id, access, kind, local)


def test_structures_within_each_other_without_end() -> None:
    """Each level has the next twice; trying all ways would take for ever."""
    local, target = Types(), Types()
    type_id = local.struct("s", 4, ("x", local.u32, 0))
    inner = target.struct("", 4, ("y", target.u32, 0))
    for _ in range(60):
        inner = target.struct("", 4, ("", inner, 0), ("", inner, 0))
    target.struct("s", 4, ("", inner, 0))
    assert ask(local, type_id, "0:0", FIELD_EXISTS, target) == 0


def test_a_name_is_needed() -> None:
    local, target = Types(), Types()
    with pytest.raises(FormatError, match="has no name"):
        ask(local, local.struct("", 4, ("x", local.u32, 0)), "0:0", FIELD_EXISTS, target)
