"""Archives and folders of images that were damaged or made up: they are read, or refused in one line; never else."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from algorithms.data import datasets
from algorithms.workload.task import Task, facts, write_data
from emulator.errors import UserError
from emulator.ledger.census import Census
from emulator.tables import clients_data

EXAMPLES = int(os.environ.get("SPLITBED_EXAMPLES", "80"))  # of each kind
PIXELS = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
LABELS = np.arange(6) % 2
MEMBERS = ("images", "labels", "test_images", "test_labels")


def looked_at(task: Task, folder: Path) -> None:
    """The data are checked, written and counted, or refused in one line that can be printed."""
    try:
        task.check()
        write_data(task, folder / "made")
    except UserError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 4000
        str(error).encode()
        return
    found = msgspec.convert(facts(Task(folder=str(folder / "made"))), Census)
    assert len(clients_data.first_lines(found)) <= 4
    assert all("\n" not in line for line in clients_data.first_lines(found))
    clients_data.to_csv(found).encode()
    assert clients_data.clients_data_tables(found)
    assert sum(held.samples for held in found.clients) == found.train.samples
    written = [datasets.read(str(folder / "made"), f"client-{index}") for index in range(task.clients)]
    assert all(part.images.dtype == np.uint8 and len(part.images) == len(part.labels) for part in written)


def archive_bytes(**changes: Any) -> bytes:
    file = io.BytesIO()
    plain = {"images": PIXELS, "labels": LABELS, "test_images": PIXELS, "test_labels": LABELS}
    np.savez(file, **{**plain, **changes})
    return file.getvalue()


def look_at_archive(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "mine.npz").write_bytes(content)
        looked_at(Task(dataset="mine", data_dir=made, clients=2), Path(made))


def damaged(content: bytes, draw: st.DrawFn) -> bytes:
    """With a few bytes changed, put in or cut off."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(found) - 1))
        match draw(st.sampled_from(("change", "insert", "cut", "remove"))):
            case "change":
                found[place] = draw(st.integers(0, 255))
            case "insert":
                found[place:place] = draw(st.binary(min_size=1, max_size=9))
            case "cut":
                del found[max(place, 1) :]
            case _:
                del found[place : place + draw(st.integers(1, 40))]
        if not found:
            return b""
    return bytes(found)


@st.composite
def damaged_archives(draw: st.DrawFn) -> bytes:
    return damaged(archive_bytes(), draw)


@st.composite
def archives_of_damaged_members(draw: st.DrawFn) -> bytes:
    """The zip file itself is whole."""
    hurt = draw(st.sampled_from(MEMBERS))
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive_bytes())) as whole, zipfile.ZipFile(file, "w") as made:
        for name in MEMBERS:
            content = whole.read(f"{name}.npy")
            made.writestr(f"{name}.npy", damaged(content, draw) if name == hurt else content)
    return file.getvalue()


ANY_TYPE = st.one_of(arrays.scalar_dtypes(), arrays.byte_string_dtypes(), arrays.unicode_string_dtypes())
SHAPES = st.one_of(
    arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6),
    st.sampled_from([(6, 4, 5, 3), (6, 3, 4, 5), (6, 4, 5), (6, 1), (6,), (6, 2)]),
)
ANY = st.one_of(st.none(), st.just(np.array([None] * 6)), arrays.arrays(ANY_TYPE, SHAPES))
MADE_UP = dict.fromkeys(MEMBERS, ANY)
NUMBERS = st.sampled_from([np.int8, np.int64, np.uint16, np.uint64, np.float16, np.float64, np.bool_])
EVEN = {
    "images": arrays.arrays(NUMBERS, (6, 4, 5)),
    "labels": arrays.arrays(NUMBERS, (6,)),
}


@settings(max_examples=EXAMPLES)
@given(content=st.one_of(damaged_archives(), archives_of_damaged_members()))
def test_a_damaged_archive_is_read_or_refused_in_one_line(content: bytes) -> None:
    look_at_archive(content)


@pytest.mark.filterwarnings("ignore")  # numpy's, of odd floats
@settings(max_examples=EXAMPLES)
@given(changes=st.one_of(st.fixed_dictionaries(MADE_UP), st.fixed_dictionaries({}, optional=EVEN)), both=st.booleans())
def test_an_archive_of_any_arrays_is_read_or_refused_in_one_line(changes: dict[str, Any], both: bool) -> None:
    kept = {name: array for name, array in changes.items() if array is not None}
    also = {f"test_{name}": array for name, array in kept.items() if both and not name.startswith("test_")}
    look_at_archive(archive_bytes(**{**kept, **also}))


def image_bytes(suffix: str, mode: str) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(PIXELS[0]).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, {"jpg": "JPEG", "tif": "TIFF", "pgm": "PPM"}.get(suffix, suffix.upper()), exif=exif)
    return file.getvalue()


FORMATS = [("png", "RGBA"), ("png", "P"), ("png", "1"), ("jpg", "CMYK"), ("tif", "F"), ("tif", "I"), ("webp", "RGB")]
FORMATS += [("bmp", "L"), ("pgm", "L"), ("tif", "LAB"), ("png", "I;16")]


@st.composite
def damaged_images(draw: st.DrawFn) -> tuple[str, bytes]:
    suffix, mode = draw(st.sampled_from(FORMATS))
    content = image_bytes(suffix, mode)
    return suffix, damaged(content, draw) if draw(st.integers(0, 9)) else content


def folder_of(root: Path) -> None:
    for part in ("train", "test"):
        for number, name in enumerate("ab"):
            (root / part / name).mkdir(parents=True)
            Image.fromarray(PIXELS[number]).save(root / part / name / "0.png")


@settings(max_examples=EXAMPLES)
@given(images=st.lists(damaged_images(), min_size=1, max_size=3), skip=st.booleans(), grey=st.booleans())
def test_damaged_images_are_read_refused_or_left_out(images: list[tuple[str, bytes]], skip: bool, grey: bool) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder_of(Path(made) / "in")
        for number, (suffix, content) in enumerate(images):
            (Path(made) / "in" / "train" / "a" / f"more{number}.{suffix}").write_bytes(content)
        task = Task(dataset=f"folder:{1 if grey else 3}x4x4", data_dir=f"{made}/in", clients=2)
        if skip:
            write_data(msgspec.structs.replace(task, bad_images="skip"), Path(made) / "made")  # all others are whole
        else:
            looked_at(task, Path(made))


NAMES = st.one_of(
    st.sampled_from(
        ["a", "b", "A", "a ", "\u00e9", "e\u0301", ".git", "__MACOSX", "0.png", "x.PNG", "\x1b[1m", "[/b]"]
    ),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
).filter(lambda name: name not in (".", ".."))
DEEDS = st.tuples(
    st.sampled_from(["folder", "file", "image", "link", "up", "remove", "pipe"]),
    st.sampled_from(["", "train", "test", "train/a", "test/b", "train/a/x"]),
    NAMES,
)


@settings(max_examples=EXAMPLES)
@given(deeds=st.lists(DEEDS, min_size=1, max_size=8))
def test_any_tree_of_folders_is_read_or_refused_in_one_line(deeds: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "in"
        folder_of(root)
        for deed, where, name in deeds:
            path = root / where / (f"{name}.png" if deed == "image" else name)
            try:
                if deed != "remove" and (path.exists() or path.is_symlink()):
                    continue  # to write into a pipe would wait for ever
                match deed:
                    case "folder":
                        path.mkdir(parents=True)
                    case "file":
                        path.write_bytes(b"text")
                    case "image":
                        Image.fromarray(PIXELS[2]).save(path)
                    case "link":
                        path.symlink_to(root / "train" / name)
                    case "up":
                        path.symlink_to(path.parent)
                    case "pipe":
                        os.mkfifo(path)
                    case _:
                        path.unlink() if path.is_file() else path.rmdir()
            except (OSError, ValueError):
                continue  # it cannot be called so
        looked_at(Task(dataset="folder:3x4x4", data_dir=str(root), clients=2), Path(made))
