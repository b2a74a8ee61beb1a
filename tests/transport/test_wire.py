"""Messages survive the wire, weigh what a hand computation says, and malformed ones are refused."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import msgpack
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import InternalError, ProtocolError, WireError
from emulator.transport import messages
from emulator.transport.messages import (
    Header,
    Incoming,
    Message,
    Parcel,
    StateDict,
    TensorSpec,
    decode_header,
    encode_header,
    kind_of,
)

DTYPES = tuple(messages._DTYPE_NAMES)
CHUNK = 1000


class Mixed(Message, frozen=True, kw_only=True):
    """A message with everything a message can have."""

    official: ClassVar[tuple[str, ...]] = ("z", "client")
    step: int
    loss: float
    last: bool
    text: str
    z: torch.Tensor
    y: torch.Tensor
    client: StateDict
    aux: StateDict


class Plain(Message, frozen=True, kw_only=True):
    number: int
    z: torch.Tensor


TYPES: dict[str, type[Message]] = {kind_of(message_type): message_type for message_type in (Mixed, Plain)}


def deliver(parcel: Parcel, chunk_bytes: int = CHUNK) -> Message:
    """What the receiver makes of a parcel."""
    incoming = Incoming(decode_header(parcel.encoded), len(parcel.encoded), TYPES, "client-0")
    incoming.allocate()
    chunks = list(parcel.chunks(chunk_bytes))
    assert all(0 < len(chunk) <= chunk_bytes for chunk in chunks)
    assert len(chunks) == incoming.chunk_count(chunk_bytes)
    for chunk in chunks:
        incoming.fill(chunk)
    assert incoming.missing_bytes == 0
    assert incoming.sizes == parcel.sizes
    return incoming.message()


def same(one: Any, other: Any) -> bool:
    """Equal in kind, shape and every bit."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        form = one.dtype == other.dtype and one.shape == other.shape
        return form and bytes(messages.byte_view(one.contiguous())) == bytes(messages.byte_view(other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def tensor_of(dtype: torch.dtype, shape: list[int], noise: bytes) -> torch.Tensor:
    """A tensor with arbitrary bits, NaNs included."""
    size = math.prod(shape) * dtype.itemsize
    raw = (noise * (size // len(noise) + 1))[:size]
    if not size:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.bool:
        raw = bytes(byte & 1 for byte in raw)
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)


shapes = st.lists(st.integers(0, 7), max_size=4)
tensors = st.builds(tensor_of, st.sampled_from(DTYPES), shapes, st.binary(min_size=1, max_size=64))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
states = st.dictionaries(names, tensors, max_size=4)
mixed = st.builds(
    Mixed,
    round=st.integers(-1, 10**6),
    step=st.integers(-(2**63), 2**63 - 1),
    loss=st.floats(),
    last=st.booleans(),
    text=names,
    z=tensors,
    y=tensors,
    client=states,
    aux=states,
)


def plain(z: torch.Tensor, number: int = 0) -> Plain:
    return Plain(round=0, number=number, z=z)


# --- round trip -------------------------------------------------------------------------------------------------------


@given(mixed, st.integers(0, 2**63), st.integers(1, 300))
def test_a_message_arrives_as_it_was_posted(message: Mixed, counter: int, chunk_bytes: int) -> None:
    parcel = Parcel(message, counter)
    assert encode_header(decode_header(parcel.encoded)) == parcel.encoded
    assert parcel.header.counter == counter
    received = deliver(parcel, chunk_bytes)
    assert received.sender == "client-0"
    for field in Mixed.__struct_fields__:
        assert field == "sender" or same(getattr(message, field), getattr(received, field)), field


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_each_dtype_arrives_bit_for_bit(dtype: torch.dtype) -> None:
    z = tensor_of(dtype, [3, 5, 7], bytes(range(256)))
    received = deliver(Parcel(plain(z), 0))
    assert isinstance(received, Plain)
    assert same(z, received.z)


def test_a_view_arrives_as_what_it_shows() -> None:
    z = torch.arange(24.0).reshape(4, 6).t()[1::2]
    assert not z.is_contiguous()
    received = deliver(Parcel(plain(z), 0))
    assert isinstance(received, Plain)
    assert torch.equal(received.z, z)


def test_a_module_can_be_loaded_from_what_arrives() -> None:
    sent, other = (torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3)) for _ in range(2))
    empty = torch.zeros(0)
    message = Mixed(round=0, step=0, loss=0.0, last=True, text="", z=empty, y=empty, client=sent.state_dict(), aux={})
    received = deliver(Parcel(message, 0))
    assert isinstance(received, Mixed)
    other.load_state_dict(received.client)
    assert same(dict(sent.state_dict()), dict(other.state_dict()))
    assert all(not tensor.requires_grad for tensor in received.client.values())


@pytest.mark.parametrize("size", [8, 70_000])
@pytest.mark.parametrize("is_parameter", [False, True])
def test_a_tensor_that_is_overwritten_after_the_post_arrives_as_it_was(size: int, is_parameter: bool) -> None:
    """An optimizer overwrites what was posted; above 64 KiB a transport no longer copies by itself."""
    z = torch.nn.Parameter(torch.ones(size)) if is_parameter else torch.ones(size)
    parcel = Parcel(plain(z), 0)
    with torch.no_grad():
        z.mul_(-3)
    received = deliver(parcel, 10**6)
    assert isinstance(received, Plain)
    assert torch.equal(received.z, torch.ones(size))


def test_a_dtype_that_has_no_name_on_the_wire_is_refused_at_the_sender() -> None:
    with pytest.raises(WireError, match=r"plain\.z: dtype torch\.complex64 cannot be sent"):
        Parcel(plain(torch.zeros(1, dtype=torch.complex64)), 0)


def test_kinds_are_class_names_in_kebab_case() -> None:
    assert [kind_of(type(name, (Message,), {})) for name in ("Smashed", "AuxUpdate")] == ["smashed", "aux-update"]


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_sizes_are_those_of_a_hand_computation() -> None:
    """Header 200 + 8 B stamp: 2 B of ZMTP; tensors of 255, 256 and 4,000 B: 2, 9 and 9 B; no frame for no tensor."""
    specs = (TensorSpec("y", "u1", (255,)), TensorSpec("client/w", "i1", (2, 128)), TensorSpec("z", "f4", (10, 100)))
    sizes = messages.sizes_of(Header("mixed", 0, {}, specs), 200, ("z", "client"))
    framed = (2 + 208) + (2 + 255) + (9 + 256) + (9 + 4000)
    assert framed == 4741
    assert (sizes.payload, sizes.official, sizes.framed) == (4511, 4256, framed)
    assert sizes.wire == framed + 4 * 52  # 4,741 B are four segments of at most 1,448 B


@pytest.mark.parametrize(("header_bytes", "frame"), [(247, 2), (248, 9)])
def test_a_frame_costs_2_bytes_up_to_255_and_9_above(header_bytes: int, frame: int) -> None:
    assert messages.sizes_of(Header("x", 0, {}, ()), header_bytes, ()).framed == header_bytes + 8 + frame


@pytest.mark.parametrize(("framed", "segments"), [(1448, 1), (1449, 2), (14_480, 10), (14_481, 11)])
def test_a_segment_carries_1448_bytes_and_costs_52(framed: int, segments: int) -> None:
    sizes = messages.sizes_of(Header("x", 0, {}, ()), framed - 8 - 9, ())
    assert (sizes.framed, sizes.wire) == (framed, framed + 52 * segments)


@given(mixed)
def test_payload_counts_tensors_and_official_only_the_named_fields(message: Mixed) -> None:
    sizes = Parcel(message, 0).sizes
    official = message.z.nbytes + sum(tensor.nbytes for tensor in message.client.values())
    assert sizes.official == official
    assert sizes.payload == official + message.y.nbytes + sum(tensor.nbytes for tensor in message.aux.values())
    assert sizes.payload < sizes.framed < sizes.wire


# --- refusal ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which a tensor is made."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a tensor was allocated")

    for name in ("empty", "zeros", "frombuffer", "tensor"):
        monkeypatch.setattr(messages.torch, name, refuse)


GOOD = ["plain", 0, {"round": 0, "number": 1}, [["z", "f4", [2, 3]]]]


def altered(place: int, value: object) -> list[object]:
    return [value if i == place else part for i, part in enumerate(GOOD)]


def admit(fields: object) -> Incoming:
    return Incoming(decode_header(msgpack.packb(fields)), len(msgpack.packb(fields)), TYPES, "client-0")


MALFORMED = {
    "no array": {"kind": "plain"},
    "nothing": None,
    "too short": GOOD[:3],
    "too long": [*GOOD, 0],
    "kind is unknown": altered(0, "mixes"),
    "counter is a fraction": altered(1, 0.5),
    "counter is negative": altered(1, -1),
    "scalars are no map": altered(2, [0, 1]),
    "scalar missing": altered(2, {"round": 0}),
    "scalar too many": altered(2, {"round": 0, "number": 1, "more": 2}),
    "sender smuggled in": altered(2, {"round": 0, "number": 1, "sender": "server"}),
    "scalar of another type": altered(2, {"round": 0, "number": "1"}),
    "scalar is null": altered(2, {"round": None, "number": 1}),
    "scalar is a list": altered(2, {"round": [0], "number": 1}),
    "tensors are no array": altered(3, {"z": 1}),
    "tensor too short": altered(3, [["z", "f4"]]),
    "tensor too long": altered(3, [["z", "f4", [1], 0]]),
    "tensor missing": altered(3, []),
    "tensor too many": altered(3, [["z", "f4", [1]], ["y", "f4", [1]]]),
    "tensor twice": altered(3, [["z", "f4", [1]], ["z", "f4", [1]]]),
    "tensor as a state": altered(3, [["z/w", "f4", [1]]]),
    "tensor and a state": altered(3, [["z", "f4", [1]], ["z/w", "f4", [1]]]),
    "dtype is unknown": altered(3, [["z", "f5", [1]]]),
    "shape is no array": altered(3, [["z", "f4", 1]]),
    "length is negative": altered(3, [["z", "f4", [-1]]]),
    "length is a fraction": altered(3, [["z", "f4", [1.5]]]),
    "length is huge": altered(3, [["z", "f4", [2**41]]]),
    "too many dimensions": altered(3, [["z", "f4", [1] * 17]]),
    "payload is huge": altered(3, [["z", "f4", [2**40, 2**40]]]),
    "payloads together are huge": altered(3, [["z", "f4", [2**33]], ["y", "f4", [2**33 + 1]]]),
    "a shape torch has no strides for": altered(3, [["z", "f4", [0, *[2**40] * 5]]]),
}


@pytest.mark.usefixtures("no_allocation")
@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_header_is_refused_before_anything_is_allocated(fields: object) -> None:
    with pytest.raises(WireError) as caught:
        admit(fields)
    assert "\n" not in str(caught.value)


def test_the_header_that_they_were_made_of_is_good() -> None:
    assert admit(GOOD).missing_bytes == 24


@pytest.mark.usefixtures("no_allocation")
def test_a_plain_tensor_where_a_state_belongs_is_refused() -> None:
    scalars = {"round": 0, "step": 0, "loss": 0.0, "last": False, "text": ""}
    fine = [["z", "f4", [1]], ["y", "f4", [1]]]
    admit(["mixed", 0, scalars, [*fine, ["client/a", "f4", [1]], ["aux/", "f4", [1]], ["aux/b/c", "f4", [1]]]])
    for name in ("client", "nobody/a", "z/a", ""):
        with pytest.raises(WireError, match="are not those of the kind"):
            admit(["mixed", 0, scalars, [*fine, [name, "f4", [1]]]])


@pytest.mark.usefixtures("no_allocation")
@pytest.mark.parametrize("extra", [1, 10**7])
def test_a_header_that_is_too_long_is_refused_unread(extra: int) -> None:
    with pytest.raises(WireError, match=f"header of {65536 + extra} bytes exceeds 65536"):
        decode_header(b"\x94" * (65536 + extra))


def test_a_message_whose_header_would_be_too_long_is_refused_at_the_sender() -> None:
    state = {f"layer{i}." + "x" * 1000: torch.zeros(1) for i in range(70)}
    empty = torch.zeros(0)
    with pytest.raises(WireError, match=r"mixed: header of \d+ bytes exceeds 65536"):
        Parcel(Mixed(round=0, step=0, loss=0.0, last=True, text="", z=empty, y=empty, client=state, aux={}), 0)


packed = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
near_specs = st.lists(
    st.tuples(
        st.sampled_from(["z", "y", "z/a", ""]) | st.text(max_size=3),
        st.sampled_from(["f4", "b1", "x"]),
        st.lists(st.integers(-1, 2**63), max_size=20) | st.lists(st.integers(0, 3), max_size=3),
    ),
    max_size=3,
)
near_scalars = st.just({"round": 0, "number": 1}) | packed
near = st.tuples(st.sampled_from(["plain", "mixed", ""]), st.integers(-1, 9), near_scalars, near_specs | packed)


def open_or_refuse(encoded: bytes) -> None:
    """A header is taken, and can then be filled, or refused with WireError; nothing else comes out."""
    try:
        incoming = Incoming(decode_header(encoded), len(encoded), TYPES, "client-0")
    except WireError:
        return
    if incoming.missing_bytes < 10**6:
        incoming.allocate()
        for tensor in incoming._tensors:
            if tensor.numel():
                incoming.fill(bytes(tensor.nbytes))
        incoming.message()


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(noise: bytes) -> None:
    open_or_refuse(noise)


@given(packed | near)
def test_any_structure_is_a_message_or_refused(fields: object) -> None:
    open_or_refuse(msgpack.packb(fields))


@given(mixed, st.data())
def test_a_damaged_header_is_a_message_or_refused(message: Mixed, data: st.DataObject) -> None:
    encoded = bytearray(Parcel(message, 0).encoded)
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    open_or_refuse(bytes(encoded))


@given(mixed, st.data())
def test_a_truncated_header_is_refused(message: Mixed, data: st.DataObject) -> None:
    encoded = Parcel(message, 0).encoded
    with pytest.raises(WireError, match="malformed header"):
        decode_header(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


def test_a_deeply_nested_header_is_refused() -> None:
    for depth in (500, 5_000, 60_000):
        with pytest.raises(WireError, match="malformed header"):
            decode_header(b"\x91" * depth + b"\x90")


# --- payload ----------------------------------------------------------------------------------------------------------


def two_tensors() -> Incoming:
    scalars = {"round": 0, "step": 0, "loss": 0.0, "last": False, "text": ""}
    incoming = admit(["mixed", 0, scalars, [["z", "u1", [4]], ["y", "u1", [0]], ["client/w", "u1", [3]]]])
    incoming.allocate()
    return incoming


@pytest.mark.parametrize("chunks", [[8], [4, 4], [4, 3, 1], [7, 1], [2, 2, 2, 2]])
def test_payload_beyond_what_the_header_announced_is_refused(chunks: list[int]) -> None:
    incoming = two_tensors()
    for size in chunks[:-1]:
        incoming.fill(bytes(size))
    with pytest.raises(WireError, match="mixed from client-0: more payload than its header announced"):
        incoming.fill(bytes(chunks[-1]))


def test_a_message_is_not_to_be_had_before_its_last_byte() -> None:
    incoming = two_tensors()
    incoming.fill(b"abcd")
    incoming.fill(b"ef")
    assert incoming.missing_bytes == 1
    with pytest.raises(InternalError, match="is not complete"):
        incoming.message()
    incoming.fill(b"g")
    message = incoming.message()
    assert isinstance(message, Mixed)
    assert bytes(message.z.tolist()) + bytes(message.client["w"].tolist()) == b"abcdefg"


def test_a_refusal_is_a_protocol_error_that_names_the_sender() -> None:
    with pytest.raises(ProtocolError, match="unknown kind 'mixes' from client-0; known: mixed, plain"):
        admit(altered(0, "mixes"))
