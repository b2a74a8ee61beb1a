"""Figures as text: the tables of a run, of many runs, of profiles and traces; what the numbers say in a sentence.

What a run prints is made in ``overview``, the other tables of its ``tables.md`` in ``run``, ``communication`` and
``memory``.
"""
