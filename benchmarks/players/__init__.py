"""Tiny algorithms for benchmarks, of the same form as those in ``algorithms``."""
