"""What a method is, and one loaded by its module's name and checked."""

from __future__ import annotations

import importlib
import inspect
import traceback
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from emulator.errors import InternalError, told

if TYPE_CHECKING:
    from emulator.node import ClientNode, Message, ServerNode


class Method(Protocol):
    """A module that has these names. It may have more: ``NAME``, by which a user calls it; ``warnings(config)``, lines
    about what is allowed but hardly meant; ``try_out(config)``, which raises UserError for what cannot be trained.

    ``Config`` is a frozen ``msgspec.Struct`` with ``rounds``, ``task`` and ``check()``, as ``Settings`` is; its
    ``for_profiling()`` may give what is to be played where costs are found out.
    """

    Config: ClassVar[Any]
    MESSAGES: ClassVar[tuple[type[Message], ...]]

    @staticmethod
    async def client(node: ClientNode, config: Any) -> None:
        """What a client does, from its first message to its last."""

    @staticmethod
    async def server(node: ServerNode, config: Any) -> None:
        """What the server does, at the same time."""


def load_method(name: str, module_name: str) -> Method:
    """A method's module; InternalError, which names the method and the line, where it cannot be imported or is none."""
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        lines = "".join(traceback.format_exception(error)).rstrip()
        raise InternalError(f"{name}: cannot be imported: {told(error, None)}\n{lines}") from None
    if lacks := _lacks(module):
        raise InternalError(f"{name}: {module.__file__}: {'; '.join(lacks)}")
    return cast("Method", module)


def _lacks(module: Any) -> list[str]:
    """What keeps a module from being a method, each with what to write."""
    from emulator.node import Message

    found: list[str] = []
    config = getattr(module, "Config", None)
    fields = getattr(config, "__struct_fields__", ())
    if not {"rounds", "task"} <= {*fields} or not callable(getattr(config, "check", None)):
        found.append("has no Config: write class Config(Settings), with its options")
    messages = getattr(module, "MESSAGES", None)
    if not isinstance(messages, tuple):
        found.append("has no MESSAGES: write a tuple of the types of its messages")
    else:
        strange = [each for each in messages if not (isinstance(each, type) and issubclass(each, Message))]
        found += [
            f"MESSAGES: {each!r} is no type of messages: write class {_called(each)}(Message)" for each in strange
        ]
        found += [
            f"MESSAGES: {each.__name__}.official names {name!r}, which is no field of it"
            for each in messages
            if each not in strange
            for name in sorted({*each.official} - {*each.__struct_fields__})
        ]
    for role in ("client", "server"):
        play = getattr(module, role, None)
        if not inspect.iscoroutinefunction(play) or not _takes_two(play):
            found.append(f"has no {role}: write async def {role}(node, config)")
    return found


def _called(each: Any) -> str:
    return getattr(each, "__name__", "X")


def _takes_two(play: Any) -> bool:
    try:
        inspect.signature(play).bind(None, None)
    except TypeError:
        return False
    return True
