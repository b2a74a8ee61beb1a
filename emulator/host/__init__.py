"""The host of a run: cores and memory that it lets the run have, its load, a process's signs of life, its torch
kernels.

cgroups         Cores and memory that the host lets this process have: of all limits the tightest
device_profile  A device profile of the machine that this runs on, as the text of its file
kernels         Kernels of this CPU, on which the last bits of a computation depend besides seed and versions
liveness        Signs of life: what a process shows of itself twice a second, and what its watcher makes of it
load            The load of the host, read about once a second: what makes a real-time run trustworthy or not
resources       Resources a run takes of the host before it begins: a scratch folder of its own, and enough open files
"""
