"""tracebee measured against bpftrace, as ratios in one run: ``python3 -m benchmarks``.

    __main__.py   the command line, and the table of measurements
    harness.py    starts a tool, waits for it, says what it cost; runs two tools alternately
    peer.py       finds the bpftrace to compare with, and enters its root file system
    figures.py    figures, spreads and ratios as values; the tables
    startup.py    from start to finish of hello, world: time and memory
    events.py     400,000 printed events: losses, and events per second of the tracer's own CPU time
    wildcard.py   a probe on every system call
    incost.py     what a program costs in the kernel, for each script of suite/
    workload.py   the process that the scripts of suite/ watch

A measurement is a module with a record in ``__main__.MEASUREMENTS``.
"""
