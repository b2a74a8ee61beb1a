"""A client holds so many MiB; then one of them is struck by a signal in a computation, as by a library that uses what
it could not allocate. Profiling, which computes in its main thread, sees nothing of it."""

from __future__ import annotations

import ctypes
import signal
import threading

import torch

from algorithms.training.settings import Settings
from emulator.node import ClientNode, Message, ServerNode

FLOATS_A_MIB = 2**18


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    model_mib: int = 0
    whom: str = "client-0"
    how: str = "SIGSEGV"


class Done(Message, frozen=True, kw_only=True):
    """Client to server, at its end."""


MESSAGES: tuple[type[Message], ...] = (Done,)


def fall(how: str, struck: bool) -> None:
    if struck and threading.current_thread() is not threading.main_thread():
        ctypes.string_at(0) if how == "SIGSEGV" else signal.pthread_kill(threading.get_ident(), signal.Signals[how])


async def client(node: ClientNode, config: Config) -> None:
    held = torch.ones(config.model_mib * FLOATS_A_MIB)
    await node.compute(fall, config.how, node.name == config.whom)
    node.report(0, held_bytes=float(held.nbytes))
    await node.post("server", Done(round=0))


async def server(node: ServerNode, config: Config) -> None:
    del config
    for name in node.clients:
        await node.recv(Done, source=name)
