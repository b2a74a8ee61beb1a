"""One reader for every TOML file: whatever wrote it, and whatever is wrong with it, it is read as meant or one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from imported import SOURCES, imported_packages

from algorithms.experiments import reading
from emulator.errors import UserError
from emulator.profiles.reading import load_device, load_network, load_scenario

NETWORK = 'kind = "network"\ndescription = "é"\nup_mbps = 0.026\ndown_mbps = 5\none_way_ms = 35\n'
EXPERIMENT = 'kind = "experiment"\ndescription = "é"\nrounds = 3\n[settings]\nclient_lr = 1e-2\n'
Change = Callable[[str], bytes]
WRITTEN: dict[str, Change] = {
    "UTF-8": lambda text: text.encode(),
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16, little end first": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "UTF-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "Windows, with a mark": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_profiles_and_experiments_are_read_whatever_program_wrote_them(tmp_path: Path, how: str) -> None:
    (tmp_path / "net.toml").write_bytes(WRITTEN[how](NETWORK))
    (tmp_path / "exp.toml").write_bytes(WRITTEN[how](EXPERIMENT))
    network = load_network(str(tmp_path / "net.toml"))
    assert (network.up.rate_bps, network.down.rate_bps, network.up.one_way_ns) == (26_000, 5 * 10**6, 35 * 10**6)
    experiment = reading.find_experiment(str(tmp_path / "exp.toml"))
    assert (experiment.description, experiment.run, experiment.settings) == ("é", {"rounds": 3}, {"client_lr": 0.01})


READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "network": (load_network, NETWORK),
    "device": (load_device, 'kind = "device"\ndescription = "d"\n'),
    "scenario": (load_scenario, 'kind = "scenario"\ndescription = "d"\n'),
    "experiment": (reading.find_experiment, EXPERIMENT.partition("[settings]")[0]),
}
BROKEN: dict[str, tuple[Callable[[str], bytes], str]] = {
    "a float out of range": (lambda text: f"{text}x = 1e400\n".encode(), "x: "),
    "an exponent out of range": (
        lambda text: f"{text}x = 1e-{'9' * 30}\n".encode(),
        "is not TOML: a value is out of range; write lines such as",
    ),
    "5,000 digits": (
        lambda text: f"{text}x = {'7' * 5000}\n".encode(),
        "is not TOML: a whole number has thousands of digits; write lines such as",
    ),
    "lists in lists": (lambda text: f"{text}x = {'[' * 9000}\n".encode(), "too deep in one another; write lines"),
    "not UTF-8": (lambda text: text.encode("latin-1"), ":2: byte 0xe9 is not UTF-8 text; save it as text in UTF-8"),
    "UTF-16 without a mark": (lambda text: text.encode("utf-16-le"), ":1: is not text; save it as text in UTF-8"),
    "half a character of UTF-16": (
        lambda text: b"\xff\xfe" + text.encode("utf-16-le") + b"x",
        "begins as UTF-16 text and goes on otherwise; save it in UTF-8",
    ),
    "compressed": (lambda text: b"\x1f\x8b\x08" + text.encode(), "it is compressed by gzip; unpack it first: gunzip"),
    "a zero byte": (lambda text: (text + "\0").encode(), "is not text; save it as text in UTF-8"),
    "no value": (lambda text: (text + "x =\n").encode(), "is not TOML: Invalid value (at line "),
    "larger than anyone writes": (lambda text: text.encode() + b"#" * 4 * 2**20, "it is larger than 4 MiB"),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_toml_is_one_line_with_file_and_remedy(tmp_path: Path, kind: str, how: str) -> None:
    load, text = READERS[kind]
    change, said = BROKEN[how]
    path = tmp_path / "mine.toml"
    path.write_bytes(change(text.replace('"d"', '"é"')))
    assert said in refused(load, path)


@pytest.mark.parametrize("kind", READERS)
def test_what_cannot_be_opened_is_one_line(tmp_path: Path, kind: str) -> None:
    load, _ = READERS[kind]
    (tmp_path / "folder.toml").mkdir()
    assert "Is a directory" in refused(load, tmp_path / "folder.toml")
    assert "No such file" in refused(load, tmp_path / "none.toml")
    assert "no file name" in refused(load, tmp_path / "a\0b.toml")


def refused(load: Callable[[str], Any], path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(str(path))
    said = str(caught.value)
    assert path.name.replace("\0", "\\x00") in said
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("client_lr = 1e400", "settings.client_lr: must be a finite number, not 1E+400"),
        ("client_lr = inf", "settings.client_lr: must be a finite number, not "),
        ("client_lr = 1e-400", "settings.client_lr: 1E-400 is too small to tell from 0; write 0, or a larger one"),
        (f"betas = [0.9, {'9' * 400}.0]", "settings.betas[1]: must be a finite number, not 9999"),
        (f"client_lr = {'7' * 4000}", "settings.client_lr: is a whole number above 9223372036854775807; write a smal"),
    ],
)
def test_a_number_that_no_float_holds_is_told_by_its_key(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(EXPERIMENT.replace("client_lr = 1e-2", line))
    assert refused(reading.find_experiment, path).startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('description = "d"\n', 'kind: missing; write kind = "experiment"'),
        ('kind = "experiment"\n', 'description: missing; write description = "…"'),
        (NETWORK, "up_mbps: unknown key"),
        ('kind = "network"\ndescription = "d"\n', "kind: there is no 'network': say experiment"),
        (EXPERIMENT.replace("rounds", "roundz"), "roundz: unknown key; did you mean rounds?"),
        (EXPERIMENT.replace("rounds", "sha256"), "sha256: unknown key; it has kind, description"),
    ],
)
def test_a_key_that_an_experiment_lacks_or_does_not_know_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert refused(reading.find_experiment, path).startswith(f"{path}: {said}")


def test_there_is_no_other_reader_of_toml() -> None:
    assert [path.stem for path in SOURCES if "tomllib" in imported_packages(path)] == ["toml_files"]
