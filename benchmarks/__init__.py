"""Figures about the emulator itself on this machine: ``python -m benchmarks [NAME ...]``.

scenes        scenarios made in code
players/      tiny algorithms that only send, compute or measure themselves
stage         one fork server and the timelines played on it
lateness      actual against due, and due against the closed form: pure functions of a ledger
report        tables, targets, JSON
machine       what the figures were taken on
links, load, memory, startup, relay   one section each
"""
