"""Does a run hold? Laws over its ledger, the verdict that follows from them, the digests by which two runs are
compared.
"""
