"""What is found out before a run, in one process without waiting: costs of computations, seconds and bytes foreseen,
what a client's memory is made of, how far the real clock must be slowed.
"""
