"""Facts read from this machine: symbols, mappings, tracepoint formats, names for numbers, rights.

Every module keeps reading (open a file, hand its bytes on) apart from computing (bytes or text → values), so
that a script can be compiled from another machine's recorded files and a test from made-up ones.  Nothing
here changes anything on the machine, and nothing needs ctypes.

    tracefs       tracepoints: their list, ids and record formats
    tracepoints   the formats of some that ship with the package, as tracefs is root's
    kallsyms      kernel addresses and names
    procmaps      what a process has mapped where
    elf           an ELF file: segments, symbols, notes, links to debug files
    elfsymbols    symbol tables, decoded in bulk and looked up by address or name
    debugfiles    the separate debug file of a stripped ELF file
    usdt          static probes and where their arguments are
    libraries     a bare name → the library or program
    usersyms      an address in a process → function, offset, file
    perfmap       names that a JIT compiler left in /tmp
    demangle      C++ and Rust names for people
    identity      users, clocks, CPUs, cgroups, signals and system calls by name or number
    mountinfo     what is mounted where
    bpffs         bpf file systems and the files in them
    holders       which processes hold which BPF objects
    pmus          the numbers of perf's event sources
    rights        what the kernel would allow us
"""
