"""A run's folder after its end: summary and tables rebuilt from the ledger, the page, the trace for Perfetto, runs
compared.

compare      Runs side by side: the same figures of each, their differences to the first
figures_csv  The run's figures as ``tables.csv``, from ``summary.json`` alone
html         A run as one page: ``report.html``, which needs no other file, no network and no script
perfetto     A run as ``trace.json`` in Chrome's trace event format, for Perfetto and other trace viewers
record       A run's folder: manifest before anything starts; summary and tables from the ledger, whenever it ended
"""
