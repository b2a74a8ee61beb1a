"""Command lines, and the files they name, damaged at random: the launcher is reached, or one line and exit status 2."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import FILES, NASTY, mutated, nasty_value

import run
from emulator.ledger.manifest import write_manifest
from emulator.runtime import launcher, subcommand

EXAMPLES = int(os.environ.get("SPLITBED_EXAMPLES", "100"))  # of each kind
RUN = "--profile s.toml --clients 2 --no-dashboard"
LINES = {  # commands, with what each may be followed by
    "run": (
        f"{RUN} --algorithm fsl-sage,sl --rounds 2 --batch 8 --set fsl-sage:l=2 --set momentum=0 --partition shards:2",
        f"{RUN} --experiment e.toml --seed 3 --set server_order=blocked --set align=overlap --step-limit none",
        f"{RUN} --model resnet18 --dataset synthetic:3x32x32:10:100 --cut layer2 --aux pool --augment flip-crop",
        f"{RUN} --dry-run --memory-cap account --samples-per-client 20 --epochs 2 --normalise none --force --report",
        f"{RUN} --compute measured --host-device d.toml --clock virtual --bad-images skip --dataset mine --data-dir .",
        "--profile iot-4g --seeds 2 --rounds 1 --partition dirichlet-unequal:1.0 --dilation auto",
    ),
    "verify": (f"verify {RUN} --algorithm fedavg --rounds 1",),
    "bench": (
        "bench --profiles s.toml,lan --seeds 2 --algorithm cse-fsl,fsl-sage --vary q=1,5 batch=4,8 --rounds 1",
        "bench --profiles iot-4g --seed 4 --vary fsl-sage:l=2,10 align=wait,none --cross --against fsl-sage --dry-run",
    ),
    "fit": ("fit --model cnn --device d.toml --algorithm cse-fsl --batches 8,16 --network n.toml --set q=2",),
    "cuts": ("cuts cnn", "cuts simple_conv --input 3x32x32"),
    "profiles": ("profiles", "profiles s.toml", "profiles n.toml", "profiles iot-4g"),
    "traces": (
        "traces",
        "traces show t.csv",
        "traces show t.txt --time ms --rate kbps --holds before",
        "traces convert rates.csv --time s --down kbps --out x.csv",
        "traces convert rates.csv --step 1s --down 2 --rate kbps --missing hold --gap 10s --out x.csv",
    ),
    "records": ("compare toy toy", "report toy --only trace"),
}
WORDS = tuple(dict.fromkeys(word for lines in LINES.values() for line in lines for word in shlex.split(line)))
TEXT = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=4)  # no path elsewhere
ODD = ("a\udcff", "\x1b]0;x\x07", "two\nlines", "[/b]", "--help", "--version", "--profile=", "s.toml/x", "toy/ledger")


class Reached(Exception):
    """A process is about to be started."""


@st.composite
def damaged_lines(draw: st.DrawFn, lines: tuple[str, ...]) -> list[str]:
    """Words of one of the command lines exchanged, left out, there twice, or in part something else."""
    words = shlex.split(draw(st.sampled_from(lines)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(words)))
        put = draw(st.sampled_from(NASTY + ODD) | st.sampled_from(WORDS) | TEXT)
        match draw(st.sampled_from(("insert", "remove", "exchange", "value"))):
            case "insert":
                words.insert(at, put)
            case "remove":
                del words[at : at + draw(st.integers(1, 2))]
            case "exchange":
                words[at : at + 1] = [put]
            case _ if at < len(words):
                begin = draw(st.integers(0, len(words[at])))
                words[at] = words[at][:begin] + put
    return words


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("commands")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    toy.write_run(folder / "toy", "fedavg", toy.make_nodes())
    write_manifest(folder / "toy", toy.make_manifest())
    (folder / "rates.csv").write_text("s,kbps\n0,900\n1,1000.5\n2,0\n")

    def start(*_: object, **__: object) -> None:
        raise Reached

    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setattr(launcher.Launcher, "__enter__", start)
        patch.setattr(subcommand, "run_subcommand", start)
        patch.setattr(subcommand, "start_subcommand", start)
        yield folder


def look(words: list[str]) -> str:
    """How the command ended, in a word."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8"),
        io.StringIO(),
    )  # a terminal's or a pipe's output takes no word at all
    kept = set(Path().iterdir())
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run.main(words)
    except Reached:
        return "reached"
    except SystemExit as ended:  # --help, --version
        assert ended.code == 0, words
        return "shown"
    finally:
        for made in set(Path().iterdir()) - kept:
            shutil.rmtree(made) if made.is_dir() else made.unlink()
    said = err.getvalue()
    if status == 0:
        return "shown"
    assert status == 2, (words, status, said)
    assert said.startswith("run.py: "), words
    assert said.endswith("\n"), words
    assert said[:-1].isprintable(), (words, said)
    assert len(said) < 4000, words
    return "refused"


@pytest.mark.parametrize("line", [line for lines in LINES.values() for line in lines])
def test_what_is_damaged_here_is_sound_before(line: str, files: Path) -> None:
    del files
    starts = line.startswith(("--", "verify", "bench", "fit"))
    wanted = {"refused"} if "--host-device" in line else {"reached" if starts else "shown"}
    assert look(shlex.split(line)) in wanted


@pytest.mark.parametrize("kind", LINES)
def test_a_damaged_command_line_reaches_the_launcher_or_is_refused_in_one_line(kind: str, files: Path) -> None:
    del files

    @settings(max_examples=EXAMPLES)
    @given(damaged_lines(LINES[kind]))
    def each(words: list[str]) -> None:
        look(words)

    each()


@pytest.mark.parametrize("name", ["n.toml", "d.toml", "s.toml", "e.toml", "c.csv", "t.txt"])
def test_a_command_whose_file_is_damaged_reaches_the_launcher_or_is_refused_in_one_line(name: str, files: Path) -> None:
    line = LINES["run"][1].split()

    @settings(max_examples=EXAMPLES)
    @given(mutated(FILES[name]) | nasty_value(FILES[name]))
    def each(content: bytes) -> None:
        (files / name).write_bytes(content)
        look(line)

    try:
        each()
    finally:
        (files / name).write_text(FILES[name])
