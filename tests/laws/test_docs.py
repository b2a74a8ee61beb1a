"""README and pages: their commands are parsed, their links and paths lead somewhere, their tables are what commands
wrote, their example files are played."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

import run
from algorithms import ALGORITHMS, registry
from algorithms.commands.options import overrides
from algorithms.commands.options.flags import Flags
from algorithms.commands.options.run_flags import RunCommand
from algorithms.commands.options.run_flags import parser as run_parser
from algorithms.workload.task import Task, prepare
from benchmarks import pages
from benchmarks.__main__ import BENCHMARKS
from benchmarks.__main__ import parser as benchmark_parser
from emulator.ledger.events import Event, Posted, Reported, RoundEnded
from emulator.ledger.timeline import only
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.dry_run import dry_run
from emulator.profiles.reading import load_scenario
from emulator.profiles.scenario import Scenario
from emulator.profiles.schema import DeviceFile, NetworkFile
from emulator.tables.run import TABLES
from emulator.testing.stage import Stage

ROOT = Path(__file__).parents[2]
PAGES = {str(page.relative_to(ROOT)): page for page in (*pages.pages(), *sorted(ROOT.glob("netprofiles/**/*.md")))}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BEGINS = re.compile(r"(python (run\.py|-m \S+)|make [a-z])")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
FOLDERS = ("algorithms", "benchmarks", "docs", "emulator", "netprofiles", "tests")
EXAMPLE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
METHOD = "fedavg-half"  # of extending/method.md


class Parsed(Exception):
    """A command line was accepted by its parser."""


def without_fences(text: str) -> str:
    return FENCE.sub("", text)


def commands(text: str) -> Iterator[str]:
    """The command lines that a page shows: lines of its blocks, and spans of code in its prose."""
    blocks = [found[2] for found in FENCE.finditer(text) if found[1] not in ("python", "toml", "text")]
    prose = without_fences(text)
    blocks += re.findall(r"(?:^ {4,}.*\n)+", prose, re.MULTILINE)
    for block in blocks:
        joined = re.sub(r"\\\n\s*", "", block)
        yield from (line.strip() for line in joined.splitlines() if BEGINS.match(line.strip()))
    for span in SPAN.findall(prose):
        words = span.removeprefix("python ")
        if words.startswith(("run.py ", "-m benchmarks")) or re.match(r"make [a-z]", words):
            yield span if span.startswith(("python ", "make ")) else f"python {span}"


SHOWN = sorted({(page, line) for page, path in PAGES.items() for line in commands(path.read_text())})


def test_pages_show_commands_in_blocks_and_in_prose() -> None:
    blocks = "    python run.py bench \\\n        --profiles a\n\n```\nmake test\n```\n"
    text = f"Say `run.py fit --model x` or `make run`.\n\n{blocks}"
    assert sorted(commands(text)) == [
        "make run",
        "make test",
        "python run.py bench --profiles a",
        "python run.py fit --model x",
    ]
    assert len(SHOWN) > 60


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example method, in a file of its own, from whose folder the commands are said."""
    folder = tmp_path_factory.mktemp("method")
    (name, source), test = EXAMPLE.findall((ROOT / "docs/extending/method.md").read_text())
    for file, content in ((name, source), test):
        (folder / file).write_text(content)
    before, table = [*sys.path], dict(ALGORITHMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_words", {})
        with contextlib.chdir(folder):
            assert registry.resolve(f"./{name}") == METHOD
        yield Path(name).stem
    sys.path[:] = before
    ALGORITHMS.clear()
    ALGORITHMS.update(table)


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_every_command_shown_is_one_that_its_parser_takes(
    page: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(self: Flags, args: Any = None, namespace: Any = None) -> NoReturn:
        found = self.parse_known_args(args, namespace)
        assert found[1] == [], f"{page}: {line}: {found[1]}"
        raise Parsed(found[0])

    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[1] == "-m":
        assert importlib.util.find_spec(words[2]), words[2]
        if words[2] == "benchmarks":
            assert set(benchmark_parser().parse_args(words[3:]).names) <= set(BENCHMARKS)
    elif len(words) == 3 and not words[2].startswith("-"):
        assert words[2] in run.COMMANDS
    else:
        monkeypatch.setattr(Flags, "parse_args", parse)
        with pytest.raises((Parsed, SystemExit)) as ended:
            run.command(words[2:])
        if ended.type is SystemExit:
            assert "--help" in words
        elif hasattr(ended.value.args[0], "options") and hasattr(ended.value.args[0], "experiment"):
            check_run(ended.value.args[0])


def check_run(flags: Any) -> None:
    """Of a run's flags, that its methods, their options, and its experiment are there."""
    for name, settings in overrides.settings_of(*overrides.completed(RunCommand.of(vars(flags))), 10).items():
        module = importlib.import_module(ALGORITHMS[name])
        msgspec.convert(settings, module.Config, strict=False)


# --- links, paths, includes ---------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Of each heading, as GitHub names it."""
    found: dict[str, int] = defaultdict(int)
    names = set()
    for heading in HEADING.findall(without_fences(text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
        found[slug] += 1
    return names


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_pages_and_headings_that_there_are(page: str) -> None:
    text = PAGES[page].read_text()
    for target in LINK.findall(without_fences(text)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = PAGES[page].parent / path if path else PAGES[page]
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text()), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there(page: str) -> None:
    for span in SPAN.findall(without_fences(PAGES[page].read_text())):
        if span.startswith(tuple(f"{folder}/" for folder in FOLDERS)) and re.fullmatch(r"[\w./*-]+", span):
            assert list(ROOT.glob(span.rstrip("/"))), span


def types(text: str) -> set[str]:
    """Spans of code that look like a class."""
    return {span for span in SPAN.findall(text) if re.fullmatch(r"[A-Z][a-z]\w+", span)}


def test_types_that_the_walks_and_the_glossary_name_are_declared() -> None:
    sources = (path.read_text() for folder in ("emulator", "algorithms") for path in ROOT.glob(f"{folder}/**/*.py"))
    declared = set(re.findall(r"^class (\w+)\b", "\n".join(sources), re.MULTILINE)) | {"Config"}
    walks, glossary = ((ROOT / f"docs/{page}.md").read_text() for page in ("architecture", "glossary"))
    assert len(types(walks)) > 5
    assert types(walks) <= declared
    rows = [line.split(" | ") for line in glossary[glossary.index("| Former name |") :].splitlines()[2:]]
    assert len(rows) > 5
    for _, present in rows:
        assert types(present)
        assert types(present) <= declared, present


@pytest.mark.parametrize("page", PAGES)
def test_an_included_table_is_the_file_that_a_command_wrote(page: str) -> None:
    text = PAGES[page].read_text()
    for _, name, _, _ in pages.BLOCK.findall(text):
        assert (PAGES[page].parent / name).exists(), name
    assert pages.included(PAGES[page], text) == text, "python -m benchmarks --tables docs/figures, or make pictures"


def test_the_block_of_a_page_follows_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("| new |\n")
    page = tmp_path / "page.md"
    text = "<!-- include: a.md -->\n| old |\n<!-- end -->\n<!-- include: none.md -->\nkept\n<!-- end -->\n"
    assert pages.included(page, text) == text.replace("old", "new")


def test_every_page_can_be_reached_from_the_readme() -> None:
    todo, seen = [ROOT / "README.md"], set()
    while todo:
        page = todo.pop()
        if page not in seen:
            seen.add(page)
            links = (target.partition("#")[0] for target in LINK.findall(page.read_text()))
            todo += [(page.parent / link).resolve() for link in links if link.endswith(".md")]
    assert set(pages.pages()) <= seen


def test_the_readme_has_two_hundred_lines_at_most() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


# --- what pages list ----------------------------------------------------------------------------------------------


def test_pages_list_every_option_key_table_and_command() -> None:
    text = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("methods", "profiles", "reading-results")}
    for name, module in ALGORITHMS.items():
        if name == METHOD:
            continue
        assert f"| `{name}` |" in text["methods"]
        for option in {*importlib.import_module(module).Config.__struct_fields__} - {"task", "rounds", "stop_after_s"}:
            assert f"`{option}`" in text["methods"], (name, option)
    for key in (*NetworkFile.__struct_fields__, *DeviceFile.__struct_fields__):
        assert f"`{key}`" in text["profiles"] or key in ("kind", "description"), key
    for table in TABLES:
        assert f"| `{table}` |" in text["reading-results"], table
    for command in run.COMMANDS:
        assert f"run.py {command}" in (ROOT / "docs/running.md").read_text(), command


def test_the_help_lists_the_commands_that_there_are() -> None:
    assert {*re.findall(r"^  ([a-z]+)", run_parser().epilog or "", re.MULTILINE)} == {*run.COMMANDS}


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for found in sorted(ROOT.glob("emulator/*/__init__.py")) + sorted(ROOT.glob("algorithms/*/__init__.py")):
        assert f"`{found.parent.relative_to(ROOT)}`" in text, found


def test_pages_name_every_flag_of_a_run_and_every_benchmark() -> None:
    text = "".join(page.read_text() for page in pages.pages() if page.name != "design.md")
    for flag in (flag for action in run_parser()._actions for flag in action.option_strings if flag.startswith("--")):
        assert re.search(rf"{flag}\b", text), flag
    for name in BENCHMARKS:
        assert f"| `{name}` |" in text, name


# --- the examples -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """The example scenario, beside the network that it names."""
    folder = tmp_path_factory.mktemp("profile")
    found = EXAMPLE.findall((ROOT / "docs/extending/profile.md").read_text())
    assert len(found) == 2
    for name, content in found:
        (folder / name).write_text(content)
    return load_scenario(str(folder / "field.toml"))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("data")
    return msgspec.to_builtins(prepare(Task(clients=4, samples_per_client=32), folder))


def foreseen(module: str, scenario: Scenario, task: Any) -> dict[str, list[Event]]:
    events: dict[str, list[Event]] = defaultdict(list)
    settings = {"rounds": 2, "stop_after_s": None, "task": task}
    dry_run(module, settings, scenario, 1, ProfilingResult(), lambda node: events[node].append)
    return events


def test_the_example_of_a_profile_is_read_and_played_at_its_rate(field: Scenario, task: Any) -> None:
    assert [(client.device.name, client.network.name) for client in field.clients] == [("pi-3bplus", "my-modem")] * 4
    link = field.clients[0].network
    assert (link.up.rate_bps, link.down.rate_bps, link.up.one_way_ns) == (2_000_000, 5_000_000, 35_000_000)
    events = foreseen(ALGORITHMS["fedavg"], field, task)
    assert len([*only(events["server"], RoundEnded)]) == 2


@pytest.mark.usefixtures("method")
def test_the_example_of_a_method_is_played_and_sends_half_of_fedavgs_updates(field: Scenario, task: Any) -> None:
    sizes = {}
    for name in ("fedavg", METHOD):
        posted = [*only(foreseen(ALGORITHMS[name], field, task)["client-0"], Posted)]
        assert {event.kind for event in posted} == {"update"}
        sizes[name] = [event.payload_bytes for event in posted]
    assert [2 * size for size in sizes[METHOD]] == sizes["fedavg"]


@pytest.mark.usefixtures("method")
def test_the_example_of_a_test_passes() -> None:
    example = importlib.import_module("test_fedavg_half")
    (test,) = (value for name, value in vars(example).items() if name.startswith("test_"))
    test()
    assert len(example.sent_bytes(example.fedavg)) == 2


def test_the_example_of_a_method_learns(field: Scenario, task: Any, method: str) -> None:
    module = importlib.import_module(method)
    config = msgspec.convert({"rounds": 3, "stop_after_s": None, "task": task}, module.Config)
    with Stage(field, *module.MESSAGES) as stage:
        stage.play(
            *(module.client(stage.nodes[client.name], config) for client in field.clients),
            module.server(stage.server, config),
        )
        losses = [event.values["loss"] for event in stage.of("client-0", Reported)]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
