"""ELF objects as clang makes them, read into the same plain values as scripts.

elf         the container: sections, symbols, relocations
hooks       what the name of a section says about a program
maps        definitions of maps, and sections of variables
externs     what is taken from the kernel
link        code to programs
reader      the whole object
problems    what is wrong with it: raised at once, or kept

linkmany    many objects to one
elfwriter   that one as a file

describe    an object as values to be shown, whatever is wrong with it
purposes, structops, relocations, disassembly, rows: parts of that
reach       which instructions can be reached, as far as constants tell
contextreads  where programs read their context
compare     what differs between two objects
"""

from tracebee.object.linkmany import link_objects, read_objects
from tracebee.object.reader import ObjectFile, read_object

__all__ = ["ObjectFile", "link_objects", "read_object", "read_objects"]
