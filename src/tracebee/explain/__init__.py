"""Why something was refused, or never fires: from the texts and facts that are there, without asking the machine.

`log` reads the verifier's text into a value, `history` follows a register through it, `rules` are records that
know one cause each, `chooser` ranks the causes by evidence, and `explanation` is what is said.  `attach` does the
same for probes, from a described machine.
"""
