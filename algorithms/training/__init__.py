"""What methods share: settings and optimizers, how a round begins and ends, the tensor arithmetic of a step.

idle_options  Options that change nothing, and why: in a method at all, or beside what else is said
messages      Messages that several methods have: smashed batches, gradients
optimizers    torch's optimizers for model parts, with their state made before the first step: all steps cost the same
rounds        The bounds of a round, for all methods: its cohort, the messages that the server collects
settings      The settings that all methods have: rounds, optimizers, participation, deadline
steps         Tensor arithmetic that algorithms share: ordinary functions of their arguments, for ``node.compute``
zeroth_order  Training without backward passes: two-point estimates of the slope of the loss along random directions
"""
