"""Emulated time: the event loop that nodes live in, the pacers of the real and the virtual clock, and the conductors,
who decide which of all events may take place next.

conductors  The clocks of a run: they decide which of the events of all nodes and links may take place next
loop        The event loop in whose time algorithms live
pacers      They decide when the next event of a node's loop may happen
unawaited   Coroutines that nobody awaits: a method's ``node.post(...)`` without ``await``, which does nothing
"""
