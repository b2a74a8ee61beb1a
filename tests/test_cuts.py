"""What a cut costs, against closed forms."""

from __future__ import annotations

from itertools import pairwise

import pytest

from algorithms.cuts import cuts, parse_shape, sheet
from algorithms.task import CUTS
from emulator.errors import UserError

FLOAT = 4


def test_resnet18_after_layer2_has_the_published_sizes() -> None:
    (cut,) = (cut for cut in cuts("resnet18", (3, 32, 32)) if cut.stage == "layer2")
    assert (cut.parameters, cut.server_parameters, cut.smashed) == (683_072, 10_498_570, (128, 4, 4))
    assert cut.smashed_bytes == 128 * 4 * 4 * FLOAT


def test_the_first_cut_of_the_cnn_by_hand() -> None:
    """A 3x3 convolution from 1 to 16 channels keeps its input, the norm its input and statistics, ReLU its output."""
    first = cuts("cnn", (1, 8, 8))[0]
    assert first.parameters == 16 * 9 + 16 + 2 * 16
    assert first.flops == 2 * 9 * 16 * 64
    plane = 16 * 64 * FLOAT
    assert first.activation_bytes == 64 * FLOAT + plane + 2 * 8 * FLOAT + plane


@pytest.mark.parametrize("model", CUTS)
def test_every_cut_is_listed_and_deeper_ones_cost_the_client_more(model: str) -> None:
    found = cuts(model, (3, 32, 32))
    assert {cut.stage for cut in found} == set(CUTS[model])
    whole = {cut.parameters + cut.server_parameters for cut in found}
    assert len(whole) == 1
    for one, other in pairwise(found):
        assert one.parameters < other.parameters
        assert one.flops < other.flops
        assert one.activation_bytes < other.activation_bytes
    assert len(sheet(model, (3, 32, 32)).rows) == len(found)


@pytest.mark.parametrize("text", ["3x32", "3x32x0", "32", "axbxc", "3x32x32x1", ""])
def test_a_shape_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--input"):
        parse_shape(text)


def test_a_model_that_does_not_exist_or_take_the_images_is_refused() -> None:
    with pytest.raises(UserError, match="say cnn or resnet18"):
        cuts("gpt", (3, 32, 32))
    with pytest.raises(UserError, match="does not take such images"):
        cuts("cnn", (1, 1, 1))
