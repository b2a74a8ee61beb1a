"""``run.py cuts MODEL``: where a model can be cut, and what each cut costs a client."""

from __future__ import annotations

import argparse
import re

import msgspec

from algorithms.commands.options.flags import Flags
from algorithms.commands.options.run_flags import add_flag
from algorithms.workload.cut_costs import CLASSES, cuts, default_cut
from algorithms.workload.knobs import knobs_of
from algorithms.workload.models import ModelShapes, Shape
from algorithms.workload.task import Task
from emulator.errors import UserError
from emulator.tables.table import Table, TableCell, TableRow

OF_DATA = ("dataset", "data_dir", "task_kind", "ignore_index")  # flags of a run that say what the samples are


def parse_shape(text: str) -> Shape:
    """``CxHxW``, ``CxL`` or any other axes; UserError for anything else."""
    sides = [int(side) for side in text.split("x")] if re.fullmatch(r"\d{1,9}(x\d{1,9})*", text, re.ASCII) else [0]
    if min(sides) < 1:
        raise UserError(f"--input {text}: say the axes of a sample with positive numbers, such as 3x32x32 or 6x128")
    return tuple(sides)


def check_unsaid(flags: argparse.Namespace, *names: str) -> None:
    """UserError for the first of these flags that is said beside a data set, which says it."""
    for name in names:
        if flags.dataset and getattr(flags, name) is not None:
            raise UserError(f"--{name}: --dataset {flags.dataset} says it: leave one of them out")


def cuts_table(model: str, sizes: ModelShapes) -> Table:
    """The table that ``run.py cuts`` prints."""
    found = cuts(model, sizes)
    what = "images" if len(sizes.shape) == 3 and not sizes.vocabulary else "samples"
    usual = default_cut(model, found)
    rows: list[TableRow] = [
        [
            f"{cut.name} (default)" if cut is usual else cut.name,
            "x".join(map(str, cut.smashed)),
            TableCell(cut.point.parameters, f"{cut.point.parameters:,}"),
            TableCell(cut.point.server_parameters, f"{cut.point.server_parameters:,}"),
            TableCell(cut.flops, f"{cut.flops / 1e6:.2f}"),
            TableCell(cut.activation_bytes, f"{cut.activation_bytes / 1000:.1f}"),
            TableCell(cut.smashed_bytes, f"{cut.smashed_bytes / 1000:.2f}"),
        ]
        for cut in found
    ]
    headers = ["cut after", "smashed", "client\nparams", "server\nparams", "forward\nMFLOP", "kept\nkB"]
    return Table(
        title=f"Cuts of {model} for {what} of {sizes}, output {'x'.join(map(str, sizes.result))}",
        headers=[*headers, "smashed\nkB"],
        label_columns=2,
        rows=rows,
        caption="Params: parameters of each half. For one sample: the client's forward pass (a multiply-add is two "
        "FLOPs), the activations that its backward pass needs, and what it weighs on the link, without its label. "
        "A kB is 1000 bytes.",
    )


def command(argv: list[str]) -> int:
    """Show where a model can be cut; the exit status."""
    flags = Flags(prog="run.py cuts", description="Where a model can be cut, and what each cut costs a client.")
    flags.add_argument(
        "model", help="cnn, cnn1d, simple_conv, a classification model of torchvision, or your own FILE.py:NAME"
    )
    flags.add_argument("--input", metavar="CxHxW", help="axes of a sample (default 3x32x32)")
    flags.add_argument("--classes", type=int, help="classes, or values of a sample (default 10)")
    flags.add_argument("--vocabulary", type=int, help="samples are tokens below it (default: numbers)")
    flags.add_argument("--output", metavar="LxC", help="axes of what the model returns for a sample (default: classes)")
    for name in OF_DATA:
        add_flag(flags, knobs_of(Task)[name])
    chosen = flags.parse_args(argv)
    check_unsaid(chosen, "input", "classes", "vocabulary", "output")
    from emulator.tables.table import show

    show(cuts_table(chosen.model, _of_data(chosen) if chosen.dataset else _said(chosen)))
    return 0


def _of_data(chosen: argparse.Namespace) -> ModelShapes:
    """Of the samples of a data set."""
    said = {name: getattr(chosen, name) for name in OF_DATA if getattr(chosen, name) is not None}
    return msgspec.convert(said, Task, strict=False).sizes()


def _said(chosen: argparse.Namespace) -> ModelShapes:
    """Of samples that are described by flags; the classes of an output are on its last axis, of a map on its first."""
    output = parse_shape(chosen.output) if chosen.output else ()
    usual = output[0 if len(output) == 3 else -1] if output else CLASSES
    classes, vocabulary = usual if chosen.classes is None else chosen.classes, chosen.vocabulary or 0
    if classes < 1 or vocabulary < 0:
        raise UserError("--classes must be at least 1, and --vocabulary at least 0")
    return ModelShapes(parse_shape(chosen.input or "3x32x32"), classes, vocabulary, output)
