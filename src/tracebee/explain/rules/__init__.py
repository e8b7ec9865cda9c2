"""The rules: a record for each message of the verifier, or group of messages with one meaning.

The first rule whose pattern is found and whose judge has an answer speaks for a line; `tracebee.explain.chooser`
weighs the lines against each other.  Special messages stand before general ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.rules import (
    accesskinds,
    arguments,
    callbacks,
    contextfields,
    dereferences,
    flow,
    globalfunctions,
    helperarguments,
    helperfunctions,
    indexes,
    instructions,
    kernelbugs,
    kernelbuild,
    kfuncs,
    leaks,
    locks,
    lostpointers,
    mapkinds,
    memory,
    nullchecks,
    packets,
    pointerarithmetic,
    rare,
    releases,
    relocation,
    rights,
    sections,
    sizes,
    sleeping,
    stack,
    stackobjects,
    targets,
    typeinformation,
    uninitialised,
)

if TYPE_CHECKING:
    from tracebee.explain.rules.record import Rule

RULES: tuple[Rule, ...] = (
    *dereferences.RULES,
    *arguments.RULES,
    *nullchecks.RULES,
    *pointerarithmetic.RULES,
    *lostpointers.RULES,
    *packets.RULES,
    *memory.RULES,
    *sizes.RULES,
    *indexes.RULES,
    *uninitialised.RULES,
    *stack.RULES,
    *contextfields.RULES,
    *accesskinds.RULES,
    *flow.RULES,
    *leaks.RULES,
    *sections.RULES,
    *callbacks.RULES,
    *locks.RULES,
    *sleeping.RULES,
    *stackobjects.RULES,
    *kfuncs.RULES,
    *releases.RULES,
    *helperfunctions.RULES,
    *relocation.RULES,
    *mapkinds.RULES,
    *instructions.RULES,
    *rights.RULES,
    *targets.RULES,
    *globalfunctions.RULES,
    *kernelbuild.RULES,
    *helperarguments.RULES,
    *typeinformation.RULES,
    *kernelbugs.RULES,
    *rare.RULES,
)
