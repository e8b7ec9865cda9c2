"""Capabilities, lockdown and sysctls, from recorded text."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tracebee.errors import FormatError
from tracebee.host import rights
from tracebee.host.rights import CAPABILITIES, Rights, parse_capabilities, parse_lockdown

STATUS = """\
Name:\tpython3
Uid:\t0\t0\t0\t0
CapInh:\t0000000000000000
CapPrm:\t000001fffeffffff
CapEff:\t000001fffeffffff
CapBnd:\t000001ffffffffff
CapAmb:\t0000000000000000
Seccomp:\t0
"""

ALL = (1 << len(CAPABILITIES)) - 1


def mask(*names: str) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in names)


def with_mask(effective: int, last: int = 40, is_namespaced: bool = False) -> Rights:
    return Rights(effective, ALL, last, "none", (("kernel.kptr_restrict", 1),), is_namespaced)


def test_status() -> None:
    masks = parse_capabilities(STATUS)
    assert masks["CapEff"] == 0x1FFFEFFFFFF
    assert masks["CapBnd"] == ALL
    assert "CAP_SYS_RESOURCE" not in rights.capability_names(masks["CapEff"])
    assert len(rights.capability_names(masks["CapEff"])) == len(CAPABILITIES) - 1


@pytest.mark.parametrize(
    "text", ["", "Name:\tx\n", "CapEff:\tmany\n", "CapEff:\t1" + "0" * 16 + "\n", "CapEff:\t-1\n"]
)
def test_bad_status(text: str) -> None:
    with pytest.raises(FormatError):
        parse_capabilities(text)


def test_unknown_bits_have_no_name() -> None:
    assert rights.capability_names(1 << 63 | 1) == ["CAP_CHOWN"]


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (with_mask(ALL), ""),
        (with_mask(mask("CAP_SYS_ADMIN")), ""),
        (with_mask(mask("CAP_BPF", "CAP_PERFMON")), ""),
        (with_mask(mask("CAP_BPF")), "CAP_PERFMON"),
        (with_mask(mask("CAP_PERFMON")), "CAP_BPF"),
        (with_mask(0), "CAP_BPF and CAP_PERFMON"),
        # Linux 5.7 and before
        (with_mask(0, last=37), "CAP_SYS_ADMIN"),
        (with_mask(mask("CAP_BPF", "CAP_PERFMON"), last=37), "CAP_SYS_ADMIN"),
        (with_mask(mask("CAP_SYS_ADMIN"), last=37), ""),
        (with_mask(ALL, is_namespaced=True), "CAP_SYS_ADMIN in the initial user namespace"),
    ],
)
def test_what_tracing_lacks(found: Rights, missing: str) -> None:
    assert found.missing_for_tracing() == missing


def test_facts() -> None:
    found = with_mask(mask("CAP_BPF"))
    assert found.has("CAP_BPF")
    assert not found.has("CAP_SYS_ADMIN")
    assert found.names() == ["CAP_BPF"]
    assert found.sysctl("kernel.kptr_restrict") == 1
    assert found.sysctl("kernel.perf_event_paranoid") is None
    with pytest.raises(ValueError):
        found.has("CAP_NOTHING")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]", "confidentiality"),
        ("", ""),
        ("none", ""),
    ],
)
def test_lockdown(text: str, mode: str) -> None:
    assert parse_lockdown(text) == mode


def test_user_namespaces() -> None:
    assert rights.is_initial_namespace("         0          0 4294967295\n")
    assert not rights.is_initial_namespace("         0       1000          1\n")
    assert not rights.is_initial_namespace("")


def test_the_names_as_the_header_has_them() -> None:
    header = Path("/usr/include/linux/capability.h")
    if not header.exists():
        pytest.skip("linux/capability.h is not installed")
    defined = dict(re.findall(r"^#define (CAP_\w+)\s+(\d+)$", header.read_text(), re.M))
    for name, number in defined.items():
        if int(number) < len(CAPABILITIES):
            assert CAPABILITIES[int(number)] == name
    assert len(defined) >= 38


def test_our_own() -> None:
    found = rights.read_rights()
    assert found.last_capability >= 37
    assert found.sysctl("kernel.perf_event_paranoid") == rights.read_sysctl("kernel.perf_event_paranoid")
    assert rights.read_sysctl("kernel.no_such_thing") is None
    assert rights.read_sysctl("kernel.ostype") is None
    if os.geteuid() == 0:
        assert found.effective
