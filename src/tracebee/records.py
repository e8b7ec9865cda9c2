"""Value classes without the import-time cost of dataclasses.

A class that derives from `Frozen` or `Mutable` lists its fields as annotations, as a dataclass does::

    class Span(Frozen):
        start: int
        end: int = 0

It gets ``__slots__``, a constructor that takes the fields by position or name, and ``__match_args__``;
`Frozen` adds equality, a hash and no way for a type checker to accept an assignment.  A dataclass compiles
source text for every class (0.4 ms each on CPython 3.11), which for the hundred node and type classes of a
compiler would be half of the start-up time; here one constructor serves all classes.

Frozenness is checked by the type checker, not at run time: enforcing it would slow every constructor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

if TYPE_CHECKING:
    from typing import Self

_NO_DEFAULT = object()


class _RecordMeta(type):
    """Turns annotations into slots, and class-level values into defaults."""

    if TYPE_CHECKING:
        _fields: tuple[str, ...]
        _defaults: dict[str, Any]

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _RecordMeta:
        own = [field for field in namespace.get("__annotations__", {}) if not field.startswith("__")]
        inherited: tuple[str, ...] = ()
        defaults: dict[str, Any] = {}
        for base in bases:
            if isinstance(base, _RecordMeta):
                inherited += base._fields
                defaults |= base._defaults
        for field in own:
            value = namespace.pop(field, _NO_DEFAULT)
            if value is not _NO_DEFAULT:
                defaults[field] = value
        namespace["__slots__"] = (*(f for f in own if f not in inherited), *namespace.get("__slots__", ()))
        fields = inherited + tuple(f for f in own if f not in inherited)
        namespace["__match_args__"] = fields
        namespace["_fields"] = fields
        namespace["_defaults"] = defaults
        return super().__new__(mcls, name, bases, namespace)


class _Record(metaclass=_RecordMeta):
    if TYPE_CHECKING:
        _fields: ClassVar[tuple[str, ...]]
        _defaults: ClassVar[dict[str, Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fields = self._fields
        if len(args) > len(fields):
            raise TypeError(f"{type(self).__name__}() takes {len(fields)} values, got {len(args)}")
        for field, value in zip(fields, args, strict=False):
            setattr(self, field, value)
        if len(args) < len(fields):
            defaults = self._defaults
            for field in fields[len(args) :]:
                if field in kwargs:
                    setattr(self, field, kwargs.pop(field))
                elif field in defaults:
                    setattr(self, field, defaults[field])
                else:
                    raise TypeError(f"{type(self).__name__}() lacks {field!r}")
        if kwargs:
            raise TypeError(f"{type(self).__name__}() got unexpected {', '.join(kwargs)}")

    def __repr__(self) -> str:
        inside = ", ".join(f"{field}={getattr(self, field, None)!r}" for field in self._fields)
        return f"{type(self).__name__}({inside})"


@dataclass_transform(frozen_default=True)
class Frozen(_Record):
    """A value: compared and hashed by class and fields."""

    def _key(self) -> tuple[Any, ...]:
        return tuple([getattr(self, field) for field in self._fields])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def replaced(self, **changes: Any) -> Self:
        """The same value with some fields changed."""
        return type(self)(**{field: getattr(self, field) for field in self._fields} | changes)


@dataclass_transform(eq_default=False)
class Mutable(_Record):
    """A thing with identity whose fields may change, such as a tree node."""
