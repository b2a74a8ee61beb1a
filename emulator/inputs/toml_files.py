"""The one reader of TOML files: profiles, experiments and whatever else is written in it.

Numbers with a point or an exponent come as exact decimals; ``floats`` turns them into what arithmetic takes. Every
mistake is one line with the file, the line or the key, and the remedy.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

from emulator.inputs.text_files import decoded, profile_error, read

LARGEST_BYTES = 4 * 2**20  # a profile has some kB
LARGEST_WHOLE = 2**63 - 1


def content_of(path: Path) -> bytes:
    """The bytes of a TOML file; OSError where it cannot be read, or is larger than anyone writes by hand."""
    content = read(path, LARGEST_BYTES)
    if len(content) > LARGEST_BYTES:
        raise OSError(27, f"it is larger than {LARGEST_BYTES >> 20} MiB")
    return content


def parsed(file: str, content: bytes, example: str) -> dict[str, Any]:
    """The table in ``content``; ``example`` is a line as this file has them, for errors."""
    text = decoded(file, content)
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        detail = str(error).splitlines()[0]
    except RecursionError:
        detail = "its lists lie too deep in one another"
    except (ValueError, ArithmeticError) as error:  # a number of thousands of digits, an exponent of many
        detail = "a whole number has thousands of digits" if "digits" in str(error) else "a value is out of range"
    raise profile_error(file, "", f"is not TOML: {detail}; write lines such as {example}") from None


def floats(file: str, value: Any, place: str = "") -> Any:
    """``value`` with its decimals as floats; refused, by its key, is what a float or 63 bits cannot hold."""
    if isinstance(value, dict):
        return {key: floats(file, each, f"{place}.{key}" if place else key) for key, each in value.items()}
    if isinstance(value, list):
        return [floats(file, each, f"{place}[{i}]") for i, each in enumerate(value)]
    if isinstance(value, Decimal):
        number = float(value)
        if not isfinite(number):
            raise profile_error(file, place, f"must be a finite number, not {_short(value)}")
        if value and not number:
            raise profile_error(file, place, f"{_short(value)} is too small to tell from 0; write 0, or a larger one")
        return number
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise profile_error(file, place, f"is a whole number above {LARGEST_WHOLE}; write a smaller one")
    return value


def _short(value: Decimal) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:40] + "…"
