"""Networks, devices and scenarios as structs: typed integers (ns, bytes, bit/s), made by ``profiles.reading``."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct
from msgspec.structs import replace

from emulator.piecewise import StepFunction
from emulator.profiles.availability import Absence
from emulator.profiles.power import DevicePower, RadioPower


class Direction(Struct, frozen=True):
    """One direction of a link: rate in bit/s, one-way delay in ns, jitter (scale of |N(0, σ)|) in ns, loss in 10^-9.

    Where the link follows a trace, ``rates`` are its rates in bit/s and ``rate_bps`` the largest of them; ``delays``
    (ns) and ``losses`` (10^-9) are there where the trace has them.
    """

    rate_bps: int
    one_way_ns: int
    jitter_ns: int
    loss_ppb: int = 0
    rates: StepFunction | None = None
    delays: StepFunction | None = None
    losses: StepFunction | None = None


class Network(Struct, frozen=True):
    """An access link. ``up`` leaves the node that the link belongs to, ``down`` reaches it.

    ``duplex`` half: both directions share one capacity, the larger of their rates. ``rate_kind`` says what the rates
    are: "goodput" (a speed test's figure: loss is in it already) or "link". ``transport`` "ideal" leaves TCP out.
    ``trace_start_ns``: where in its trace a link begins; None: a place drawn for each client. ``radio``: its power;
    None: the profile does not say.
    """

    name: str
    up: Direction
    down: Direction
    duplex: Literal["full", "half"] = "full"
    transport: Literal["ideal", "tcp"] = "ideal"
    rate_kind: Literal["goodput", "link"] = "goodput"
    trace_start_ns: int | None = None
    radio: RadioPower | None = None


class Cell(Struct, frozen=True):
    """A capacity in bit/s that the links in it share; half duplex: one, the larger, for both directions."""

    name: str
    up_bps: int
    down_bps: int
    duplex: Literal["full", "half"] = "full"
    up_rates: StepFunction | None = None
    down_rates: StepFunction | None = None


class Device(Struct, frozen=True):
    """A board: memory in bytes, rates of one worker in FLOP/s and bytes/s, overhead of an operation in ns.

    ``send_queue_bytes``: the limit of a client's messages that have not left yet; None: the profile sets none.
    ``power``: what it draws; None: the profile does not say.
    """

    name: str
    memory_bytes: int
    os_reserved_bytes: int
    runtime_bytes: int
    dense_flops: int
    depthwise_flops: int
    memory_rate_bytes: int
    dispatch_ns: int
    send_queue_bytes: int | None = None
    power: DevicePower | None = None

    @property
    def budget_bytes(self) -> int:
        """The training budget: memory without the operating system and the Python and torch runtime."""
        return self.memory_bytes - self.os_reserved_bytes - self.runtime_bytes

    @property
    def room_bytes(self) -> int:
        """The limit of a client's send queue: that of the profile, else all of the training budget."""
        return self.budget_bytes if self.send_queue_bytes is None else self.send_queue_bytes


class ClientSpec(Struct, frozen=True):
    """A client of a scenario. ``cell``: the name of the cell that its link is in, "" for none."""

    role: ClassVar[str] = "client"
    workers: ClassVar[int] = 1
    name: str
    index: int
    device: Device
    network: Network
    cell: str = ""
    absence: Absence | None = None


class ServerSpec(Struct, frozen=True):
    role: ClassVar[str] = "server"
    name: str
    device: Device
    network: Network
    workers: int


Member = ClientSpec | ServerSpec


class Scenario(Struct, frozen=True):
    """A scenario: the server and the clients. ``files`` maps every profile and trace file read for it to its SHA-256.

    ``host``: the machine whose CPU time gives durations; None: they come from counted work. ``notes``: changes made to
    numbers of the files when they were read, for the user.
    """

    name: str
    description: str
    server: ServerSpec
    clients: tuple[ClientSpec, ...]
    files: dict[str, str]
    cells: tuple[Cell, ...] = ()
    host: Device | None = None
    notes: tuple[str, ...] = ()

    @property
    def members(self) -> list[Member]:
        """The clients in order, then the server."""
        return [*self.clients, self.server]

    def member(self, name: str) -> Member:
        """The client of that name, or the server."""
        return next(member for member in self.members if member.name == name)

    def without_traces(self) -> Scenario:
        """The scenario without traces, for processes that carry no messages: an hour of a trace is many megabytes."""
        bare: dict[int, Network] = {}  # clients share them

        def plain(network: Network) -> Network:
            up, down = (replace(way, rates=None, delays=None, losses=None) for way in (network.up, network.down))
            return bare.setdefault(id(network), replace(network, up=up, down=down))

        return replace(
            self,
            server=replace(self.server, network=plain(self.server.network)),
            clients=tuple(replace(client, network=plain(client.network)) for client in self.clients),
            cells=tuple(replace(cell, up_rates=None, down_rates=None) for cell in self.cells),
        )
