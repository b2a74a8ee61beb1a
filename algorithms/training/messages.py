"""Messages that several methods have: smashed batches, gradients, weights of client halves with or without auxiliary.

``official`` names what the official accounting counts; a tag is what a header and a digest say of a kind.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from emulator.node import Message, StateDict


class Smashed(Message, frozen=True, kw_only=True, tag="smashed"):
    """Client to server: the smashed batch z [B, ...] of a step, and its labels y [B]."""

    official: ClassVar[tuple[str, ...]] = ("z",)
    step: int
    z: torch.Tensor
    y: torch.Tensor


class Gradient(Message, frozen=True, kw_only=True, tag="gradient"):
    """Server to client, every batch: the gradient of the loss at z."""

    official: ClassVar[tuple[str, ...]] = ("dz",)
    step: int
    loss: float
    dz: torch.Tensor


class Initial(Message, frozen=True, kw_only=True, tag="initial"):
    """Server to client, once."""

    client: StateDict


class Update(Message, frozen=True, kw_only=True, tag="update"):
    """Client to server, at the end of a round."""

    official: ClassVar[tuple[str, ...]] = ("client",)
    samples: int
    client: StateDict


class Global(Message, frozen=True, kw_only=True, tag="global"):
    """Server to client: the mean of the round; ``last`` ends the training."""

    official: ClassVar[tuple[str, ...]] = ("client",)
    last: bool
    client: StateDict


class InitialWithAuxiliary(Initial, frozen=True, kw_only=True, tag="initial"):
    """Server to client, once."""

    aux: StateDict


class UpdateWithAuxiliary(Update, frozen=True, kw_only=True, tag="update"):
    """Client to server, at the end of a round."""

    official: ClassVar[tuple[str, ...]] = ("client", "aux")
    aux: StateDict


class GlobalWithAuxiliary(Global, frozen=True, kw_only=True, tag="global"):
    """Server to client: the means of the round; ``last`` ends the training."""

    official: ClassVar[tuple[str, ...]] = ("client", "aux")
    aux: StateDict
