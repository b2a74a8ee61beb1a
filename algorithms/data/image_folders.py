"""Folders of images: train/CLASS/IMAGE and test/CLASS/IMAGE (or val). torchvision's ``ImageFolder``, with its reasons.

A class is a folder; its images are anywhere below it. Classes are numbered in the order of their names, as Python sorts
text: "10" before "2", capitals before small letters. A name is the same however its accents are written (NFC). Hidden
folders and those that systems leave behind are none.

An image becomes bytes, 0 to 255: upright by its EXIF, 16 bits by their range, float pixels from 0 to 1; of several
frames the first; transparency is left out; stretched to height and width (bicubic), whatever its own.
"""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from algorithms.data.labels import shown, some
from emulator.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

# torchvision.datasets.folder.IMG_EXTENSIONS, which cannot be had without importing torch; a test compares the two.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
TESTS = ("test", "val", "valid", "validation")  # what the test part may be called
NO_CLASSES = ("__macosx", "lost+found", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "__pycache__")
LARGEST = 2**28  # values of an image: more is a slip of the pen
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION, BITS = 0x0112, 258  # tags of EXIF and TIFF
TURNED = range(2, 9)  # values of the first; others mean nothing

Shape = tuple[int, int, int]
Pixels = np.ndarray[Any, Any]


class FolderSplit(NamedTuple):
    """A part's images by class, in order; ``odd``: what it has that is no image of a class, as remarks."""

    images: dict[str, list[str]]
    odd: list[str]

    @property
    def size(self) -> int:
        return sum(map(len, self.images.values()))


class Folder(NamedTuple):
    """A data set of folders, none of whose images has been opened."""

    shape: Shape
    train: FolderSplit
    test: FolderSplit
    remarks: list[str]

    @property
    def classes(self) -> list[str]:
        return [shown(name) for name in self.train.images]


class Files:
    """Images of a folder as if they were an array uint8 [N, C, H, W]: those asked for are decoded and resized then.

    So a data set larger than memory can be prepared. UserError names the images that cannot be read.
    """

    def __init__(self, paths: list[str], shape: Shape) -> None:
        self._paths = paths
        self.shape = (len(paths), *shape)
        self.broken: dict[str, str] = {}  # path -> why it cannot be read
        self._seen: dict[str, set[str]] = {}  # what was done -> to which images

    def __getitem__(self, rows: Pixels) -> Pixels:
        images = self.decode(rows)
        refuse_broken(self)
        return images

    def decode(self, rows: Pixels) -> Pixels:
        """The same, black where an image is ``broken``."""
        images = np.zeros((len(rows), *self.shape[1:]), np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of large images and odd metadata
            for image, row in zip(images, rows, strict=True):
                try:
                    image[:] = self._decode(self._paths[row])
                except Exception as error:  # Pillow's, by format
                    self.broken[self._paths[row]] = _why(error, self._paths[row])
        return images

    def whole(self) -> list[int]:
        """The rows of images that can be read; all are decoded to find out."""
        for row in range(len(self._paths)):
            self.decode(np.array([row]))
        return [row for row, path in enumerate(self._paths) if path not in self.broken]

    def of(self, rows: Sequence[int]) -> Files:
        """Those rows alone, none of them broken."""
        return Files([self._paths[row] for row in rows], (self.shape[1], self.shape[2], self.shape[3]))

    def remarks(self, part: str) -> list[str]:
        """What was done to the images that were decoded."""
        return [
            f"{len(paths)} of {len(self._paths)} images of the {part} part {what}"
            for what, paths in sorted(self._seen.items())
        ]

    def _decode(self, path: str) -> Pixels:
        from PIL import Image, ImageOps

        _, channels, height, width = self.shape
        if not Path(path).is_file() and Path(path).exists():  # to open a pipe would wait for ever
            raise OSError("it is no file")
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                self._see("have several frames: the first is taken", path)
            if image.getexif().get(ORIENTATION) in TURNED:
                self._see("are turned upright by their EXIF", path)
            bits = max(getattr(image, "tag_v2", {}).get(BITS, (16,)))  # of TIFF: mode I may be 16 or 32 there
            plain = self._plain(ImageOps.exif_transpose(image), bits, path)
            pixels = np.asarray(plain.convert("RGB" if channels == 3 else "L").resize((width, height)))
        return pixels.reshape(height, width, channels).transpose(2, 0, 1)

    def _plain(self, image: Image.Image, bits: int, path: str) -> Image.Image:
        """With 8 bits a channel."""
        from PIL import Image

        if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            self._see("are transparent in places, which is left out", path)
        if image.mode == "F":
            pixels = np.asarray(image)
            if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
                raise ValueError(f"float pixels from {pixels.min():.4g} to {pixels.max():.4g}: save them from 0 to 1")
            self._see("have float pixels: taken as 0 to 1", path)
            return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
        if image.mode == "I" or image.mode in SIXTEEN:
            pixels = np.asarray(image).astype(np.int64)
            if bits > 16 or pixels.min() < 0:
                raise ValueError(f"pixels of {bits} bits from {pixels.min()} to {pixels.max()}: save 8 or 16 bits")
            self._see("have 16 bits: scaled by their range, 65535 is white", path)
            return Image.fromarray(np.rint(pixels * (255 / 65535)).astype(np.uint8))
        return image

    def _see(self, what: str, path: str) -> None:
        self._seen.setdefault(what, set()).add(path)


def refuse_broken(*parts: Any) -> None:
    """UserError for the images, of ``Files`` among the parts, that could not be read: the first ten and how many."""
    broken = {path: why for part in parts if isinstance(part, Files) for path, why in part.broken.items()}
    remedy = "mend or remove them, or leave them out with --bad-images skip"
    if len(broken) == 1:
        ((path, why),) = broken.items()
        raise UserError(f"{shown(path)}: not an image that can be read: {why}; {remedy}")
    if broken:
        each = [f"{shown(path)} ({broken[path]})" for path in sorted(broken)]
        raise UserError(f"{len(broken)} images cannot be read: {some(each)}; {remedy}")


def _why(error: Exception, path: str) -> str:
    """What Pillow or the system says, without the path."""
    said = getattr(error, "strerror", None) or str(error).replace(repr(path), "")
    return shown(" ".join(said.split())[:200]) or type(error).__name__


def describe(dataset: str, data_dir: str) -> Folder:
    """``folder:CxHxW``: image shape and images by class; no image is opened and torch not imported.

    UserError where the folder is not as it must be.
    """
    match = re.fullmatch(r"folder:([13])x(\d{1,9})x(\d{1,9})", dataset, re.ASCII)
    channels, height, width = map(int, match.groups()) if match else (0, 0, 0)
    if not 0 < channels * height * width <= LARGEST:
        raise UserError(f"dataset: {dataset!r}: say folder:CxHxW with 1 or 3 channels, such as folder:3x64x64")
    root = Path(data_dir)
    held = [name for name in _entries(root) if (root / name).is_dir()] if root.is_dir() else []
    tests = [name for name in TESTS if name in held]
    if "train" not in held or not tests:
        has = f"it has {some([shown(name) for name in sorted(held)])}; " if held else ""
        raise UserError(
            f"dataset: {dataset}: {root} has no train/CLASS/IMAGE and test/CLASS/IMAGE (or val): {has}name the folder"
            " that has them with --data-dir"
        )
    train, test = _part(root / "train"), _part(root / tests[0])
    _same_classes(f"dataset: {dataset}: {data_dir}: train and {tests[0]} part differ in classes", train, test, tests[0])
    if len(train.images) < 2:
        (only,) = train.images
        inside = [name for name in _entries(root / "train" / only) if (root / "train" / only / name).is_dir()]
        deeper = f"; it has folders itself: is --data-dir {root / 'train'} meant?" if inside else ""
        raise UserError(f"{root / 'train'}: all images are of one class ({shown(only)}): at least 2 are needed{deeper}")
    unused = [f"{name}/ is not used: {tests[0]}/ is the test part" for name in tests[1:]]
    return Folder((channels, height, width), train, test, [*train.odd, *test.odd, *unused])


def load_image_folder(folder: Folder) -> list[tuple[Files, np.ndarray[Any, Any]]]:
    """Train and test part: images to be decoded when asked for, and labels int64 [N]."""
    found = []
    for part in (folder.train, folder.test):
        labels = np.repeat(np.arange(len(part.images)), [len(paths) for paths in part.images.values()])
        paths = [path for paths in part.images.values() for path in paths]
        found.append((Files(paths, folder.shape), labels.astype(np.int64)))
    return found


def _same_classes(where: str, train: FolderSplit, test: FolderSplit, test_name: str) -> None:
    """UserError where a class is in one part alone."""
    only = [
        f"{shown(name)!r} is only in {here}/: add images of it to {there}/, or remove it"
        for here, there, mine, other in (("train", test_name, train, test), (test_name, "train", test, train))
        for name in mine.images
        if name not in other.images
    ]
    if only:
        raise UserError(f"{where}: {some(only)}")


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); let it be read, or remove it") from None


def _none(name: str) -> bool:
    """Whether it is hidden, or left behind by a system."""
    return name.startswith(".") or name.casefold() in NO_CLASSES


def _part(part: Path) -> FolderSplit:
    """A part's images in ``ImageFolder``'s order."""
    images: dict[str, list[str]] = {}
    names = sorted(_entries(part), key=lambda name: unicodedata.normalize("NFC", name))
    left_out, others, loose = [], Counter[str](), 0
    for name in names:
        path, written = part / name, unicodedata.normalize("NFC", name)
        if _none(name):
            left_out.append(f"{part.name}/{shown(name)}")
        elif path.is_dir():
            if written in images:
                raise UserError(
                    f"{part / shown(name)}: there are two folders of this name, in two spellings of its accents"
                )
            images[written] = []
            for file in _files(path, part):
                if file.lower().endswith(EXTENSIONS):
                    images[written].append(file)
                else:
                    others[Path(file).suffix.lower() or "no ending"] += 1
            if not images[written]:
                raise UserError(
                    f"{part / shown(name)}: a class without images: add some ({', '.join(EXTENSIONS)}), or remove it"
                )
        elif path.is_symlink() and not path.exists():
            raise UserError(f"{part / shown(name)}: a link to nothing: mend or remove it")
        else:
            loose += name.lower().endswith(EXTENSIONS)
    if not images:
        tables = "; tables of labels are not read" if loose else ""
        raise UserError(f"{part}: no class: images are in folders CLASS, one a class{tables}")
    odd = [f"no classes: {some(left_out)}"] if left_out else []
    odd += [f"{loose} images of {part.name}/ are in no class folder, and left out"] if loose else []
    kinds = ", ".join(f"{count} {shown(kind)}" for kind, count in others.most_common(3))
    odd += (
        [f"{others.total()} files in class folders of {part.name}/ are no images that are read ({kinds})"]
        if others
        else []
    )
    alike = Counter(name.strip().casefold() for name in images)
    twins = [repr(shown(name)) for name in images if alike[name.strip().casefold()] > 1]
    odd += [f"classes of {part.name}/ differ in capitals or spaces alone: {some(twins)}"] if twins else []
    return FolderSplit(images, odd)


def _files(folder: Path, part: Path) -> Iterator[str]:
    """Every file below a class's folder that is not hidden, links followed; UserError for one that goes in a circle."""

    def unreadable(error: OSError) -> None:
        raise UserError(f"{shown(error.filename)}: cannot be read ({error.strerror}); let it be read, or remove it")

    behind = {str(folder): {os.path.realpath(part), os.path.realpath(folder)}}  # folder -> itself and those above it
    found = []
    for root, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        folders[:] = [name for name in folders if not _none(name)]
        found.append((root, sorted(name for name in files if not _none(name))))
        for name in folders:
            path = f"{root}/{name}"
            real = os.path.realpath(path)
            if real in behind[root]:
                raise UserError(f"{shown(path)}: a link that leads back to {shown(real)}, in a circle: remove it")
            behind[path] = behind[root] | {real}
    for root, files in sorted(found):
        yield from (f"{root}/{name}" for name in files)
