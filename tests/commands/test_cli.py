"""A mistake on the command line is one line that names it, and exit status 2; nothing is started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import BATCH, ROOT, Board, Wire, play, write_scenario

import run
from algorithms import ALGORITHMS
from algorithms.commands.options import overrides
from algorithms.commands.run import status_of
from emulator.runtime import launcher

# Flags beside --profile, and what the line must name.
MISTAKES = {
    "an unknown algorithm": (["--algorithm", "sgd"], ["--algorithm sgd", "fsl-sage"]),
    "one of several algorithms": (["--algorithm", "sl,,fedavg"], ["--algorithm"]),
    "no clients": (["--clients", "0"], ["--clients 0"]),
    "a negative number of clients": (["--clients", "-3"], ["--clients -3"]),
    "clients that are no number": (["--clients", "ten"], ["--clients", "ten"]),
    "more clients than samples": (["--clients", "2000"], ["clients", "2000", "1500"]),
    "no rounds": (["--rounds", "0"], ["--rounds 0"]),
    "negative rounds": (["--rounds", "-1"], ["--rounds -1"]),
    "rounds that are no number": (["--rounds", "1.5"], ["--rounds", "1.5"]),
    "an empty batch": (["--batch", "0"], ["batch", "0"]),
    "an odd task of many seeds": (["--seeds", "2", "--normalise", "1"], ["normalise", "1"]),
    "epochs without end": (["--epochs", "10000000000"], ["epochs: must be at most 10000, not 10000000000"]),
    "a negative batch": (["--batch", "-16"], ["batch", "-16"]),
    "no dilation": (["--dilation", "0"], ["--dilation 0", "auto"]),
    "a negative dilation": (["--dilation", "-2"], ["--dilation -2"]),
    "a fraction of a dilation": (["--dilation", "1.5"], ["--dilation 1.5"]),
    "a dilation in words": (["--dilation", "slow"], ["--dilation slow"]),
    "an unknown clock": (["--clock", "lunar"], ["--clock", "lunar", "real"]),
    "a seed that is no number": (["--seed", "x"], ["--seed", "x"]),
    "more seeds than anybody plays": (["--seeds", "1000000000"], ["--seeds 1000000000", "from 1 to 10000"]),
    "an unknown partition": (["--partition", "sorted"], ["partition", "sorted", "dirichlet"]),
    "a partition without its parameter": (["--partition", "dirichlet"], ["partition", "dirichlet"]),
    "a negative alpha": (["--partition", "dirichlet:-1"], ["partition", "-1"]),
    "more shards than samples": (
        ["--partition", "shards:2000"],
        ["partition", "2000 shards", "1500", "N at most 1500"],
    ),
    "alignment without the method that aligns": (
        ["--algorithm", "sl", "--set", "align=overlap"],
        ["--set align=overlap", "align of sl"],
    ),
    "an unknown data set": (["--dataset", "emnist"], ["dataset", "emnist", "synthetic"]),
    "a data set of no size": (["--dataset", "synthetic:3x0x32:10:100"], ["dataset", "synthetic:3x0x32:10:100"]),
    "an unknown flag": (["--speed", "9"], ["--speed"]),
    "an abbreviated flag": (["--round", "9"], ["--round"]),
    "a flag without its value": (["--seed"], ["--seed"]),
    "a setting without a value": (["--set", "q"], ["--set q", "KEY=VALUE"]),
    "a setting of an unknown algorithm": (["--set", "sgd:q=1"], ["--set sgd:q=1"]),
    "no algorithm, by a variable that is not set": (["--algorithm", ""], ["--algorithm: it is empty", "leave it out"]),
    "no cut": (["--cut="], ["--cut: it is empty"]),
    "an empty setting": (["--set", ""], ["--set: it is empty"]),
    "no folder": (["--out", ""], ["--out: it is empty"]),
    "more rounds than anybody plays": (["--rounds", "1" + "0" * 18], ["--rounds", "from 1 to 1000000"]),
    "an unknown setting of a method that is not played": (
        ["--algorithm", "sl", "--set", "fsl-sage:qq=2"],
        ["--set fsl-sage:qq=2", "unknown key", "did you mean q?"],
    ),
    "two numbers of rounds": (["--rounds", "2", "--set", "rounds=5"], ["--set rounds=5", "--rounds says 2"]),
    "a server order by its flag of before": (
        ["--server-order", "blocked"],
        ["--server-order blocked", "say --set server_order=blocked"],
    ),
    "an alignment by its flag of before": (["--align=none"], ["--align none", "say --set align=none"]),
}

# A line of the scenario's files to replace, by what, and what the line must name.
BAD_PROFILES = {
    "not TOML": ("link.toml", "up_mbps = 20", "up_mbps 20", ["link.toml", "not TOML"]),
    "an unknown key": ("link.toml", "up_mbps = 20", "up_speed = 20", ["link.toml", "up_speed", "up_mbps"]),
    "an unknown unit": ("link.toml", "up_mbps = 20", "up_kbps = 20", ["link.toml", "up_kbps", "up_mbps"]),
    "a rate without a unit": ("link.toml", "up_mbps = 20", "up = 20", ["link.toml", "up", "up_mbps"]),
    "a negative rate": ("link.toml", "up_mbps = 20", "up_mbps = -20", ["link.toml", "up_mbps", "-20"]),
    "no rate": ("link.toml", "up_mbps = 20", "up_mbps = 0", ["link.toml", "up_mbps", "above 0"]),
    "a rate in quotes": ("link.toml", "up_mbps = 20", 'up_mbps = "20"', ["link.toml", "up_mbps"]),
    "no clients": ("scenario.toml", "count = 1", "count = 0", ["scenario.toml", "clients[0].count"]),
    "an unknown device": (
        "scenario.toml",
        '"board-0.toml"',
        '"abacus"',
        ["scenario.toml", "clients[0].device", "abacus"],
    ),
    "a device without memory": ("board-0.toml", "memory_mib = 1024", "memory_mib = 0", ["board-0.toml", "memory_mib"]),
    "a network for a device": ("scenario.toml", '"board-0.toml"', '"link.toml"', ["link.toml", "kind"]),
}


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    return write_scenario(tmp_path / "scenario", [(1, Board())], Wire())


@pytest.fixture
def refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], str]:
    """Gives a command's one line; nothing was started or written for it."""

    def start(_self: object) -> None:
        raise AssertionError("a process is about to be started")

    monkeypatch.setattr(launcher.Launcher, "__enter__", start)
    monkeypatch.chdir(tmp_path)

    def refuse(arguments: list[str]) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert run.main(arguments) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err.startswith("run.py: ")) == ("", 1, True), out + err
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        return err

    return refuse


def assert_names(line: str, words: list[str]) -> None:
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_that_names_it(case: str, refused: Callable[[list[str]], str], scenario: Path) -> None:
    flags, words = MISTAKES[case]
    assert_names(refused(["--profile", str(scenario), *flags]), words)


@pytest.mark.parametrize("case", BAD_PROFILES)
def test_a_mistake_in_a_profile_is_one_line_with_file_and_key(
    case: str, refused: Callable[[list[str]], str], scenario: Path
) -> None:
    file, old, new, words = BAD_PROFILES[case]
    path = scenario.with_name(file)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert_names(refused(["--profile", str(scenario)]), words)


@pytest.mark.parametrize("name", ["iot-5g", "5g", "missing.toml", "/"])
def test_an_unknown_profile_is_named(name: str, refused: Callable[[list[str]], str]) -> None:
    assert_names(refused(["--profile", name]), [name, "iot-4g"])


def test_a_command_without_a_profile_says_so(refused: Callable[[list[str]], str]) -> None:
    assert "--profile" in refused([])


def test_a_command_that_there_is_not_is_named_with_those_that_there_are(refused: Callable[[list[str]], str]) -> None:
    assert_names(refused(["reprt", "somewhere"]), ["reprt: there is no such command", "report", "verify", "--help"])


def test_a_mistake_in_cuts_names_the_help_of_cuts(refused: Callable[[list[str]], str]) -> None:
    assert_names(refused(["cuts"]), ["model", "run.py cuts --help"])


@pytest.mark.parametrize("arguments", [["profiles", "nokia"], ["profiles", "iot-4g", "lan"]])
def test_profiles_of_unknown_names_are_refused(arguments: list[str], refused: Callable[[list[str]], str]) -> None:
    assert "profiles" in refused(arguments)


def test_an_output_folder_that_cannot_be_written_is_named(
    refused: Callable[[list[str]], str], scenario: Path, tmp_path: Path
) -> None:
    """Below a regular file: not even root can make a folder there."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "run", tmp_path / "file"):
        assert_names(refused(["--profile", str(scenario), "--out", str(out)]), [f"--out {out}", "cannot be written"])


def test_an_output_folder_that_is_not_empty_is_left_alone(
    refused: Callable[[list[str]], str], scenario: Path, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "results").write_text("precious")
    line = refused(["--profile", str(scenario), "--out", str(tmp_path / "old")])
    assert_names(line, [f"--out {tmp_path / 'old'}", "not empty"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("cse-fsl:z=1", ["cse-fsl", "z", "aux_lr"]),
        ("z=1", ["sl", "z", "rounds"]),
        ("cse-fsl:q=often", ["cse-fsl", "q", "often", "whole number"]),
        ("cse-fsl:q_per_rund=true", ["cse-fsl", "q_per_rund: unknown key; did you mean q_per_round?"]),
        ("server_order=sideways", ["sl", "server_order: there is no 'sideways': say arrival or blocked"]),
        ("cse-fsl:q=0", ["q", "0"]),
        ("fsl-sage:stop_align=-1", ["stop_align", "at least 0", "-1"]),
    ],
)
def test_a_setting_that_an_algorithm_does_not_have_is_named_and_nothing_is_left(
    setting: str, words: list[str], tmp_path: Path, scenario: Path
) -> None:
    """Which settings there are is known to a child that has torch."""
    flags = "--profile", scenario, "--algorithm", "sl,cse-fsl,fsl-sage", "--set", setting
    played = play(tmp_path / "run", *flags, warm=True)
    assert (played.status, played.out, played.err.count("\n")) == (2, "", 1), played.err
    assert_names(played.err, words)
    assert not played.folder.exists()


# What is known where torch is: in the child that prepares a run, or profiles it.
MISTAKES_OF_THE_WORKLOAD = {
    "an unknown model": (["--model", "resnet81"], ["model", "resnet81", "resnet18"]),
    "a cut that the model has not": (["--cut", "layer2"], ["cut", "layer2", "conv2"]),
    "a cut of the paper's model": (
        ["--model", "resnet18", "--cut", "layer9", "--dataset", "synthetic:3x32x32:2:40"],
        ["cut", "layer9", "layer2"],
    ),
    "an unknown auxiliary": (["--aux", "deep"], ["aux", "deep", "linear"]),
    "an auxiliary that does not fit": (
        ["--model", "simple_conv", "--aux", "pool", "--dataset", "synthetic:3x32x32:2:40"],
        ["aux", "pool", "linear"],
    ),
    "an auxiliary that cannot be aligned": (
        ["--algorithm", "fsl-sage", "--model", "mobilenet_v3_small", "--aux", "stage"],
        ["aux", "stage of mobilenet_v3_small", "linear"],
    ),
    "a client without a sample": (
        ["--partition", "dirichlet-unequal:1e-9", "--clients", "11"],
        ["partition", "in none of 1000 draws"],
    ),
    "a deadline that nobody can meet": (["--set", "deadline_s=0.001"], ["deadline_s", "0.001"]),
    "no data there": (["--dataset", "mnist", "--data-dir", "nowhere"], ["mnist", "nowhere", "--data-dir"]),
}


@pytest.mark.parametrize("case", MISTAKES_OF_THE_WORKLOAD)
def test_a_mistake_that_only_a_child_can_see_is_one_line_too(case: str, tmp_path: Path, scenario: Path) -> None:
    flags, words = MISTAKES_OF_THE_WORKLOAD[case]
    command = "--profile", scenario, "--algorithm", "cse-fsl", *flags, "--clock", "virtual"
    played = play(tmp_path / "run", *command, warm=True)
    assert (played.status, played.err.count("\n")) == (2, 1), played.out + played.err
    assert_names(played.err, words)


@pytest.mark.parametrize("refused", ["sl", "cse-fsl"])
@pytest.mark.parametrize("how", [["--clock", "virtual"], ["--dry-run"]], ids=["virtual", "dry"])
def test_a_method_that_is_refused_does_not_stop_the_others_and_stays_in_sight(
    refused: str, how: list[str], tmp_path: Path, scenario: Path
) -> None:
    """Before it or after it: what only it is told (such as a deadline) is its own mistake."""
    flags = "--profile", scenario, "--algorithm", "sl,cse-fsl", "--rounds", 1, "--batch", BATCH
    played = play(tmp_path / "run", *flags, *how, "--set", f"{refused}:deadline_s=0.001", warm=True)
    (other,) = {"sl", "cse-fsl"} - {refused}
    outcomes = {name: algorithm["outcome"] for name, algorithm in played.summary["algorithms"].items()}
    assert (played.status, played.err, outcomes) == (2, "", {refused: "refused", other: "finished"})
    assert played.summary["algorithms"][other]["rounds"] == 1
    why = "deadline_s: no client ends the first round within 0.001 s: allow more"
    assert played.out.splitlines()[-1] == f"{refused}: refused: {why}"
    assert played.summary["health"]["reasons"] == [f"{refused}: refused: {why}"]
    assert why in (played.folder / "tables.md").read_text()
    assert ("Verdict: INCOMPLETE" in played.out) == ("--clock" in how) and "Verdict: good" not in played.out


def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "run.py", "profiles"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert_names(done.stderr, ["its output: cannot be written", "No space left on device"])


def test_standard_streams_that_are_closed_or_lack_a_sign_lose_nothing() -> None:
    command = f"{sys.executable} run.py profiles pi-zero-2w"
    narrow = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, shell=True, cwd=ROOT, env=narrow, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "162" in done.stdout
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        assert subprocess.run(f"{command} {closed}", shell=True, cwd=ROOT, capture_output=True).returncode == 0
    refusal = subprocess.run(
        f"{sys.executable} run.py --profile nokia <&- >&-", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert (refusal.returncode, refusal.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("command", ["profiles", "traces", "cuts cnn"])
def test_a_reader_that_has_had_enough_is_no_fault(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "run.py", *command.split()], cwd=ROOT, stdout=gone, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_bench_goes_on_where_its_output_is_read_no_further(tmp_path: Path) -> None:
    """It prints while it works: what comes after its first line is recorded all the same."""
    reader, writer = os.pipe()
    os.close(reader)
    words = ["bench", "--profiles", "lan", "--clients", "2", "--seeds", "1", "--algorithm", "fedavg", "--rounds", "1"]
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "run.py", *words, "--out", str(tmp_path / "b")],
            cwd=ROOT,
            stdout=gone,
            stderr=subprocess.PIPE,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list((tmp_path / "b/runs").iterdir())) == 1
    assert (tmp_path / "b/tables.csv").read_text().count("fedavg") >= 1


def test_a_name_that_is_no_text_is_printed_by_its_bytes() -> None:
    shown = subprocess.run(
        [sys.executable, "run.py", "report", b"/nowhere/\xff"],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
    )
    assert (shown.returncode, shown.stderr.count(b"\n")) == (2, 1) and b"/nowhere/" in shown.stderr


def test_the_status_of_a_run_is_that_of_its_gravest_outcome() -> None:
    assert status_of(["finished", "does-not-fit"]) == 0
    assert status_of(["finished", "refused", "finished"]) == 2
    assert status_of(["refused", "failed"]) == status_of(["finished", "stuck"]) == 1
    assert status_of(["refused", "interrupted"]) == 130


def test_a_mistake_of_a_real_command_is_one_line_too() -> None:
    command = [sys.executable, "run.py", "--profile", "nokia", "--rounds", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--profile nokia" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["profiles"], ["profiles", "iot-4g"], ["--help"]])
def test_output_into_a_closed_pipe_ends_without_a_word(arguments: list[str], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_every_algorithm_and_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run.main(["--help"])
    out, err = capsys.readouterr()
    assert (left.value.code, err) == (0, "")
    assert_names(out.replace("-\n", "-").replace(" ", ""), [*ALGORITHMS, "--profile", "run.pyprofiles"])


def test_several_algorithms_are_played_in_the_order_of_the_table() -> None:
    assert overrides.chosen_algorithms("sl, fedavg") == ["fedavg", "sl"]
    assert overrides.chosen_algorithms("all") == list(ALGORITHMS)
