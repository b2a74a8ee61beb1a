"""One configuration of a run: a knob is written once, and is everywhere that a knob can be said or is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from processes import ROOT
from sweeps import images
from words import config_of_words, settings_of_words

import algorithms
from algorithms import ALGORITHMS, config_of, interface
from algorithms.commands import run as run_command
from algorithms.commands.options import overrides, run_flags
from algorithms.commands.options.run_flags import RunCommand, read
from algorithms.commands.sweep import dependencies, grid
from algorithms.commands.sweep.grid import BASE, Grid
from algorithms.experiments import reading
from algorithms.experiments.run_config import RunConfig
from algorithms.workload.knobs import knob, knobs_of
from algorithms.workload.task import Task
from emulator.errors import UserError
from emulator.ledger.manifest import Manifest

OTHER: dict[str, Any] = {  # than the default
    "profile": "lan",
    "algorithm": "cse-fsl",
    "rounds": 3,
    "clients": 3,
    "seed": 2,
    "clock": "virtual",
    "dry_run": True,
    "dilation": 2,
    "options": ("q=3",),
    "memory_cap": "account",
    "force": True,
    "step_limit": 60.0,
    "out": "there",
    "seeds": 2,
    "tables": "all",
    "track": ("mlflow",),
    "report": True,
    "no_dashboard": True,
    "batch": 8,
    "epochs": 2,
    "partition": "dirichlet:0.5",
    "samples_per_client": 40,
    "augment": "flip-crop",
    "dataset": "synthetic:1x8x8:10:900",
    "model": "simple_conv",
    "cut": "conv1",
    "aux": "pool",
    "save": "best",
    "frozen": "preinstalled",
    "target": "0.5",
    "data_dir": "elsewhere",
    "ignore_index": 255,
    "lora": "rank=2,target=fc",
}

OWN = """import numpy

def load():
    return [(numpy.ones((n, 1, 8, 8), "f4"), numpy.ones((n, 3), "f4")) for n in (20, 4)]
"""


def beside(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What else has to be said for a knob to be turned, and what is said then: by files, of data of another kind, of
    a measured host."""
    (folder / "e.toml").write_text('kind = "experiment"\ndescription = "d"\n[task]\nbatch = 8\n')
    (folder / "w.pt").write_bytes(b"weights")
    pictures = {"dataset": "folder:1x8x8", "data_dir": str(images(folder / "pictures")), "samples_per_client": 2}
    (folder / "own.py").write_text(OWN)
    own = {"dataset": f"{folder}/own.py:load"}
    coloured = {"dataset": "synthetic:3x8x8:10:900"}
    measured = {"compute": "measured", "host_device": "pi-4b"}
    return {
        "experiment": ({}, {"experiment": str(folder / "e.toml")}),
        "init": ({}, {"init": str(folder / "w.pt")}),
        "compute": ({}, measured),
        "host_device": (measured, measured | {"host_device": "pi-5"}),
        "bad_images": (pictures, pictures | {"bad_images": "skip"}),
        "task_kind": (own, own | {"task_kind": "regression"}),
        "normalise": (coloured, coloured | {"normalise": "imagenet"}),
    }


NOT_COUNTING = {  # no figure depends on them; data count by their content, and data of no file are in no folder
    *("force", "step_limit", "out", "save", "seeds", "tables", "track", "report", "no_dashboard", "data_dir"),
}
OPTIONS: dict[str, Any] = {"optimizer": "adamw", "server_order": "blocked", "betas": [0.8, 0.9], "deadline_s": 9.0}


def key_of(config: RunCommand, name: str = "fsl-sage", profile: str = "iot-4g") -> str:
    (cell,) = Grid(config, (profile,), (BASE,), (config.seed or 1,)).cells()
    assert cell.algorithm == name
    return cell.key


def key_where(said: dict[str, Any]) -> str:
    config = RunCommand.of({"profile": "iot-4g", "algorithm": "fsl-sage", **said})
    return key_of(config, said.get("algorithm", "fsl-sage"), said.get("profile", "iot-4g"))


def test_each_knob_changes_the_key_of_a_result_or_is_said_not_to(tmp_path: Path) -> None:
    knobs = RunCommand.knobs()
    turned = {name: ({}, {name: list(value) if knobs[name].is_list else value}) for name, value in OTHER.items()}
    turned |= beside(tmp_path)
    assert turned.keys() == knobs.keys()
    plain = key_where({})
    unchanged = {
        name for name, (before, after) in turned.items() if key_where(after) == (key_where(before) if before else plain)
    }
    assert unchanged == NOT_COUNTING
    assert {name for name, each in knobs.items() if each.counts_in in ("nothing", "data")} == NOT_COUNTING


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_option_of_a_method_is_a_part_of_its_key(name: str) -> None:
    (cell,) = Grid(config_of_words("--algorithm", name), ("iot-4g",), (BASE,), (1,)).cells()
    parts = dependencies.parts_of(cell.manifest, name)
    assert {f"setting {field}" for field in config_of(name).__struct_fields__ if field != "task"} <= parts.keys()
    encoded = {field.encode_name for field in msgspec.structs.fields(Task)}
    assert {f"setting {field}" for field in encoded} <= parts.keys()


GOLDEN = """{"align": "wait", "align_batch": 160, "align_epochs": 20, "align_lr": 0.005, "augment": "none", "aux":
"linear", "aux_lr": 0.001, "bad_images": "refuse", "batch": 8, "betas": [0.9, 0.999], "buffer": 160,
"client_lr": 0.001, "clients": 10, "cut": "conv2", "data_dir": "", "dataset": "digits", "deadline_s": null,
"epochs": 1, "folder": "", "frozen": "sent", "ignore_index": -100, "init": "", "l": 3, "model": "cnn",
"momentum": 0.0, "normalise": "none", "optimizer": "adam", "participation": 1.0, "partition": "iid", "q": 2,
"q_per_round": false, "refresh_mode": "train", "rounds": 12, "samples_per_client": 0, "seed": 1, "server_lr":
0.001, "server_order": "arrival", "single": null, "stop_after_s": 15.0, "stop_align": null, "task_kind": "",
"warm_start": false, "weight_decay": 0.0}"""


def test_the_key_of_a_configuration_is_what_it_was() -> None:
    """A record that was made when these were all the settings is known: a knob of a run is no part where it is not
    turned. (Source, versions, scenario and data are parts, too, and the machine's.)"""
    words = ("--algorithm", "fsl-sage", "--clock", "virtual", "--set", "q=2", "--batch", "8")
    (cell,) = Grid(config_of_words(*words), ("iot-4g",), (BASE,), (1,)).cells()
    parts = dependencies.parts_of(cell.manifest, "fsl-sage")
    golden = json.loads(GOLDEN)
    assert json.loads(json.dumps({key: parts[f"setting {key}"] for key in golden})) == golden
    assert [part for part in parts if part.startswith("option ")] == []
    own = {part: parts[part] for part in ("method", "module", "clock", "dilation", "compute")}
    own |= {f"setting {key}": value for key, value in golden.items()}
    assert dependencies.key_of(own) == "fa93489bc975b5f1ab974ea5ec62eb9e9b94ba3f4678df8ca9870af9166a99e1"
    older = msgspec.structs.replace(cell.manifest, run={})  # as records had it before
    assert dependencies.parts_of(older, "fsl-sage") == parts


def test_what_is_said_is_the_same_as_words_and_as_keywords() -> None:
    for name, value in OTHER.items():
        if name in ("dilation", "dry_run"):
            continue  # not beside a virtual clock
        config = RunCommand.of({"profile": "iot-4g", name: list(value) if isinstance(value, tuple) else value})
        assert read(config.words()) == (config, []), name
    for said in ({"dilation": 3}, {"dilation": "auto"}, {"dry_run": True}, {"step_limit": "none"}):
        config = RunCommand.of({"profile": "iot-4g", **said})
        assert read(config.words())[0] == config


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"rounds": "many"}, "--rounds many: say a whole number; run.py --help shows the flags"),
        ({"rounds": 2.5}, "--rounds 2.5: say a whole number; run.py --help shows the flags"),
        ({"rounds": True}, "--rounds True: say a whole number; run.py --help shows the flags"),
        ({"clock": "wall"}, "--clock wall: say real or virtual; run.py --help shows the flags"),
        ({"augment": "blur"}, "--augment blur: say none or flip-crop; run.py --help shows the flags"),
        ({"dry_run": "often"}, "--dry-run often: say true or false; run.py --help shows the flags"),
        ({"track": ["paper"]}, "--track ['paper']: say tensorboard or mlflow or wandb-offline; run.py --help shows"),
        ({"cut": ""}, "--cut: it is empty"),
        ({"btach": 3}, "btach: unknown key; did you mean batch?"),
        ({"clock": "real", "dry_run": True}, "--clock real: --dry-run keeps to no clock; say one of them"),
    ],
)
def test_a_value_that_cannot_be_is_one_line_with_its_flag(said: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        RunCommand.of({"profile": "iot-4g", **said})
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("name", sorted(RunConfig.knobs().keys() - {"options", "rounds"}))
def test_a_set_of_what_has_a_flag_of_its_own_names_the_flag(name: str) -> None:
    for key in (name, name.replace("_", "-"), f"fsl-sage:{name}"):
        with pytest.raises(UserError) as caught:
            overrides.split_option(f"{key}=8")
        flag = f"--{name.replace('_', '-')}"
        assert (
            str(caught.value) == f"--set {key}=8: {key.split(':')[-1]} is no option of a method: say {flag}, of a run"
        )


def test_what_an_experiment_can_say_is_none_where_it_is_not_said() -> None:
    assert [name for name in reading.of_run() if knobs_of(RunConfig)[name].default is not None] == []


def test_an_option_is_chosen_without_torch() -> None:
    program = (
        "import sys; from algorithms.commands.options.overrides import completed, settings_of;"
        "from algorithms.commands.options.run_flags import read;"
        "config, _ = read(['--profile', 'iot-4g', '--set', 'l=10', '--batch', '8']);"
        "print(settings_of(*completed(config), 10)['fsl-sage']['l'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["10", "False"]


# --- a knob that is added is everywhere -------------------------------------------------------------------------------


class Added(RunCommand, frozen=True, kw_only=True):
    """A run with one knob more."""

    grain: Annotated[int | None, knob("how coarse it is")] = None


@pytest.fixture
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command with one knob more, which is written in its struct alone."""
    for module in (run_flags, grid):
        monkeypatch.setattr(module, "RunCommand", Added)
    for module in (dependencies, reading, interface):
        monkeypatch.setattr(module, "RunConfig", Added)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Manifest]:
    """The manifests of what would be played; UserError in its place."""
    seen: list[Manifest] = []

    def play(run: run_command.Planned, *_: Any) -> Any:
        seen.append(run.manifest)
        raise UserError("played")

    monkeypatch.setattr(run_command, "play", play)
    return seen


@pytest.mark.usefixtures("_added")
def test_a_knob_of_a_run_that_is_added_is_everywhere(tmp_path: Path, played: list[Manifest]) -> None:
    assert "--grain GRAIN" in run_flags.parser().format_help()
    words = ["--profile", "iot-4g", "--algorithm", "sl"]
    config, _ = read([*words, "--grain", "3"])
    assert (config.grain, config.words()[-1]) == (3, "--grain=3")  # type: ignore[attr-defined]
    (tmp_path / "e.toml").write_text('kind = "experiment"\ndescription = "d"\ngrain = 4\n')
    from_file, _ = overrides.completed(read([*words, "--experiment", str(tmp_path / "e.toml")])[0])
    assert from_file.grain == 4  # type: ignore[attr-defined]
    variants = grid.variants(["grain=5"], cross=False)
    plain, varied = Grid(read(words)[0], ("iot-4g",), variants, (1,)).cells()
    assert varied.manifest.run["grain"] == 5
    assert plain.key != varied.key
    assert dependencies.parts_of(varied.manifest, "sl")["option grain"] == 5
    with pytest.raises(UserError, match=r"^played$"):
        algorithms.play("iot-4g", "sl", grain=6)
    assert played[0].run["grain"] == 6


def test_an_option_of_a_method_that_is_added_is_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, played: list[Manifest]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(algorithms.registry, "_words", {})
    file = tmp_path / "grainy.py"
    head = "class Config(Settings, frozen=True, forbid_unknown_fields=True):\n"
    text = (ROOT / "algorithms" / "sl.py").read_text()
    assert head in text
    file.write_text(text.replace(head, head + "    grain: int = 1\n"))
    before = dict(ALGORITHMS)
    try:
        words = ("--algorithm", str(file))
        assert settings_of_words(*words, "--set", "grain=3")["grainy"]["grain"] == 3
        (tmp_path / "e.toml").write_text(
            'kind = "experiment"\ndescription = "d"\n[algorithms.grainy]\ngrain = 4\n',
        )
        assert settings_of_words(*words, "--experiment", str(tmp_path / "e.toml"))["grainy"]["grain"] == 4
        variants = grid.variants(["grain=5"], cross=False)
        plain, varied = Grid(config_of_words(*words), ("iot-4g",), variants, (1,)).cells()
        assert (varied.manifest.settings["grainy"]["grain"], plain.key != varied.key) == (5, True)
        assert dependencies.parts_of(plain.manifest, "grainy")["setting grain"] == 1
        with pytest.raises(UserError, match=r"^played$"):
            algorithms.play("iot-4g", str(file), settings={"grain": 6})
        assert played[0].settings["grainy"]["grain"] == 6
        with pytest.raises(UserError, match=r"unknown key.*\bgrain\b"):  # an option's help: the line that lists them
            settings_of_words(*words, "--set", "nothing-like-it=3")
    finally:
        ALGORITHMS.clear()
        ALGORITHMS.update(before)
