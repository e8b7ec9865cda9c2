"""Boots a kernel of one's choice in QEMU, and runs a command inside it.

kernels    find, fetch and remove kernels: the interface to the next five
archive    Debian's package archive through this machine's apt, with lists of our own
offers     versions, and the packages that a kernel is made of
catalogue  what there is to fetch, remembered
cache      the folder of fetched kernels: whole or not there, locked, checked
bzimage    what the header of a kernel image tells
"""
