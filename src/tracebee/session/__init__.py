"""Running a script: the backends, the order of things, draining, decoding.

machine    facts about the machine we stand on, for the compiler
backend    the seam: what a session needs of whatever runs programs
kernel     the backend that is the running kernel
session    the order of a run: load, begin, attach, release the target, drain, detach, end
child      the command that -c starts, held until everything is attached
drain      records to decoded values, one by one or in runs
decode     bytes to values by their types
aggregate  one value out of those of all CPUs
dwarf      arguments of user functions, from debug information
names      addresses, ids and numbers to text
maps       live maps as typed mappings
"""
