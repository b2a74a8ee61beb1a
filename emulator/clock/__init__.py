"""Emulated time: the event loop that nodes live in, the pacers of the real and the virtual clock, and the conductors,
who decide which of all events may take place next.
"""
