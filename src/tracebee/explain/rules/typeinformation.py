"""The object's own BTF: malformed, too new for this kernel, or at odds with the program's functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.rules.record import Finding, Rule, rule
from tracebee.explain.versions import CALLBACK_HELPERS, is_older

if TYPE_CHECKING:
    from tracebee.explain.case import Case


def func_info(case: Case, found: re.Match[str]) -> Finding | None:
    """The functions in BTF do not match: on an old kernel the sign of a callback, which it takes for no function."""
    text = "\n".join(case.source.lines) if case.source is not None else ""
    used = [name for name in CALLBACK_HELPERS if re.search(rf"\b{name}\s*\(", text)]
    older = [name for name in used if is_older(case.facts.release, CALLBACK_HELPERS[name])]
    if older or (not text and case.older("5.13")):
        name = older[0] if older else ""
        since = CALLBACK_HELPERS[name] if name else "5.13"
        helper = f"the helper function {name}" if name else "a helper function with a callback"
        return Finding(
            "helper-too-new",
            f"The kernel ({case.facts.release}) is older than {helper}, which came with Linux {since}: it "
            f"does not know callbacks (functions that are "
            f"passed to helpers), so its count of functions differs from the program's func_info.",
            f"use a newer kernel ({since} or later), or a plain bounded loop instead of "
            f"{name or 'the helper with a callback'}",
            sure=bool(older),
            fix=(case.source.search(rf"\b{name}\s*\(") if case.source is not None and name else None,),
            others=("btf-invalid",),
        )
    return Finding(
        "btf-invalid",
        "The function information (func_info, BTF) that was sent with the program does not match its "
        "functions.",
        "build the object anew with -g and one compiler, do not strip it in part; on kernels before 5.13 "
        "programs with callbacks are refused so too",
        sure=case.older("5.13") is False,
        others=("helper-too-new",),
    )


def btf(case: Case, found: re.Match[str]) -> Finding | None:
    detail = " ".join(case.errors)[:140]
    return Finding(
        "btf-invalid",
        f"The BTF type information that was sent with the program is refused: {detail}.",
        "build with a matching clang and pahole, send no BTF of newer kinds to an old kernel (the loader "
        "should sanitize it), or strip BTF (llvm-strip -g)",
    )


RULES: tuple[Rule, ...] = (
    rule(
        "btf-invalid",
        r"number of funcs in func_info doesn't match number of subprogs|func_info BTF section doesn't match "
        r"subprog layout.*"
        r"|invalid func info rec size \d+",
        func_info,
        "4.20..7.3",
    ),
    rule(
        "btf-invalid",
        r"(?:\[\d+\] (?:\w+ .*)?(?:Invalid|Member|size|vlen|Loop|Unsupported|No type|Max)|.* Invalid "
        r"(?:member|name|offset|size|type|index"
        r"|elem|value|kind|btf_info|func linkage|return type|arg#|bits|int).*|.*type_id=\d+ .*|magic: "
        r"0x|Invalid (?:magic|BTF|btf|insn|line_info|type|"
        r"name|string section|func).*|.*(?:Unsupported|btf_header|Section overlap|exceeds struct_size|not "
        r"byte aligned|Exceeded max|KIND_FUNC"
        r"|missing bpf_line_info|line_info|func info|meta_left|str_len|hdr_len|needs? valid BTF|without "
        r"BTF|missing btf func_info|nonzero tailing).*"
        r"|\[\d+\] [A-Z_]+ .*)",
        btf,
        "4.18..7.3",
    ),
)
