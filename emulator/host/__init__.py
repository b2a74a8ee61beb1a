"""What this machine has and does: cores and memory that it lets a run have, its load, a process's signs of life, its
torch kernels.
"""
