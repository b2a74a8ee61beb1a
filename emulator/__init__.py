"""splitbed's emulator: an edge of processes with throttled links, modelled compute and capped memory.

Two wings meet in the ledger. What makes events: ``profiles`` (and ``traces``) say what there is, ``network`` what
carrying takes, ``compute`` what computing takes, ``clock`` when; ``transport`` moves the bytes, a ``node`` is what a
method sees, ``preflight`` finds out beforehand, ``runtime`` runs the processes. What shows them: ``checks`` judge,
``analysis`` derives, ``tables``, ``plots``, ``report`` and ``dashboard`` show. Neither wing imports the other; which
package may import which is in pyproject.toml, and checked.

errors      what can go wrong, and whose fault it is
validation  what is wrong with a value that a user gives, and what would be right
piecewise   a quantity that changes in steps, and starts over
processes   what makes a child process end with the supervisor
sources     which of our own files a module depends on, by what each does
spans       spans of time as arrays: joined, and how much of them by when

Rules that keep a run repeatable: integers inside (``_ns``, ``_bytes``, ``_bps``); one named random stream a purpose;
heap keys are (time, rank, sequence); never iterate a set; aggregate in client order; no module of an algorithm reads
the host's clock.
"""
