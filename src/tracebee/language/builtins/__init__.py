"""The built-ins, by name; each module is imported when a script first uses one of its names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracebee.language.builtins.base import Builtin

# module: the names in it; the class of a name is the name in CamelCase
MODULES = {
    "output": "printf print errorf warnf debugf time join cat system",
    "control": "exit fail unwatch",
    "aggregations": "count sum avg min max stats hist lhist tseries",
    "mapcalls": "clear zero delete has_key find len",
    "process": "pid tid uid gid comm cpu ncpus numaid curtask cgroup nsecs elapsed rand jiffies cpid has_cpid "
    "username usermode",
    "probes": "probe probetype func args arg retval ctx config",
    "strings": "str buf strlen strcap strncmp strcontains strstr str_concat memcmp strerror signal_name "
    "syscall_name strftime",
    "addresses": "ksym usym kaddr percpu_kaddr uaddr kptr uptr reg",
    "stacks": "kstack ustack dw_ustack",
    "network": "ntop pton macaddr bswap socket_cookie skboutput",
    "kernelobjects": "path cgroupid cgroup_path is_err container_of",
    "typequeries": "is_str is_ptr is_array is_integer is_unsigned_integer is_literal has_member has_probe "
    "kfunc_exist kfunc_allowed",
    "unsafe": "signal signal_thread override write_user",
}
_MODULE_OF = {name: module for module, names in MODULES.items() for name in names.split()}
_made: dict[str, Builtin] = {}


def find_builtin(name: str) -> Builtin | None:
    """The record of a built-in, or None; ``__builtin_comm`` is another spelling of ``comm``."""
    builtin = _made.get(name)
    if builtin is None:
        plain = name.removeprefix("__builtin_")
        module = _MODULE_OF.get(plain)
        if module is None:
            return None
        class_name = "".join(part.capitalize() for part in plain.split("_"))
        builtin = _made[name] = getattr(import_module(f"tracebee.language.builtins.{module}"), class_name)()
    return builtin


def builtin_names() -> Iterable[str]:
    """All names, for suggestions and documentation."""
    return _MODULE_OF.keys()
