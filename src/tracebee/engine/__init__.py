"""The user-space machine: runs eBPF programs of an ObjectSpec, with maps and helper functions, without a kernel.

Nothing here makes a system call.  What a program can ask of the task that it runs for is handed in as a
`tracebee.engine.world.World`.
"""
