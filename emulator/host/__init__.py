"""What this machine has and does: cores and memory that it lets a run have, its load, a process's signs of life, its
torch kernels.

cgroups         What the host lets this process have: cores and memory, of all limits the tightest
device_profile  A device profile of the machine that this runs on, as the text of its file
kernels         What the last bits of a computation depend on besides seed and versions
liveness        Signs of life: what a process shows of itself twice a second, and what its watcher makes of it
load            The load of the host, read about once a second: what makes a real-time run trustworthy or not
resources       What a run takes of the host before it begins: a scratch folder of its own, and enough open files
"""
