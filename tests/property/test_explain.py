"""Laws of explaining: there is an explanation of any text, and none raises."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.explain.causes import CAUSES
from tracebee.explain.chooser import explain_text
from tracebee.explain.explanation import MAIN_PART, Explanation
from tracebee.explain.facts import Facts, Source
from tracebee.explain.log import read_text
from tracebee.explain.operations import parse_operation
from tracebee.explain.rules import RULES
from tracebee.explain.states import parse_state

DATA = Path(__file__).parents[1] / "data" / "refusals.jsonl"
LOGS = [
    (refusal["log"], program["source"])
    for program in map(json.loads, DATA.read_text().splitlines())
    for refusal in program["refusals"][:2]
]
WORDS = """
R1|R0_w=|invalid mem access|'inv'|scalar(|var_off=(0x0; 0xff)|fp-8=|from 3 to 5: |5: (85) call |bpf_map_lookup_elem#1
0: (79) r1 = *(u64 *)(r1 +0)|; text @ f.c:3|; |processed 5 insns|type=|expected=|Verification failed: A: B|Reason:
Suggestion:|-- BEGIN PROG LOAD LOG --|-- END PROG LOAD LOG --|unknown#195896080|back-edge from insn 3 to 3|[...]
invalid access to map value, value_size=8 off=8 size=8|should have been in [0, 1]|999999999999999999999
At program exit the register R0 has|cannot pass map_type 77 into
"""
PIECES = [*WORDS.strip().replace("\n", "|").split("|"), "\n", "\n", " "]

names = st.sampled_from(["", "kprobe/vfs_read", "xdp", "lsm.s/file_open", "fentry/x", "nonsense"])
facts = st.builds(
    Facts,
    errno=st.sampled_from(["", "EPERM", "EINVAL", "ENOSPC", "E2BIG", "524", "what"]),
    quiet_errno=st.sampled_from(["", "E2BIG", "EACCES"]),
    release=st.sampled_from(["", "4.15.0", "5.10.223", "7.3.4", "x.y", "6"]),
    section=names,
    privileges=st.sampled_from(["", "root", "none", "CAP_BPF only"]),
    cpu=st.sampled_from(["", "v4"]),
    loader=st.text(max_size=80),
    source=st.sampled_from([None, Source.of("a.c", ""), Source.of("a.c", LOGS[0][1])]),
)


def check(told: Explanation) -> None:
    assert told.cause in CAUSES or not told.cause
    assert told.cause or not told.sure
    assert told.sentence
    assert len(told.main_text()) <= MAIN_PART
    assert told.text().startswith(told.main_text())
    json.dumps(told.to_json())


@given(st.text(max_size=2000), facts)
def test_any_text(text: str, given_facts: Facts) -> None:
    check(explain_text(text, given_facts))


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=12)), max_size=60), facts)
@settings(max_examples=300)
def test_texts_that_look_like_logs(pieces: list[str], given_facts: Facts) -> None:
    check(explain_text("".join(pieces), given_facts))


@given(st.sampled_from(LOGS), st.randoms(use_true_random=False), facts)
@settings(max_examples=300)
def test_damaged_logs(pair: tuple[str, str], random: object, given_facts: Facts) -> None:
    log, _ = pair
    lines = log.splitlines()
    pick = random  # random.Random of hypothesis
    for _ in range(pick.randrange(4)):  # type: ignore[attr-defined]
        at = pick.randrange(len(lines)) if lines else 0  # type: ignore[attr-defined]
        match pick.randrange(5):  # type: ignore[attr-defined]
            case 0:
                del lines[at:]
            case 1:
                del lines[:at]
            case 2:
                lines.insert(at, lines[-1] if lines else "")
            case 3 if lines:
                lines[at] = lines[at][: pick.randrange(len(lines[at]) + 1)]  # type: ignore[attr-defined]
            case 4 if lines:
                lines[at] = lines[at].replace("r", "R9").replace("=", "=(")
    check(explain_text("\n".join(lines), given_facts))


@given(st.sampled_from(LOGS), st.integers(0, 4000))
def test_a_log_without_its_end_is_never_explained_surely_as_something_else(
    pair: tuple[str, str], length: int
) -> None:
    log, _ = pair
    whole, part = explain_text(log), explain_text(log[:length])
    assert part.cause in ("", "log-truncated", whole.cause) or not part.sure


@given(st.sampled_from(LOGS))
def test_reading_twice_is_reading_once(pair: tuple[str, str]) -> None:
    log, _ = pair
    first, second = read_text(log), read_text(log + log)
    assert second.errors == first.errors
    assert [insn.text for insn in second.insns] == [insn.text for insn in first.insns]


@given(st.text(max_size=300))
def test_any_state(text: str) -> None:
    parse_state(text)


@given(st.integers(-1, 255), st.text(max_size=80))
def test_any_instruction(opcode: int, text: str) -> None:
    parse_operation(opcode, text)


def test_every_rule_has_a_cause_that_is_known() -> None:
    assert {rule.cause for rule in RULES} <= set(CAUSES)
