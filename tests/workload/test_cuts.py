"""What a cut costs, against closed forms."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from algorithms.commands.cuts import cuts_table, parse_shape
from algorithms.workload.cut_costs import BATCH, CLASSES, cuts
from algorithms.workload.models import ModelShapes
from algorithms.workload.parts import Parts
from emulator.compute.counting import WorkCounter
from emulator.errors import UserError

FLOAT = 4
IMAGES = ModelShapes((3, 32, 32), CLASSES)


def test_resnet18_after_layer2_has_the_published_sizes() -> None:
    (cut,) = (cut for cut in cuts("resnet18", IMAGES) if cut.name == "layer2")
    assert (cut.point.parameters, cut.point.server_parameters, cut.smashed) == (683_072, 10_498_570, (128, 4, 4))
    assert cut.smashed_bytes == 128 * 4 * 4 * FLOAT


def test_the_first_cut_of_the_cnn_by_hand() -> None:
    """A 3x3 convolution from 1 to 16 channels keeps its input, the norm its input and statistics, ReLU its output."""
    (first,) = (cut for cut in cuts("cnn", ModelShapes((1, 8, 8), CLASSES)) if cut.name == "conv1")
    assert first.point.parameters == 16 * 9 + 16 + 2 * 16
    assert first.flops == 2 * 9 * 16 * 64
    plane = 16 * 64 * FLOAT
    assert first.activation_bytes == 64 * FLOAT + plane + 2 * 8 * FLOAT + plane


EXPECTED = {
    "cnn": {"conv1", "conv2", "conv3", "conv4"},
    "simple_conv": {"conv1", "pool1", "norm2", "flatten"},
    "resnet18": {"conv1", "maxpool", "layer1", "layer1.0", "layer2", "layer3", "layer4", "avgpool"},
}


@pytest.mark.parametrize("model", EXPECTED)
def test_cuts_are_in_order_and_deeper_ones_cost_the_client_more(model: str) -> None:
    found = cuts(model, IMAGES)
    names = [cut.name for cut in found]
    assert EXPECTED[model] <= set(names)
    assert len(set(names)) == len(names)
    assert len({cut.point.parameters + cut.point.server_parameters for cut in found}) == 1
    for one, other in pairwise(found):
        assert one.point.parameters <= other.point.parameters
        assert one.flops <= other.flops
        assert one.activation_bytes <= other.activation_bytes
    shown = cuts_table(model, IMAGES).texts()
    assert len(shown) == len(found)
    assert sum("(default)" in row[0] for row in shown) == 1


def test_measured_on_the_skeleton_it_is_what_a_training_pass_does_and_keeps() -> None:
    """FLOPs and kept bytes of a real forward pass, counted for one client half of each kind."""
    for model, name in [("resnet18", "layer2"), ("mobilenet_v2", "features.1"), ("simple_conv", "flatten")]:
        (cut,) = (cut for cut in cuts(model, IMAGES) if cut.name == name)
        client = Parts(model, name, "", IMAGES, 1).half("client")
        own = {parameter.data_ptr() for parameter in client.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, own: set[int] = own, kept: dict[int, int] = kept) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, WorkCounter() as counter:
            z = client(torch.rand(BATCH, 3, 32, 32))
        assert tuple(z.shape[1:]) == cut.smashed
        assert (counter.work.dense_flops + counter.work.depthwise_flops) // BATCH == cut.flops
        assert sum(kept.values()) // BATCH == cut.activation_bytes


@pytest.mark.parametrize("text", ["3x32x", "3x32x0", "0", "axbxc", "-3x32", "³x32", ""])
def test_a_shape_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--input"):
        parse_shape(text)


def test_a_model_that_does_not_exist_or_take_the_images_is_refused() -> None:
    with pytest.raises(UserError, match="there is no 'resnet19': say resnet1"):
        cuts("resnet19", IMAGES)
    with pytest.raises(UserError, match="does not take images of 1x1x1"):
        cuts("cnn", ModelShapes((1, 1, 1), CLASSES))
    with pytest.raises(UserError, match="does not take images of 3x32x32") as refused:
        cuts("maxvit_t", IMAGES)
    assert "\n" not in str(refused.value)
