"""Benchmarks of the emulator itself: ``make bench``. Their figures depend on the host and are never asserted."""
