"""torchvision's data sets, from small files in its own formats that the test makes."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from algorithms import data, vision
from algorithms.task import Task, evaluate, prepare
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
        data.load(name, str(tmp_path / "nowhere"))
    text = str(caught.value)
    assert text.startswith(f"dataset: {name} is not in {tmp_path / 'nowhere' / vision.KNOWN[name].files}: put ")
    assert text.index("--data-dir") < text.index("no network") and "\n" not in text
    assert list(tmp_path.iterdir()) == []


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
    images = train.images[np.array([3, 0, 0])]
    assert (train.images.shape, images.shape, images.dtype) == ((4, 3, 4, 5), (3, 3, 4, 5), np.uint8)
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1]
    assert [sorted(set(image.ravel().tolist())) for image in images] == [[81], [40], [40]]
    grey, _ = data.load("folder:1x4x5", str(tmp_path))
    assert grey.images[np.array([1])].tolist() == np.full((1, 1, 4, 5), 41).tolist()


def test_pixels_of_a_folder_have_their_channels_first_and_their_places(tmp_path: Path) -> None:
    write_folder(tmp_path)
    pixels = make_images((4, 5, 3), 1)[0]
    Image.fromarray(pixels).save(tmp_path / "train" / "cat" / "0.png")
    train, _ = data.load("folder:3x4x5", str(tmp_path))
    assert (train.images[np.array([0])][0] == pixels.transpose(2, 0, 1)).all()


def test_a_folder_is_counted_as_torchvision_counts_it(tmp_path: Path) -> None:
    assert vision.EXTENSIONS == datasets.folder.IMG_EXTENSIONS
    write_folder(tmp_path)
    cats = tmp_path / "train" / "cat"
    (cats / "more").mkdir()
    for name in ("more/deep.JPG", "other.webp", "notes.txt", "jpg"):
        (cats / name).touch()
    (tmp_path / "train" / "read-me.png").touch()
    about = data.describe("folder:3x4x5", str(tmp_path))
    assert about.train == 6 == len(datasets.ImageFolder(str(tmp_path / "train")))
    train, _ = data.load("folder:3x4x5", str(tmp_path))
    assert train.labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_task_on_a_folder_is_checked_without_torch_and_without_opening_an_image(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "cat" / "0.png").write_text("no image")
    program = (
        "import sys; from algorithms.task import Task;"
        f"Task(dataset='folder:3x8x8', data_dir={str(tmp_path)!r}, clients=2).check();"
        "assert not {'torch', 'torchvision', 'PIL'} & set(sys.modules)"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)


@pytest.mark.parametrize("part", ["test", "val"])
def test_clients_see_the_images_of_a_prepared_folder_and_need_it_no_more(part: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "images", ("train", part))
    task = Task(dataset="folder:3x8x8", data_dir=str(tmp_path / "images"), clients=2, batch=2)
    plain = [sorted(x.unique().tolist()) for index in range(2) for x, _ in task.shard(index).batches(0)]
    prepared = prepare(task, tmp_path / "made")
    shutil.rmtree(tmp_path / "images")
    seen = [sorted(x.unique().tolist()) for index in range(2) for x, _ in prepared.shard(index).batches(0)]
    assert seen == plain
    shades = [round(255 * value) for values in seen for value in values]
    assert sorted(shades) == [40, 41, 80, 81]
    assert evaluate(prepared, prepared.halves(prepared.whole().state_dict()))[0] in (0.0, 0.25, 0.5, 0.75, 1.0)


def add(path: Path, content: str = "no image") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


BAD_FOLDERS = {
    "nothing": ((), (), "has no train/CLASS/IMAGE and test/CLASS/IMAGE (or val): name the folder"),
    "no test part": (("train",), (), "has no train/CLASS/IMAGE and test/CLASS/IMAGE (or val)"),
    "no training part": (("test",), (), "has no train/CLASS/IMAGE"),
    "other classes": (("train", "test"), ("test/cow/0.png",), "differ in classes: cow"),
    "a class without images": (("train", "test"), ("train/cow/notes.txt",), "train/cow: a class without images"),
    "no classes": ((), ("train/0.png", "test/0.png"), "train: no class: images are in folders CLASS"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_what_is_wrong_with_a_folder_is_one_line(case: str, tmp_path: Path) -> None:
    parts, files, text = BAD_FOLDERS[case]
    write_folder(tmp_path, parts)
    for name in files:
        add(tmp_path / name)
    with pytest.raises(UserError) as caught:
        data.describe("folder:3x8x8", str(tmp_path))
    assert text in str(caught.value) and str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", ["2x8x8", "3x8", "3x0x8", "3x8x8:10", "8x8x3"])
def test_a_folder_s_shape_is_one_or_three_channels_height_and_width(shape: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="say folder:CxHxW with 1 or 3 channels"):
        data.describe(f"folder:{shape}", str(tmp_path))


@pytest.mark.parametrize("content", ["", "no image", "\x89PNG\r\n\x1a\n half of one", "P5 9"])
def test_an_image_that_cannot_be_read_is_named(content: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "images")
    (tmp_path / "images" / "train" / "cat" / "0.png").write_bytes(content.encode("latin-1"))
    task = Task(dataset="folder:3x8x8", data_dir=str(tmp_path / "images"), clients=2, batch=2)
    with pytest.raises(UserError, match=r"cat/0\.png: not an image that can be read") as caught:
        prepare(task, tmp_path / "made")
    assert "\n" not in str(caught.value)


def test_an_image_cut_short_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "images")
    file = tmp_path / "images" / "test" / "dog" / "1.png"
    file.write_bytes(file.read_bytes()[:45])
    with pytest.raises(UserError, match=r"dog/1\.png: not an image that can be read"):
        data.load("folder:3x8x8", str(tmp_path / "images"))[1].images[np.array([3])]
