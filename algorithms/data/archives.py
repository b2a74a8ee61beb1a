"""Archives of arrays (``numpy.savez``): images and labels as people save them, or why they cannot be meant.

Arrays are found by the names of ``NAMES``. Images are [N, H, W], [N, C, H, W] or [N, H, W, C], of bytes, or of other
numbers whose meaning is plain: float from 0 to 1, whole numbers from 0 to 255, 16 bits. What had to be understood is
said. No array is believed by its header alone: numpy would reserve whatever that claims.
"""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from algorithms.data import labels as classes
from algorithms.data.labels import shown
from algorithms.data.owners import of_both
from emulator.errors import UserError

NAMES = {  # what an array may be called: our names, MedMNIST's and others', Keras's
    "images": ("images", "train_images", "x_train"),
    "labels": ("labels", "train_labels", "y_train"),
    "test_images": ("test_images", "x_test"),
    "test_labels": ("test_labels", "y_test"),
}
OWNERS = ("owners", "clients", "users", "subjects", "groups")  # whose each training sample is: one may be there
INPUTS = ("inputs", "labels", "test_inputs", "test_labels")  # of an archive whose samples are no images
PARTS = ("", "test_")
CHANNELS = (1, 3, 4)  # that the last axis of an image can be
WHITE = 255
_CHUNK = 1024  # images converted at a time

Array = np.ndarray[Any, Any]
Shape = tuple[int, int, int]


class Archive(NamedTuple):
    """An archive whose headers and labels have been read. ``shape`` of an image: (C, H, W)."""

    path: Path
    names: dict[str, str]  # of each of ``NAMES``, what it is called here
    shape: Shape
    channels_last: bool
    labels: tuple[Array, Array]  # int64, train and test
    classes: int
    remarks: list[str]


def read(path: Path) -> Archive:
    """Shape, labels and what to say of them; no image is read. UserError where the archive cannot be meant."""
    names, unused = _names(path)
    shapes: list[tuple[int, ...]] = []
    labels: list[Array] = []
    for part in PARTS:
        images = names[f"{part}images"]
        dtype, shape = _header(path, images)
        if dtype.kind not in "biuf" or len(shape) not in (3, 4) or min(shape[1:]) < 1:
            raise UserError(
                f"{path}: {images}: must be numbers of shape [N, H, W], [N, C, H, W] or [N, H, W, C], not {dtype} of"
                f" shape {list(shape)}"
            )
        if shapes and shape[1:] != shapes[0][1:]:
            raise UserError(f"{path}: {images}: must be of the shape of {names['images']}, {list(shapes[0][1:])}")
        found = classes.numbers(f"{path}: {names[f'{part}labels']}", _array(path, names[f"{part}labels"]))
        if len(found) != shape[0]:
            raise UserError(
                f"{path}: {names[f'{part}labels']}: must be one class number for each of {images}: there are"
                f" {len(found)} for {shape[0]}"
            )
        shapes.append(shape)
        labels.append(found)
    _, *axes = shapes[0]
    last = len(axes) == 3 and axes[2] in CHANNELS and min(axes[:2]) > axes[2]
    channels, height, width = (axes[2], *axes[:2]) if last else axes if len(axes) == 3 else (1, *axes)
    remarks = [f"{names['images']} of {path.name} have their channels last, {axes}: taken so"] if last else []
    if not last and channels > max(CHANNELS) and width < min(channels, height):
        remarks.append(f"images have {channels} channels of {height}x{width} pixels: transpose them if channels last")
    if unused:
        remarks.append(f"unused in {path.name}: {classes.some(unused)}")
    train, test = labels
    number = classes.count_classes(f"{path}: {names['labels']}", train, test)
    return Archive(path, names, (channels, height, width), last, (train, test), number, remarks)


def images(archive: Archive) -> tuple[Array, Array, list[str]]:
    """The images of both parts, uint8 [N, C, H, W], and what to say of them."""
    train, test = (_array(archive.path, archive.names[f"{part}images"]) for part in PARTS)
    train, test, remarks = _bytes(archive, train, test)
    if archive.channels_last:
        train, test = (part.transpose(0, 3, 1, 2) for part in (train, test))
    return train.reshape(-1, *archive.shape), test.reshape(-1, *archive.shape), remarks


def owners(archive: Archive) -> tuple[Array | None, Array | None]:
    """Whose each training and each test sample is, numbers or names [N], where the archive says it."""
    keys = [f"{part}owners" for part in PARTS]
    train, test = (_array(archive.path, archive.names[key]) if key in archive.names else None for key in keys)
    first, second = (archive.names.get(key, key) for key in keys)
    counts = len(archive.labels[0]), len(archive.labels[1])
    return of_both(str(archive.path), train, test, counts, (first, second))


def holds_inputs(path: Path) -> bool:
    """Whether it says by an array ``inputs`` that its samples may be anything."""
    with _reading(path), zipfile.ZipFile(path) as archive:
        return f"{INPUTS[0]}.npy" in archive.namelist()


def inputs(path: Path) -> dict[str, Any]:
    """Inputs and labels of both parts, and owners where it has them; UserError where an array is missing."""
    with _reading(path), zipfile.ZipFile(path) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
    if missing := [name for name in INPUTS if name not in held]:
        raise UserError(f"{path}: has {INPUTS[0]}, and no {missing[0]}: save {', '.join(INPUTS)}")
    train_x, train_y, test_x, test_y = (_array(path, name) for name in INPUTS)
    found = {"train": (train_x, train_y), "test": (test_x, test_y)}
    whose = [(f"{part}owners", f"{part}{name}") for part in PARTS for name in OWNERS if f"{part}{name}" in held]
    return {**found, **{key: _array(path, name) for key, name in whose}}


def _bytes(archive: Archive, train: Array, test: Array) -> tuple[Array, Array, list[str]]:
    """Both parts by one rule."""
    where = f"{archive.path}: {archive.names['images']}"
    if train.dtype == np.uint8 == test.dtype:
        return train, test, []
    if train.dtype.kind != test.dtype.kind:
        raise UserError(f"{where}: are {train.dtype}, and the test part's {test.dtype}: save both alike")
    kind, both = train.dtype.kind, (train, test)
    if kind == "f" and not all(np.isfinite(part).all() for part in both):
        raise UserError(f"{where}: some pixels are not a number: leave those images out")
    least, most = min(part.min() for part in both), max(part.max() for part in both)
    spread = f"{train.dtype} from {least:.6g} to {most:.6g}"
    if kind == "b":
        factor, how = float(WHITE), "True is white"
    elif least >= 0 and kind == "f" and most <= 1:
        factor, how = float(WHITE), "taken as 0 to 1, in 255 steps"
    elif least >= 0 and most <= WHITE and all((part == np.rint(part)).all() for part in both):
        factor, how = 1.0, "taken as bytes"
    elif train.dtype.kind == test.dtype.kind == "u" and train.itemsize == test.itemsize == 2:
        factor, how = WHITE / 65535, "scaled by the range of 16 bits, 65535 is white"
    else:
        raise UserError(f"{where}: are {spread}: scale them to whole numbers from 0 to 255 (uint8), or to 0 to 1")
    said = [f"{archive.names['images']} of {archive.path.name} are {spread}: {how}"]
    return _scaled(train, factor), _scaled(test, factor), said


def _scaled(part: Array, factor: float) -> Array:
    made = np.empty(part.shape, np.uint8)
    for start in range(0, len(part), _CHUNK):
        rows = slice(start, start + _CHUNK)
        made[rows] = np.rint(part[rows].astype(np.float64) * factor)
    return made


# --- the file ---------------------------------------------------------------------------------------------------------


def _names(path: Path) -> tuple[dict[str, str], list[str]]:
    """What each of ``NAMES`` is called in the archive, and arrays that are none of them."""
    with _reading(path), zipfile.ZipFile(path) as archive:
        files = archive.namelist()
    held = [name.removesuffix(".npy") for name in files if name.endswith(".npy")]
    if twice := sorted({name for name in held if held.count(name) > 1 or name in files}):
        raise UserError(f"{path}: has {classes.some(list(map(shown, twice)))} more than once: save each array once")
    found = {}
    for array, known in NAMES.items():
        there = [name for name in known if name in held]
        if len(there) > 1:
            raise UserError(f"{path}: has {' and '.join(there)}: leave one of them out")
        if not there:
            has = classes.some([shown(name) for name in held or files]) or "nothing"
            raise UserError(
                f"{path}: not an archive of images, labels, test_images and test_labels (numpy.savez): there is no"
                f" {' nor '.join(known)}; it has {has}{_folded(held, known)}"
            )
        found[array] = there[0]
    for part in PARTS:
        there = [f"{part}{name}" for name in OWNERS if f"{part}{name}" in held]
        if len(there) > 1:
            raise UserError(f"{path}: has {' and '.join(there)}: leave one of them out")
        if there:
            found[f"{part}owners"] = there[0]
    return found, [shown(name) for name in held if name not in found.values()]


def _folded(held: Sequence[str], known: Sequence[str]) -> str:
    """Where only capitals or folders keep an array from being found."""
    near = [name for name in held if name.lower().rpartition("/")[2] in known]
    return f": call {shown(near[0])} {near[0].lower().rpartition('/')[2]}" if near else ""


def _header(path: Path, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape of an array of the archive, which is not read; UserError unless it is as long as they say."""
    with _reading(path), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        held = archive.getinfo(f"{name}.npy").file_size - file.tell()
        if dtype.hasobject:
            raise UserError(f"{path}: {name}: holds Python objects, which are not read: save an array of numbers")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != held:
            raise UserError(f"{path}: {name}: says {dtype} of shape {list(shape)}, {size} B, and has {held} B")
        if size > psutil.virtual_memory().total:
            raise UserError(f"{path}: {name}: {size / 2**30:.1f} GiB are more than this host's memory: take a part")
        return dtype, shape


def _array(path: Path, name: str) -> Array:
    _header(path, name)
    with _reading(path), np.load(path) as archive:
        array: Array = archive[name]
        return array


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever zipfile, its decompressors and numpy make of bytes; memory too
        what = " ".join(str(error).split()) or type(error).__name__
        what = what if " object at 0x" not in what else "a header is no plain text"
        raise UserError(
            f"{path}: not an archive of images, labels, test_images and test_labels (numpy.savez): {what[:200]}"
        ) from None
