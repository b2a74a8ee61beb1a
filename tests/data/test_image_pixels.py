"""Images of a folder: what their pixels become, and what becomes of those that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from algorithms.data import datasets, image_folders
from algorithms.workload.task import Task, facts, prepare
from emulator.errors import UserError


def grey(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4  # 0 to 252


def write_ramps(root: Path) -> None:
    """A training and a test image of each of two classes, 8x8, all different."""
    for number, name in enumerate(("a", "b")):
        grey(root / "train" / name / "0.png", RAMP)
        grey(root / "test" / name / "0.png", np.roll(RAMP, number + 1))
        grey(root / "train" / name / "1.png", np.roll(RAMP, number + 3))


def first(root: Path, channels: int = 1) -> tuple[np.ndarray, list[str]]:
    """The first training image as it is read, and what is said of the data."""
    task = Task(dataset=f"folder:{channels}x8x8", data_dir=str(root), clients=1)
    train, *_ = datasets.load_all(task.dataset, task.data_dir)
    remarks = facts(prepare(task, root.parent / "made"))["remarks"]
    return train.images[np.array([0])][0], [remark for remark in remarks if "training images too" not in remark]


def saved(root: Path, suffix: str) -> Path:
    """Where another first image goes."""
    (root / "train" / "a" / "0.png").unlink()
    return root / "train" / "a" / f"0.{suffix}"


@pytest.mark.parametrize(("suffix", "channels"), [("png", 1), ("tif", 3), ("pgm", 1)])
def test_sixteen_bits_are_scaled_by_their_range(suffix: str, channels: int, tmp_path: Path) -> None:
    write_ramps(tmp_path / "in")
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(saved(tmp_path / "in", suffix))
    pixels, remarks = first(tmp_path / "in", channels)
    assert (pixels == RAMP).all() and len(pixels) == channels
    assert remarks == ["1 of 4 images of the training part have 16 bits: scaled by their range, 65535 is white"]


def test_sixteen_bits_of_which_few_are_used_are_named_as_nearly_constant(tmp_path: Path) -> None:
    """Ten bits in the place of sixteen: what a detector gives."""
    write_ramps(tmp_path / "in")
    for path in sorted((tmp_path / "in" / "train").rglob("*.png")):
        Image.fromarray(RAMP.astype(np.uint16) + 300).save(path)
    assert first(tmp_path / "in")[1][0] == (
        "4 of 4 images of the training part are nearly constant: are their pixels read as meant?"
    )


def test_float_pixels_from_0_to_1_are_scaled_and_others_refused(tmp_path: Path) -> None:
    write_ramps(tmp_path / "in")
    path = saved(tmp_path / "in", "tif")
    Image.fromarray((RAMP / 255).astype(np.float32)).save(path)
    pixels, remarks = first(tmp_path / "in")
    assert (pixels == RAMP).all()
    assert remarks == ["1 of 4 images of the training part have float pixels: taken as 0 to 1"]
    for wrong, text in ((RAMP / 2, "from 0 to 126"), (RAMP / 126 - 1, "from -1 to 1"), (RAMP * np.nan, "from nan")):
        Image.fromarray(wrong.astype(np.float32)).save(path)
        with pytest.raises(UserError, match=rf"a/0\.tif: .*float pixels {text}"):
            first(tmp_path / "in")


def test_pixels_of_thirty_two_bits_are_refused(tmp_path: Path) -> None:
    write_ramps(tmp_path / "in")
    Image.fromarray(RAMP.astype(np.int32) * 1000).save(saved(tmp_path / "in", "tif"))
    with pytest.raises(UserError, match=r"a/0\.tif: .*pixels of 32 bits from 0 to 252000: save 8 or 16 bits"):
        first(tmp_path / "in")


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_an_image_is_turned_upright_by_its_exif(suffix: str, tmp_path: Path) -> None:
    """Orientation 6: a quarter turn clockwise makes it upright. torchvision's own loader does not turn it."""
    write_ramps(tmp_path / "in")
    exif = Image.Exif()
    exif[image_folders.ORIENTATION] = 6
    lossless = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(RAMP).convert("RGB").save(saved(tmp_path / "in", suffix), exif=exif, **lossless)
    pixels, remarks = first(tmp_path / "in", 3)
    assert (pixels == np.rot90(RAMP, -1)).all()
    assert remarks == ["1 of 4 images of the training part are turned upright by their EXIF"]


def test_palettes_one_bit_transparency_and_several_frames_become_plain_pixels(tmp_path: Path) -> None:
    write_ramps(tmp_path / "in")
    path = saved(tmp_path / "in", "png")
    Image.fromarray(RAMP > 99).save(path)
    assert (first(tmp_path / "in")[0] == np.where(RAMP > 99, 255, 0)).all()
    palette = Image.fromarray(RAMP // 4 % 2)
    palette.putpalette([7, 7, 7, 200, 200, 200])
    palette.save(path)
    assert (first(tmp_path / "in", 3)[0] == np.where(RAMP // 4 % 2, 200, 7)).all()
    Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(RAMP)]).save(path)
    pixels, remarks = first(tmp_path / "in")
    assert (pixels == RAMP).all()
    assert remarks == ["1 of 4 images of the training part are transparent in places, which is left out"]
    Image.fromarray(RAMP).save(path, save_all=True, append_images=[Image.fromarray(255 - RAMP)])
    pixels, remarks = first(tmp_path / "in")
    assert (pixels == RAMP).all()
    assert remarks == ["1 of 4 images of the training part have several frames: the first is taken"]
    Image.fromarray(np.full((8, 8, 4), 255, np.uint8) - RAMP[..., None], "CMYK").save(saved(tmp_path / "in", "tif"))
    assert first(tmp_path / "in", 3)[0].max() == 252 * 252 // 255  # (255 - ink) * (255 - black) / 255


def break_images(root: Path, count: int) -> list[Path]:
    """The first training images become empty, text, cut short, links to nothing, and pipes; their paths."""
    paths = sorted((root / "train").rglob("*.png"))[:count]
    whole = paths[0].read_bytes()
    for number, path in enumerate(paths):
        path.unlink()
        match number % 5:
            case 3:
                path.symlink_to(root / "nowhere.png")
            case 4:
                os.mkfifo(path)
            case kind:
                path.write_bytes((b"", b"no image", whole[:45])[kind])
    return paths


def test_all_broken_images_are_refused_in_one_go(tmp_path: Path) -> None:
    write_ramps(tmp_path / "in")
    for number in range(2, 22):
        grey(tmp_path / "in" / "train" / "a" / f"{number}.png", RAMP)
    broken = break_images(tmp_path / "in", 12)
    task = Task(dataset="folder:3x8x8", data_dir=str(tmp_path / "in"), clients=3, batch=2)
    with pytest.raises(UserError, match=r"^12 images cannot be read: ") as caught:
        prepare(task, tmp_path / "made")
    text = str(caught.value)
    assert sum(str(path) in text for path in broken) == 10
    assert "and 2 more; mend or remove them, or leave them out with --bad-images skip" in text and "\n" not in text


def test_broken_images_may_be_left_out_which_is_said_and_no_client_has_them(tmp_path: Path) -> None:
    write_ramps(tmp_path / "in")
    break_images(tmp_path / "in", 1)
    task = Task(dataset="folder:3x8x8", data_dir=str(tmp_path / "in"), clients=3, batch=2, bad_images="skip")
    prepared = prepare(task, tmp_path / "made")
    assert [len(prepared.shard(index)) for index in range(3)] == [1, 1, 1] == prepared.shard_samples()
    found = facts(prepared)
    assert found["train"] == {"samples": 3, "classes": {"0": 1, "1": 2}}
    assert found["remarks"][0].startswith("left out 1 of 4 training images that cannot be read: ")
    assert found["remarks"][0].endswith("train/a/0.png")
    more = msgspec.structs.replace(task, clients=4)
    with pytest.raises(UserError, match="clients: 4 are more than the 3 samples"):
        prepare(more, tmp_path / "again")


def test_images_of_other_data_sets_cannot_be_skipped() -> None:
    with pytest.raises(UserError, match="bad_images: skip is for folders of images, not for digits"):
        Task(bad_images="skip").check()
