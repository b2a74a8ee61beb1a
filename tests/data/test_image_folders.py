"""Folders of images: what is a class, what is an image, and what its pixels become."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from algorithms.data import datasets as data
from algorithms.data import image_folders
from algorithms.workload.judging import judge
from algorithms.workload.task import Task, prepare
from emulator.errors import UserError


def make_images(shape: tuple[int, ...], count: int) -> np.ndarray:
    return np.arange(count * np.prod(shape), dtype=np.int64).astype(np.uint8).reshape(count, *shape)


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
    assert data.describe("folder:3x4x5", str(tmp_path)) == data.Description((3, 4, 5), 2, 4, 4, 255)
    train, test, *_ = data.load_all("folder:3x4x5", str(tmp_path))
    images = train.images[np.array([3, 0, 0])]
    assert (train.images.shape, images.shape, images.dtype) == ((4, 3, 4, 5), (3, 3, 4, 5), np.uint8)
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1]
    assert [sorted(set(image.ravel().tolist())) for image in images] == [[81], [40], [40]]
    grey, *_ = data.load_all("folder:1x4x5", str(tmp_path))
    assert grey.images[np.array([1])].tolist() == np.full((1, 1, 4, 5), 41).tolist()


def test_pixels_of_a_folder_have_their_channels_first_and_their_places(tmp_path: Path) -> None:
    write_folder(tmp_path)
    pixels = make_images((4, 5, 3), 1)[0]
    Image.fromarray(pixels).save(tmp_path / "train" / "cat" / "0.png")
    train, *_ = data.load_all("folder:3x4x5", str(tmp_path))
    assert (train.images[np.array([0])][0] == pixels.transpose(2, 0, 1)).all()


def test_a_folder_is_counted_as_torchvision_counts_it(tmp_path: Path) -> None:
    assert image_folders.EXTENSIONS == datasets.folder.IMG_EXTENSIONS
    write_folder(tmp_path)
    cats = tmp_path / "train" / "cat"
    (cats / "more").mkdir()
    for name in ("more/deep.JPG", "other.webp", "notes.txt", "jpg"):
        (cats / name).touch()
    (tmp_path / "train" / "read-me.png").touch()
    about = data.describe("folder:3x4x5", str(tmp_path))
    assert about.train == 6 == len(datasets.ImageFolder(str(tmp_path / "train")))
    train, *_ = data.load_all("folder:3x4x5", str(tmp_path))
    assert train.labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_task_on_a_folder_is_checked_without_torch_and_without_opening_an_image(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "cat" / "0.png").write_text("no image")
    program = (
        "import sys; from algorithms.workload.task import Task;"
        f"Task(dataset='folder:3x8x8', data_dir={str(tmp_path)!r}, clients=2).check();"
        "assert not {'torch', 'torchvision', 'PIL'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
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
    assert judge(prepared, prepared.halves(prepared.full_model().state_dict())).scores["accuracy"] in (
        0.0,
        0.25,
        0.5,
        0.75,
        1.0,
    )


def add(path: Path, content: str = "no image") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


BAD_FOLDERS = {
    "nothing": ((), (), "has no train/CLASS/IMAGE and test/CLASS/IMAGE (or val): name the folder"),
    "no test part": (("train",), (), "has no train/CLASS/IMAGE and test/CLASS/IMAGE (or val)"),
    "no training part": (("test",), (), "has no train/CLASS/IMAGE"),
    "other classes": (
        ("train", "test"),
        ("test/cow/0.png",),
        "differ in classes: 'cow' is only in test/: add images of it to train/",
    ),
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
        data.load_all("folder:3x8x8", str(tmp_path / "images"))[1].images[np.array([3])]


def grey(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4  # 0 to 252


NO_CLASSES = (".ipynb_checkpoints", "__MACOSX", "lost+found", ".git", "@eaDir")


def test_hidden_folders_and_what_systems_leave_behind_are_no_classes_and_no_images(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for name in NO_CLASSES:
        grey(tmp_path / "train" / name / "0.png", RAMP)
        grey(tmp_path / "train" / "cat" / name / "copy.png", RAMP)
    for name in (".DS_Store", "Thumbs.db"):
        (tmp_path / "train" / name).touch()
    grey(tmp_path / "train" / "cat" / "._0.png", RAMP)
    assert data.describe("folder:3x4x5", str(tmp_path)) == data.Description((3, 4, 5), 2, 4, 4, 255)
    (said,) = image_folders.describe("folder:3x4x5", str(tmp_path)).remarks
    assert all(f"train/{name}" in said for name in NO_CLASSES) and said.startswith("no classes: ")


@pytest.mark.parametrize("target", ["train/cat", "train", "train/cat/more"])
def test_a_link_that_goes_in_a_circle_is_one_line(target: str, tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "cat" / "more").mkdir()
    (tmp_path / "train" / "cat" / "more" / "again").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=r"cat/more/again: a link that leads back to .*, in a circle: remove it"):
        data.describe("folder:3x4x5", str(tmp_path))


def test_links_that_lead_elsewhere_are_followed_and_one_to_nothing_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere")
    (tmp_path / "in").mkdir()
    for part in ("train", "test"):
        (tmp_path / "in" / part).symlink_to(tmp_path / "elsewhere" / part)
    assert data.describe("folder:3x4x5", str(tmp_path / "in")).train == 4
    (tmp_path / "elsewhere" / "train" / "cow").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="train/cow: a link to nothing: mend or remove it"):
        data.describe("folder:3x4x5", str(tmp_path / "in"))


def test_classes_are_numbered_in_the_order_of_their_names_as_text(tmp_path: Path) -> None:
    write_folder(tmp_path, classes=("10", "2", "Zebra", "ape", "e\u0301toile"))
    found = image_folders.describe("folder:3x4x5", str(tmp_path))
    assert found.classes == ["10", "2", "Zebra", "ape", "\u00e9toile"]
    classes = datasets.ImageFolder(str(tmp_path / "train")).classes
    assert [name.replace("e\u0301", "\u00e9") for name in classes] == found.classes


def test_a_name_is_the_same_however_its_accents_are_written(tmp_path: Path) -> None:
    write_folder(tmp_path, ("train",), ("caf\u00e9", "the"))
    write_folder(tmp_path, ("test",), ("cafe\u0301", "the"))
    assert data.describe("folder:3x4x5", str(tmp_path)) == data.Description((3, 4, 5), 2, 4, 4, 255)
    write_folder(tmp_path, ("train",), ("cafe\u0301",))
    with pytest.raises(UserError, match="there are two folders of this name, in two spellings of its accents"):
        data.describe("folder:3x4x5", str(tmp_path))


def test_classes_that_differ_in_capitals_or_spaces_alone_are_two_and_it_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path, classes=("Cat", "cat", "dog", "dog "))
    found = image_folders.describe("folder:3x4x5", str(tmp_path))
    assert len(found.classes) == 4
    assert found.remarks[0] == "classes of train/ differ in capitals or spaces alone: 'Cat', 'cat', 'dog', 'dog '"


def test_a_class_of_one_part_alone_is_refused_by_name_with_a_remedy_for_both_parts(tmp_path: Path) -> None:
    write_folder(tmp_path, ("train",), ("cat", "dog"))
    write_folder(tmp_path, ("val",), ("cat", "dog "))
    with pytest.raises(UserError) as caught:
        data.describe("folder:3x4x5", str(tmp_path))
    assert str(caught.value).endswith(
        "train and val part differ in classes: 'dog' is only in train/: add images of it to val/, or remove it, "
        "'dog ' is only in val/: add images of it to train/, or remove it"
    )


def test_one_class_is_refused_and_a_folder_too_high_is_guessed(tmp_path: Path) -> None:
    write_folder(tmp_path / "one", classes=("cat",))
    with pytest.raises(UserError, match=r"one/train: all images are of one class \(cat\): at least 2 are needed$"):
        data.describe("folder:3x4x5", str(tmp_path / "one"))
    for part in ("train", "test"):
        write_folder(tmp_path / part, ("inner",))
    with pytest.raises(UserError, match=r"one class \(inner\).*; it has folders itself: is --data-dir .*train meant"):
        data.describe("folder:3x4x5", str(tmp_path))


def test_what_a_folder_has_besides_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path, ("train", "test", "val"))
    (tmp_path / "train" / "cat" / "moving.gif").touch()
    (tmp_path / "train" / "labels.csv").touch()
    grey(tmp_path / "train" / "loose.png", RAMP)
    assert image_folders.describe("folder:3x4x5", str(tmp_path)).remarks == [
        "1 images of train/ are in no class folder, and left out",
        "1 files in class folders of train/ are no images that are read (1 .gif)",
        "val/ is not used: test/ is the test part",
    ]


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    write_folder(tmp_path, classes=("a\x1b[31m", os.fsdecode(b"caf\xe9")))
    assert image_folders.describe("folder:3x4x5", str(tmp_path)).classes == ["a\\x1b[31m", "caf\\xe9"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path)
    scandir = os.scandir

    def denied(path: str) -> object:
        if str(path).endswith("train/cat"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match=r"train/cat: cannot be read \(Permission denied\)"):
        data.describe("folder:3x4x5", str(tmp_path))
