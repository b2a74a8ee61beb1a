"""Tables in text files: rows of cells under the names of their columns, whatever separates them."""

from __future__ import annotations

import csv
from io import StringIO

from msgspec import Struct

from emulator.inputs.text_files import profile_error
from emulator.validation import nearest

SEPARATORS = (",", ";", "\t")  # the first that is in the first line; else white space


class TextRow(Struct, frozen=True):
    """``where``: file and number of its line, for errors."""

    where: str
    cells: tuple[str, ...]


class TextTable(Struct, frozen=True):
    """``names``: those in the file, or 1, 2, … where it has none. Every row has as many cells, but for bad ones."""

    file: str
    names: tuple[str, ...]
    is_named: bool
    rows: tuple[TextRow, ...]

    def column(self, name: str, asker: str) -> int:
        """The place of a column by its name, or by its number from 1; ``asker`` is the flag that names it."""
        there = [i for i, known in enumerate(self.names) if known == name]
        if len(there) > 1:
            numbers = " and ".join(str(i + 1) for i in there)
            raise profile_error(self.file, f"{asker} {name}", f"is there twice; say {numbers} instead of the name")
        if there:
            return there[0]
        if name.isascii() and name.isdigit() and 0 < int(name[:9]) <= len(self.names):
            return int(name) - 1
        guess = nearest(name, self.names)
        raise profile_error(self.file, f"{asker} {name}", f"there is no such column; {guess}{self.listed()}")

    def listed(self) -> str:
        """The names of the columns, for errors."""
        return (
            f"Columns: {', '.join(self.names)}" if self.is_named else f"Columns: 1 to {len(self.names)}, without names"
        )


def table_of(file: str, text: str) -> TextTable:
    """The table in a text; blank lines and lines that begin with ``#`` are passed over."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), None)
    if first is None:
        raise profile_error(
            file, "", "has no lines; write a row for each time, and the names of the columns above them"
        )
    mark = next((mark for mark in SEPARATORS if mark in first), None)
    rows = _separated(file, lines, mark) if mark else _spaced(file, lines)
    if not rows:
        raise profile_error(file, "", "has no rows")
    is_named = not any(_is_value(cell) for cell in rows[0].cells)
    width = len(rows[0].cells)
    names = rows[0].cells if is_named else tuple(str(i + 1) for i in range(width))
    return TextTable(file, names, is_named, tuple(rows[is_named:]))


def _separated(file: str, lines: list[str], mark: str) -> list[TextRow]:
    reader = csv.reader(
        StringIO("\n".join("" if line.lstrip().startswith("#") else line for line in lines)), delimiter=mark
    )
    rows = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(TextRow(f"{file}:{reader.line_num}", tuple(cell.strip() for cell in cells)))
    except csv.Error as error:
        raise profile_error(f"{file}:{reader.line_num}", "", f"is no CSV ({error}); look at its quotes") from None
    return rows


def _spaced(file: str, lines: list[str]) -> list[TextRow]:
    kept = ((i, line.partition("#")[0].split()) for i, line in enumerate(lines, 1))
    return [TextRow(f"{file}:{i}", tuple(cells)) for i, cells in kept if cells]


def _is_value(cell: str) -> bool:
    """Whether a cell is a number, so that its row has no names of columns."""
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True
