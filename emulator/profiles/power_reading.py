"""Power numbers from the files of devices and networks: which belong together, and which are missing."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.inputs.text_files import profile_error
from emulator.profiles.power import DevicePower, Graded, RadioPower
from emulator.profiles.schema import DeviceFile, NetworkFile, to_integer_unit

DEVICE = {"idle_w": "idle", "busy_w": "busy"}  # keys of files, by the field that they fill
RADIO = {"connected_w": "connected", "tail_s": "tail", "sleep_w": "sleep"}
BY_STATE = {"tx_w": "tx", "rx_w": "rx"}
LINEAR = {"base_w": "base", "tx_w_per_mbps": "tx_per_bit", "rx_w_per_mbps": "rx_per_bit"}
DRX = {"drx_w": "drx", "drx_s": "drx_tail"}
PROMOTION = {"promotion_w": "promotion", "promotion_ms": "promotion_time"}
DEVICE_MORE = {
    "supply_efficiency": "supply_efficiency",
    "suspended_w": "suspended",
    "battery_wh": "battery",
}
ORDER = (  # what may not draw more, and than what
    *(("sleep_w", "drx_w"), ("drx_w", "connected_w"), ("sleep_w", "connected_w")),
    *(("connected_w", "tx_w"), ("connected_w", "rx_w"), ("suspended_w", "idle_w"), ("idle_w", "busy_w")),
)
PowerFile = DeviceFile | NetworkFile


def device_power(file: str, typed: DeviceFile) -> DevicePower | None:
    """The power of a device; None where its file does not say. ProfileError where it says a part."""
    if not _given(typed, [*DEVICE, *DEVICE_MORE]) and not typed.sleeps_while_waiting:
        return None
    _together(file, typed, [*DEVICE])
    if typed.sleeps_while_waiting and typed.suspended_w is None:
        raise profile_error(file, "suspended_w", "missing: sleeps_while_waiting = true; write suspended_w, in W")
    if typed.suspended_w is not None and not typed.sleeps_while_waiting:
        problem = "has no effect while sleeps_while_waiting is false; write it as true, or leave this out"
        raise profile_error(file, "suspended_w", problem)
    _in_order(file, typed)
    return DevicePower(**_numbers(file, typed, DEVICE | DEVICE_MORE))


def radio_power(file: str, typed: NetworkFile) -> RadioPower | None:
    """The power of a network's radio; None where its file does not say. ProfileError where it says a part."""
    every = RADIO | BY_STATE | LINEAR | DRX | PROMOTION
    if not _given(typed, [*every]):
        return None
    linear = _given(typed, [*LINEAR])
    if linear and (by_state := _given(typed, [*BY_STATE])):
        problem = f"{linear[0]} is of a linear model, which has base_w, tx_w_per_mbps and rx_w_per_mbps"
        raise profile_error(file, by_state[0], f"{problem}; leave one of the two models out")
    _together(file, typed, [*RADIO, *(LINEAR if linear else BY_STATE)])
    for pair in (DRX, PROMOTION):
        if _given(typed, [*pair]):
            _together(file, typed, [*pair])
    _in_order(file, typed)
    return RadioPower(**_numbers(file, typed, every))


def _given(typed: PowerFile, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if getattr(typed, key) is not None]


def _together(file: str, typed: PowerFile, keys: Sequence[str]) -> None:
    """Refuse a file that has some of the keys and not the others."""
    for key in keys:
        if getattr(typed, key) is None:
            others = ", ".join(other for other in keys if other != key)
            raise profile_error(file, key, f"missing; write {key} = NUMBER: power takes it with {others}, or none")


def _in_order(file: str, typed: PowerFile) -> None:
    """Refuse a state that takes less than one beneath it: a slip, or another meaning of the words."""
    for lower, higher in ORDER:
        below, above = getattr(typed, lower, None), getattr(typed, higher, None)
        if below is not None and above is not None and below.value > above.value:
            problem = (
                f"must be at least {lower}, {below.value} W, not {above.value}; {higher} is all that is drawn then"
            )
            raise profile_error(file, higher, problem)


def _numbers(file: str, typed: PowerFile, keys: dict[str, str]) -> dict[str, Graded]:
    numbers = {key: number for key in keys if (number := getattr(typed, key)) is not None}
    return {keys[key]: Graded(to_integer_unit(file, key, number), number.grade) for key, number in numbers.items()}
