"""The figures of a run, from its manifest and ledger alone: latency, communication, client memory, computations,
summary.
"""
