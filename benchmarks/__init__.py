"""Figures about the emulator itself on this machine: ``python -m benchmarks [NAME ...]``.

scenes        scenarios made in code
players/      tiny algorithms that only send, compute or measure themselves
stage         one fork server and the timelines played on it
lateness      actual against due, and due against the closed form: pure functions of a ledger
report        tables, targets, JSON
machine       what the figures were taken on
links, load, memory, startup, relay   one section each

kernel_check  ``make kernel-check``, root only: the model beside the kernel's own links, and a plain training
namespaces, delay_line   links, quotas and delays by the kernel
plain_wire, plain_methods, calibration, plain_training   the same training with and without the emulator
"""
