"""Which kinds of BTF this kernel knows, found out by giving it some."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracebee.kernel.features import Features


def missing_kinds(features: Features) -> frozenset[str]:
    """What an object's BTF has to do without: words of tracebee.btf.sanitize.MISSING."""
    from tracebee.btf.sanitize import MISSING

    return frozenset(word for word in MISSING if not features.has(f"btf_{word}"))
