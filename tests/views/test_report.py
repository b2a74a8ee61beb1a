"""The page of a run, and runs side by side: complete in themselves, and with the figures of the summary."""

from __future__ import annotations

import base64
import errno
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser

import pytest
from runs import as_json, make_two, write_run
from toy import MS, edit, make_timeline

from algorithms.commands import report as report_command
from algorithms.commands.records import compare as compare_command
from emulator.analysis import recorded
from emulator.checks.health import CUT_OFF
from emulator.errors import UserError
from emulator.ledger import run_folder
from emulator.ledger.events import RoundEnded
from emulator.report import compare, record
from emulator.report import html as report
from emulator.tables import overview
from emulator.tables import run as tables
from emulator.tables.headline import headline
from emulator.tables.table import number

VOID = {"meta", "img", "br", "link", "input"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(HTMLParser):
    """What a browser would do with it."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.words, self.tables = [], Counter(), [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        for name, value in attrs:
            if name == "id":
                self.ids[value] += 1
            if name in ("src", "href", "data", "action", "srcset"):
                self.references.append(value)
        assert tag != "script"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run's folder, the run, and its page."""
    folder = write_run(tmp_path_factory.mktemp("report") / "run", make_two().timelines)
    assert report_command.command([str(folder)]) == 0
    return folder, recorded.recorded(folder), (folder / report.NAME).read_text()


def test_a_report_prints_the_tables_that_are_named(written, capsys):
    folder = str(written[0])
    assert report_command.command([folder, "--only", "tables", "--tables", "server"]) == 0
    printed = capsys.readouterr().out
    assert "The server" in printed
    assert "Client memory" not in printed
    with pytest.raises(UserError, match="--tables sever: there is none of this name; did you mean server"):
        report_command.command([folder, "--tables", "sever"])
    with pytest.raises(UserError, match="--only plots leaves them out"):
        report_command.command([folder, "--only", "plots", "--tables", "server"])


def test_the_page_is_well_formed_and_needs_nothing_from_outside(written):
    page = Page(written[2])
    assert not page.open
    assert all(count == 1 for count in page.ids.values())
    assert page.references
    assert all(reference.startswith("data:image/svg+xml;base64,") for reference in page.references)
    assert not re.search(r"url\(|@import|https?://[^ ]*\.(js|css|woff)", written[2])
    for reference in page.references:
        assert base64.b64decode(reference.partition(",")[2]).lstrip().startswith(b"<?xml")


def test_the_page_has_verdict_sentence_command_and_every_cell_of_every_table(written):
    _, run, text = written
    page = Page(text)
    words = [" ".join(word.split()) for word in page.words]
    assert headline(run.summary) in words
    assert "python run.py --profile iot-4g" in words  # without its --out
    for line in tables.verdict(run.summary):
        assert " ".join(line.split()) in words
    shown = [[[" ".join(cell.split()) for cell in row] for row in table] for table in page.tables]
    for table, drawn in zip(overview.both(run.summary), shown, strict=False):  # what a run prints comes first
        if table.groups:
            assert drawn.pop(0) == ["", *table.groups.values()]
        assert drawn[0] == [" ".join(head.split()) for head in table.headers]
        assert drawn[1:] == [[" ".join(cell.split()) for cell in row] for row in table.texts()]
    for table, drawn in zip(tables.run_tables(run.summary), shown[2:], strict=False):
        assert drawn[0] == [" ".join(head.split()) for head in table.headers]
        assert drawn[1:] == [[" ".join(cell.split()) for cell in row] for row in table.texts()]
    assert len(shown) > len(tables.run_tables(run.summary))


def test_every_figure_of_a_client_is_the_summarys(written):
    _, run, text = written
    page = Page(text)
    for algorithm in run.summary.algorithms.values():
        for client in algorithm.clients:
            place = page.words.index(client.name)
            assert client.device in page.words[place : place + 4]
            for seconds in client.latency_s.values():
                assert f"{seconds:.2f}" in page.words


def test_sources_say_which_profiles_have_changed_or_are_gone(written):
    text = written[2]
    assert "device pi-zero-2w (THE FILE HAS CHANGED SINCE THE RUN)" in text
    assert "devices/gone.toml (the file is not there any more)" in text
    assert "trimmed headless 64-bit system" in text


def test_a_report_rebuilds_what_was_lost_and_a_second_one_is_the_same(written):
    folder, run, _ = written
    before = {name: (folder / name).read_bytes() for name in (*record.WRITTEN, report.NAME)}
    summary = json.loads(before["summary.json"])
    assert summary.pop("made_by")
    assert summary == json.loads(json.dumps({k: v for k, v in as_json(run.summary).items() if k != "made_by"}))
    for name in before:
        (folder / name).unlink()
    assert report_command.command([str(folder)]) == 0
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_run_that_was_cut_off_has_its_page_marked_as_partial(tmp_path, capsys):
    def early(event):
        return event.due_ns < 150 * MS

    folder = write_run(tmp_path / "cut", {"fedavg": [event for event in make_timeline() if early(event)]})
    assert report_command.command([str(folder)]) == 0
    text = (folder / report.NAME).read_text()
    assert "PARTIAL: fedavg" in text
    written = (folder / "tables.md").read_text()
    assert "PARTIAL: fedavg (1 round ended) did not come to an end" in written
    assert "Verdict: partial, consistent as far as it goes. " in written
    assert f"Note: fedavg: {CUT_OFF}" in written
    assert "PARTIAL: fedavg" in capsys.readouterr().out


def test_a_method_that_was_not_played_is_missed_by_name(tmp_path, capsys):
    folder = write_run(tmp_path / "short", make_two().timelines)
    shutil.rmtree(folder / "ledger" / "sl")
    assert report_command.command([str(folder)]) == 0
    for name in (report.NAME, "tables.md"):
        assert "PARTIAL: not played: sl." in (folder / name).read_text()
    assert "PARTIAL: not played: sl." in capsys.readouterr().out
    assert compare_command.command([str(folder), str(folder)]) == 0
    assert capsys.readouterr().out.count("PARTIAL: not played: sl.") == 2


@pytest.mark.parametrize("gone", ["ledger", "ledger/sl"])
def test_what_is_gone_of_the_ledger_is_read_from_the_merged_one(tmp_path, gone):
    folder = write_run(tmp_path / "run", make_two().timelines)
    record.rebuild(folder)
    before = {name: (folder / name).read_bytes() for name in record.WRITTEN}
    shutil.rmtree(folder / gone)
    record.rebuild(folder)
    assert {name: (folder / name).read_bytes() for name in record.WRITTEN} == before


def test_a_merged_ledger_that_holds_more_than_its_parts_is_not_replaced(tmp_path):
    folder = write_run(tmp_path / "run", make_two().timelines)
    record.rebuild(folder)
    before = (folder / run_folder.MERGED).read_bytes()
    (folder / "ledger" / "sl" / "client-1.jsonl").unlink()
    with pytest.raises(UserError, match=r"ledger\.jsonl: holds more than the files of ledger/"):
        record.rebuild(folder)
    assert (folder / run_folder.MERGED).read_bytes() == before
    assert not list(folder.glob("*.new"))


def test_a_disk_that_becomes_full_leaves_what_was_written_before(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run", make_two().timelines)
    record.rebuild(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def fill(*_):
        yield b"{"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(record, "merged_lines", fill)
    with pytest.raises(UserError, match=r"ledger\.jsonl: cannot be written \(No space left on device\)"):
        record.rebuild(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("line", ['{"event":"computed"}', "[]", "{", '{"event":"computed","due_ns":"5","actual_ns":5}'])
def test_a_line_that_cannot_be_read_is_named(tmp_path, line):
    folder = write_run(tmp_path / "run", make_two().timelines)
    path = folder / "ledger" / "sl" / "client-1.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = line
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as caught:
        recorded.recorded(folder)
    assert str(caught.value).startswith(f"{path}, line 3: ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda manifest: manifest.pop("nodes"), "lacks 'nodes'"),
        (lambda manifest: manifest.pop("settings"), "lacks 'settings'"),
        (lambda manifest: manifest.update(schema="splitbed/99"), "schema: is 'splitbed/99', and this version reads"),
    ],
)
def test_a_manifest_that_is_not_of_this_version_or_whole_is_named(tmp_path, change, said):
    folder = write_run(tmp_path / "run", make_two().timelines)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {said}')}"):
        report_command.command([str(folder)])


def test_a_manifest_that_is_no_json_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{bad")
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read \(.*line 1 column 2"):
        report_command.command([str(tmp_path)])


def test_a_folder_of_runs_such_as_verify_leaves_says_where_they_are(tmp_path):
    write_run(tmp_path / "virtual", make_two().timelines)
    with pytest.raises(UserError, match=r"holds runs: name one of them, such as .*virtual"):
        report_command.command([str(tmp_path)])


def test_what_is_no_run_is_refused_in_one_line(tmp_path):
    for command in (report_command.command, lambda argv: compare_command.command([*argv, *argv])):
        with pytest.raises(UserError, match=r"name a run's folder"):
            command([str(tmp_path / "nowhere")])


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here to load the page with")
def test_a_browser_loads_the_page_without_a_request_or_an_error(written, tmp_path):
    """The page's own policy forbids every request, so that one would be an error on the console."""
    folder, _, text = written
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    quiet += ["--disable-background-networking", f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0"]

    def load(page):
        command = [str(CHROMIUM), *quiet, "--dump-dom", page.resolve().as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    loaded = load(folder / report.NAME)
    assert "Where the numbers of the profiles come from" in loaded.stdout
    assert "CONSOLE" not in loaded.stderr
    asking = tmp_path / "asking.html"
    asking.write_text(text.replace("</body>", '<img src="http://127.0.0.1:9/x.png"></body>'))
    assert "CONSOLE" in load(asking).stderr


# --- runs side by side ------------------------------------------------------------------------------------------------


def test_runs_side_by_side_show_the_summaries_figures_and_their_differences(tmp_path, capsys):
    slow = edit(make_timeline(), lambda e: isinstance(e, RoundEnded), lambda e: {"actual_ns": e.actual_ns + 3 * MS})
    first = write_run(tmp_path / "one", {"fedavg": make_timeline()})
    second = write_run(tmp_path / "two", {"fedavg": slow}, seed=2)
    runs = [recorded.recorded(folder) for folder in (first, second)]
    (table,) = compare.comparison_tables(runs, ["one", "two"])
    (row,) = [row for row in table.texts() if row[0] == "s per round"]
    seconds = [run.summary.algorithms["fedavg"].seconds / 3 for run in runs]
    assert row[1:] == [f"{seconds[0]:.2f}", f"{seconds[1]:.2f}", number(seconds[1] - seconds[0], signed=True)]
    assert compare.differences(runs, ["one", "two"]) == ["  seed: one 1; two 2"]
    assert compare_command.command([str(first), str(second)]) == 0
    assert "seed: one 1; two 2" in capsys.readouterr().out
    assert compare_command.command([str(first), str(first)]) == 0
    assert "The manifests say the same." in capsys.readouterr().out
