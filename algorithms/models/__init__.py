"""What models are made of besides: adapters, weights that a user brings, a language model.

language      A small causal language model of our own
lora          Low-rank adapters: layers that keep their weight, beside which two small matrices are trained
lora_options  What ``--lora`` says
weights       Weights that a user brings: a file with the state dict of a whole model, checked against the model
"""
