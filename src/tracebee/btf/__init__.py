"""BTF, the format in which kernels and BPF objects describe their types.

* `types`: a class for each kind
* `reader`: `Btf`, which finds types by id or name and makes values of them on demand
* `writer`: `BtfBuilder`, which makes BTF that the kernel accepts
* `format`: types as C source; `header`: all of them; `layout`: one with its offsets; `dump`: as they are stored
* `ext`: function, line and relocation records (.BTF.ext), which `extwriter` writes
* `core`: CO-RE relocations, answered by other types; `datasec`: sections of variables, settled
* `merge`: the types of many objects as one; `sanitize`: without what an old kernel does not know
* `values`: bytes as Python values and back; `valuetext`, `typetext`: values and types as people write them

``import tracebee.btf`` brings the first two; the others are imported by whoever writes or prints BTF.
"""

from tracebee.btf.reader import Btf
from tracebee.btf.types import (
    VOID,
    Array,
    Composite,
    Const,
    Datasec,
    DeclTag,
    Enum,
    Enum64,
    Enumeration,
    EnumValue,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Member,
    Modifier,
    Param,
    Ptr,
    Restrict,
    Struct,
    Type,
    Typedef,
    TypeTag,
    Union,
    Unknown,
    Var,
    VarSecinfo,
    Void,
    Volatile,
)

__all__ = [
    "VOID",
    "Array",
    "Btf",
    "Composite",
    "Const",
    "Datasec",
    "DeclTag",
    "Enum",
    "Enum64",
    "EnumValue",
    "Enumeration",
    "Float",
    "Func",
    "FuncProto",
    "Fwd",
    "Int",
    "Member",
    "Modifier",
    "Param",
    "Ptr",
    "Restrict",
    "Struct",
    "Type",
    "TypeTag",
    "Typedef",
    "Union",
    "Unknown",
    "Var",
    "VarSecinfo",
    "Void",
    "Volatile",
]
