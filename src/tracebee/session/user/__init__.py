"""The user backend: programs run by the engine, in a process that controls the targets by ptrace(2).

The session's process and the tracer process talk over a socket::

    session ── backend.UserBackend ══ wire ══ tracer.TracerProcess ─┬─ engine.EngineBackend   maps and programs
                                                                     └─ inferior.Inferior      the targets

They are two, as a thread cannot trace its own process, the targets must not wait for what is printed, and they
must live on when the session is killed.
"""
