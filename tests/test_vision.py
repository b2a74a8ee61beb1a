"""torchvision's data sets, from small files in its own formats that the test makes."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from algorithms import data, vision
from algorithms.task import Task, prepare
from emulator.errors import UserError

COUNTS = {True: 12, False: 5}  # train, test


def make_images(shape: tuple[int, ...], count: int) -> np.ndarray:
    return np.arange(count * np.prod(shape), dtype=np.int64).astype(np.uint8).reshape(count, *shape)


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files."""
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    for train, part in ((True, "train"), (False, "t10k")):
        images, labels = make_images((28, 28), COUNTS[train]), np.arange(COUNTS[train], dtype=np.uint8) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{part}-{kind}-ubyte").write_bytes(idx(array))
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    assert name in vision.KNOWN


def write_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two training batches and a test batch; torchvision checks their MD5."""
    folder.mkdir(parents=True)
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for name, count in (("data_batch_1", 7), ("data_batch_2", 5), ("test_batch", 5)):
        pixels = make_images((3 * 32 * 32,), count)
        content = pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(count)]})
        (folder / name).write_bytes(content)
        lists["test_list" if name == "test_batch" else "train_list"].append([name, hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({"label_names": list("abcdefghij")})
    (folder / "batches.meta").write_bytes(meta)
    for key, value in lists.items():
        monkeypatch.setattr(datasets.CIFAR10, key, value)
    about = {"filename": "batches.meta", "key": "label_names", "md5": hashlib.md5(meta).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "meta", about)


def sized(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = vision.KNOWN[name]._replace(train=COUNTS[True], test=COUNTS[False])
    monkeypatch.setitem(vision.KNOWN, name, known)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_and_its_kin_are_read_as_they_were_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / vision.KNOWN[name].files, name)
    sized(name, monkeypatch)
    train, test = data.load(name, str(tmp_path))
    assert (train.images[:, 0] == make_images((28, 28), 12)).all()
    assert train.labels.tolist() == [i % 10 for i in range(12)]
    assert (train.images.dtype, train.labels.dtype, test.images.shape) == (np.uint8, np.int64, (5, 1, 28, 28))
    assert data.describe(name, str(tmp_path)) == ((1, 28, 28), 10, 12, 5, 255)


def test_cifar_has_its_channels_first_and_reaches_the_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path / "data" / vision.KNOWN["cifar10"].files, monkeypatch)
    sized("cifar10", monkeypatch)
    task = Task(dataset="cifar10", data_dir=str(tmp_path / "data"), clients=3, batch=2)
    task.check()
    train, _ = data.load("cifar10", task.data_dir)
    assert (train.images[:7] == make_images((3, 32, 32), 7)).all()
    shards = [prepare(task, tmp_path / "made").shard(index) for index in range(3)]
    assert [len(shard) for shard in shards] == [4, 4, 4]
    x, _ = next(iter(shards[0].batches(0)))
    assert tuple(x.shape) == (2, 3, 32, 32)


@pytest.mark.parametrize("name", vision.KNOWN)
def test_a_data_set_that_is_nowhere_is_one_line_with_folder_and_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(UserError) as caught:
        data.load(name, str(tmp_path))
    text = str(caught.value)
    assert text.startswith(f"dataset: {name} is not in {tmp_path / vision.KNOWN[name].files}")
    assert "--data-dir" in text and "\n" not in text


def write_folder(
    root: Path, parts: tuple[str, ...] = ("train", "test"), classes: tuple[str, ...] = ("cat", "dog")
) -> None:
    """Two images a class and part, of one grey each: 40, 41 for cats, 80, 81 for dogs."""
    for part in parts:
        for number, name in enumerate(classes, 1):
            (root / part / name).mkdir(parents=True)
            for copy in range(2):
                shade = 40 * number + copy
                Image.new("RGB", (9, 7), (shade, shade, shade)).save(root / part / name / f"{copy}.png")


def test_a_folder_of_images_is_read_and_resized(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert data.describe("folder:3x4x5", str(tmp_path)) == ((3, 4, 5), 2, 4, 4, 255)
    train, test = data.load("folder:3x4x5", str(tmp_path))
    assert (train.images.shape, train.images.dtype) == ((4, 3, 4, 5), np.uint8)
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1]
    assert [sorted(set(image.ravel().tolist())) for image in train.images] == [[40], [41], [80], [81]]
    grey, _ = data.load("folder:1x4x5", str(tmp_path))
    assert grey.images.shape == (4, 1, 4, 5)


def test_validation_images_are_the_test_part_where_there_is_no_other(tmp_path: Path) -> None:
    write_folder(tmp_path, ("train", "val"))
    prepared = prepare(Task(dataset="folder:3x8x8", data_dir=str(tmp_path), clients=2, batch=2), tmp_path / "made")
    assert len(prepared.shard(1)) == 2


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path: Path) -> None:
    for name, parts in (("none", ()), ("no-test", ("train",))):
        write_folder(tmp_path / name, parts)
        with pytest.raises(UserError, match=r"--data-dir"):
            data.describe("folder:3x8x8", str(tmp_path / name))
    write_folder(tmp_path / "odd", ("train",))
    write_folder(tmp_path / "odd", ("test",), ("cat", "cow"))
    with pytest.raises(UserError, match="differ in classes: cow, dog"):
        data.describe("folder:3x8x8", str(tmp_path / "odd"))
    write_folder(tmp_path / "broken")
    (tmp_path / "broken" / "train" / "cat" / "0.png").write_text("no image")
    with pytest.raises(UserError, match=r"0\.png: not an image") as caught:
        data.load("folder:3x8x8", str(tmp_path / "broken"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="folder:CxHxW"):
        data.describe("folder:2x8x8", str(tmp_path / "broken"))
