"""Demangling with and without a demangler; the packages are played by small modules."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tracebee.host import demangle as module
from tracebee.host.demangle import demangle, strip_rust_hash


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_demangler", None)
    # None makes an import fail.
    monkeypatch.setitem(sys.modules, "cxxfilt", None)
    monkeypatch.setitem(sys.modules, "itanium_demangler", None)


def test_without_a_demangler() -> None:
    assert demangle("_ZN3foo3barEi") == "_ZN3foo3barEi"
    assert demangle("main") == "main"


def test_with_cxxfilt(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("cxxfilt")
    fake.demangle = lambda name, external_only: f"<{name}, {external_only}>"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cxxfilt", fake)
    assert demangle("_ZN3foo3barEi") == "<_ZN3foo3barEi, False>"
    assert demangle("main") == "main"


def test_with_itanium_demangler(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("itanium_demangler")
    fake.parse = lambda name: "foo::bar::h0123456789abcdef" if name == "_ZGood" else None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "itanium_demangler", fake)
    assert demangle("_ZGood") == "foo::bar"
    assert demangle("_ZBad") == "_ZBad"


def test_a_demangler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, external_only: bool) -> str:
        raise RecursionError

    fake = ModuleType("cxxfilt")
    fake.demangle = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cxxfilt", fake)
    assert demangle("_ZN3foo3barEi") == "_ZN3foo3barEi"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("core::fmt::write::h0123456789abcdef", "core::fmt::write"),
        ("core::fmt::write::h0123456789abcdeg", "core::fmt::write::h0123456789abcdeg"),
        ("a::hello", "a::hello"),
        ("main", "main"),
    ],
)
def test_hashes_of_rust(name: str, expected: str) -> None:
    assert strip_rust_hash(name) == expected
