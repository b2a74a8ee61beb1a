"""What a method is, and one loaded by its module's name and checked."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import msgspec

from emulator.errors import UserCodeError, UserError, told

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
    """A method's module; UserCodeError, which names the method and the line, where it cannot be imported, UserError
    with what to write where it is none."""
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UserCodeError(f"{name}: cannot be imported: {told(error, None)}") from None
    if lacks := _lacks(module):
        raise UserError(f"{name}: {module.__file__}: {'; '.join(lacks)}")
    return cast("Method", module)


def _lacks(module: Any) -> list[str]:
    """What keeps a module from being a method, each with what to write."""
    found: list[str] = []
    config = getattr(module, "Config", None)
    fields = getattr(config, "__struct_fields__", ())
    if not {"rounds", "task"} <= {*fields} or not callable(getattr(config, "check", None)):
        found.append("has no Config: write class Config(Settings), with its options")
    else:
        found += _wrong_options(config)
    messages = getattr(module, "MESSAGES", None)
    if not isinstance(messages, tuple):
        found.append("has no MESSAGES: write a tuple of the types of its messages")
    else:
        found += _wrong_messages(module, messages)
    for role in ("client", "server"):
        play = getattr(module, role, None)
        if not inspect.iscoroutinefunction(play) or not _takes_two(play):
            found.append(f"has no {role}: write async def {role}(node, config)")
    return found


def _wrong_options(config: Any) -> list[str]:
    """Options that no command line can say, or that are played without being said and cannot be, each with what to
    write."""
    hints, unknown = _hints_of(config)
    if unknown:
        return [unknown]
    found = []
    for field in msgspec.structs.fields(config):
        name, kind = f"Config.{field.name}", hints[field.name]
        if field.name == "task":
            continue
        if not _scalar(kind, tables=False):
            found.append(
                f"{name}: no command line says {_shown(kind)}: give it one of int, float, bool, str, Literal, or a"
                " tuple of these"
            )
        elif field.required:
            found.append(f"{name}: has no default: write {field.name}: {_shown(kind)} = and the value to play without")
        elif field.default is not msgspec.NODEFAULT and not _is_a(field.default, kind):
            found.append(f"{name}: its default {field.default!r} is no {_shown(kind)}: write one that is")
    return found


def _is_a(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _hints_of(struct: Any) -> tuple[dict[str, Any], str]:
    """The types of a struct's fields, or what to write where Python does not find them."""
    try:
        return typing.get_type_hints(struct), ""
    except (NameError, AttributeError, TypeError) as error:
        why = f"types of its fields are not found ({error}): import them, and not below TYPE_CHECKING alone"
        return {}, f"{struct.__name__}: {why}"


def _wrong_messages(module: Any, messages: tuple[Any, ...]) -> list[str]:
    """What is wrong with the messages of a module, each by its class."""
    from emulator.node import Message
    from emulator.transport.messages import kind_of

    strange = [each for each in messages if not (isinstance(each, type) and issubclass(each, Message))]
    found = [f"MESSAGES: {each!r} is no type of messages: write class {_called(each)}(Message)" for each in strange]
    sound = [each for each in dict.fromkeys(messages) if each not in strange]
    own = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Message)]
    found += [
        f"MESSAGES lacks {each.__name__}: add it"
        for each in dict.fromkeys(own)
        if each.__module__ == module.__name__ and not any(issubclass(known, each) for known in sound)
    ]
    for kind, count in Counter(map(kind_of, sound)).items():
        if count > 1:
            named = ", ".join(each.__name__ for each in sound if kind_of(each) == kind)
            found.append(f"MESSAGES: {named} have the same tag {kind!r}: give each its own")
    for each in sound:
        fields = sorted({*each.official} - {*each.__struct_fields__})
        found += [f"MESSAGES: {each.__name__}.official names {name!r}, which is no field of it" for name in fields]
        found += _uncarried(each)
    return found


def _uncarried(message_type: Any) -> list[str]:
    """Fields of types that no message carries, or not the same in every process, each with what to write."""
    from emulator.node import StateDict

    hints, unknown = _hints_of(message_type)
    return [unknown] * bool(unknown) or [
        f"{message_type.__name__}.{name}: no message carries {_shown(hints[name])}: give it one of int, float, bool,"
        " str, torch.Tensor and StateDict"
        for name in message_type.__struct_fields__
        if getattr(hints[name], "__name__", "") != "Tensor" and hints[name] != StateDict and not _scalar(hints[name])
    ]


def _scalar(hint: Any, *, tables: bool = True) -> bool:
    """Whether a value of this type travels in a message's header and arrives as it was sent; ``tables``: which may be
    a ``dict``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return all(value is None or type(value) in (int, str) for value in arguments)
    if origin in (typing.Union, types.UnionType, list, tuple):
        return all(each is Ellipsis or _scalar(each, tables=tables) for each in arguments) and _understood(hint)
    if origin is dict and tables:
        return arguments[0] is str and _scalar(arguments[1])
    return hint in (int, float, bool, str, type(None))


def _understood(hint: Any) -> bool:
    """Whether a receiver can tell the types of a union apart."""
    try:
        msgspec.convert(None, hint)
    except msgspec.ValidationError:
        return True
    except TypeError:
        return False
    return True


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _called(each: Any) -> str:
    return getattr(each, "__name__", "X")


def _takes_two(play: Any) -> bool:
    try:
        inspect.signature(play).bind(None, None)
    except TypeError:
        return False
    return True
