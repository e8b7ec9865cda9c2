"""Whether names of C++ are made readable is the script's to say."""

from __future__ import annotations

import pytest

from tracebee.host import demangle, usersyms
from tracebee.session.names import Names
from tracebee.spec.objects import Schema


@pytest.mark.parametrize(("wanted", "shown"), [(True, "f()"), (False, "_Z1fv")])
def test_demangling_is_as_configured(monkeypatch: pytest.MonkeyPatch, wanted: bool, shown: str) -> None:
    given = []

    class Symbolizer:
        def __init__(self, demangler: object) -> None:
            given.append(demangler)

    monkeypatch.setattr(demangle, "_demangler", lambda name: "f()")
    monkeypatch.setattr(usersyms, "UserSymbolizer", Symbolizer)
    names = Names(Schema(demangles=wanted), lambda stack: None)
    assert names.users is names.users
    (demangler,) = given
    assert demangler("_Z1fv") == shown
