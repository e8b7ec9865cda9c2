"""Live kernel objects: maps, programs, links, rings; and nothing about scripts.

features   what this kernel can, found out by trying
maps       a map: bytes in, bytes out
programs   loading, with the verifier's log when it is refused
ring       the reader's side of a BPF ring buffer
links      attachments, a file a kind
"""
