"""What a run prints: short, not cut off, every figure of it in ``tables.csv``; tables by name."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console
from toy import make_manifest, make_timeline

from algorithms import ALGORITHMS
from algorithms.commands import run
from algorithms.commands.options.run_flags import parser
from emulator.analysis import model_memory
from emulator.analysis.metrics import payload_per_share
from emulator.analysis.summarize import summarize
from emulator.analysis.summary import Summary
from emulator.checks.findings import Finding
from emulator.errors import UserError
from emulator.report import figures_csv
from emulator.tables import overview
from emulator.tables import run as tables
from emulator.tables.headline import headline

WORKLOAD = {"model": "cnn", "cut": "conv2", "batch": 16}


def summary_of(names: list[str], clients: int = 10, **changes: Any) -> Summary:
    settings = {name: {"rounds": 3, "task": WORKLOAD} for name in names}
    manifest = make_manifest(clients, algorithms=names, profile="iot-4g", settings=settings, **changes)
    return summarize(manifest, {name: make_timeline(clients=clients) for name in names})


def printed(summary: Summary, width: int = 80, more: tuple[str, ...] = ()) -> list[str]:
    """Lines as a terminal, or a pipe, gets them."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    overview.print_run(summary, console, more)
    return [
        *console.file.getvalue().splitlines(),
        *overview.where(Path("runs/x"), ["--profile", "iot-4g"], False, summary),
    ]


def varied(summary: Summary) -> dict[str, Any]:
    """Methods with figures of their own, so that a column taken for another shows."""
    for place, algorithm in enumerate(summary.algorithms.values()):
        algorithm.scores["accuracy"] = 0.9 + place / 1000
        algorithm.seconds = 17.3 + 0.37 * place
        algorithm.total_bytes.payload += 12_345 * place
        algorithm.round_latency_s = {c: s + 0.11 * place for c, s in algorithm.round_latency_s.items()}
        for client in algorithm.clients:
            client.peak_mib += 1.23 * place
    return summary


@pytest.mark.parametrize("notes", [0, 1, 2, 9])
def test_eight_methods_take_at_most_45_lines_of_80_columns_from_the_verdict_to_the_end(notes: int) -> None:
    summary = varied(summary_of([*ALGORITHMS]))
    said = {"law": "host", "severity": "note", "text": "a remark of two lines " * 5}
    noted = [Finding(algorithm=str(place), **said) for place in range(notes)]
    summary.health = replace(summary.health, findings=noted)
    lines = printed(summary)
    assert len(lines) <= 45
    assert max(map(cell_len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    assert lines[0].startswith("Profile iot-4g, real clock, seed 1. Verdict: good")
    assert lines[-1] == "Next: python run.py report runs/x"
    shown = sum(line.startswith("Note: ") and not line.endswith("in tables.md.") for line in lines)
    more = [int(found[1]) for line in lines if (found := re.fullmatch(r"Note: (\d+) more in tables.md.", line))]
    assert shown + sum(more) == notes
    assert shown >= min(notes, 1)


@pytest.mark.parametrize("names", [["fedavg"], ["sl", "fsl-sage"], [*ALGORITHMS]])
@pytest.mark.parametrize("width", [30, 80, 200])
def test_every_figure_that_is_printed_is_in_the_csv_and_none_is_cut_off(names: list[str], width: int) -> None:
    """Each row's figures, by the number of digits that they are printed with, are those of the row of the CSV."""
    summary = varied(summary_of(names))
    rows = {
        r["algorithm"]: r for r in csv.DictReader(io.StringIO(figures_csv.to_csv(summary))) if r["row"] == "algorithm"
    }
    lines = printed(summary, width)
    for name in names:
        values = [float(cell) for cell in rows[name].values() if re.fullmatch(r"[\d.e-]+", cell)]
        known = {round(x * unit, digits) for x in values for unit in (1, 1e-3, 1e-6, 100) for digits in range(3)}
        own = [line for line in lines if re.match(rf"{name} +\d", line)]
        assert len(own) == 2
        for figure in re.findall(r"\d+(?:\.\d+)?", " ".join(own).replace(name, "")):
            assert float(figure) in known, figure


def test_columns_say_the_quantity_in_their_heads() -> None:
    summary = summary_of(["fedavg"])
    row = next(csv.DictReader(io.StringIO(figures_csv.to_csv(summary))))
    latency = dict(zip(overview.latency(summary).headers, overview.latency(summary).texts()[0], strict=True))
    assert latency["\nround"] == f"{float(row['round_s']):.2f}"
    for cause, head in overview.WORDS.items():
        assert latency[head] == f"{float(row[f'round_{cause}_s']):.2f}"
    table = overview.volume_and_memory(summary)
    memory = dict(zip(table.headers[1:], table.texts()[0][1:], strict=True))
    assert memory["up\nkB"] == f"{float(row['round_up_bytes']) / 1000:.2f}"
    assert memory["% of\nbudget"] == f"{100 * float(row['budget_share']):.2f}"
    assert memory["peak\nMiB"] == f"{float(row['peak_mib']):.2f}"
    assert [*table.groups.values()] == ["Communication volume", "Client memory (cnn)", "ResNet-18"]


@pytest.mark.parametrize("clock", ["dry-run", "virtual", "real"])
@pytest.mark.parametrize("clients", [1, 40])
def test_whatever_run_it_is_the_lines_fit(clock: str, clients: int) -> None:
    lines = printed(summary_of(["fedavg", "fsl-sage"], clients, clock=clock))
    assert max(map(cell_len, lines)) <= 80
    text = "\n".join(lines)
    assert ("accu-" in text) == ("90 %" in text) == (clock != "dry-run") or clock == "dry-run"


def test_what_did_not_finish_says_so_below_its_name() -> None:
    summary = summary_of(["fedavg", "sl"])
    summary.algorithms["sl"].outcome = "does-not-fit"
    lines = printed(summary)
    place = next(i for i, line in enumerate(lines) if line.startswith("sl "))
    assert lines[place + 1] == "does not fit"


def test_a_bad_run_says_so_first_and_nothing_that_was_played_has_no_tables() -> None:
    summary = summary_of(["fedavg"])
    found = Finding(algorithm="fedavg", law="lag", severity="reason", text="lag")
    summary.health = replace(summary.health, verdict="bad", reasons=["fedavg: lag"], findings=[found])
    lines = printed(summary)
    assert "BAD. Do not trust" in " ".join(lines[:2])
    assert "- fedavg: lag" in lines[:4]
    assert lines[-1] == "Next: python run.py --profile iot-4g --clock virtual"
    empty = summarize(make_manifest(2), {})
    assert "Latency" not in "\n".join(printed(empty))


def test_the_next_command_is_a_report_then_more_seeds_or_the_run_again() -> None:
    summary, argv = (
        summary_of(["fedavg"]),
        ["--profile", "a b", "--out", "x", "--seed=3", "--clock", "real", "--report"],
    )

    def next_of(report: bool) -> str:
        return overview.where(Path("runs/a b"), argv, report, summary)[-1].removeprefix("Next: python run.py ")

    assert next_of(False) == "report 'runs/a b'"
    assert next_of(True) == "--profile 'a b' --seeds 5 --clock virtual"
    summary.not_played = ["sl"]
    assert next_of(True) == "--profile 'a b' --seed=3 --clock real --report"
    summary.health = replace(summary.health, reasons=["fedavg: lag"])
    assert next_of(True) == "--profile 'a b' --seed=3 --report --clock virtual"
    summary.clock = "virtual"
    assert next_of(True) == "--profile 'a b' --seed=3 --clock real --report"


def test_tables_are_printed_by_name_in_their_order() -> None:
    summary = summary_of(["fedavg"])
    assert tables.chosen(None) == []
    assert tables.chosen("server, latency") == ["latency", "server"]
    assert tables.chosen("all") == [*tables.TABLES]
    text = "\n".join(printed(summary, more=("server", "kinds")))
    assert text.index("The server") < text.index("Communication volume by kind of message")
    assert "The server" not in "\n".join(printed(summary))
    for table in tables.named(summary, [*tables.TABLES]):
        assert f"## {table.title}" in tables.to_markdown(summary)


@pytest.mark.parametrize("text", ["", "latncy", "latency,", "all,latency", "latency;server"])
def test_a_table_that_there_is_none_of_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(UserError, match=r"there is none of this name.*say all, or any of latency, causes, volume"):
        tables.chosen(text)
    with pytest.raises(UserError, match="--tables"):
        run.command(["--profile", "iot-4g", "--tables", text])


def test_names_of_tables_are_in_the_help() -> None:
    assert all(name in parser().format_help() for name in tables.TABLES)


# --- with a paper's model -----------------------------------------------------------------------------------------


def test_fedavg_does_not_fit_a_pi_zero_2w_with_resnet_18_and_split_learning_does() -> None:
    methods, budget_mib = model_memory.computed().methods, 162.0
    assert set(methods) == set(ALGORITHMS)
    assert model_memory.fits(methods["fedavg"], budget_mib) is False
    for name in ("sl", "splitfed-v1", "splitfed-v2", "fsl-sage", "heron-sfl"):
        assert model_memory.fits(methods[name], budget_mib) is True
    for name in ("local-loss", "cse-fsl"):  # by their tensors they fit, by the most that a process takes they do not
        assert model_memory.fits(methods[name], budget_mib) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["fedavg"], "fedavg would not fit a pi-zero-2w (162.0 MiB)."),
        (["sl"], "sl would fit."),
        (["fedavg", "sl"], "fedavg would not fit a pi-zero-2w (162.0 MiB), sl would."),
        (["sl", "cse-fsl"], "cse-fsl may not fit, sl would."),
        (["cse-fsl"], "cse-fsl may not fit."),
        (["mine", "sl"], "sl would fit."),
        (
            [*ALGORITHMS],
            "fedavg would not fit a pi-zero-2w (162.0 MiB), local-loss and cse-fsl may not, the others would.",
        ),
    ],
)
def test_the_sentence_says_who_would_fit_with_the_papers_model(names: list[str], said: str) -> None:
    summary = summary_of(names)
    for algorithm in summary.algorithms.values():
        for client in algorithm.clients:
            client.budget_mib = 162.0
    assert headline(summary).endswith(f"with ResNet-18 (computed) {said}")


def test_the_sentence_says_who_sends_the_least_where_no_target_was_reached() -> None:
    summary = summary_of(["fedavg", "sl"], clock="dry-run")
    for algorithm in summary.algorithms.values():
        algorithm.to_target = dict.fromkeys(algorithm.to_target)
    assert "fewest bytes" not in headline(summary)  # equal
    assert "longest round" not in headline(summary)
    summary.algorithms["sl"].client_rounds *= 2
    half_kb = sum(payload_per_share(summary.algorithms["sl"], way) for way in ("up", "down")) / 1000
    assert f"sl sends the fewest bytes ({half_kb:.2f} kB a round)" in headline(summary)


def test_clients_that_would_fit_are_counted_by_their_own_budgets() -> None:
    need = model_memory.Need(tensors_bytes=100 * 2**20, needed_bytes=120 * 2**20)
    (client, *_) = summary_of(["fedavg"]).algorithms["fedavg"].clients
    clients = [replace(client, budget_mib=mib) for mib in (99.0, 100.0, 119.9, 120.0, None)]
    assert str(model_memory.fitting(need, clients)) == "2-4 of 5"
    assert str(model_memory.fitting(need, clients[:1])) == "0 of 1"
    assert model_memory.span_mib(need) == "100-120"


def test_a_run_of_that_model_itself_has_its_own_figures_alone() -> None:
    summary = summary_of(["fedavg"])
    assert model_memory.of(summary) is not None
    assert "computed and not measured" in tables.to_markdown(summary)
    summary.workload = model_memory.OWN
    assert model_memory.of(summary) is None
    assert "ResNet-18" not in "\n".join(printed(summary)) + tables.to_markdown(summary)
    older = summarize(make_manifest(2), {"fedavg": make_timeline()})
    assert older.workload is None
    assert "Client memory " in "\n".join(printed(older))


def test_a_method_that_the_file_does_not_have_is_a_dash() -> None:
    summary = summary_of(["fedavg", "mine"])
    (row,) = [line for line in printed(summary) if line.startswith("mine ") and line.endswith("–")]
    assert row.split()[-2:] == ["–", "–"]


def test_the_file_of_the_papers_model_names_what_made_it_and_is_refused_where_it_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = model_memory.computed()
    assert found.made_by == "python -m benchmarks.model_memory"
    words = found.command.split()
    assert words[:2] == ["python", "run.py"]
    flags = parser().parse_args(words[2:])
    assert (flags.experiment, flags.dry_run) == ("fsl-sage-cifar10", True)
    assert re.fullmatch(r"[0-9a-f]{64}", found.source)
    assert msgspec.structs.asdict(found).keys() >= {"torch", "date"}
    for content, complaint in (("kind = 3", "kind: there is no 3"), ("", "")):
        monkeypatch.setattr(model_memory, "FILE", tmp_path / "m.toml")
        (tmp_path / "m.toml").write_text(content) if content else (tmp_path / "m.toml").unlink()
        with pytest.raises(UserError, match=f"netprofiles/memory/.*{complaint}"):
            model_memory.computed.__wrapped__()
