"""Messages and what they weigh: a typed struct <-> a msgpack header and raw tensor bytes.

A message is a frozen struct of scalars, tensors and state dicts. On the wire it is a header (kind, counter, scalars,
names, dtypes and shapes of its tensors) followed by the tensors' bytes; never pickle. The header is validated before
anything is allocated for the payload.

Bytes are counted here and nowhere else:

payload   tensor bytes, the papers' accounting
official  the part of the payload that the official FSL-SAGE code counts (no labels, no initial weights)
framed    payload + header + stamp + ZMTP framing, as a multipart of one header frame and one frame a tensor
wire      framed + TCP/IP headers of a full-size segment stream; estimated, and named so

Sources: ZMTP 3.1 (RFC 37/ZMTP): a frame costs 2 bytes up to 255 bytes of body, else 9. TCP over IPv4 with
timestamps: 20 + 20 + 12 bytes a segment, MSS 1448 on a 1500-byte MTU (RFC 9293, RFC 7323).
"""

from __future__ import annotations

import functools
import math
import re
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import msgpack
import msgspec
import torch

from emulator.compute.finite import is_finite
from emulator.errors import InternalError, WireError

StateDict = dict[str, torch.Tensor]

MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 64 * 2**30
MAX_DIMENSIONS = 16
STAMP_BYTES = 8
TCP_SEGMENT_BYTES = 1448
TCP_HEADER_BYTES = 52

_DTYPES: dict[str, torch.dtype] = {
    "f4": torch.float32,
    "f8": torch.float64,
    "f2": torch.float16,
    "bf2": torch.bfloat16,
    "i8": torch.int64,
    "i4": torch.int32,
    "i2": torch.int16,
    "i1": torch.int8,
    "u1": torch.uint8,
    "b1": torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of an algorithm's messages. Fields: int, float, bool, str, ``torch.Tensor`` or ``StateDict``.

    ``round`` is the round that its sender means (-1: initial weights, which are no round's); when it was posted says
    which round its bytes count to. ``sender`` is filled in on arrival. ``official`` names the tensor fields that the
    official accounting counts.
    """

    official: ClassVar[tuple[str, ...]] = ()

    round: int
    sender: str = ""


def kind_of(message_type: type[Message]) -> str:
    """The name of a message type on the wire, in tables and in digests: its ``tag``, else its class name in kebab case.

    A declared tag stays when a class is renamed: no header changes its size, and no digest moves.
    """
    tag = message_type.__struct_config__.tag
    return tag if isinstance(tag, str) else re.sub(r"(?<!^)(?=[A-Z])", "-", message_type.__name__).lower()


def types_of(messages: Iterable[type[Message]]) -> dict[str, type[Message]]:
    """Types of messages by kind."""
    return {kind_of(message_type): message_type for message_type in messages}


@functools.cache
def _fields(message_type: type[Message]) -> tuple[dict[str, Any], dict[str, bool]]:
    """Scalar fields with their types, and tensor fields (True: a state dict)."""
    scalars: dict[str, Any] = {}
    tensors: dict[str, bool] = {}
    hints = typing.get_type_hints(message_type)
    for name in message_type.__struct_fields__:
        hint = hints[name]
        if name == "sender":
            continue
        if hint is torch.Tensor:
            tensors[name] = False
        elif hint == StateDict:
            tensors[name] = True
        else:
            scalars[name] = hint
    return scalars, tensors


class TensorSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Name (``field`` or ``field/key``), dtype and shape of one tensor of a message."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def payload_bytes(self) -> int:
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a receiver must know before the payload."""

    kind: str
    counter: int
    scalars: dict[str, Any]
    tensors: tuple[TensorSpec, ...]

    @property
    def payload_bytes(self) -> int:
        return sum(spec.payload_bytes for spec in self.tensors)


class Sizes(msgspec.Struct, frozen=True):
    """What one message weighs, in bytes."""

    payload: int
    official: int
    framed: int
    wire: int


def _frame_bytes(body_bytes: int) -> int:
    return body_bytes + (2 if body_bytes <= 255 else 9)


def sizes_of(header: Header, header_bytes: int, official_fields: tuple[str, ...]) -> Sizes:
    """Sizes of a message whose encoded header takes ``header_bytes``."""
    bodies = [header_bytes + STAMP_BYTES, *(spec.payload_bytes for spec in header.tensors)]
    framed = sum(map(_frame_bytes, bodies))
    official = sum(spec.payload_bytes for spec in header.tensors if spec.name.split("/", 1)[0] in official_fields)
    segments = -(-framed // TCP_SEGMENT_BYTES)
    return Sizes(header.payload_bytes, official, framed, framed + segments * TCP_HEADER_BYTES)


def byte_view(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, without a copy."""
    if tensor.numel() == 0:
        return memoryview(b"")
    raw: Any = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    return memoryview(raw)


def copy_of(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy outside every graph."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype)
    return copy.copy_(tensor.detach())


_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # to compare bits: NaN is not NaN


class SharedCopies:
    """Copies of which there is one for all that are alive of the same tensor: one state for many receivers.

    Whether it still is the same is not asked but looked at, bit by bit: what was overwritten since gets its own copy.
    """

    def __init__(self) -> None:
        self._alive: WeakValueDictionary[Hashable, torch.Tensor] = WeakValueDictionary()

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
        bits = _SAME_SIZE[tensor.dtype.itemsize]
        copy = self._alive.get(place)
        if copy is None or not torch.equal(copy.view(bits), tensor.detach().view(bits)):
            self._alive[place] = copy = copy_of(tensor)
        return copy


class Parcel:
    """A message on its way out: its header and its own copy of the tensors, held until the last bit has left.

    The copy is what makes ``post`` take ownership: whatever happens to the message's tensors afterwards, these are
    the bytes that arrive. It is counted to the sender's memory, as a send buffer on a device is. ``copy`` makes it; a
    dry run, in which values do not matter, holds the message's tensors themselves.
    """

    def __init__(self, message: Message, counter: int, copy: Callable[[torch.Tensor], torch.Tensor] = copy_of) -> None:
        scalar_types, tensor_fields = _fields(type(message))
        specs: list[TensorSpec] = []
        self.tensors: list[torch.Tensor] = []
        for field, is_state in tensor_fields.items():
            value = getattr(message, field)
            for name, tensor in ((f"{field}/{key}", t) for key, t in value.items()) if is_state else ((field, value),):
                if not isinstance(tensor, torch.Tensor):
                    raise TypeError(f"{type(message).__name__}.{name}: must be a tensor, not {type(tensor).__name__}")
                if tensor.dtype not in _DTYPE_NAMES:
                    raise WireError(f"{kind_of(type(message))}.{name}: dtype {tensor.dtype} cannot be sent")
                specs.append(TensorSpec(name, _DTYPE_NAMES[tensor.dtype], tuple(tensor.shape)))
                self.tensors.append(copy(tensor))
        scalars = {name: _scalar(message, name, hint) for name, hint in scalar_types.items()}
        self.header = Header(kind_of(type(message)), counter, scalars, tuple(specs))
        self.encoded = encode_header(self.header)
        self.sizes = sizes_of(self.header, len(self.encoded), type(message).official)

    def not_finite(self) -> list[str]:
        """Fields of the message in which values that are sent are infinite or no numbers."""
        unfit = (
            spec.name.split("/", 1)[0]
            for spec, tensor in zip(self.header.tensors, self.tensors, strict=True)
            if not is_finite(tensor)
        )
        return list(dict.fromkeys(unfit))

    def chunks(self, chunk_bytes: int) -> Iterator[memoryview | bytes]:
        """The payload in pieces of at most ``chunk_bytes``: of one tensor without a copy, or several small ones."""
        views = [byte_view(tensor) for tensor in self.tensors]
        for piece in _pieces([len(view) for view in views], chunk_bytes):
            parts = [views[index][begin:end] for index, begin, end in piece]
            yield parts[0] if len(parts) == 1 else b"".join(parts)


def _pieces(sizes: Sequence[int], most: int) -> Iterator[list[tuple[int, int, int]]]:
    """Pieces of at most ``most`` bytes, each a list of (which of ``sizes``, from, to): whole small ones together."""
    together: list[tuple[int, int, int]] = []
    taken = 0
    for index, size in enumerate(sizes):
        if taken + size > most and together:
            yield together
            together, taken = [], 0
        if size > most:
            yield from ([(index, begin, min(begin + most, size))] for begin in range(0, size, most))
        elif size:
            together.append((index, 0, size))
            taken += size
    if together:
        yield together


def _scalar(message: Message, name: str, hint: Any) -> Any:
    """A scalar field's value as it is; TypeError, where it is posted, for one that its receiver could not take."""
    value = getattr(message, name)
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        raise TypeError(f"{type(message).__name__}.{name}: {str(error)[0].lower()}{str(error)[1:]}") from None
    return value


def encode_header(header: Header) -> bytes:
    """msgpack bytes of a header; WireError when it exceeds 64 KiB."""
    encoded: bytes = msgpack.packb(msgspec.to_builtins(header))
    if len(encoded) > MAX_HEADER_BYTES:
        raise WireError(f"{header.kind}: header of {len(encoded)} bytes exceeds {MAX_HEADER_BYTES}")
    return encoded


def decode_header(encoded: bytes) -> Header:
    """The header in ``encoded``; WireError for anything that is not one, before anything is allocated for it."""
    if len(encoded) > MAX_HEADER_BYTES:
        raise WireError(f"header of {len(encoded)} bytes exceeds {MAX_HEADER_BYTES}")
    try:
        header = msgspec.convert(msgpack.unpackb(encoded, strict_map_key=True), Header, strict=True)
    except (msgspec.ValidationError, ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"malformed header: {str(error) or type(error).__name__}") from None
    for spec in header.tensors:
        if spec.dtype not in _DTYPES:
            raise WireError(f"{header.kind}.{spec.name}: unknown dtype {spec.dtype!r}")
        # Strides are products of lengths, so a length of 0 does not excuse the others.
        strides = math.prod(max(length, 1) for length in spec.shape[:MAX_DIMENSIONS])
        if min(spec.shape, default=0) < 0 or len(spec.shape) > MAX_DIMENSIONS or strides > MAX_PAYLOAD_BYTES:
            raise WireError(f"{header.kind}.{spec.name}: impossible shape {spec.shape}")
    if header.counter < 0 or header.payload_bytes > MAX_PAYLOAD_BYTES:
        raise WireError(f"{header.kind}: counter {header.counter} or size {header.payload_bytes} out of range")
    return header


class Incoming:
    """A message on its way in: validated against the types that the algorithm knows, then filled chunk by chunk.

    ``header_bytes``: the size of its header as it came.
    """

    def __init__(self, header: Header, header_bytes: int, types: dict[str, type[Message]], sender: str) -> None:
        message_type = types.get(header.kind)
        if message_type is None:
            kinds = ", ".join(sorted(types))
            raise WireError(f"unknown kind {header.kind!r} from {sender}; known: {kinds}; add its type to MESSAGES")
        scalar_types, self._tensor_fields = _fields(message_type)
        if header.scalars.keys() != scalar_types.keys():
            raise WireError(f"{header.kind} from {sender}: fields {sorted(header.scalars)} are not those of the kind")
        try:
            self._scalars = {n: msgspec.convert(header.scalars[n], hint) for n, hint in scalar_types.items()}
        except msgspec.ValidationError as error:
            raise WireError(f"{header.kind} from {sender}: {error}") from None
        plain = {field for field, is_state in self._tensor_fields.items() if not is_state}
        names = [spec.name for spec in header.tensors]
        known = all(name in plain or ("/" in name and self._is_state(name)) for name in names)
        if not known or not plain.issubset(names) or len(names) != len(dict.fromkeys(names)):
            raise WireError(f"{header.kind} from {sender}: tensors {names} are not those of the kind")
        self._type, self.header, self._header_bytes, self._sender = message_type, header, header_bytes, sender
        self._views: list[memoryview] = []
        self._tensors: list[torch.Tensor] = []
        self._payload_bytes = header.payload_bytes
        self._filled = 0
        self._at = 0  # which tensor, and how far into it, the next chunk goes
        self._offset = 0

    def _is_state(self, name: str) -> bool:
        return self._tensor_fields.get(name.split("/", 1)[0], False)

    @functools.cached_property
    def sizes(self) -> Sizes:
        return sizes_of(self.header, self._header_bytes, self._type.official)

    @property
    def missing_bytes(self) -> int:
        return self._payload_bytes - self._filled

    @property
    def kind(self) -> str:
        return self.header.kind

    def chunk_count(self, chunk_bytes: int) -> int:
        """In how many pieces the payload comes."""
        return sum(1 for _ in _pieces([spec.payload_bytes for spec in self.header.tensors], chunk_bytes))

    def release(self) -> None:
        """Give back what ``allocate`` could get."""
        self._views, self._tensors = [], []

    def allocate(self) -> None:
        """Make room for the payload; running out of memory here raises what torch raises for it."""
        self._tensors = [torch.empty(spec.shape, dtype=_DTYPES[spec.dtype]) for spec in self.header.tensors]
        self._views = [byte_view(tensor) for tensor in self._tensors]

    def adopt(self, tensors: list[torch.Tensor]) -> None:
        """Take a parcel's own tensors for the whole payload, where both ends share one process's memory."""
        self._tensors, self._filled = tensors, sum(tensor.nbytes for tensor in tensors)

    def fill(self, chunk: memoryview | bytes) -> None:
        """The next piece of the payload."""
        if len(chunk) > self.missing_bytes:
            raise WireError(f"{self.header.kind} from {self._sender}: more payload than its header announced")
        self._filled += len(chunk)
        rest = memoryview(chunk)
        while rest:
            view = self._views[self._at]
            here = min(len(rest), len(view) - self._offset)
            if here:  # else a tensor without elements, whose view takes nothing
                view[self._offset : self._offset + here] = rest[:here]
            rest, self._offset = rest[here:], self._offset + here
            if self._offset == len(view):
                self._at, self._offset = self._at + 1, 0

    def message(self) -> Message:
        """The complete message."""
        if self.missing_bytes:
            raise InternalError(f"{self.header.kind} from {self._sender} is not complete")
        values: dict[str, Any] = {field: {} for field, is_state in self._tensor_fields.items() if is_state}
        for spec, tensor in zip(self.header.tensors, self._tensors, strict=True):
            field, slash, key = spec.name.partition("/")
            if slash:
                values[field][key] = tensor
            else:
                values[field] = tensor
        return self._type(**self._scalars, **values, sender=self._sender)
