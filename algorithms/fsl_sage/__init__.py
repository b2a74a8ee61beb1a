"""FSL-SAGE: the method itself, the alignment of its auxiliaries, and its first round as one of CSE-FSL."""
