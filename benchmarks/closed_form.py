"""A client's tensors at their peak in closed form: ResNet-18 cut after layer2, images of 3x32x32, Adam.

A peak is the maximum over the moments of a training step at which memory is largest:

- the end of a forward pass, when all that autograd saved is alive;
- the beginning of the backward pass, when that is joined by the gradient at the cut (or at the loss), the two
  activation gradients in hand and the first weight's gradient; a trained auxiliary's gradients are there by then;
- the end of the backward pass, when the activations are gone and all gradients are there, with the two activation
  gradients of the first layers;
- the optimizer's step, with two temporaries as large as the largest weight.

Sizes of saved activations are those of torchvision's ResNet: each batch norm saves its input, each ReLU (in place) its
output, max pooling 8-byte indices besides.
"""

from __future__ import annotations

FLOAT = 4
BATCHES = (256, 128, 64, 32)

# Floats a sample
IMAGE = 3 * 32 * 32
STEM = 2 * 64 * 16 * 16 + 64 * 8 * 8 + 2 * 64 * 8 * 8  # convolution, ReLU, pooled, its indices
LAYER1 = 8 * 64 * 8 * 8  # two blocks: input of batch norm, ReLU, input of batch norm, ReLU
LAYER2 = 9 * 128 * 4 * 4  # the same, and the shortcut's convolution
LAYER3 = 9 * 256 * 2 * 2
LAYER4 = 9 * 512
CLIENT = STEM + LAYER1 + LAYER2
AUXILIARY = LAYER3 + 256 + 10  # pooled features, log-probabilities
SERVER = LAYER3 + LAYER4 + 512 + 10
CUT = 128 * 4 * 4
FIRST = 64 * 16 * 16  # what the first convolution puts out

# Floats: trained weights, and the buffers of batch norms with them
CLIENT_WEIGHTS, AUXILIARY_WEIGHTS, SERVER_WEIGHTS = 683_072, 2_102_282, 10_498_570
CLIENT_BUFFERS, AUXILIARY_BUFFERS, SERVER_BUFFERS = 1_940, 2_570, 7_700
CLIENT_LARGEST, AUXILIARY_LARGEST, WHOLE_LARGEST = 128 * 128 * 9, 256 * 256 * 9, 512 * 512 * 9


def split_bytes(batch: int) -> int:
    """SL, SplitFed: z goes out and its gradient comes back."""
    held = 3 * CLIENT_WEIGHTS + CLIENT_BUFFERS + batch * IMAGE
    saved, cut = batch * CLIENT, batch * CUT
    return FLOAT * max(
        held + saved + cut,
        held + saved + cut + 2 * cut + CLIENT_LARGEST,
        held + CLIENT_WEIGHTS + 2 * batch * FIRST,
        held + CLIENT_WEIGHTS + 2 * CLIENT_LARGEST,
    )


def local_bytes(batch: int) -> int:
    """Local loss, CSE-FSL: an auxiliary that is trained; a copy of z on its way out."""
    held = 3 * (CLIENT_WEIGHTS + AUXILIARY_WEIGHTS) + CLIENT_BUFFERS + AUXILIARY_BUFFERS + batch * (IMAGE + CUT)
    saved, cut = batch * CLIENT, batch * CUT
    weights = CLIENT_WEIGHTS + AUXILIARY_WEIGHTS
    return FLOAT * max(
        held + saved + batch * AUXILIARY,
        held + saved + AUXILIARY_WEIGHTS + 2 * cut + CLIENT_LARGEST,
        held + weights + 2 * batch * FIRST,
        held + weights + 2 * AUXILIARY_LARGEST,
    )


def sage_bytes(batch: int) -> int:
    """FSL-SAGE: an auxiliary without gradients and state, whose estimate is the gradient at the cut."""
    held = 3 * CLIENT_WEIGHTS + CLIENT_BUFFERS + AUXILIARY_WEIGHTS + AUXILIARY_BUFFERS + batch * (IMAGE + CUT)
    saved, cut = batch * CLIENT, batch * CUT
    return FLOAT * max(
        held + saved + batch * AUXILIARY,
        held + saved + cut + 2 * cut + CLIENT_LARGEST,
        held + CLIENT_WEIGHTS + 2 * batch * FIRST,
        held + CLIENT_WEIGHTS + 2 * CLIENT_LARGEST,
    )


def whole_bytes(batch: int) -> int:
    """FedAvg: the whole model on the client."""
    weights = CLIENT_WEIGHTS + SERVER_WEIGHTS
    held = 3 * weights + CLIENT_BUFFERS + SERVER_BUFFERS + batch * IMAGE
    saved = batch * (CLIENT + SERVER)
    return FLOAT * max(
        held + saved,
        held + batch * CLIENT + SERVER_WEIGHTS + 2 * batch * CUT,
        held + weights + 2 * batch * FIRST,
        held + weights + 2 * WHOLE_LARGEST,
    )


FORMS = {
    "sl": split_bytes,
    "splitfed-v1": split_bytes,
    "splitfed-v2": split_bytes,
    "fsl-sage": sage_bytes,
    "cse-fsl": local_bytes,
    "local-loss": local_bytes,
    "fedavg": whole_bytes,
}
