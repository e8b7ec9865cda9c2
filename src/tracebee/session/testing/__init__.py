"""Tests of programs with made-up events: no kernel runs them, and there is no process that they happen to.

    world      the task that events happen to: ids, memory, clocks
    machine    the machine that scripts are compiled for
    contexts   what programs get to see of an event
    bench      a script that events are given to
    objects    an ELF object that events are given to

What is public of it is `tracebee.testing`.
"""
