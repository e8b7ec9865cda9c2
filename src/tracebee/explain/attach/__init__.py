"""Why a probe cannot be attached, or never fires: from a described machine, without asking the real one.

`machine` holds the facts, `attempt` what was asked and answered, `recorded` reads both from a JSON object.  Each
other module is a room of rules; `diagnose` asks them all and lets the one with the best evidence speak.  `names`
and `versions` are tables of what lists of the machine cannot tell.
"""
