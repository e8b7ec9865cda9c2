"""Probes that were attached without complaint and never fire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.attach import functions
from tracebee.explain.attach.attempt import KPROBES
from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, Finding, Rule
from tracebee.explain.attach.machine import KPROBES_ENABLED, LSM_LIST
from tracebee.explain.attach.names import is_variant_of
from tracebee.explain.attach.trampolines import ftrace_disabled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt

HOOKS_OF_FTRACE = (*KPROBES, "fentry", "fexit", "fmod_ret")


def _examine(attempt: Attempt) -> Iterator[Finding]:
    machine = attempt.machine
    stopped = machine.sysctl("kernel.ftrace_enabled") == 0
    if stopped and attempt.kind in KPROBES and attempt.errno in ("EBUSY", "ENODEV"):
        yield ftrace_disabled(attempt)
    if attempt.was_tried and not attempt.is_silent:
        return
    if attempt.kind in KPROBES and machine.number(KPROBES_ENABLED) == 0:
        yield Finding(
            "kprobes-disarmed",
            PROVEN,
            f"kprobes are switched off (disarmed): {KPROBES_ENABLED} is 0, so the probe is attached and never fires",
            f"write 1 to {KPROBES_ENABLED}",
            (f"{KPROBES_ENABLED} is 0",),
            reference=functions.DOC_KPROBES,
        )
    if attempt.kind in HOOKS_OF_FTRACE and stopped:
        yield ftrace_disabled(attempt)
    if attempt.kind == "lsm":
        active = machine.security_modules()
        if active is None and attempt.is_silent:
            yield Finding(
                "bpf-lsm-off",
                GUESS,
                "the program is attached and its hook never runs: most often bpf is not in the list of "
                "active security "
                "modules, which was not looked at",
                f"look into {LSM_LIST}; if bpf is not in it, boot with lsm=...,bpf on the kernel's command line",
            )
        if active is not None and "bpf" not in active:
            yield Finding(
                "bpf-lsm-off",
                PROVEN,
                "bpf is not among the active security modules, so the program is attached and its hook never runs: "
                f"{LSM_LIST} has {','.join(active)}",
                f"boot with lsm={','.join([*active, 'bpf'])} (bpf added to the list) on the kernel's command line",
                (f"{LSM_LIST} lacks bpf",),
                reference="Documentation/bpf/prog_lsm.rst of the kernel",
            )
    if attempt.is_silent and attempt.kind in ("kprobe", "kprobe event") and attempt.target:
        here = [symbol for symbol in machine.named(attempt.target) if symbol.is_code]
        if len(here) > 1:
            yield functions.ambiguous(
                attempt.target, LIKELY, (f"kallsyms has {len(here)} of that name; the probe is on the first",)
            )
        variants = [one.name for one in machine.symbols or () if is_variant_of(one.name, attempt.target)]
        if here and variants:
            yield Finding(
                "suffixed-variant",
                GUESS,
                f"beside {attempt.target} there is {variants[0]}, a variant that the compiler made for some callers: "
                "their calls do not pass the probe",
                f"hook {variants[0]} too",
                (f"kallsyms has {', '.join(variants[:3])}",),
            )


RULES = (Rule("attached, and silent", _examine),)
