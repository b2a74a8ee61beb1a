"""What is found out before a run, in one process without waiting: costs of computations, seconds and bytes foreseen,
what a client's memory is made of, how far the real clock must be slowed.

dilation         How many times slower the real clock must run so that the host keeps up
dry_run          What a run will take in bytes and seconds, without training: every client plays
estimate         How long an algorithm will take on the wall, before anything of it is trained
host_schedule    How late a host ends the computations of a timeline, and the least dilation at which none is too late
in_process       All nodes of an algorithm in one event loop of one process, without waiting
memory_estimate  What a client's memory is made of and how much it will need, from the tensors of one that plays alone
profiling        What an algorithm's computations cost
record_size      How large a run's record will be, and what reading it at the end needs
"""
