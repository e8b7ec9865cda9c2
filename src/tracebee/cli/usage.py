"""The help text."""

USAGE = """\
  tracebee -e 'BEGIN { printf("hello, World!\\n"); exit(); }'
  tracebee -e 'tracepoint:syscalls:sys_enter_openat { printf("%s %s\\n", comm, str(args.filename)); }' -c ls
  tracebee -l 'tracepoint:syscalls:sys_enter_*'

tracebee: ask a running Linux system what it is doing, in bpftrace's language.

USAGE:
    tracebee [options] FILE [parameters] [-- --name=value ...]
    tracebee [options] -e PROGRAM [parameters] [-- --name=value ...]
    tracebee [options] -                      the program is read from standard input
    tracebee -l [PATTERN]                     list probes; -lv with arguments
    tracebee TOOL [options]                   run a tool that ships, such as opensnoop; TOOL --help tells of it
    tracebee tools [TOOL]                     list those tools, or print the script of one
    tracebee why PROBE                        say whether a probe can be there, why not, and what works instead
    tracebee explain LOG                      say why the kernel refused a program, from the verifier's log
    tracebee doctor                           say what this machine and this process can trace
    tracebee check FILE                       find mistakes in a script or object that load well
    tracebee struct EVENT                     print a tracepoint's record as a structure
    tracebee object show FILE.o               show what is in an object that clang has made
    tracebee load FILE.o                      load it, attach its programs, print what they send
    tracebee prog|map|link|btf COMMAND        look at what is loaded: list, show and more; prog --help tells
    tracebee tree                             all that is loaded: processes, links, programs, maps
    tracebee vm run --kernel 6.1 -- COMMAND   run COMMAND on another kernel; also vm list, fetch, clean
    tracebee conformance DIRECTORY            run the tests of bpf_conformance on the engine in user space

OPTIONS:
    -e PROGRAM       run this program
    -c COMMAND       run COMMAND, shell-quoted, from when all probes are attached until it ends
    -p PID           trace only this process, until it ends
    -l [PATTERN]     list probes that match, or those of a program (-l -e PROGRAM)
    -v               say more; with -l, show arguments
    --backend WHAT   kernel; user (ptrace, needs no rights, sees -c or -p only); vm:6.1 (another kernel); auto
    -o FILE          write the output to FILE
    -f FORMAT        output format: text, json
    -B MODE          output buffering: line, full, none
    -q               keep quiet about everything but the output
    -k               warn when a probe cannot read memory or find a key
    --no-warnings    no warnings at all
    --unsafe         allow functions that change what they observe
    -d STAGE         print a stage of the compilation: ast, types, ir, ir-opt, bytecode, all
    --dry-run        attach all probes, then leave
    --fmt            print the program in standard form
    --info           say what this kernel can
    -I DIR           search DIR for headers and imports
    --include FILE   read FILE as if the program included it
    --no-feature A,B do without these features of the kernel
    --probe-filter RE  keep only the probes whose name matches
    --test, --bench  run the program's test: or bench: probes (also --mode test, --mode bench)
    -V, --version    print the version
    -h, --help       print this help

ENVIRONMENT:
    BPFTRACE_KEY and TRACEBEE_KEY set the configuration, such as BPFTRACE_MAX_STRLEN=200.

MORE EXAMPLES:
    tracebee -e 'tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }'      who makes most system calls
    tracebee -e 'profile:hz:99 { @[kstack] = count(); }'                        where the kernel spends its time
    tracebee -e 'uretprobe:/bin/bash:readline { printf("%s\\n", str(retval)); }' what is typed into shells
"""
