"""Control of other processes by ptrace(2): what they do becomes events, and they never notice."""
