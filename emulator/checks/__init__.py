"""Does a run hold? Laws over its ledger, the verdict that follows from them, the digests by which two runs are
compared.

clock_limits     What differs in judging a run by its clock
digest           Two short names for a run: equal digests mean the same timeline, and the same numbers
divergence       Whether a training has diverged, and with whom that began
findings         What a verdict has found: of which method, by which law, how severe, in words
health           A run's verdict on itself: did the real clock keep to the model's times
invariants       Do the records of different processes agree, and did every message keep to its links?
omissions        What a run's model of compute leaves out, in lines: work outside computations
round_limits     How many rounds a method may play, and until when one may start: each method has its own
send_queues      What was posted and had not left yet: the most that a node held of it
"""
