"""Joules of clients, from a run's ledger and the power numbers of its profiles: pure arithmetic, the same under both
clocks, in whole numbers of nW, ns and aJ that lose none.

activity     A client's activity and power numbers, from the ledger and the manifest
consumption  Joules as power numbers times what they are drawn for; their range, and differences of two methods
passage      A client's activity as spans: what it computes, what passes its radio and the air that it takes
powers       Power numbers, how far each may lie from the truth, and profiles that stand in for a record's
radio        A radio's states over time: sending, receiving, the tail after them, DRX, asleep
"""
