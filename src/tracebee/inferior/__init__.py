"""Control of other processes by ptrace(2): what they do becomes events, and they never notice.

control      Inferior: follows processes and tells of what they do
processes    Process, Thread: what can be asked of a stopped thread
watch        what to stop for
events       what is told
filter       the seccomp filter that makes only the wanted system calls stop
waiting      waiting for stops, and how to do so cheaply
attach       why a process cannot be traced
breakpoints  where breakpoints are, and threads that run into them
x86          the instructions under breakpoints, rewritten for another address
inject       system calls in a target's stead
handover     targets that are tracers themselves
registers    where the registers lie
"""
