"""FSL-SAGE: the method itself, the alignment of its auxiliaries, and its first round as one of CSE-FSL.

alignment   FSL-SAGE's alignment: its options, what a client and the server keep of an auxiliary
method      FSL-SAGE: a client trains by gradients that a frozen auxiliary estimates
warm_start  A warm start of FSL-SAGE: its round 0 is one of CSE-FSL
"""
