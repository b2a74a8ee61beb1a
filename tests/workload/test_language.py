"""The small language model and its text: what follows what, who sees what, and what a pass costs by closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import softmax

from algorithms.data import texts
from algorithms.models.language import BLOCKS, WIDTH, LanguageModel
from algorithms.workload.task import Task
from emulator.compute.counting import WorkCounter
from emulator.errors import UserError

LENGTH, TOKENS, BATCH = 16, 30, 3


def model() -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(TOKENS, LENGTH, TOKENS)


def test_a_label_is_the_character_that_follows_and_the_parts_share_no_character() -> None:
    text = texts.load()
    whole = texts.FILE.read_text()
    assert len(whole) <= 400_000
    for part in (text.train, text.test):
        assert (part.x[:, 1:] == part.y[:, :-1]).all()
        assert len({*part.books.tolist()}) == 10
        for row in (0, len(part.x) // 2, -1):
            piece = [*part.x[row], part.y[row, -1]]
            assert "".join(text.characters[token] for token in piece) in whole
    tested = (text.test.books == "Genesis").sum()
    trained = (text.train.books == "Genesis").sum()
    assert tested / (tested + trained) == pytest.approx(texts.TEST_SHARE, abs=0.01)


def test_the_bigram_s_perplexity_lies_between_the_unigram_s_and_one() -> None:
    text = texts.load()
    share = np.bincount(text.train.y.ravel(), minlength=len(text.characters)) / text.train.y.size
    unigram = np.exp(-np.log(share[text.test.y.ravel()].clip(1e-9)).mean())
    assert 8 < texts.bigram_perplexity() < 0.7 * unigram


def test_a_position_sees_itself_and_what_is_before_it_alone() -> None:
    net, x = model(), torch.randint(TOKENS, (BATCH, LENGTH))
    other = x.clone()
    other[:, 7] = (other[:, 7] + 1) % TOKENS
    before, after = net(x), net(other)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any(-1).all()


def products(pairs: int, attention: float, passes: int) -> int:
    """Products of the linear layers, ``passes`` of each, and of scores and values over ``pairs`` of positions."""
    rows = BATCH * LENGTH
    linear = 2 * rows * (BLOCKS * 12 * WIDTH**2 + WIDTH * TOKENS)
    return passes * linear + int(attention * BLOCKS * 4 * BATCH * pairs * WIDTH)


@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_a_pass_costs_its_products_and_its_backward_twice_as_many_of_the_linear_layers(kernel: SDPBackend) -> None:
    """The fused kernel passes over what causality leaves out, and computes scores anew; plain products do neither."""
    fused = kernel is SDPBackend.FLASH_ATTENTION
    pairs = LENGTH * (LENGTH + 1) // 2 if fused else LENGTH**2
    net, x = model(), torch.randint(TOKENS, (BATCH, LENGTH))
    with sdpa_kernel(kernel):
        with WorkCounter() as forward:
            out = net(x)
        with WorkCounter() as backward:
            out.sum().backward()
    assert forward.work.dense_flops == products(pairs, 1, 1)
    assert backward.work.dense_flops == products(pairs, 2.5 if fused else 2, 2)
    assert not forward.work.unknown and not backward.work.unknown


def test_embedding_normalisation_and_softmax_move_what_they_read_and_write() -> None:
    net, x, z = model(), torch.randint(TOKENS, (BATCH, LENGTH)), torch.rand(BATCH, LENGTH, WIDTH)
    rows, values = BATCH * LENGTH, BATCH * LENGTH * WIDTH
    moved = {}
    for name, run in {
        "embedding": lambda: net.embed.token(x),
        "norm": lambda: net.norm(z),
        "softmax": lambda: softmax(z, -1),
    }.items():
        with torch.no_grad(), WorkCounter() as counter:
            run()
        assert counter.work.dense_flops == 0
        moved[name] = counter.work.moved_bytes
    assert moved["embedding"] == 2 * 4 * values + 8 * rows  # the rows asked for, and which
    assert moved["norm"] == 4 * (2 * values + 2 * WIDTH + 2 * rows)  # weight and bias; mean and deviation of each row
    assert moved["softmax"] == 2 * 4 * values


def test_a_language_model_takes_tokens_alone() -> None:
    with pytest.raises(UserError, match="tiny-gpt takes tokens and returns values for each position"):
        Task(model="tiny-gpt").named()
