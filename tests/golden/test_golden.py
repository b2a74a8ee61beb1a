"""A round of each method sends these messages, of these sizes, at these times (tests/support/golden.py writes them)."""

from __future__ import annotations

import pytest
from golden import FOLDER, ledger

from algorithms import ALGORITHMS


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_round_is_that_of_the_golden_ledger(name: str) -> None:
    assert ledger(name).splitlines() == (FOLDER / f"{name}.txt").read_text().splitlines()


def test_every_golden_ledger_is_of_a_method() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(ALGORITHMS)
