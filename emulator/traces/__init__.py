"""Bandwidth traces: files of four formats read into rates by time, logs converted into traces, the spread of a
trace.

convert     Logs that people hold, as traces: columns by name, their units, repeated times, missing values
format      The units that a trace may be in, and when a row of one holds
mahimahi    Mahimahi's traces: whole numbers of ms, each an opportunity to send 1500 bytes
periods     Traces as JSON of periods: a list of ``{"duration_ms": 1005, "bandwidth_kbps": 1600, "latency_ms": 100}``
reading     Bandwidth traces: what a link carried, as somebody recorded it, turned into steps
rows        Traces as rows of numbers: pairs of a time and a rate, or a CSV whose columns name their units
statistics  Spread of the rates, delays and losses of a trace over one lap of it
"""
