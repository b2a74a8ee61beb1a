"""What models are made of besides: adapters beside their layers, and weights that a user brings.

lora          Low-rank adapters: layers that keep their weight, beside which two small matrices are trained
lora_options  What ``--lora`` says
weights       Weights that a user brings: a file with the state dict of a whole model, checked against the model
"""
