"""C++ and Rust names for people, where a demangler is installed.

The packages cxxfilt and itanium_demangler are both optional; without them, and for names that are not
mangled, the name comes back as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_demangler: Callable[[str], str] | None = None


def demangle(name: str) -> str:
    """``_ZN3foo3barEi`` → ``foo::bar(int)``; a C name stays as it is."""
    global _demangler  # noqa: PLW0603 - finding out what is installed is done once
    if not name.startswith(("_Z", "__Z")):
        return name
    if _demangler is None:
        _demangler = _find_demangler()
    try:
        return strip_rust_hash(_demangler(name)) or name
    except Exception:
        # Whatever a foreign parser makes of a name from a foreign file, the name itself is still good.
        return name


def strip_rust_hash(name: str) -> str:
    """``core::fmt::write::h0123456789abcdef`` → ``core::fmt::write``: legacy Rust names end in a hash."""
    base, separator, tail = name.rpartition("::h")
    if separator and len(tail) == 16 and all(digit in "0123456789abcdef" for digit in tail):
        return base
    return name


def _find_demangler() -> Callable[[str], str]:
    from importlib import import_module

    for module, make in (("cxxfilt", _from_cxxfilt), ("itanium_demangler", _from_itanium_demangler)):
        try:
            return make(import_module(module))
        except Exception:
            # Absent, or (cxxfilt without a C++ library) unable to start.
            continue
    return lambda name: name


def _from_cxxfilt(module: Any) -> Callable[[str], str]:
    function = module.demangle
    return lambda name: str(function(name, external_only=False))


def _from_itanium_demangler(module: Any) -> Callable[[str], str]:
    parse = module.parse

    def demangled(name: str) -> str:
        tree = parse(name)
        return name if tree is None else str(tree)

    return demangled
