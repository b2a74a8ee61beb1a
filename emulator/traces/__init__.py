"""Bandwidth traces: files of four formats read into rates by time, logs converted into traces, what a trace spreads
over.
"""
