"""``run.py cuts MODEL``: where a model can be cut, and what each cut costs a client."""

from __future__ import annotations

import re

from algorithms.commands.options.flags import Flags
from algorithms.workload.cut_costs import CLASSES, cuts, default_cut
from algorithms.workload.models import Shape
from emulator.errors import UserError
from emulator.tables.table import Table, TableCell, TableRow


def parse_shape(text: str) -> Shape:
    """``CxHxW``; UserError for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    if match is None or min(map(int, match.groups())) < 1:
        raise UserError(f"--input {text}: say CxHxW with positive numbers, such as 3x32x32")
    channels, height, width = map(int, match.groups())
    return channels, height, width


def cuts_table(model: str, shape: Shape) -> Table:
    """The table that ``run.py cuts`` prints."""
    found = cuts(model, shape)
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
        title=f"Cuts of {model} for images of {'x'.join(map(str, shape))}, {CLASSES} classes",
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
    flags.add_argument("model", help="cnn, simple_conv or a classification model of torchvision")
    flags.add_argument("--input", default="3x32x32", metavar="CxHxW", help="shape of an image (default 3x32x32)")
    chosen = flags.parse_args(argv)
    from emulator.tables.table import show

    show(cuts_table(chosen.model, parse_shape(chosen.input)))
    return 0
