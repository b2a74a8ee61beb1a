"""What methods share: settings and optimizers, how a round begins and ends, the tensor arithmetic of a step."""
