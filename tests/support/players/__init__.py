"""Algorithms for tests: each does one thing, and reports what a test wants to know."""
