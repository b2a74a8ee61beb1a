"""torchvision's data sets from small files in its own formats that the test makes."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from algorithms.data import datasets as data
from algorithms.data import torchvision_sets
from algorithms.workload.task import Task, prepare
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
    assert name in torchvision_sets.KNOWN


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
    known = torchvision_sets.KNOWN[name]._replace(train=COUNTS[True], test=COUNTS[False])
    monkeypatch.setitem(torchvision_sets.KNOWN, name, known)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_and_its_kin_are_read_as_they_were_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / torchvision_sets.KNOWN[name].files, name)
    sized(name, monkeypatch)
    train, test, *_ = data.load_all(name, str(tmp_path))
    assert (train.images[:, 0] == make_images((28, 28), 12)).all()
    assert train.labels.tolist() == [i % 10 for i in range(12)]
    assert (train.images.dtype, train.labels.dtype, test.images.shape) == (np.uint8, np.int64, (5, 1, 28, 28))
    assert data.describe(name, str(tmp_path)) == data.Description((1, 28, 28), 10, 12, 5, 255)


def test_cifar_has_its_channels_first_and_reaches_the_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path / "data" / torchvision_sets.KNOWN["cifar10"].files, monkeypatch)
    sized("cifar10", monkeypatch)
    task = Task(dataset="cifar10", data_dir=str(tmp_path / "data"), clients=3, batch=2)
    task.check()
    train, *_ = data.load_all("cifar10", task.data_dir)
    assert (train.images[:7] == make_images((3, 32, 32), 7)).all()
    shards = [prepare(task, tmp_path / "made").shard(index) for index in range(3)]
    assert [len(shard) for shard in shards] == [4, 4, 4]
    x, _ = next(iter(shards[0].batches(0)))
    assert tuple(x.shape) == (2, 3, 32, 32)


@pytest.mark.parametrize("name", torchvision_sets.KNOWN)
def test_a_data_set_that_is_nowhere_is_one_line_with_folder_and_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(UserError) as caught:
        data.load_all(name, str(tmp_path / "nowhere"))
    text = str(caught.value)
    assert text.startswith(
        f"dataset: {name} is not in {tmp_path / 'nowhere' / torchvision_sets.KNOWN[name].files}: put "
    )
    assert text.index("--data-dir") < text.index("no network") and "\n" not in text
    assert list(tmp_path.iterdir()) == []
