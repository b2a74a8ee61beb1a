"""Archives of arrays: read as meant, or refused by the array."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.data import archives, datasets
from algorithms.workload.judging import judge
from algorithms.workload.task import Task, facts, prepare
from emulator.errors import UserError


def test_a_named_archive_is_read_from_the_data_folder(tmp_path: Path) -> None:
    images, labels = np.arange(10 * 64, dtype=np.uint8).reshape(10, 8, 8), np.arange(10) % 3
    np.savez(tmp_path / "mine.npz", images=images, labels=labels, test_images=images[:4], test_labels=labels[:4])
    assert datasets.describe("mine", str(tmp_path)) == datasets.Description((1, 8, 8), 3, 10, 4, 255)
    train, test, *_ = datasets.load_all("mine", str(tmp_path))
    assert (train.images.reshape(10, 8, 8) == images).all()
    assert len(test.labels) == 4


def test_files_of_that_name_which_are_no_archives_are_named(tmp_path: Path) -> None:
    for name in ("mine.csv", "mine.h5", "other.csv"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"NAME for a file NAME.npz in the folder .*, which has mine\.csv, mine\.h5$"):
        datasets.describe("mine", str(tmp_path))


def test_a_broken_archive_is_refused_by_path(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_text("no archive")
    with pytest.raises(UserError, match=r"mine\.npz: not an archive"):
        datasets.describe("mine", str(tmp_path))


RAMP = np.arange(60 * 48, dtype=np.int64).reshape(60, 8, 6) % 256
LABELS = np.arange(60) % 3


def write(folder: Path, **changes: Any) -> None:
    """``mine.npz``: 60 images of 8x6 and three classes in both parts, but for ``changes`` (None: without it)."""
    arrays = {"images": RAMP.astype(np.uint8), "labels": LABELS}
    both = {f"{part}{key}": array for part in ("", "test_") for key, array in arrays.items()} | changes
    np.savez(folder / "mine.npz", **{key: array for key, array in both.items() if array is not None})


def alike(**changes: Any) -> dict[str, Any]:
    """The same change in both parts."""
    return {f"{part}{key}": value for part in ("", "test_") for key, value in changes.items()}


def prepared(folder: Path, **changes: Any) -> tuple[Task, dict[str, Any]]:
    task = prepare(Task(dataset="mine", data_dir=str(folder), clients=2, **changes), folder / "made")
    return task, facts(task)


COLOUR = np.arange(60 * 8 * 6 * 3, dtype=np.int64).reshape(60, 8, 6, 3) % 251  # channels last
BYTES = RAMP.astype(np.uint8)
HIGH = RAMP.astype(np.uint16) * 257  # 16 bits, whose whole range is used
MEANT = {  # what is said, and the images [N, C, H, W] that are meant
    "float from 0 to 1": (alike(images=(RAMP / 255).astype(np.float32)), "taken as 0 to 1", BYTES[:, None]),
    "whole floats": (alike(images=RAMP.astype(np.float64)), "taken as bytes", BYTES[:, None]),
    "whole numbers": (alike(images=RAMP), "int64 from 0 to 255: taken as bytes", BYTES[:, None]),
    "bytes in 16 bits": (alike(images=RAMP.astype(np.uint16)), "taken as bytes", BYTES[:, None]),
    "16 bits": (alike(images=HIGH), "65535 is white", BYTES[:, None]),
    "16 bits, other end first": (alike(images=HIGH.astype(">u2")), "65535 is white", BYTES[:, None]),
    "booleans": (alike(images=RAMP % 2 == 1), "True is white", np.where(RAMP % 2, 255, 0)[:, None]),
    "channels last": (
        alike(images=COLOUR.astype(np.uint8)),
        "have their channels last, [8, 6, 3]",
        COLOUR.transpose(0, 3, 1, 2),
    ),
    "grey, channels last": (alike(images=BYTES[..., None]), "channels last", BYTES[:, None]),
    "channels first": (alike(images=COLOUR.astype(np.uint8).transpose(0, 3, 1, 2)), "", COLOUR.transpose(0, 3, 1, 2)),
    "Fortran's order": (alike(images=np.asfortranarray(BYTES)), "", BYTES[:, None]),
    "float labels": (alike(labels=LABELS.astype(np.float32)), "", BYTES[:, None]),
    "labels in a column": (alike(labels=LABELS[:, None]), "", BYTES[:, None]),
    "labels, other end first": (alike(labels=LABELS.astype(">i4")), "", BYTES[:, None]),
}


@pytest.mark.parametrize("case", MEANT)
def test_arrays_as_people_save_them_are_read_as_meant_and_it_is_said(case: str, tmp_path: Path) -> None:
    changes, said, meant = MEANT[case]
    write(tmp_path, **changes)
    about = datasets.describe("mine", str(tmp_path))
    assert about == datasets.Description(meant.shape[1:], 3, 60, 60, 255)
    train, test, *_ = datasets.load_all("mine", str(tmp_path))
    assert (np.asarray(train.images[np.arange(60)]) == meant).all()
    assert (np.asarray(test.images[np.arange(60)]) == meant).all()
    assert train.images.dtype == np.uint8 and train.labels.dtype == np.int64
    assert train.labels.tolist() == test.labels.tolist() == LABELS.tolist()
    _, found = prepared(tmp_path)
    remarks = [remark for remark in found["remarks"] if "training images too" not in remark]
    assert [said in remark for remark in remarks] == [True] * bool(said)


@pytest.mark.parametrize(
    "names",
    [
        {"images": "train_images", "labels": "train_labels"},
        {"images": "x_train", "labels": "y_train", "test_images": "x_test", "test_labels": "y_test"},
    ],
)
def test_arrays_have_the_names_that_others_give_them_and_a_third_part_is_said_to_be_unused(
    names: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path)
    with np.load(tmp_path / "mine.npz") as archive:
        arrays = {names.get(key, key): archive[key] for key in archive.files}
    np.savez(tmp_path / "mine.npz", **arrays, val_images=BYTES, val_labels=LABELS)
    train, *_ = datasets.load_all("mine", str(tmp_path))
    assert (train.images[:, 0] == BYTES).all()
    assert "unused in mine.npz: val_images, val_labels" in prepared(tmp_path)[1]["remarks"]


@pytest.mark.parametrize(
    ("shape", "channels_last"),
    [
        ((28, 28, 28, 3), True),
        ((28, 28, 1), True),
        ((3, 28, 28), False),
        ((4, 8, 3), True),
        ((1, 28, 3), False),
        ((3, 3, 3), False),
        ((8, 8, 2), False),
    ],
)
def test_channels_are_last_where_the_last_axis_can_be_them_and_both_others_are_larger(
    shape: tuple[int, ...], channels_last: bool, tmp_path: Path
) -> None:
    write(tmp_path, **alike(images=np.zeros((60, *shape[-3:]), np.uint8)))
    one, two, three = shape[-3:]
    expected = (three, one, two) if channels_last else (one, two, three)
    assert datasets.describe("mine", str(tmp_path)).shape == expected


REFUSED = {
    "negative floats": (alike(images=RAMP / 127.5 - 1), "images: are float64 from -1 to 1: scale them"),
    "floats in between": (alike(images=RAMP + 0.5), "images: are float64 from 0.5 to 255.5: scale"),
    "not a number": (alike(images=np.where(RAMP == 5, np.nan, 0.5)), "images: some pixels are not a number"),
    "large whole numbers": (alike(images=RAMP * 100), "images: are int64 from 0 to 25500: scale"),
    "negative whole numbers": (alike(images=RAMP - 128), "images: are int64 from -128 to 127: scale"),
    "two types": ({"images": RAMP / 255}, "images: are float64, and the test part's uint8: save both alike"),
    "complex numbers": (alike(images=RAMP * 1j), "images: must be numbers of shape"),
    "no pixels": ({"images": np.zeros(60, np.uint8)}, "images: must be numbers of shape"),
    "no width": (alike(images=np.zeros((60, 8, 0), np.uint8)), "images: must be numbers of shape"),
    "other test images": ({"test_images": np.zeros((60, 8, 9), np.uint8)}, "test_images: must be of the shape of im"),
    "too few labels": ({"labels": LABELS[:3]}, "labels: must be one class number for each of images: there are 3"),
    "a negative label": ({"test_labels": LABELS - 1}, "test_labels: must be class numbers from 0: a label is -1"),
    "labels in words": ({"labels": np.array(list("abc") * 20)}, "labels: must be one class number from 0 a sample"),
    "one-hot labels": ({"labels": np.eye(3)[LABELS]}, r"labels: .* of one-hot rows take labels.argmax\(1\)"),
    "labels that are no whole numbers": ({"labels": LABELS + 0.5}, "labels: must be whole numbers: a label is 0.5"),
    "labels without end": ({"labels": LABELS + np.inf}, "labels: must be whole numbers: a label is inf"),
    "objects": ({"labels": np.array([None] * 60)}, "labels: holds Python objects"),
    "no sample": (alike(images=BYTES[:0], labels=LABELS[:0]), "labels: there is no label"),
    "no test part": ({"test_images": None}, "not an archive .* there is no test_images nor x_test; it has images, lab"),
    "one class": (alike(labels=LABELS * 0 + 1), r"labels: all training samples are of one class \(1\)"),
    "test classes of no training sample": (
        {"test_labels": LABELS + 50},
        "labels: the test part has classes that no training sample has: 50, 51, 52: add",
    ),
    "a huge label": (
        alike(labels=np.where(LABELS == 1, 2**40, LABELS)),
        r"labels: the largest is 1099511627776, but only 3 classes occur: number the classes from 0",
    ),
    "a large label": (alike(labels=np.where(LABELS == 1, 10**6, LABELS)), "labels: the largest is 1000000, but only 3"),
    "the largest label": (
        alike(labels=LABELS.astype(np.uint64) + np.uint64(2**64 - 4)),
        "labels: a label is 18446744073709551614",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_archive_that_cannot_be_meant_is_refused_in_one_line_by_the_array(case: str, tmp_path: Path) -> None:
    changes, text = REFUSED[case]
    write(tmp_path, **changes)
    with pytest.raises(UserError, match=rf"mine\.npz: {text}") as caught:
        prepared(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_label_above_a_thousand_is_believed_where_a_tenth_of_the_classes_occur(tmp_path: Path) -> None:
    images, labels = np.zeros((1100, 4, 4), np.uint8), np.arange(1100)
    write(tmp_path, images=images, labels=labels, test_images=images[:9], test_labels=labels[:9])
    assert datasets.describe("mine", str(tmp_path)).classes == 1100


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (LABELS + 1, r"1 of 4 classes have no training sample \(0\), .*: number the classes from 0"),
        (np.array([0, 3, 7])[LABELS], r"5 of 8 classes have no training sample \(1, 2, 4, 5, 6\)"),
    ],
)
def test_classes_that_no_training_sample_has_are_named_with_the_remedy(
    labels: np.ndarray, said: str, tmp_path: Path
) -> None:
    write(tmp_path, **alike(labels=labels))
    assert re.match(said, prepared(tmp_path)[1]["remarks"][0])


def test_a_class_that_is_never_judged_and_a_skewed_test_part_are_named(tmp_path: Path) -> None:
    write(tmp_path, test_labels=np.where(np.arange(60) < 45, 2, 0))
    unjudged, skewed = prepared(tmp_path)[1]["remarks"][:2]
    assert unjudged == "1 classes have no test sample (1): never judged"
    assert skewed.startswith("75.0% of the test part is of class 2: always saying so would have that accuracy")


def rewritten(path: Path, name: str, content: bytes) -> None:
    """The archive with another member of that name."""
    with zipfile.ZipFile(path) as archive:
        held = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, was in held.items():
            archive.writestr(member, content if member == name else was)


def header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("shape", [(10**13,), (60,), (-1,), (2**62, 2**62)])
def test_an_array_that_claims_more_than_it_has_is_refused_before_memory_is_reserved(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    write(tmp_path)
    rewritten(tmp_path / "mine.npz", "labels.npy", header(shape) + bytes(7))
    with pytest.raises(UserError, match=r"mine\.npz: labels: says int64 of shape .* and has 7 B"):
        datasets.describe("mine", str(tmp_path))


def test_an_encrypted_archive_and_one_cut_short_are_refused_by_path(tmp_path: Path) -> None:
    write(tmp_path)
    whole = (tmp_path / "mine.npz").read_bytes()
    encrypted = bytearray(whole)
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # bit 0 of a member's flags
        place = encrypted.find(signature)
        while place >= 0:
            encrypted[place + flags] |= 1
            place = encrypted.find(signature, place + 1)
    for content, text in ((bytes(encrypted), "encrypted"), (whole[: len(whole) // 2], "not a zip file")):
        (tmp_path / "mine.npz").write_bytes(content)
        with pytest.raises(UserError, match=rf"mine\.npz: not an archive .*{text}") as caught:
            datasets.describe("mine", str(tmp_path))
        assert "\n" not in str(caught.value)


def test_constant_and_dark_images_are_named_by_their_part(tmp_path: Path) -> None:
    write(
        tmp_path,
        images=(RAMP * 37 % 256 // 10).astype(np.uint8),
        test_images=np.where(np.arange(60)[:, None, None] < 40, 7, BYTES),
    )
    found = prepared(tmp_path)[1]["remarks"]
    assert "the training part is dark: its brightest pixel is 25, and white 255: scale its pixels" in found
    assert "40 of 60 images of the test part are nearly constant: are their pixels read as meant?" in found


def test_images_that_are_in_both_parts_are_counted(tmp_path: Path) -> None:
    draws = np.random.default_rng(1).integers(0, 256, (2, 60, 8, 6), dtype=np.uint8)
    draws[1, :7] = draws[0, 3]
    write(tmp_path, images=draws[0], test_images=draws[1])
    assert prepared(tmp_path)[1]["remarks"] == ["7 of 60 test images are training images too, pixel by pixel"]


ENTRIES = {
    "an array twice": (["images.npy", "labels.npy", "images.npy"], "has images more than once: save each array once"),
    "a name with its ending and without": (["images.npy", "images"], "has images more than once"),
    "files that are no arrays": (["images", "labels"], "there is no images .*; it has images, labels"),
    "capitals": (["Images.npy"], "it has Images: call Images images"),
    "a folder": (["set/x_train.npy"], "it has set/x_train: call set/x_train x_train"),
    "a name that steers a terminal": (["\x1b[31m.npy"], r"it has \\x1b\[31m$"),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_an_archive_s_names_are_each_there_once_and_as_they_are_called(case: str, tmp_path: Path) -> None:
    names, said = ENTRIES[case]
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        warnings.simplefilter("ignore")  # zipfile's, of a name that is there twice
        for name in names:
            array = io.BytesIO()
            np.save(array, BYTES)
            archive.writestr(name, array.getvalue())
    with pytest.raises(UserError, match=rf"mine\.npz: .*{said}") as caught:
        datasets.describe("mine", str(tmp_path))
    assert str(caught.value).isprintable()


def test_an_archive_s_images_are_read_when_it_is_prepared_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"images": np.zeros((40, 3, 8, 8), np.uint8), "labels": np.arange(40) % 2}
    np.savez_compressed(tmp_path / "mine.npz", **arrays, **{f"test_{key}": array for key, array in arrays.items()})
    read: list[str] = []
    array = archives._array
    monkeypatch.setattr(archives, "_array", lambda path, name: (read.append(name), array(path, name))[1])
    task = Task(dataset="mine", data_dir=str(tmp_path), clients=2)
    task.check()
    assert "images" not in read and "test_images" not in read
    prepared = prepare(task, tmp_path / "made")
    assert "images" in read
    (tmp_path / "mine.npz").unlink()
    prepared.check()
    assert len(prepared.shard(1)) == 20
    assert prepared.shard_samples() == [20, 20]
    judge(prepared, prepared.halves(prepared.full_model().state_dict()))
