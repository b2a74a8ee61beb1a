"""Values of a message's fields: what a receiver could not take is refused where it is posted, by class and field."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from emulator.transport.messages import Message, Parcel


class Typed(Message, frozen=True, kw_only=True, tag="typed"):
    step: int = 0
    rate: float = 0.0
    x: torch.Tensor


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": "zero"}, r"^Typed\.step: expected `int`, got `str`"),
        ({"step": [3]}, r"^Typed\.step: expected `int`, got `array`"),
        ({"rate": None}, r"^Typed\.rate: expected `float`, got `null`"),
        ({"x": [1.0]}, r"^Typed\.x: must be a tensor, not list"),
    ],
)
def test_a_value_that_its_receiver_could_not_take_is_refused_where_it_is_posted(changes: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Parcel(Typed(**({"round": 0, "x": torch.zeros(2)} | changes)), 0)


def test_a_whole_number_in_the_place_of_a_float_is_sent_as_it_is() -> None:
    header = Parcel(Typed(round=0, rate=1, x=torch.zeros(2)), 0).header
    assert type(header.scalars["rate"]) is int
