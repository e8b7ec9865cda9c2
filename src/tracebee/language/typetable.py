"""From names to types: those of the language, of the script's C part, and of the kernel's BTF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.spec.types import (
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Array,
    Bool,
    Enum,
    Field,
    Inet,
    Int,
    KSym,
    MacAddr,
    Pointer,
    Str,
    Struct,
    Timestamp,
    Type,
    Username,
    USym,
    Void,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.btf import Btf
    from tracebee.language.cdecl import Declarations

VOID = Void()
CHAR = INT8

LANGUAGE_TYPES: dict[str, Type] = {
    "bool": Bool(),
    "int8": INT8,
    "int16": INT16,
    "int32": INT32,
    "int64": INT64,
    "uint8": UINT8,
    "uint16": UINT16,
    "uint32": UINT32,
    "uint64": UINT64,
    "void": VOID,
    "inet": Inet(),
    "ksym_t": KSym(),
    "usym_t": USym(),
    "timestamp": Timestamp(),
    "username": Username(),
    "macaddr": MacAddr(),
}

C_TYPES: dict[str, Type] = {
    # LP64, the data model of every 64-bit Linux
    "char": CHAR,
    "signed char": INT8,
    "unsigned char": UINT8,
    "short": INT16,
    "int": INT32,
    "long": INT64,
    "long long": INT64,
    "_Bool": Bool(),
    **{f"int{bits}_t": Int(bits // 8, True) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}_t": Int(bits // 8, False) for bits in (8, 16, 32, 64)},
    **{
        f"{prefix}{bits}": Int(bits // 8, prefix[-1] == "s")
        for bits in (8, 16, 32, 64)
        for prefix in ("__u", "__s", "u", "s")
    },
    "size_t": UINT64,
    "ssize_t": INT64,
    "uintptr_t": UINT64,
    "intptr_t": INT64,
    "pid_t": INT32,
    "uid_t": UINT32,
    "gid_t": UINT32,
    "mode_t": UINT32,
    "off_t": INT64,
    "loff_t": INT64,
    "time_t": INT64,
    "dev_t": UINT64,
    "ino_t": UINT64,
    "bool": Bool(),
}


def c_integer(words: str) -> Type | None:
    """The type of a C spelling such as "unsigned long int", whatever the order of its words."""
    parts = words.split()
    if not parts or any(word not in ("unsigned", "signed", "long", "short", "int", "char") for word in parts):
        return C_TYPES.get(words)
    unsigned = "unsigned" in parts
    if "char" in parts:
        return UINT8 if unsigned else INT8
    if "short" in parts:
        return UINT16 if unsigned else INT16
    if "long" in parts:
        return UINT64 if unsigned else INT64
    return UINT32 if unsigned else INT32


class TypeTable:
    """Looks types up by name; what the script declares hides what the kernel has."""

    def __init__(
        self, btf: Callable[[], Btf | None], declarations: Declarations | None = None, module: str = ""
    ) -> None:
        self._load_btf = btf
        self.module = module
        self._modules: dict[str, TypeTable] = {}
        self._btf: Btf | None = None
        self._asked = False
        self.declarations = declarations
        self._by_id: dict[int, Type] = {}

    @property
    def btf(self) -> Btf | None:
        """The kernel's BTF, read when first needed."""
        if not self._asked:
            self._asked = True
            self._btf = self._load_btf()
        return self._btf

    def of_module(self, module: str, btf: Callable[[], Btf | None]) -> TypeTable | None:
        """The types of a module of the kernel, whose BTF is read by `btf`; None where it has none."""
        table = self._modules.get(module)
        if table is None:
            table = self._modules[module] = TypeTable(btf, self.declarations, module)
        return table if table.btf is not None else None

    def find(self, name: str) -> Type | None:
        """The type called `name`: "uint8", "struct file", "unsigned int", "size_t"."""
        known = LANGUAGE_TYPES.get(name)
        if known is not None:
            return known
        if self.declarations is not None:
            declared = self.declarations.types.get(name)
            if declared is not None:
                return declared
        kind, _, tag = name.partition(" ")
        if kind in ("struct", "union", "enum") and tag:
            return self._from_kernel(tag, kind)
        integer = c_integer(name)
        if integer is not None:
            return integer
        return self._from_kernel(name, "typedef")

    def _from_kernel(self, name: str, kind: str) -> Type | None:
        btf = self.btf
        if btf is None:
            return None
        from tracebee.btf import types as kinds

        wanted = {
            "struct": (kinds.Struct,),
            "union": (kinds.Union,),
            "enum": (kinds.Enum, kinds.Enum64),
            "typedef": (kinds.Typedef, kinds.Int),
        }[kind]
        type_id = btf.find(name, wanted)
        return None if type_id is None else self.from_btf(type_id)

    def constant(self, name: str) -> tuple[int, Type] | None:
        """An enumerator by name, from the script or the kernel, with its enumeration."""
        if self.declarations is not None and name in self.declarations.enumerators:
            return self.declarations.enumerators[name]
        btf = self.btf
        if btf is None:
            return None
        found = btf.find_enumerator(name)
        if found is None:
            return None
        type_id, value = found
        return value, self.from_btf(type_id)

    def from_btf(self, type_id: int) -> Type:
        """The kernel's type with this id.  Types that a script cannot read become Void of their size."""
        known = self._by_id.get(type_id)
        if known is None:
            known = self._by_id[type_id] = self._convert(type_id)
        return known

    def _convert(self, type_id: int) -> Type:
        from tracebee.btf import types as kinds

        btf = self.btf
        assert btf is not None
        type_id = btf.resolve(type_id)
        if type_id in self._by_id:
            return self._by_id[type_id]
        kind = btf.type(type_id)
        if isinstance(kind, kinds.Int):
            if kind.is_bool:
                return Bool()
            return (
                Int(kind.size, kind.is_signed or kind.name == "char")
                if kind.size in (1, 2, 4, 8)
                else Void(kind.size)
            )
        if isinstance(kind, kinds.Ptr):
            return Pointer(self._pointee(kind.type_id), "kernel")
        if isinstance(kind, kinds.Array):
            element = btf.type(btf.resolve(kind.type_id))
            if isinstance(element, kinds.Int) and element.name == "char" and kind.count:
                return Str(kind.count)
            return Array(self.from_btf(kind.type_id), kind.count)
        if isinstance(kind, kinds.Composite):
            return self._struct(type_id, kind)
        if isinstance(kind, kinds.Enumeration):
            width = kind.size if kind.size in (1, 2, 4, 8) else 4
            # Before Linux 6.0 signed enumerations were stored like unsigned ones.
            negative = any(value.value < 0 for value in kind.values)
            names = tuple((value.value, value.name) for value in kind.values)
            return Enum(kind.name, width, kind.signed or negative, names)
        if isinstance(kind, kinds.Float):
            return Void(kind.size)
        return VOID

    def _pointee(self, type_id: int) -> Type:
        """What a pointer points to, without going round a circle of pointers for ever."""
        btf = self.btf
        assert btf is not None
        target = btf.resolve(type_id)
        if target in self._by_id:
            return self._by_id[target]
        self._by_id[target] = VOID  # a pointer to itself ends here
        converted = self._convert_fresh(target)
        self._by_id[target] = converted
        return converted

    def _convert_fresh(self, type_id: int) -> Type:
        self._by_id.pop(type_id, None)
        return self._convert(type_id)

    def _struct(self, type_id: int, kind: object) -> Struct:
        from tracebee.btf import types as kinds

        btf = self.btf
        assert btf is not None and isinstance(kind, kinds.Composite)
        word = "struct" if isinstance(kind, kinds.Struct) else "union"

        def load() -> tuple[Field, ...]:
            fields = []
            for member in kind.members:
                member_type = self.from_btf(member.type_id)
                byte, bit = divmod(member.bit_offset, 8)
                if member.bitfield_size:
                    size = max(1, member_type.size)
                    byte = member.bit_offset // 8 // size * size
                    bit = member.bit_offset - 8 * byte
                fields.append(Field(member.name, member_type, byte, member.bitfield_size, bit))
            return tuple(fields)

        # The ids that modules add to the kernel's are the same for all modules.
        origin = (
            ("btf", type_id) if type_id < btf.first_id or not self.module else ("btf", type_id, self.module)
        )
        return Struct(word, kind.name, kind.size, btf.align_of(type_id), origin, load)
