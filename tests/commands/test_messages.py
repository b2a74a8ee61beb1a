"""What a mistake, a fault and a foreign record say, and what they leave: the cause first, by file, key and value."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from players import faulty
from processes import ROOT
from rich.console import Console
from words import config_of_words, settings_of_words

import run
from algorithms import ALGORITHMS, config_of
from algorithms.commands.options import overrides
from algorithms.commands.options.run_flags import dropped_groups, read
from algorithms.training.settings import rare_uploads
from algorithms.workload.task import Task
from emulator.analysis.summarize import summarize
from emulator.errors import SplitbedError, UserError, own_frames, root_of, told
from emulator.ledger.events import SCHEMA, Reported
from emulator.ledger.files import Ledger, read_node
from emulator.ledger.manifest import Manifest, read_manifest
from emulator.processes import METHODS_VARIABLE
from emulator.profiles.reading import load_scenario
from emulator.runtime import launcher, methods, targets
from emulator.tables.headline import headline
from emulator.tables.run import verdict
from emulator.tables.table import Table, show
from emulator.validation import printable, validation_error


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"client_lr": "0,001"}, "client_lr: is '0,001', which is not a number"),
        ({"rounds": 2.5}, "rounds: is 2.5, which is not a whole number"),
        ({"deadline_s": "soon"}, "deadline_s: is 'soon', which is not a number or null"),
        ({"betas": 3}, "betas: is 3, which is not a list such as [0.9, 0.999]"),
        ({"q_per_round": 1}, "q_per_round: is 1, which is not true or false"),
        ({"upload": "both"}, "upload: there is no 'both': say first or last"),
    ],
)
def test_a_value_of_the_wrong_kind_is_shown(values: dict[str, Any], line: str) -> None:
    assert validation_error(values, config_of("cse-fsl")) == line


def test_a_setting_that_changes_nothing_is_said_and_of_two_the_later_holds() -> None:
    words = ("--algorithm", "cse-fsl", "--set", "fsl-sage:l=2", "--set", "cse-fsl:q=4", "--set", "q=2", "--set", "q=3")
    assert overrides.idle_options(config_of_words(*words).options, ["cse-fsl"]) == [
        "--set fsl-sage:l=2: fsl-sage is not played, so it changes nothing",
        "--set cse-fsl:q=4: a later --set q holds, so this one changes nothing",
        "--set q=2: a later --set q holds, so this one changes nothing",
    ]
    assert settings_of_words(*words)["cse-fsl"]["q"] == 3


def test_of_a_flag_that_is_there_twice_the_later_holds_and_it_is_said_unless_both_are_alike() -> None:
    config, warnings = read(["--profile", "lan", "--clients", "3", "--clients=5", "--seed", "2", "--seed", "2"])
    assert (config.clients, config.seed) == (5, 2)
    assert warnings == ["--clients 3: a later --clients 5 holds, so it changes nothing"]
    assert read(["--profile", "lan"])[1] == []


def test_an_empty_value_of_a_command_in_a_command_is_named_by_its_flag() -> None:
    with pytest.raises(UserError, match=r"^--time-format: it is empty"):
        run.command(["traces", "convert", "x.csv", "--time-format", "", "--out", "y.csv"])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_method_s_options_are_known_from_its_source(name: str) -> None:
    assert overrides.option_names(name) == config_of(name).__struct_fields__


def test_options_are_known_without_torch() -> None:
    program = "import sys; from algorithms.commands.options.overrides import option_names; option_names('fsl-sage')"
    program += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_group_of_clients_of_which_nobody_is_left_is_named() -> None:
    assert dropped_groups(load_scenario("iot-4g", 2), "iot-4g") == [
        "--clients 2: none is left of the profile's 2 x pi-4b behind iot-4g"
    ]
    assert dropped_groups(load_scenario("iot-4g", 20), "iot-4g") == []


@pytest.mark.parametrize(
    ("q", "restart_each_round", "warned"), [(6, False, False), (7, False, True), (3, True, False), (4, True, True)]
)
def test_a_client_that_uploads_but_once_is_warned_of(q: int, restart_each_round: bool, warned: bool) -> None:
    task = Task(clients=2, samples_per_client=48, batch=16)  # 3 steps a round
    assert bool(rare_uploads(task, q, 2, restart_each_round=restart_each_round)) == warned


def test_an_error_of_a_method_says_its_own_last_line_first() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(faulty.stumble())

    with pytest.raises(BaseExceptionGroup) as caught:
        asyncio.run(main())
    line = Path(faulty.__file__).read_text().splitlines().index('    {}["labels"]  # the mistake') + 1
    assert told(root_of(caught.value), faulty.__file__) == f"faulty.py:{line}: KeyError: 'labels'"
    found = targets._in_one_thread(lambda: asyncio.run(main()), "mine", "players.faulty", "profiling")
    assert str(found) == f"mine: profiling failed: faulty.py:{line}: KeyError: 'labels'"
    frame = f'faulty.py:{line}, in stumble: {{}}["labels"]  # the mistake'
    assert own_frames(pickle.loads(pickle.dumps(found)).traceback) == [frame]


BROKEN = {
    "def x(:": "SyntaxError: invalid syntax",
    "1 / 0": "ZeroDivisionError: division by zero",
    "import nowhere_at_all": "ModuleNotFoundError: No module named 'nowhere_at_all'",
    "raise SystemExit(3)": "SystemExit: 3",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_method_that_cannot_be_imported_is_told_by_its_name_and_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_method.py").write_text(f"import json\n{text}\n")
    with pytest.raises(SplitbedError) as caught:
        methods.load_method("mine", "broken_method")
    assert str(caught.value) == f"mine: cannot be imported: broken_method.py:2: {BROKEN[text]}"
    assert isinstance(caught.value, UserError)  # exit status 2
    with pytest.raises(SplitbedError, match=r"mine: .*json.*: has no Config: write class Config\(Settings\)"):
        methods.load_method("mine", "json")


def test_options_of_a_method_that_cannot_be_read_are_told_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "half_method.py").write_text("class Config(:\n")
    monkeypatch.setitem(ALGORITHMS, "half", "half_method")
    with pytest.raises(SplitbedError, match=r"half_method: cannot be read: half_method\.py:1: SyntaxError: "):
        overrides.option_names("half")
    with pytest.raises(SplitbedError, match=r"half: cannot be imported: half_method\.py:1: SyntaxError: "):
        config_of("half")


def test_a_method_that_cannot_be_imported_keeps_no_other_from_being_loaded(tmp_path: Path) -> None:
    for name, text in {"broken": "def x(:", "leaving": "raise SystemExit(3)", "sound": "print('sound')"}.items():
        (tmp_path / f"{name}_method.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", "import emulator.runtime.preloaded"],
        env=os.environ | {METHODS_VARIABLE: "broken_method,leaving_method,sound_method", "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "sound\n", "")


def test_an_error_inside_a_library_is_told_by_the_line_of_the_method_that_called_it() -> None:
    def mine() -> None:
        json.loads("{")

    with pytest.raises(ValueError, match="Expecting") as caught:
        mine()
    assert told(caught.value, __file__).startswith(
        f"test_messages.py:{mine.__code__.co_firstlineno + 1}: JSONDecodeError"
    )


@pytest.mark.parametrize(
    "error", [SplitbedError("the fork server was ended"), OSError(28, "no space left"), UserError("x")]
)
def test_a_folder_in_which_nothing_was_played_is_withdrawn(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(launcher.Launcher, "__enter__", lambda self: self)
    monkeypatch.setattr(launcher.Launcher, "__exit__", lambda *_: None)
    monkeypatch.setattr(launcher.Launcher, "prepare", fail)
    monkeypatch.setattr(os, "nice", lambda _by: 0)
    folder = tmp_path / "out"
    assert run.main(["--profile", "iot-4g", "--no-dashboard", "--out", str(folder)]) in (1, 2)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "the data or the model are too large for this host's memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
            "host",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "TMPDIR "),
    ],
)
def test_what_the_host_lacks_for_the_preparation_is_the_users_to_mend(error: Exception, said: str) -> None:
    found = targets._why_not_prepared(error)
    assert isinstance(found, UserError)
    assert said in str(found)
    assert "\n" not in str(found)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "scenario.toml"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="it is no regular file; save what it says in one"):
        load_scenario(str(pipe))


def test_a_line_that_the_disk_has_no_room_for_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Reported(due_ns=0, actual_ns=0, round=0, values={"loss": 1.0})
    write = os.write
    with Ledger(tmp_path, "client-0") as ledger:
        ledger.write(line)
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(OSError, match="No space left"):
            ledger.write(line)
        monkeypatch.setattr(os, "write", write)
        ledger.write(line)
    assert [event.seq for event in read_node(tmp_path / "client-0.jsonl")] == [0, 1]


BEYOND = {
    "a method that is a path": {"algorithms": ["x/../../victim"]},
    "a method with an escape": {"algorithms": ["sl\x1b]0;owned\x07"]},
    "a node that is a path": {"nodes": [{"name": "../../server"}]},
    "no name at all": {"algorithms": [""]},
}


def manifest_of(**changes: Any) -> str:
    return json.dumps(
        {"schema": SCHEMA, "algorithms": ["sl"], "nodes": [{"name": "client-0"}], "profile": "p"} | changes
    )


@pytest.mark.parametrize("case", BEYOND)
def test_names_in_a_foreign_record_become_no_paths(case: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest_of(**BEYOND[case]))
    with pytest.raises(UserError, match="names are small letters, digits and hyphens") as caught:
        read_manifest(tmp_path)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


EDITED = {
    "seed": ("x", "seed: Expected `int`, got `str`"),
    "clock": ("lunar", "clock: Invalid enum value 'lunar'"),
    "settings": ([1], "settings: Expected `object`, got `array`"),
    "data": ("x", "data: Expected `object | null`, got `str`"),
    "nodes": ([{"name": "client-0", "up_bps": "2M"}], "nodes[0].up_bps: Expected `int | null`, got `str`"),
    "algorithms": ([None], "algorithms[0]: Expected `str`, got `null`"),
    "channels": ([{"name": "client-0 up"}], "channels[0]: Object missing required field `bps`"),
}


@pytest.mark.parametrize("key", EDITED)
def test_a_value_of_a_manifest_that_somebody_edited_is_named_by_its_key(key: str, tmp_path: Path) -> None:
    value, said = EDITED[key]
    (tmp_path / "manifest.json").write_text(manifest_of(**{key: value}))
    with pytest.raises(UserError, match=re.escape(f"manifest.json: {said}")):
        read_manifest(tmp_path)


def test_a_census_that_somebody_edited_and_a_manifest_that_is_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(manifest_of(data={}))  # as it was where nothing was prepared
    assert read_manifest(tmp_path).data is None
    path.write_text(manifest_of(data={"dataset": "digits"}))
    with pytest.raises(UserError, match=r"manifest\.json: data: Object missing required field"):
        read_manifest(tmp_path)
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read"):
        read_manifest(tmp_path)
    path.unlink()
    os.mkfifo(path)  # to read it would wait for ever
    with pytest.raises(UserError, match=r"it has no manifest\.json of a run"):
        read_manifest(tmp_path)


def test_texts_of_a_foreign_record_cannot_steer_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest_of(profile="x\x1b]0;owned\x07", host={"cpu\x9b": ["\x1b[2J"]}))
    assert read_manifest(tmp_path).profile == "x]0;owned"
    assert read_manifest(tmp_path).host == {"cpu": ["[2J"]}
    assert printable("a\x1b[31mb\tc\nd\x85") == "a[31mb c\nd"


def test_figures_are_never_cut_off_however_narrow_the_terminal_and_long_the_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "an-asynchronous-splitfed-of-my-own-with-a-long-name"
    headers = ["algorithm", *(f"figure {i}" for i in range(9))]
    row = [f"\x1b[1m{name}", *("123456.78" for _ in range(9))]
    show(Table(title="t", headers=headers, label_columns=1, rows=[row], caption=""), Console(width=80))
    printed = capsys.readouterr().out
    assert printed.count("123456.78") == 9
    assert name in printed
    assert "\x1b" not in printed
    assert "…" not in printed


def test_every_command_says_its_flags_and_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["verify", "--help"], *([name, "--help"] for name in run.COMMANDS)):
        with pytest.raises(SystemExit) as ended:
            run.command(words)
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert said.startswith(f"usage: run.py{' ' + words[0] if len(words) > 1 else ''}"), words
    with pytest.raises(SystemExit):
        run.command(["--version"])
    assert capsys.readouterr().out.startswith("splitbed ")


def test_a_run_in_which_nothing_was_played_is_never_good() -> None:
    nothing = summarize(Manifest(schema=SCHEMA, clock="virtual", nodes=[], algorithms=["sl", "fedavg"]), {})
    assert (nothing.health.verdict, nothing.not_played) == ("unplayed", ["sl", "fedavg"])
    assert verdict(nothing) == ["Verdict: none, nothing was played."]
    assert headline(nothing).endswith("nothing, since nothing was played.")
