"""The only room that talks to the kernel through ctypes; above it there are only Python values.

raw      syscall(2) itself
bpf      bpf(2), a function for each command
perf     perf_event_open(2) and its ioctls
mounts   private mounts of tracefs and the like (fsopen, fsmount)
process  prctl(2) and what else concerns this process
ptrace   ptrace(2) and wait4(2)
processvm  the memory of other processes
seccomp  filters of system calls, and their notifications
_uapi    constants and layouts, generated from a kernel's BTF
"""
