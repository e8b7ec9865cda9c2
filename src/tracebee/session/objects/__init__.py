"""Objects that clang has made, for Python programs: read, changed, loaded, attached, read from.

object     `Object`, the whole
programs   its programs, and the links that attach them
targets    what a program can be attached to, where its section does not say it
variables  its global variables, before it is loaded and after
drafts     its maps before it is loaded
maps       maps: typed mappings over those of an object, and any other of this machine
sides      what differs between the kernel and the user backend
sources    the kernel's buffers, record by record
inventory  what is loaded in the kernel, whoever has loaded it
btffile    types in files
events     ring buffers and perf event arrays as streams of typed values
columns    values as columns of Arrow
"""
