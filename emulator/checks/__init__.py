"""Does a run hold? Laws over its ledger, the verdict that follows from them, the digests by which two runs are
compared.

clock_limits     Limits of the verdict on a run, by its clock
digest           Two short names for a run: equal digests mean the same timeline, and the same numbers
divergence       Whether a training has diverged, and with whom that began
findings         Findings of a verdict: of which method, by which law, how severe, in words
health           A run's verdict on itself: did the real clock keep to the model's times
invariants       Do the records of different processes agree, and did every message keep to its links?
omissions        Omissions of a run's model of compute, in lines: work outside computations
round_limits     The most rounds that a method may play, and the latest start of one: of each method
send_queues      Messages posted that had not left yet: the most that a node held of it
"""
