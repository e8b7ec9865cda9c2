"""CO-RE relocations that found nothing on this kernel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.rules.record import Finding, Rule, rule

if TYPE_CHECKING:
    from tracebee.explain.case import Case


def core_text(case: Case) -> str:
    """What the loader said of a failed relocation, or empty."""
    for text in (*case.errors, case.facts.loader, *case.log.loader):
        found = re.search(r"failed to resolve CO-RE relocation <[^>\n]{1,40}> [^\n]{1,300}", text)
        if found:
            return found[0]
    for text in (case.facts.loader, *case.log.loader):
        found = re.search(r"[^\n]{0,200}no matching targets found[^\n]{0,200}", text)
        if found:
            return found[0]
    return ""


def core(case: Case, found: re.Match[str] | None) -> Finding:
    """A CO-RE relocation that found nothing on this kernel."""
    text = core_text(case)
    detail = re.search(r"<(\w{1,40})> \[\d+\] (.{1,200})", text)
    what = detail[2].split(" (")[0].strip() if detail else ""
    kind = detail[1] if detail else ""
    field = re.search(r"(?:struct|union) (\w{1,128})\.([\w.\[\]]{1,128})", what)
    value = re.search(r"enum (\w{1,128})::(\w{1,128})", what)
    note = f" ({what})" if what else ""
    if field:
        sentence = (
            f"A CO-RE relocation failed: struct {field[1]} has no field {field[2]} in this kernel's BTF: the "
            f"field does not exist here "
            f"(renamed, moved or configured out)."
        )
        guard = f"bpf_core_field_exists(((struct {field[1]} *)0)->{field[2]})"
    elif value or kind.startswith("enumval"):
        name = f"{value[2]} of enum {value[1]}" if value else what
        sentence = f"A CO-RE relocation failed: the enum value {name} does not exist in this kernel's BTF."
        guard = (
            f"bpf_core_enum_value_exists(enum {value[1]}, {value[2]})"
            if value
            else "bpf_core_enum_value_exists()"
        )
    elif kind.startswith(("type", "local_type", "target_type")):
        sentence = f"A CO-RE relocation failed: the type{note} does not exist in this kernel's BTF."
        guard = "bpf_core_type_exists()"
    else:
        sentence = (
            f"A CO-RE relocation could not be resolved on this kernel{note}: a field, type (struct) or enum "
            f"value that the program was compiled "
            f"against does not exist in its BTF."
        )
        guard = "bpf_core_field_exists(), bpf_core_type_exists() or bpf_core_enum_value_exists()"
    fix = None
    if case.source is not None and (field or value):
        name = field[2].split(".")[0].split("[")[0] if field else value[2] if value else ""
        lines = [
            n for n, line in enumerate(case.source.lines, 1) if re.search(rf"\b{re.escape(name)}\b", line)
        ]
        fix = case.source.at(lines[-1]) if lines else None
    return Finding(
        "core-relocation",
        sentence,
        f"guard the access with if ({guard}) and offer another way else; or use the name that it has on this "
        f"kernel (bpftool btf dump file "
        f"/sys/kernel/btf/vmlinux)",
        fix=(fix,),
        also=("the call of a function with number 195896080 is how the loader marks the place",),
    )


RULES: tuple[Rule, ...] = (
    rule("core-relocation", r"failed to resolve CO-RE relocation|<invalid CO-RE relocation>", core),
)
