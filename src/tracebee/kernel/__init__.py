"""Live kernel objects: maps, programs, links, rings; and nothing about scripts.

features   what this kernel can, found out by trying
maps       a map: bytes in, bytes out
programs   loading, with the verifier's log when it is refused
ring       the reader's side of a BPF ring buffer
links      attachments, a file a kind
ids        walking over what is loaded, and finding it by id, tag, name or pin
info       what objects say of themselves
inventory  everything that is loaded, who holds it, and how it belongs together
pinned     the paths of pinned objects
cgroups    programs on control groups without a link
metadata   what a program says of itself in its .rodata
"""
