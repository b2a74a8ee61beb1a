"""A method of a user's own, by its file, its module or an installed package: found, checked, played like one inside."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import torch
from torch.utils._pytree import tree_map

import run
from algorithms import ALGORITHMS, config_of, registry
from algorithms.commands.options.overrides import chosen_algorithms, option_names
from emulator.errors import UserError
from emulator.node import Message, StateDict
from emulator.runtime import methods
from emulator.runtime.methods import load_method
from emulator.testing import make_scenario, record
from emulator.transport.messages import Incoming, Parcel, decode_header

FEDAVG = Path(registry.__file__).with_name("fedavg.py").read_text()


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds to the table and to Python's path is gone after it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(registry, "_words", {})
    for name in ("my_own", "others", "half_of_it", "my_package"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = dict(ALGORITHMS)
    yield
    ALGORITHMS.clear()
    ALGORITHMS.update(before)


def write(path: Path, text: str = FEDAVG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_called_by_its_stem_or_as_it_says(tmp_path: Path) -> None:
    mine, others = write(tmp_path / "my_own.py"), write(tmp_path / "others.py", f'NAME = "fed-2"\n{FEDAVG}')
    assert chosen_algorithms(f"{mine}, sl,{others}") == ["sl", "my-own", "fed-2"]
    assert registry.resolve(str(mine)) == "my-own" == registry.resolve("my-own")
    assert registry.word_of("my-own") == str(mine) and registry.word_of("sl") == "sl"
    assert option_names("my-own") == option_names("fedavg") == config_of("my-own").__struct_fields__
    assert chosen_algorithms("all") == list(registry.SHIPPED)


def test_a_module_and_an_entry_point_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "my_package" / "__init__.py", "")
    write(tmp_path / "my_package" / "later.py", "from algorithms.splitfed_v2 import MESSAGES, Config, client, server\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.resolve("my_package.later") == "later"
    assert option_names("later") == option_names("splitfed-v2")
    point = EntryPoint("theirs", "my_package.later", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.GROUP else [])
    assert (registry.resolve("theirs"), ALGORITHMS["theirs"]) == ("theirs", "my_package.later")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("nowhere", "", "there is none of this name; say all, any of fedavg, .*or a method of your own by its file"),
        ("fedavgg", "", "there is none of this name; did you mean fedavg[?] say all, any of fedavg"),
        ("no.such.module", "", "cannot be found|there is no such module"),
        ("absent.py", None, "there is no such file; give the path"),
        ("my-own.py", "", "'my-own' cannot be imported; name the file in letters, digits and _"),
        ("random.py", "", "Python knows another module of this name, .*; rename the file"),
        ("sl.py", "", 'its name, sl, is that of algorithms.sl; write NAME = "another" in it'),
        ("my_own.py", 'NAME = "My Own"', "'My Own' is no name of a method: write NAME = in it"),
    ],
)
def test_what_is_no_method_is_refused_with_the_remedy(tmp_path: Path, file: str, text: str | None, said: str) -> None:
    word = str(write(tmp_path / file, text)) if file.endswith(".py") and text is not None else file
    with pytest.raises(UserError, match=f"--algorithm .*{said}"):
        registry.resolve(word)


def test_a_file_that_is_named_without_its_ending_is_found_for_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "sl2.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--algorithm sl2: there is none of this name; did you mean \./sl2\.py\?"):
        registry.resolve("sl2")


CONFIG = "from algorithms.training.settings import Settings\nclass Config(Settings, frozen=True): pass\n"
MESSAGE = "from __future__ import annotations\nfrom emulator.node import Message\nclass Up(Message): x: int = 0\n"
ROLES = "async def client(node, config): pass\nasync def server(node, config): pass\n"


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        (CONFIG + ROLES, ["has no MESSAGES: write a tuple of the types of its messages"]),
        (
            CONFIG + ROLES + "MESSAGES = (int,)",
            ["MESSAGES: <class 'int'> is no type of messages: write class int(Message)"],
        ),
        (
            CONFIG + ROLES + "from emulator.node import Message\nclass Up(Message): official = ('z', 'round')\n"
            "MESSAGES = (Up,)",
            ["MESSAGES: Up.official names 'z', which is no field of it"],
        ),
        (
            MESSAGE + CONFIG + ROLES + "class Down(Up): pass\nclass Left(Message): pass\nMESSAGES = (Down,)",
            ["MESSAGES lacks Left: add it"],
        ),
        (
            MESSAGE + CONFIG + ROLES + "class Down(Message, tag='up'): pass\nMESSAGES = (Up, Down)",
            ["MESSAGES: Up, Down have the same tag 'up': give each its own"],
        ),
        (
            MESSAGE.replace("x: int = 0", "x: Tensor") + CONFIG + ROLES + "MESSAGES = (Up,)",
            [
                "Up: types of its fields are not found (name 'Tensor' is not defined): import them, and not below"
                " TYPE_CHECKING alone"
            ],
        ),
        (ROLES + "MESSAGES = ()", ["has no Config: write class Config(Settings), with its options"]),
        (
            CONFIG + "MESSAGES = ()\ndef client(node, config): pass\nasync def server(node): pass",
            [
                "has no client: write async def client(node, config)",
                "has no server: write async def server(node, config)",
            ],
        ),
    ],
)
def test_each_lack_of_a_method_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, lacks: list[str]
) -> None:
    path = write(tmp_path / "half_of_it.py", text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as caught:
        load_method("half", "half_of_it")
    assert str(caught.value) == f"half: {path}: {'; '.join(lacks)}"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("x: dict[str, int] = {}", "x: no command line says dict[str, int]: give it one of int, float, bool, str, Lit"),
        ("x: type = int", "x: no command line says type: "),
        ("x: Settings | None = None", "x: no command line says algorithms.training.settings.Settings | None: "),
        ("x: object = None", "x: no command line says object: "),
        ("x: set[int] = set()", "x: no command line says set[int]: "),
        ("x: list[int] | tuple[int, ...] = ()", "x: no command line says list[int] | tuple[int, ...]: "),
        ("x: float", "x: has no default: write x: float = and the value to play without"),
        ("x: int = 1.5", "x: its default 1.5 is no int: write one that is"),
        ("x: 'Nope' = 3", "types of its fields are not found (name 'Nope' is not defined): import them"),
    ],
)
def test_an_option_that_no_command_line_says_is_refused_by_file_and_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, said: str
) -> None:
    config = CONFIG.replace("frozen=True): pass", f"frozen=True, kw_only=True): {option}")
    path = write(tmp_path / "half_of_it.py", f"{config}MESSAGES = ()\n{ROLES}")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"half: {path}: Config") + "[.:] ?" + re.escape(said)) as caught:
        load_method("half", "half_of_it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "option",
    ["int | None = None", "Literal['a', 2] = 'a'", "tuple[float, float] = (0.1, 1)", "list[str] = []", "float = 1"],
)
def test_an_option_that_a_command_line_says_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    config = CONFIG.replace("frozen=True): pass", f"frozen=True): x: {option}")
    write(tmp_path / "half_of_it.py", f"from typing import Literal\n{config}MESSAGES = ()\n{ROLES}")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_method("half", "half_of_it").Config().x is not ...


STATE = {"w": torch.arange(3)}
CARRIED: dict[Any, Any] = {
    int: -3,
    float: 0.5,
    bool: True,
    str: "ä",
    int | None: None,
    Literal["a", 2]: 2,
    list[float]: [0.5, 2.0],
    tuple[int, ...]: (1, 2),
    dict[str, list[int]]: {"a": [1], "b": []},
    torch.Tensor: STATE["w"],
    StateDict: STATE,
}
NOT_CARRIED = [
    set[int],  # whose order is each process's own
    bytes,
    complex,
    Any,
    list,
    list[set[int]],
    dict[int, int],
    dict[str, torch.Tensor | int],
    torch.Tensor | None,
    StateDict | None,
    list[torch.Tensor],
    list[int] | tuple[int, ...],
    Literal[True],
    Path,
]


def message_with(hint: Any) -> type[Message]:
    return msgspec.defstruct("Up", [("x", hint)], bases=(Message,), frozen=True, kw_only=True)


@pytest.mark.parametrize("hint", CARRIED, ids=str)
def test_what_a_message_may_have_arrives_as_it_was_sent(hint: Any) -> None:
    kind = message_with(hint)
    assert methods._uncarried(kind) == []
    parcel = Parcel(kind(round=0, x=CARRIED[hint]), 0)
    incoming = Incoming(decode_header(parcel.encoded), len(parcel.encoded), {"up": kind}, "client-0")
    incoming.adopt(parcel.tensors)
    arrived = incoming.message().x
    assert tree_map(lambda leaf: leaf.tolist() if isinstance(leaf, torch.Tensor) else leaf, arrived) == tree_map(
        lambda leaf: leaf.tolist() if isinstance(leaf, torch.Tensor) else leaf, CARRIED[hint]
    )
    assert type(arrived) is type(CARRIED[hint])


@pytest.mark.parametrize("hint", NOT_CARRIED, ids=str)
def test_what_no_message_carries_is_refused_by_class_and_field(hint: Any) -> None:
    (said,) = methods._uncarried(message_with(hint))
    assert re.fullmatch(r"Up\.x: no message carries .+: give it one of int, float, .* and StateDict", said)


def test_it_is_played_and_benched_like_one_inside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a dry run, which has rounds and bytes: those of FedAvg, whose text it has; the second bench plays nothing."""
    mine = write(
        tmp_path / "my_own.py", FEDAVG.replace("class Config(Settings, ", "class Config(Settings, kw_only=True, ")
    )
    words = ["--algorithm", f"fedavg,{mine}", "--rounds", "2", "--dry-run"]
    more = ["--set", "my-own:client_lr=0.01"]
    assert run.main(["--profile", "lan", "--clients", "2", *words, *more, "--out", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())["algorithms"]
    assert summary["my-own"]["bytes"] == summary["fedavg"]["bytes"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["algorithms"], manifest["settings"]["my-own"]["client_lr"]) == (["fedavg", "my-own"], 0.01)
    assert [*manifest["depends"]["sources"]["my-own"]][-1].endswith("my_own.py")
    bench = ["bench", "--profiles", "lan", "--clients", "2", *words, *more, "--out", str(tmp_path / "bench")]
    assert run.main(bench) == 0
    capsys.readouterr()
    assert run.main(bench) == 0
    assert "my-own" in (said := capsys.readouterr().out)
    assert "nothing" in said.lower() or "all" in said.lower()


def test_an_author_plays_a_method_in_one_process() -> None:
    module = load_method("fedavg", "algorithms.fedavg")
    task = {"clients": 2, "samples_per_client": 32, "batch": 16}
    recorded = record(module, {"task": task, "rounds": 2}, make_scenario(2))
    assert len(recorded.snapshots) == 2
    assert recorded.events.keys() == {"client-0", "client-1", "server"}
