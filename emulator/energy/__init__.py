"""Joules of clients, from a run's ledger and the power numbers of its profiles: pure arithmetic, the same under both
clocks, in whole numbers of nW, ns and aJ that lose none.

activity     A client's activity: when it computes, and when messages pass its radio, from the ledger
consumption  Joules as power numbers times what they are drawn for; their range, and differences of two methods
powers       Power numbers of a run's clients: from its manifest, or from profiles named besides; which are missing
radio        A radio's states over time: sending, receiving, the tail after them, DRX, asleep
"""
