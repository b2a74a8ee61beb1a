"""The figures of a run, from its manifest and ledger alone: latency, communication, client memory, computations,
summary.

client_memory    What a client needed of its memory and whether it fits, from its events
clock_agreement  One scenario under both clocks: how far its ends of rounds, bytes and deliveries agree
columns          A record as columns with units in their names, for notebooks
communication    What messages weigh: by way, by kind, and until each round's end
computations     What was computed, by method, device and function: how often, of how much work, in how much time
energy           Joules of a run's clients until the last round's end, and which methods they tell apart
latency          What the time of a client goes into: a pure function of the ledger, in whole nanoseconds
metrics          The figures that runs are compared by: one number each, of a method's part of a summary
model_memory     What a client of each method would need of memory with a paper's model: computed and not measured
recorded         A run read from its folder, whether it has ended, was cut short, or still goes on
statistics       Several seeds as one figure: mean, standard deviation, and the interval that the mean is in
summarize        A run's summary: a pure function of the manifest and the ledger
summary          What a run came to, ``summary.json``: its types, and the one reader of it
"""
