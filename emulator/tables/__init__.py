"""Figures as text: the tables of a run, of many runs, of profiles and traces; what the numbers say in a sentence.

A column of a run's table is made in ``run``, ``communication`` or ``memory``.
"""
