"""A run's folder after its end: summary and tables rebuilt from the ledger, the page, the trace for Perfetto, runs
compared.
"""
