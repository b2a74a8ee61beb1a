"""What is trained: data set, model, cut, auxiliary, partition, batch and seed; and how a result is judged.

``Task`` is plain configuration, the same for every algorithm: it imports torch only when asked for modules, so that
a supervisor can check it without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from algorithms.data import datasets, image_folders, partition
from algorithms.models.lora_options import lora_options
from algorithms.workload import census
from algorithms.workload.knobs import knob
from emulator.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from algorithms.workload.loader import Preprocessing, Shard
    from algorithms.workload.models import ModelShapes
    from algorithms.workload.objectives import Objective
    from algorithms.workload.parts import Parts
    from emulator.transport.messages import StateDict

_CNN_LEAST_PIXELS = 4  # two pools halve height and width
LARGEST = 1e30  # that an optimizer takes: with its own factors it must stay a float32

MOST_REPEATS = 10_000  # of one thing in a computation: more is a slip of the pen


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The workload. ``cut`` and ``aux`` empty: the model's default; ``prepare`` checks that they exist and fit.

    ``folder``: where ``prepare`` wrote the data and initial weights (empty: every node loads the data set itself, keeps
    its own part, and builds the model).

    ``epochs``: passes over a client's samples in a round. ``augment``: ``flip-crop`` mirrors and shifts training images
    at random. ``normalise``: by ImageNet's mean and standard deviation. ``allow_batch_of_one``: whether a last batch of
    one sample stands alone or joins the one before; None: it joins where the model has batch norm, which one sample
    cannot have. ``bad_images``: whether images of a folder that cannot be read are refused, or skipped. ``init``: a
    file with the weights that the model begins with; empty: the seed draws them. ``frozen``: whether clients are sent
    the weights that the model does not train, once, or have them. ``task_kind``: what is learned (``objectives``);
    empty: what the labels show. ``ignore_index``: a label of a position that does not count. ``lora``: low-rank
    adapters, which are then what is trained (``lora_options``).
    """

    batch: Annotated[int, knob("samples in a batch")] = 16
    epochs: Annotated[int, knob("passes over a client's samples in a round")] = 1
    partition: Annotated[
        str,
        knob(
            "how samples are divided: iid, dirichlet:ALPHA (equal sizes), dirichlet-unequal:ALPHA[:LEAST], shards:N,"
            " file:PARTS.csv, natural",
            metavar="HOW",
        ),
    ] = "iid"
    samples_per_client: Annotated[
        int,
        knob("each client draws N samples of its own and shards overlap; default: the data are divided", metavar="N"),
    ] = 0
    dataset: Annotated[
        str,
        knob(
            "digits, mnist, fashion-mnist, cifar10, cifar100, folder:CxHxW, synthetic:CxHxW:CLASSES:SAMPLES, or an"
            " archive's name, or your own, FILE.py:NAME",
            metavar="NAME",
        ),
    ] = "digits"
    frozen: Annotated[
        Literal["sent", "preinstalled"],
        knob("weights that the model does not train: sent once (default), or preinstalled"),
    ] = "sent"
    lora: Annotated[
        str,
        knob(
            "train low-rank adapters alone: rank=4,alpha=8,dropout=0.1,target=NAME+NAME,train=NAME (default target:"
            " every linear layer)",
            metavar="rank=R,...",
            not_in=("vary",),
        ),
    ] = ""
    init: Annotated[str, knob("the whole model's initial weights: a state dict, or .safetensors", metavar="FILE")] = ""
    task_kind: Annotated[
        str, knob("of your own data: classification, multilabel, regression, per-position; default: by labels")
    ] = ""
    ignore_index: Annotated[int, knob("a label of a position that does not count")] = -100
    target: Annotated[
        str,
        knob("values whose first round is told: 0.8,0.9, or of another metric perplexity:40", not_in=("vary",)),
    ] = ""
    data_dir: Annotated[
        str, knob("where data sets are, and torchvision downloads them", metavar="DIR", counts_in="data")
    ] = "data"
    augment: Annotated[
        Literal["none", "flip-crop"], knob("flip-crop: random flips and crops of the training images")
    ] = "none"
    bad_images: Annotated[
        Literal["refuse", "skip"],
        knob("of folder:CxHxW: what becomes of images that cannot be read (default refuse; skip reads all twice)"),
    ] = "refuse"
    normalise: Annotated[Literal["none", "imagenet"], knob("imagenet: by ImageNet's mean and deviation")] = "none"
    model: Annotated[
        str,
        knob("cnn, cnn1d, simple_conv, tiny-gpt, a classification model of torchvision, or your own, FILE.py:NAME"),
    ] = "cnn"
    cut: Annotated[str, knob("the module after which the model is cut ('run.py cuts MODEL')")] = ""
    aux: Annotated[str, knob("linear, pool, stage, server, or your own, FILE.py:NAME; default: the cut's")] = ""
    seed: int = 1
    clients: int = 10
    folder: str = ""
    allow_batch_of_one: bool | None = msgspec.field(default=None, name="single")

    def check(self) -> None:
        """UserError, one line, for the first value that cannot be."""
        check_at_least(1, batch=self.batch, clients=self.clients, epochs=self.epochs)
        at_most(MOST_REPEATS, epochs=self.epochs)
        check_at_least(0, seed=self.seed)
        one_of(("none", "flip-crop"), augment=self.augment)
        one_of(("none", "imagenet"), normalise=self.normalise)
        one_of(("refuse", "skip"), bad_images=self.bad_images)
        one_of(("sent", "preinstalled"), frozen=self.frozen)
        if self.bad_images == "skip" and not self.dataset.startswith("folder:"):
            raise UserError(f"bad_images: skip is for folders of images, not for {self.dataset}: leave it out")
        census.targets_of(self.target)
        if self.lora:
            lora_options(self.lora)
        if self.init and not Path(self.init).is_file():
            raise UserError(f"init: there is no file {self.init}: name one with the weights of the whole model")
        if not datasets.is_own(self.dataset):  # known when it is prepared, where torch may be imported
            about = self._about()
            if self.task_kind not in ("", about.kind):
                raise UserError(f"task_kind: {self.dataset} has one class a sample: leave {self.task_kind} out")
            self._check_of(about)

    def _check_of(self, about: datasets.Description) -> None:
        """UserError for what cannot be with these data."""
        how = partition.parse_partition(self.partition)
        if how.divides_all and self.samples_per_client:
            raise UserError(f"partition: {how.kind} says which samples a client has: leave out --samples-per-client")
        images = len(about.shape) == 3 and not about.vocabulary
        if not images and (self.normalise, self.augment) != ("none", "none"):
            raise UserError(f"normalise, augment: they are for images, which {self.dataset} has not: leave them out")
        if about.kind != "classification" and (how.alpha or how.shards):
            raise UserError(
                f"partition: {how.kind} goes by the class of a sample, which there is not in {about.kind}: say iid,"
                " natural or file:PARTS.csv"
            )
        if self.normalise == "imagenet" and about.shape[0] != 3:
            raise UserError(f"normalise: imagenet is for 3 channels, and {self.dataset} has {about.shape[0]}")
        if not self.samples_per_client and self.clients > about.train:
            raise UserError(
                f"clients: {self.clients} are more than the {about.train} samples of {self.dataset}: take fewer, or let"
                " shards overlap with --samples-per-client"
            )
        if how.shards * self.clients > about.train:
            raise UserError(
                f"partition: {how.shards} shards for each of {self.clients} clients are more than the {about.train}"
                f" samples of {self.dataset}: say shards:N with N at most {about.train // self.clients}"
            )
        if not 0 <= self.samples_per_client <= about.train:
            raise UserError(
                f"--samples-per-client {self.samples_per_client}: say 1 to {about.train}, the training samples of"
                f" {self.dataset}, or leave it out"
            )
        if self.model == "cnn" and images and min(about.shape[1:]) < _CNN_LEAST_PIXELS:
            raise UserError(f"dataset: the cnn needs images of at least {_CNN_LEAST_PIXELS} pixels a side")

    def objective(self) -> Objective:
        """Loss, metrics and targets."""
        from algorithms.workload.objectives import objective_of

        return objective_of(self._about().kind, self.ignore_index)

    def example_batch(self, samples: int) -> tuple[Tensor, Tensor]:
        """x and y of so many samples, of the shapes and types of a batch; their values mean nothing."""
        import torch

        about = self._about()
        types = {"regression": torch.float32, "multilabel": torch.uint8}
        y = torch.zeros(samples, *about.positions, dtype=types.get(about.kind, torch.int64))
        return self.sizes().example(samples), y

    def client_half(self) -> nn.Module:
        """The model up to the cut."""
        return self._parts().half("client")

    def server_half(self) -> nn.Module:
        """The model after the cut."""
        return self._parts().half("server")

    def full_model(self) -> nn.Module:
        """The model in one piece."""
        return self._parts().full_model()

    def auxiliary(self) -> nn.Module:
        """The auxiliary head for the cut; the same initial weights for every client."""
        return self._parts().auxiliary()

    def halves(self, state: StateDict) -> dict[str, StateDict]:
        """The state of a whole model as ``{"client": ..., "server": ...}``."""
        return self._parts().divide(state)

    def shard(self, index: int) -> Shard:
        """The samples of client ``index`` (from 0)."""
        from algorithms.workload.loader import Shard

        if self.folder:
            samples = datasets.read(self.folder, f"client-{index}")
        else:
            loaded = self._loaded()
            rows = self._shards(loaded)[index]
            samples = datasets.Samples(loaded.train.images[rows], loaded.train.labels[rows])
        return Shard(
            samples, self.batch, self._preprocessing(), self.seed, index, self.epochs, self._allow_batch_of_one()
        )

    def _preprocessing(self) -> Preprocessing:
        from algorithms.workload.loader import Preprocessing

        return Preprocessing(self._about().levels, self.normalise, self.augment)

    def _about(self) -> datasets.Description:
        """What the data set is; once it is prepared, the data set itself is not looked at again."""
        if self.folder:
            return datasets.read_about(self.folder)
        return datasets.describe(self.dataset, self.data_dir, self.task_kind, self.ignore_index)

    def _loaded(self) -> datasets.Loaded:
        """The data set with all that is known of it."""
        skip_bad = self.bad_images == "skip"
        return datasets.load_all(self.dataset, self.data_dir, skip_bad, self.task_kind, self.ignore_index)

    def _allow_batch_of_one(self) -> bool:
        """Whether a batch of one sample may be: ``allow_batch_of_one``, or by the model."""
        from algorithms.workload.models import has_batch_norm, meta_model

        if self.allow_batch_of_one is not None:
            return self.allow_batch_of_one
        return not has_batch_norm(meta_model(self.model, self.sizes()))

    def shard_samples(self) -> list[int]:
        """How many samples each client has; of unequal parts, where they are prepared or the data set is at hand."""
        if self.samples_per_client:
            return [self.samples_per_client] * self.clients
        if partition.parse_partition(self.partition).kind in ("dirichlet-unequal", *partition.OWNED):
            if self.folder:
                return [datasets.count(self.folder, f"client-{index}") for index in range(self.clients)]
            return [len(rows) for rows in self._shards(self._loaded())]
        return partition.shard_sizes(self._about().train, self.clients)

    def steps(self) -> int:
        """Batches in a round of the client with the most samples."""
        starts = partition.batch_starts(max(self.shard_samples()), self.batch, self._allow_batch_of_one())
        return self.epochs * len(starts)

    def largest_batch(self, samples: int) -> int:
        """The most samples of a batch of a client with so many: one more than ``batch`` where a last one joined it."""
        starts = partition.batch_starts(samples, self.batch, self._allow_batch_of_one())
        return max(end - start for start, end in zip(starts, [*starts[1:], samples], strict=True))

    def _shards(self, loaded: datasets.Loaded) -> list[np.ndarray[Any, Any]]:
        """The rows of each client."""
        how = self.clients, self.partition, self.seed
        if partition.parse_partition(self.partition).kind in partition.OWNED:
            return partition.owned(loaded, *how)
        if self.samples_per_client:
            return partition.draw_partition(loaded.train.labels, *how, self.samples_per_client)
        return partition.divide(loaded.train.labels, *how)

    def named(self) -> Task:
        """The same with cut and auxiliary named; UserError where there is none such."""
        layout = self._parts().layout()
        return msgspec.structs.replace(self, cut=layout.cut, aux=layout.kind)

    def sizes(self) -> ModelShapes:
        """What goes into the model and comes out of it."""
        from algorithms.workload.models import ModelShapes

        about = self._about()
        output = self.objective().output_shape(about.positions, about.classes)
        return ModelShapes(about.shape, about.classes, about.vocabulary, output)

    def _parts(self) -> Parts:
        from algorithms.workload.parts import Parts

        return Parts(self.model, self.cut, self.aux, self.sizes(), self.seed, self.folder, self.init, self.lora)


def prepare(task: Task, folder: Path, loaded: datasets.Loaded | None = None) -> Task:
    """Write every client's samples, the test part and the model's parts to ``folder``, once, before nodes start.

    ``loaded``: samples in the place of the data set's. Returns the task to give nodes, cut and auxiliary named;
    UserError for a model, cut or auxiliary that cannot be.
    """
    made = task._parts().write(folder)
    sizes, allow_batch_of_one = write_data(task, folder, _frozen(task), loaded), task._allow_batch_of_one()
    if not allow_batch_of_one:
        _check_no_single(task, sizes)
    return msgspec.structs.replace(
        task, cut=made.cut, aux=made.aux, folder=str(folder), allow_batch_of_one=allow_batch_of_one
    )


def _frozen(task: Task) -> list[str]:
    """What is to be said of weights that are not trained."""
    frozen, total = task._parts().frozen()
    how = "preinstalled, so never sent" if task.frozen == "preinstalled" else "sent to each client once"
    if not frozen and task.frozen == "preinstalled":
        return [f"frozen: {task.model} trains all its parameters: --frozen preinstalled changes nothing"]
    return [f"{frozen} of {total} parameters of {task.model} are frozen: {how}"] if frozen else []


def write_data(
    task: Task, folder: Path, remarks: Sequence[str] = (), loaded: datasets.Loaded | None = None
) -> list[int]:
    """Write every client's samples, the test part and the facts of both to ``folder``; how many samples each has.

    ``remarks``: what else is to be said of the workload.
    """
    loaded = loaded or task._loaded()
    train, test = loaded.train, loaded.test
    about = task._about()._replace(train=len(train.labels), test=len(test.labels))
    task._check_of(about)
    folder.mkdir(parents=True, exist_ok=True)
    shards = task._shards(loaded)
    written = [
        datasets.write(folder, f"client-{index}", train, about.levels, rows) for index, rows in enumerate(shards)
    ]
    written.append(datasets.write(folder, "test", test, about.levels))
    image_folders.refuse_broken(train.images, test.images)
    datasets.write_about(folder, about)
    found = census.take(task, about, loaded, shards, written)
    found["remarks"] += remarks
    if (whose := partition.test_clients(loaded, task.partition, shards)) is not None:
        datasets.write_test_clients(folder, whose)
    census.write(folder, found)
    return [len(rows) for rows in shards]


def facts(task: Task) -> dict[str, Any]:
    """What was prepared of a task, for the record: ``census``."""
    return census.read(task.folder)


def _check_no_single(task: Task, sizes: list[int]) -> None:
    """UserError where a client has a batch of one sample that can join no other."""
    if task.batch == 1:
        raise UserError(f"batch: {task.model} has batch norm, not defined for a batch of one: say 2 or more")
    if 1 in sizes:
        raise UserError(
            f"partition: {task.model} has batch norm, not defined for a batch of one, and client-{sizes.index(1)} has"
            " one sample: take fewer clients, or parts of more equal size"
        )


def check_rates(**values: float) -> None:
    """UserError for a learning rate that is none; 0 is one (nothing is learnt)."""
    for name, value in values.items():
        if not 0 <= value <= LARGEST:
            raise UserError(f"{name}: must be a learning rate from 0 up to {LARGEST:g}, not {value}")


def check_at_least(least: int, **values: int) -> None:
    """UserError for a number below ``least``."""
    for name, value in values.items():
        if value < least:
            raise UserError(f"{name}: must be at least {least}, not {value}")


def at_most(most: int, **values: int) -> None:
    """UserError for a number above ``most``."""
    for name, value in values.items():
        if value > most:
            raise UserError(f"{name}: must be at most {most}, not {value}")


def one_of(known: tuple[str, ...], **values: str) -> None:
    """UserError for a word that is none of those known."""
    for name, value in values.items():
        if value not in known:
            raise UserError(f"{name}: there is no {value!r}: say {' or '.join(known)}")
