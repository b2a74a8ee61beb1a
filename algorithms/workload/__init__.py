"""What is trained: a task, a client's part of it, models and where they are cut, auxiliary heads, initial weights.

auxiliaries  The auxiliary heads that stand in for the server's half at a client: z -> logits [B, classes]
census       What was prepared: samples and classes of every client, and what is odd about the data
cut_costs    Where a model can be cut, and what each cut costs a client: parameters, FLOPs, activations, smashed bytes
cutting      How a model is cut: by its graph, between the layers of a sequence, or as its author's function says
judging      What becomes of a round's joined model: loss and metrics, the metric for each client, the file to keep
knobs        Knobs: fields of a struct that a user may turn, each with its help text beside its type and default
loader       What one client sees of its samples: batches, in an order of their own for each epoch
models       The models by name, two of our own among them, and their initial weights
objectives   What is learned and how it is judged: loss, metrics and targets of each kind of task
parts        The parts of one task's model, client half, server half and auxiliary, with their initial weights
protocol     What a method may ask of what it trains: the ``Workload`` protocol, which ``Task`` implements
split        A model cut in two wherever one tensor alone is what the rest needs
task         What is trained: data set, model, cut, auxiliary, partition, batch and seed; and how a result is judged
"""
