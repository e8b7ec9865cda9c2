"""The configuration: one record a key, its value from the defaults, the script, or the environment.

The environment wins, as ``BPFTRACE_KEY``, so that what people have set for bpftrace keeps working; and
``TRACEBEE_KEY`` wins over that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.records import Frozen, Mutable

if TYPE_CHECKING:
    from collections.abc import Mapping

GPL_LICENSES = (
    "Dual MIT/GPL",
    "Dual BSD/GPL",
    "Dual MPL/GPL",
    "GPL and additional rights",
    "GPL v2",
    "GPL",
)
"""Licences that the kernel accepts for its GPL-only helpers (kernel/license.h, license_is_gpl_compatible)."""


class Option(Frozen):
    """One key.  `kind` is "number", "bool", "text", or "choice" with the allowed words in `choices`."""

    key: str
    kind: str
    default: int | bool | str
    description: str
    choices: tuple[str, ...] = ()
    minimum: int = 0


OPTIONS = {
    option.key: option
    for option in (
        Option("max_map_keys", "number", 4096, "keys that a map can hold", minimum=1),
        Option("max_strlen", "number", 1024, "longest string, in bytes", minimum=1),
        Option("max_probes", "number", 1024, "most attach points of a script", minimum=1),
        Option("max_bpf_progs", "number", 1024, "most programs that a script is compiled to", minimum=1),
        Option("max_cat_bytes", "number", 10240, "most bytes that cat() copies", minimum=1),
        Option("log_size", "number", 1000000, "bytes kept of the verifier's log", minimum=1),
        Option("on_stack_limit", "number", 32, "largest value kept on the BPF stack, in bytes"),
        Option("perf_rb_pages", "number", 0, "pages of the ring buffer; 0 chooses by the machine's memory"),
        Option("str_trunc_trailer", "text", "..", "what is put after a string that was cut short"),
        Option(
            "stack_mode",
            "choice",
            "bpftrace",
            "how stacks are printed",
            ("bpftrace", "perf", "raw", "build_id"),
        ),
        Option(
            "missing_probes",
            "choice",
            "error",
            "what to do about missing targets",
            ("error", "warn", "ignore"),
        ),
        Option("print_maps_on_exit", "bool", True, "print all maps at the end"),
        Option("cpp_demangle", "bool", True, "show C++ symbols demangled"),
        Option("lazy_symbolication", "bool", True, "look up user symbols only when printing"),
        Option("show_debug_info", "bool", False, "show source places in user stacks"),
        Option(
            "cache_user_symbols",
            "choice",
            "PER_PID",
            "how long user symbols are kept",
            ("PER_PID", "PER_PROGRAM", "NONE"),
        ),
        Option("license", "text", "GPL", "licence that the programs are loaded under"),
        Option("unstable_tseries", "choice", "warn", "tseries()", ("error", "warn", "enable")),
        Option("unstable_typeinfo", "choice", "enable", "typeinfo()", ("error", "warn", "enable")),
        Option("unstable_dw_ustack", "choice", "warn", "dw_ustack()", ("error", "warn", "enable")),
        Option("unstable_map_decl", "choice", "enable", "map declarations", ("error", "warn", "enable")),
        Option("unstable_import", "choice", "enable", "imports", ("error", "warn", "enable")),
        Option("unstable_macro", "choice", "enable", "macros", ("error", "warn", "enable")),
    )
}

WITHOUT_EFFECT = ("unstable_map_decl", "unstable_import", "unstable_macro")
"""Keys of features that bpftrace counts as stable by now."""

_TRUE = ("1", "true", "on", "yes")
_FALSE = ("0", "false", "off", "no")


class BadOption(ValueError):
    """A key or value is not known; the message says what would be."""


class Config(Mutable):
    """The values in force, by key; attributes give the ones that the compiler and the session use."""

    values: dict[str, int | bool | str]

    def number(self, key: str) -> int:
        return int(self.values[key])

    def text(self, key: str) -> str:
        return str(self.values[key])

    def flag(self, key: str) -> bool:
        return bool(self.values[key])

    def set(self, key: str, written: str) -> str:
        """Set a key from its spelling in a script or the environment; its name.  Raises BadOption."""
        name = key.lower().removeprefix("bpftrace_").removeprefix("tracebee_")
        option = OPTIONS.get(name)
        if option is None:
            raise BadOption(f"{key}: not a known configuration option")
        self.values[name] = parse_value(option, written)
        return name


def parse_value(option: Option, written: str) -> int | bool | str:
    """The value of an option from its spelling; raises BadOption."""
    if option.kind == "number":
        try:
            value = int(written, 0)
        except ValueError:
            raise BadOption(f"Invalid value for {option.key}. Expected a number, found: {written}") from None
        if value < option.minimum:
            raise BadOption(f"Invalid value for {option.key}. Found: {written}. At least: {option.minimum}")
        return value
    if option.kind == "bool":
        if written.lower() in _TRUE:
            return True
        if written.lower() in _FALSE:
            return False
        raise BadOption(f"Invalid value for {option.key}. Expected true or false, found: {written}")
    if option.key == "license":
        if written not in GPL_LICENSES:
            raise BadOption(
                f"Invalid value for license. Found: {written}. Valid values: {', '.join(GPL_LICENSES)}"
            )
        return written
    if option.kind == "choice":
        for choice in option.choices:
            if written.lower() == choice.lower():
                return choice
        raise BadOption(
            f"Invalid value for {option.key}. Found: {written}. Valid values: {', '.join(option.choices)}"
        )
    return written


def initial_config() -> Config:
    """The defaults."""
    return Config({key: option.default for key, option in OPTIONS.items()})


def apply_environment(config: Config, environment: Mapping[str, str]) -> set[str]:
    """Take BPFTRACE_* and TRACEBEE_* of known keys; returns the keys that were set.  Raises BadOption."""
    seen = set()
    for prefix in ("BPFTRACE_", "TRACEBEE_"):
        for key in OPTIONS:
            written = environment.get(prefix + key.upper())
            if written is not None:
                config.set(key, written)
                seen.add(key)
    return seen
