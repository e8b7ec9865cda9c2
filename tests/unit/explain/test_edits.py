"""Changes of the source that are proposed."""

from __future__ import annotations

import pytest

from tracebee.explain.chooser import explain_text
from tracebee.explain.edits import map_type_edit, replace, section_edit
from tracebee.explain.facts import Facts, Source

SOURCE = Source.of(
    "p.c",
    """\
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
} first SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
} stacks SEC(".maps");

SEC("fentry/vfs_read")
int f(void *ctx)
{
	return bpf_get_stackid(ctx, &stacks, 0);
}
""",
)


def test_the_type_of_the_map_that_is_meant() -> None:
    edit = map_type_edit(SOURCE, "stacks", "BPF_MAP_TYPE_STACK_TRACE")
    assert edit is not None
    assert (edit.line, edit.new) == (6, ("\t__uint(type, BPF_MAP_TYPE_STACK_TRACE);",))
    assert map_type_edit(SOURCE, "third", "BPF_MAP_TYPE_STACK_TRACE") is None
    assert map_type_edit(SOURCE, "stacks", "BPF_MAP_TYPE_QUEUE or BPF_MAP_TYPE_STACK") is None
    assert map_type_edit(None, "stacks", "BPF_MAP_TYPE_STACK_TRACE") is None


def test_sections() -> None:
    edit = section_edit(SOURCE, "fentry/vfs_read", "fentry.s/vfs_read")
    assert edit is not None
    assert edit.new == ('SEC("fentry.s/vfs_read")',)
    assert section_edit(SOURCE, "xdp", "tc") is None


def test_what_is_there_twice_is_not_changed() -> None:
    assert replace(Source.of("p.c", "a a\n"), 1, "a", "b") is None
    assert replace(Source.of("p.c", "a\n"), 7, "a", "b") is None


@pytest.mark.parametrize(
    ("log", "facts", "new"),
    [
        (
            "; return bpf_get_stackid(ctx, &stacks, 0);\n3: (85) call bpf_get_stackid#27\n"
            "cannot pass map_type 2 into func bpf_get_stackid#27\n",
            Facts(),
            "\t__uint(type, BPF_MAP_TYPE_STACK_TRACE);",
        ),
        (
            "3: (85) call bpf_copy_from_user#148\nhelper call might sleep in a non-sleepable prog\n",
            Facts(section="fentry/vfs_read"),
            'SEC("fentry.s/vfs_read")',
        ),
        (
            "3: (85) call bpf_copy_from_user#148\nunknown func bpf_copy_from_user#148\n",
            Facts(section="fentry/vfs_read", release="5.10.0", privileges="root"),
            'SEC("fentry.s/vfs_read")',
        ),
    ],
)
def test_edits_of_refusals(log: str, facts: Facts, new: str) -> None:
    given = Facts(source=SOURCE, section=facts.section, release=facts.release, privileges=facts.privileges)
    told = explain_text(log + "processed 4 insns\n", given)
    assert told.edit is not None
    assert told.edit.new == (new,)


def test_a_section_with_the_wrong_separator() -> None:
    source = Source.of("p.c", 'SEC("kprobe:vfs_read")\nint f(void *c) { return 0; }\n')
    loader = "libbpf: prog 'f': missing BPF prog type, check ELF section name 'kprobe:vfs_read'"
    told = explain_text("", Facts(errno="EINVAL", loader=loader, source=source, section="kprobe:vfs_read"))
    assert told.edit is not None
    assert told.edit.new == ('SEC("kprobe/vfs_read")',)
