"""ELF objects as clang makes them, read into the same plain values as scripts: sections, maps, relocations."""
