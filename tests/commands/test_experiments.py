"""Experiment files: what ships says what the paper's code does; flags go before files; mistakes are one line."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from words import settings_of_words

from algorithms import ALGORITHMS
from algorithms.experiments import reading
from emulator.errors import UserError

SMALL = 'kind = "experiment"\ndescription = "d"\n'


def settings(experiment: str, name: str, *arguments: str) -> dict[str, Any]:
    return settings_of_words("--experiment", experiment, *arguments)[name]


@pytest.mark.parametrize("shipped", reading.shipped_experiments())
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_shipped_experiment_is_a_sound_config_of_every_algorithm(shipped: str, name: str) -> None:
    config = msgspec.convert(settings(shipped, name), importlib.import_module(ALGORITHMS[name]).Config)
    config.check()
    if shipped.startswith("fsl-sage"):
        task = config.task
        assert (task.model, task.cut, task.batch, task.seed) == ("resnet18", "layer2", 256, 200)


def test_the_papers_experiment_has_the_official_codes_settings() -> None:
    sage = settings("fsl-sage-cifar10", "fsl-sage")
    official = {"q": 5, "l": 10, "align_epochs": 100, "align_batch": 1000, "buffer": 1000, "align_lr": 1e-3}
    assert official.items() <= sage.items()
    assert (sage["weight_decay"], sage["server_order"], sage["rounds"], sage["stop_after_s"]) == (
        1e-4,
        "blocked",
        200,
        None,
    )


def test_a_flag_goes_before_the_file_and_the_file_before_the_defaults() -> None:
    flags = (
        "--batch",
        "32",
        "--rounds",
        "3",
        "--set",
        "server_order=arrival",
        "--set",
        "fsl-sage:l=4",
        "--set",
        "align=none",
    )
    said = settings("fsl-sage-cifar100", "fsl-sage", *flags)
    assert (said["task"]["batch"], said["rounds"], said["server_order"], said["l"]) == (32, 3, "arrival", 4)
    assert said["align"] == "none"
    assert said["task"]["dataset"] == "cifar100"
    plain = settings_of_words()["fsl-sage"]
    assert plain == {"rounds": 12, "stop_after_s": 15.0, "task": {"seed": 1, "clients": 10}}


def test_an_option_without_a_method_is_for_those_that_have_it() -> None:
    """Of all methods, the default; of those chosen, one must have it."""
    said = {name: settings("fsl-sage-cifar10", name, "--set", "radius=0.5", "--set", "q=7") for name in ALGORITHMS}
    assert [name for name in ALGORITHMS if "radius" in said[name]] == ["heron-sfl"]
    assert [name for name in ALGORITHMS if said[name].get("q") == 7] == ["cse-fsl", "fsl-sage", "heron-sfl"]
    assert settings("fsl-sage-cifar10", "sl", "--algorithm", "sl", "--set", "client_lr=1")["client_lr"] == 1
    with pytest.raises(UserError, match="--set q=7: q of fedavg, sl: unknown key; it has"):
        settings("fsl-sage-cifar10", "fedavg", "--algorithm", "sl,fedavg", "--set", "q=7")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (SMALL + "roundz = 3", "roundz"),
        (SMALL + "rounds = 'many'", "rounds"),
        (SMALL + "[task]\nbacth = 3", "task.bacth: unknown key; did you mean batch?"),
        (SMALL + "[task]\nbatch = 'large'", "task.batch: is 'large', which is not a whole number"),
        (SMALL + "[task]\nsingle = true", "task.single: unknown key"),
        (SMALL + "[task]\naugment = 'blur'", "task.augment: there is no 'blur': say flip-crop or none"),
        (SMALL + "[task]\nseed = 3", "task.seed: unknown key"),
        (SMALL + "[settings]\nmomentun = 3", "settings.momentun: unknown key; did you mean momentum?"),
        (
            SMALL + "[settings]\nserver_order = 'sideways'",
            "settings.server_order: there is no 'sideways': say arrival or",
        ),
        (SMALL + "[settings]\nparticipation = 2.0", "settings.participation: must be above 0 and at most 1"),
        (
            SMALL + "[algorithms.fsl-sage]\nalign_epoch = 3",
            "algorithms.fsl-sage.align_epoch: unknown key; did you mean al",
        ),
        (SMALL + "[algorithms.fsl-sage]\nrounds = 3", "algorithms.fsl-sage.rounds: unknown key"),
        (SMALL + "[algorithms.fsl-sage]\nalign = 'later'", "algorithms.fsl-sage.align: there is no 'later': say none"),
        (SMALL + "[algorithms.cse-fsl]\nq = 'often'", "algorithms.cse-fsl.q: is 'often', which is not a whole number"),
        (SMALL + "[algorithms.cse-fsl]\nq = 0", "algorithms.cse-fsl.q: must be at least 1, not 0"),
        (SMALL + "[algorithms.fsl-saga]\nl = 3", "algorithms.fsl-saga: there is none of this name"),
        ("description = 'no kind'", "kind"),
        ("kind =", "Invalid value"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        reading.find_experiment(str(path))
    assert complaint in str(caught.value)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_none_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean fsl-sage-cifar10"):
        reading.find_experiment("fsl-sage-cifar-10")
