"""A result's key is what its figures depend on, and nothing else; what changed is said by its name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from processes import ROOT, Board, Wire, write_scenario
from sweeps import archive, forget, images
from words import config_of_words

from algorithms.commands.sweep import dependencies
from algorithms.commands.sweep.grid import BASE, Grid, SweepRun
from algorithms.data import identity
from emulator import sources
from emulator.analysis import recorded
from emulator.analysis.summarize import summarize
from emulator.errors import UserError
from emulator.host import kernels
from emulator.ledger.manifest import Manifest
from emulator.report import compare

WORDS = ("--algorithm", "sl,fsl-sage", "--clock", "virtual")


def cells(profile: str = "iot-4g", words: tuple[str, ...] = WORDS) -> dict[str, SweepRun]:
    return {cell.algorithm: cell for cell in Grid(config_of_words(*words), (profile,), (BASE,), (1,)).cells()}


def why(before: SweepRun, now: SweepRun) -> str:
    """Why ``now`` would be played though ``before`` was."""
    old, new = (dependencies.parts_of(cell.manifest, cell.algorithm) for cell in (before, now))
    assert (before.key == now.key) == (old == new)
    return dependencies.why_again(before.manifest, old, now.manifest, new)


# --- source -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of our source, which is looked at in its place."""
    for package in sources.OURS:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("emulator/plots/charts.py", "x = 1", ()),
        ("emulator/analysis/summary.py", "x = 1", ()),
        ("emulator/a_new_view.py", "x = 1", ()),
        ("emulator/network/fabric.py", "# a comment", ()),
        ("emulator/network/fabric.py", "x = 1", ("sl", "fsl-sage")),
        ("emulator/runtime/postmortem.py", "x = 1", ("sl", "fsl-sage")),
        ("algorithms/cse_fsl.py", "x = 1", ()),
        ("algorithms/commands/sweep/bench.py", "x = 1", ()),
        ("algorithms/__init__.py", "ALGORITHMS['mine'] = 'mine'", ()),
        ("algorithms/fsl_sage/alignment.py", "# a comment", ()),
        ("algorithms/fsl_sage/alignment.py", "x = 1", ("fsl-sage",)),
        ("algorithms/sl.py", "x = 1", ("sl",)),
        ("algorithms/training/steps.py", "x = 1", ("sl", "fsl-sage")),
    ],
)
def test_source_counts_where_a_result_depends_on_it(file: str, text: str, changed: tuple[str, ...], tree: Path) -> None:
    before = cells()
    with (tree / file).open("a") as written:
        written.write(f"\n{text}\n")
    forget()
    now = cells()
    said = {name: why(before[name], now[name]) for name in now}
    assert said == {name: f"{file} changed" if name in changed else "" for name in now}


def test_a_package_within_the_method_package_is_found(tree: Path) -> None:
    (tree / "algorithms" / "deep").mkdir()
    for file, text in (("__init__.py", ""), ("tricks.py", "x = 1")):
        (tree / "algorithms" / "deep" / file).write_text(text)
    with (tree / "algorithms" / "fsl_sage" / "alignment.py").open("a") as written:
        written.write("\nfrom algorithms.deep import tricks\n")
    forget()
    before = cells()
    (tree / "algorithms" / "deep" / "tricks.py").write_text("x = 2")
    forget()
    assert why(before["fsl-sage"], cells()["fsl-sage"]) == "algorithms/deep/tricks.py changed"


def test_many_files_are_counted_and_some_named(tree: Path) -> None:
    before = cells()["sl"]
    for name in ("clock/loop", "network/fabric", "network/jitter", "node/node", "transport/messages"):
        with (tree / "emulator" / f"{name}.py").open("a") as written:
            written.write("\nx = 1\n")
    forget()
    assert (
        why(before, cells()["sl"])
        == "emulator/clock/loop.py, emulator/network/fabric.py, emulator/network/jitter.py and 2 more changed"
    )


# --- data -------------------------------------------------------------------------------------------------------------


def of(folder: Path) -> SweepRun:
    return cells(words=(*WORDS, "--dataset", "mine", "--data-dir", str(folder)))["sl"]


def test_another_archive_of_the_same_name_is_another_result_and_the_same_elsewhere_is_not(tmp_path: Path) -> None:
    before = of(archive(tmp_path / "one", 1))
    assert of(archive(tmp_path / "two", 1)).key == before.key
    os.utime(tmp_path / "one" / "mine.npz", (0, 0))
    assert of(tmp_path / "one").key == before.key
    assert why(before, of(archive(tmp_path / "one", 2))) == "the data changed"


def test_files_of_a_partition_and_of_initial_weights_are_known_by_content_from_whatever_folder(tmp_path: Path) -> None:
    def brought(name: str, client: str, weights: bytes) -> SweepRun:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "parts.csv").write_text(f"sample,client\n0,{client}\n")
        (folder / "w.pt").write_bytes(weights)
        return cells(words=(*WORDS, "--partition", f"file:{folder}/parts.csv", "--init", f"{folder}/w.pt"))["sl"]

    before = brought("one", "a", b"1")
    assert brought("two", "a", b"1").key == before.key
    for name, *other in (("three", "b", b"1"), ("four", "a", b"2")):
        assert why(before, brought(name, *other)) == "the data changed"


def test_a_folder_is_its_names_and_bytes(tmp_path: Path) -> None:
    folder, other = images(tmp_path / "one"), images(tmp_path / "two")
    first = identity.identity("folder:3x8x8", str(folder))
    assert identity.identity("folder:3x8x8", str(other)) == first
    assert first["of"] == "content of 4 files"
    (other / "train" / "a" / ".hidden").write_bytes(b"x")
    (other / "notes.txt").write_bytes(b"x")
    os.utime(other / "train" / "a" / "0.png", (0, 0))
    assert identity.identity("folder:3x8x8", str(other)) == first
    found = [first["sha256"]]
    for change in (
        lambda: (other / "train" / "a" / "0.png").write_bytes(b"A"),
        lambda: (other / "train" / "a" / "0.png").rename(other / "train" / "a" / "1.png"),
        lambda: (other / "train" / "a" / "1.png").rename(other / "train" / "b" / "1.png"),
        lambda: (other / "test" / "b" / "0.png").unlink(),
    ):
        change()
        found.append(identity.identity("folder:3x8x8", str(other))["sha256"])
    assert len(set(found)) == len(found)


def test_of_a_large_folder_names_sizes_and_times_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "CONTENT_BYTES", 3)
    folder = images(tmp_path / "one")
    identity._of_files.cache_clear()
    first = identity.identity("folder:3x8x8", str(folder))
    assert first["of"] == "names, sizes and times of 4 files"
    os.utime(folder / "train" / "a" / "0.png", (0, 0))
    assert identity.identity("folder:3x8x8", str(folder)) != first
    identity._of_files.cache_clear()


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    folder = images(tmp_path / "one")
    (folder / "train" / "a" / "again").symlink_to(folder / "train")
    assert identity.identity("folder:3x8x8", str(folder))["of"] == "content of 4 files"
    (folder / "train" / "a" / "more").symlink_to(folder / "train" / "b")
    assert identity.identity("folder:3x8x8", str(folder))["of"] == "content of 5 files"  # b's counts for a too


def test_shipped_and_made_up_data_have_an_identity_and_others_are_refused(tmp_path: Path) -> None:
    one, other = (identity.identity(f"synthetic:1x8x8:4:{count}", "") for count in (40, 41))
    assert one != other
    assert identity.identity("digits", "")["of"] == "content of 1 file"
    with pytest.raises(UserError, match="nothing"):
        identity.identity("nothing", str(tmp_path))


def test_torchvisions_files_are_known_by_their_bytes(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-labels-idx1-ubyte").write_bytes(b"1")
    first = identity.identity("mnist", str(tmp_path))
    (raw / "train-labels-idx1-ubyte").write_bytes(b"2")
    assert identity.identity("mnist", str(tmp_path))["sha256"] != first["sha256"]


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_a_model_and_data_of_a_user_s_own_are_known_by_their_source_wherever_they_are_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "brought_width.py").write_text("WIDTH = 8")
    source = "from torch import nn\nimport brought_width\ndef Net(shape, classes):\n    width = brought_width.WIDTH\n"
    source += "    return nn.Sequential(nn.Linear(shape[0], width), nn.ReLU(), nn.Linear(width, classes))\n"
    (tmp_path / "deep" / "brought.py").write_text(source)
    own = str(ROOT / "tests" / "support" / "own_workloads.py")

    def named(folder: str) -> SweepRun:
        words = ("--model", f"{folder}/brought.py:Net", "--dataset", f"{own}:vectors", "--algorithm", "sl")
        return cells(words=(*words, "--clock", "virtual"))["sl"]

    monkeypatch.chdir(tmp_path)
    here = named("deep")
    monkeypatch.chdir(tmp_path / "deep")
    there = named("../deep")
    assert (here.key == there.key, why(here, there)) == (True, "")
    (tmp_path / "deep" / "brought_width.py").write_text("WIDTH = 9")
    forget()
    assert why(here, named(".")) == "brought_width.py changed"


def test_a_scenario_is_what_its_files_say_and_not_how_or_under_which_name(tmp_path: Path) -> None:
    one = write_scenario(tmp_path / "one", [(2, Board())])
    other = write_scenario(tmp_path / "two", [(2, Board())])
    other = other.rename(other.with_name("another-name.toml"))
    other.write_text("# said\n" + other.read_text().replace('description = "test"', 'description = "the same"'))
    before, now = (cells(str(path))["sl"] for path in (one, other))
    assert before.key == now.key
    changes = {
        "board-0.toml": Board(dense_gflops=21.0).toml(),
        "link.toml": Wire(jitter_ms=1).toml(),
        "server-board.toml": Board(budget_mib=2048).toml(),
    }
    for name, text in changes.items():
        (tmp_path / "one" / name).write_text(text)
        changed, before = before, cells(str(one))["sl"]
        assert f"{name} changed" in why(changed, before)


def test_every_part_of_the_key_is_named_when_it_differs() -> None:
    cell = cells()["fsl-sage"]
    noted = cell.manifest.depends
    assert noted is not None
    names = {"setting l": "l 3 -> 4", "setting batch": "batch 16 -> 4", "clock": "clock virtual -> 4"}
    names |= {"version torch": f"torch {cell.manifest.versions['torch']} -> 4"}
    names |= {
        "CPU capability": f"CPU capability {noted.arithmetic['capability']} -> 4",
        "data": "the data changed",
    }
    names |= {
        "scenario": "the profile is read otherwise",
        "source emulator/node/node.py": "emulator/node/node.py changed",
    }
    old = dependencies.parts_of(cell.manifest, "fsl-sage")
    assert {name.partition(" ")[0] for name in old} == {
        *("method", "module", "clock", "dilation", "memory", "compute", "setting", "scenario", "data", "version"),
        *("CPU", "source"),
        *(["variable"] if noted.arithmetic["variables"] else []),
    }
    for part, said in names.items():
        new = old | {part: 4}
        assert dependencies.key_of(new) != dependencies.key_of(old)
        assert dependencies.why_again(cell.manifest, old, cell.manifest, new) == said
    python = old | {"version python": "4", "source emulator/node/node.py": "4"}
    assert "node.py" not in dependencies.why_again(cell.manifest, old, cell.manifest, python)  # trees differ by version


def test_a_record_of_an_earlier_version_has_no_key() -> None:
    cell = cells()["sl"]
    manifest = msgspec.structs.replace(cell.manifest, depends=None)
    assert dependencies.parts_of(manifest, "sl") == {}
    assert dependencies.key_of({}) == ""
    assert (
        dependencies.why_again(manifest, {}, cell.manifest, dependencies.parts_of(cell.manifest, "sl"))
        == dependencies.OLDER
    )


# --- arithmetic -------------------------------------------------------------------------------------------------------


PROGRAM = """
import json
import msgspec
from emulator.host.kernels import arithmetic
from emulator.profiles.reading import load_scenario
from emulator.preflight.profiling import profile_costs

task = {"clients": 1, "samples_per_client": 20, "batch": 8}
settings = {"task": task, "rounds": 1, "stop_after_s": None}
played = profile_costs("algorithms.splitfed_v2", settings, load_scenario("iot-4g", 1), 1)
times = played.elapsed_ns, msgspec.to_builtins(played.costs)
print(json.dumps([arithmetic(), times]))
"""


def found(**variables: str) -> tuple[dict[str, Any], Any]:
    """What another process finds of its arithmetic, and which times it counts."""
    clean = {name: value for name, value in os.environ.items() if name not in kernels.VARIABLES}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, env=clean | variables, capture_output=True, text=True, check=True)
    answer, times = json.loads(done.stdout)
    return answer, times


def test_what_kernels_are_chosen_by_is_noted_and_part_of_the_key_and_no_time_depends_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, times = found()
    chosen, same_times = found(ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41")
    assert times == same_times
    assert plain["variables"] == {}
    assert chosen["variables"] == {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    assert chosen["capability"] == "DEFAULT"
    for name in kernels.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = cells()["sl"]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert why(before, cells()["sl"]) == "ONEDNN_MAX_CPU_ISA unset -> SSE41"


def test_compare_names_what_figures_depend_on_and_counts_files() -> None:
    manifests = [msgspec.to_builtins(cells()["sl"].manifest) for _ in range(2)]
    modules = ("clock/loop", "clock/conductors", "compute/device", "host/liveness", "network/fabric", "network/tcp")
    files = sorted(f"emulator/{name}.py" for name in (*modules, "node/node", "node/inbox"))
    manifests[1]["depends"]["sources"]["emulator"] |= dict.fromkeys([*files, "emulator/runtime/worker.py"], "other")
    manifests[1]["depends"]["sources"]["fsl-sage"]["algorithms/training/steps.py"] = "other"
    manifests[1]["depends"]["sources"]["sl"]["algorithms/training/steps.py"] = "other"
    manifests[1]["depends"]["arithmetic"]["capability"] = "DEFAULT"
    manifests[1]["depends"]["data"]["sha256"] = "another"
    read = [msgspec.convert(manifest, Manifest) for manifest in manifests]
    runs = [recorded.RunRecord(manifest, {}, summarize(manifest, {})) for manifest in read]
    data, capability, source = compare.differences(runs, ["one", "two"])
    assert data.startswith("  depends.data.sha256: one ") and data.endswith("; two another")
    assert capability.startswith("  depends.arithmetic.capability: one ") and capability.endswith("; two DEFAULT")
    assert source == f"  source: not the same in {', '.join(files)} and 2 more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu sse2 avx fma avx2 avx512f sha_ni amx_tile\n",
            ("AuthenticAMD", "amx_tile avx avx2 avx512f fma"),
        ),
        (
            "processor\t: 0\nFeatures\t: fp asimd crc32 asimddp sve\nCPU implementer\t: 0x41\n",
            ("0x41", "asimd asimddp sve"),
        ),
        ("nothing of the kind\n", ("", "")),
    ],
)
def test_maker_and_extensions_are_those_of_the_first_core(text: str, expected: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert kernels._cpu(tmp_path / "cpuinfo") == expected
    assert kernels._cpu(tmp_path / "none") == ("", "")
