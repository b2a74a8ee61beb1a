"""An ``await`` that is left out where the result is used: the error names the line and the remedy."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from emulator.clock.loop import EmulatedLoop
from emulator.clock.pacers import InstantPacer
from emulator.errors import told

KEPT: list[Coroutine[None, None, int]] = []


async def received() -> int:
    return 1


async def used_at_once() -> None:
    1 + received()  # type: ignore[operator]


async def kept_and_used() -> None:
    task = asyncio.get_running_loop().create_task(received())  # begins later, as it should
    found = received()
    KEPT.append(found)
    len(found)  # type: ignore[arg-type]
    await task


async def another_error() -> None:
    task = asyncio.get_running_loop().create_task(received())
    if not task.done():
        raise TypeError("of a coroutine that begins later")


@pytest.mark.parametrize(("play", "offset"), [(used_at_once, 1), (kept_and_used, 2)])
def test_a_forgotten_await_whose_result_is_used_is_told_with_line_and_remedy(play, offset: int) -> None:  # type: ignore[no-untyped-def]
    loop = EmulatedLoop(InstantPacer(lambda: ""))
    with pytest.raises(TypeError) as caught:
        loop.run_until_complete(play())
    line = play.__code__.co_firstlineno + offset
    said = f"; test_unawaited.py:{line}: received(…) was never awaited: write await before it"
    assert told(caught.value, __file__).endswith(said)
    assert told(caught.value, __file__).count("never awaited") == 1
    for each in KEPT:
        each.close()
    loop.wind_up()


def test_another_error_is_not_laid_to_a_coroutine_that_begins_later() -> None:
    loop = EmulatedLoop(InstantPacer(lambda: ""))
    with pytest.raises(TypeError) as caught:
        loop.run_until_complete(another_error())
    assert "never awaited" not in told(caught.value, __file__)
    loop.wind_up()
