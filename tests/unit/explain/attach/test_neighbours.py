"""Callers and callees of functions that cannot be hooked."""

from __future__ import annotations

import pytest

from tracebee.explain.attach.neighbours import AROUND, around


def test_the_table_comes_first() -> None:
    assert around("copy_page_to_iter")[:3] == ("filemap_read", "pipe_read", "_copy_to_iter")
    assert around("finish_task_switch.isra.0")[:1] == ("finish_task_switch.isra.0",)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("snark_hunt", "__snark_hunt"),
        ("__snark_hunt", "snark_hunt"),
        ("do_snark", "vfs_snark"),
        ("vfs_snark", "ksys_snark"),
        ("snark_locked", "__snark"),
        ("snark", "snark_noprof"),
    ],
)
def test_names_that_go_together(name: str, other: str) -> None:
    found = around(name)
    assert other in found
    assert name not in found


def test_wrappers_of_system_calls_have_their_own_rule() -> None:
    assert around("__x64_sys_openat") == ()
    assert around("x") == ()


def test_nothing_stands_in_for_itself() -> None:
    assert [name for name, others in AROUND.items() if name in others] == []
