"""A small causal language model of our own: tokens [B, L] -> logits of the next token [B, L, V].

The layers are those of GPT-2 (A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019):
positions are learnt, blocks normalise first, attention is causal, a block's inner layer is four times as wide. The head
is a matrix of its own, since it is the server's and the embedding the client's. No dropout.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

WIDTH, BLOCKS, HEADS = 64, 2, 4
SPREAD = 0.02  # standard deviation of initial weights, GPT-2's


class Embedding(nn.Module):
    """Tokens [B, L] -> [B, L, D], each with its place."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(self.token.weight.new_zeros(length, width))
        nn.init.normal_(self.token.weight, std=SPREAD)
        nn.init.normal_(self.position, std=SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        placed: Tensor = self.token(x) + self.position
        return placed


class Attention(nn.Module):
    """Causal attention [B, L, D] -> [B, L, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        mixed: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """Attention and two linear layers, each beside a way past it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return out


class LanguageModel(nn.Module):
    """Embedding, blocks, normalisation, head."""

    def __init__(self, vocabulary: int, length: int, classes: int) -> None:
        super().__init__()
        self.embed = Embedding(vocabulary, length, WIDTH)
        self.blocks = nn.Sequential(*(Block(WIDTH, HEADS) for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.embed(x))))
        return logits
