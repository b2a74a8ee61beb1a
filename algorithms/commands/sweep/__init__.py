"""Many runs: profiles x settings x seeds, each played once, known again by what its figures depend on.

bench         Many runs: profiles, settings and seeds, each a run of its own in a folder of its own
dependencies  What a method's figures depend on, each part by name: the key of a result
grid          What a bench plays: profiles x variants x seeds, and which runs of it have been played already
places        Runs side by side: how many this host has room for, and the cores that each has to itself
records       What was played below a bench's folder, by what it depends on
"""
