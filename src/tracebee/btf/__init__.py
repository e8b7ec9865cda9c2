"""BTF, the format in which kernels and BPF objects describe their types.

* `types`: a class for each kind
* `reader`: `Btf`, which finds types by id or name and makes values of them on demand
* `writer`: `BtfBuilder`, which makes BTF that the kernel accepts
* `format`: types as C source; `header`: all of them; `layout`: one with its offsets; `dump`: as they are stored
* `ext`: function, line and relocation records (.BTF.ext)

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
