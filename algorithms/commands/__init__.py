"""The commands of ``run.py``: the only place that may import both packages and that knows argparse.

__main__   ``python -m algorithms.commands``: the command line, as one of our own commands starts another
calibrate  What this machine's torch does in one thread, as a device profile: dense, depthwise, memory, dispatch
cuts       ``run.py cuts MODEL``: where a model can be cut, and what each cut costs a client
fit        What fits a device: for each algorithm the largest batch, and the peak at the usual ones
main       The command line: a command by its name, or a run
profiles   ``run.py profiles [NAME]``: the shipped profiles, or one with its sources
report     ``run.py report DIR``: everything that comes from a run's ledger, written anew, or a part of it
run        A run: plays algorithms one after another and prints what they took; its record stays
traces     ``run.py traces``: which there are; one drawn, converted or made up
verify     ``run.py verify``: a run under both clocks
watch      ``run.py watch DIR`` and ``run.py replay DIR``: the dashboard of a run that goes on, or of a record
"""
