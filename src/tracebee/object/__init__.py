"""ELF objects as clang makes them, read into the same plain values as scripts.

elf       the container: sections, symbols, relocations
hooks     what the name of a section says about a program
maps      definitions of maps, and sections of variables
externs   what is taken from the kernel
link      code to programs
reader    the whole object
"""

from tracebee.object.reader import ObjectFile, read_object

__all__ = ["ObjectFile", "read_object"]
