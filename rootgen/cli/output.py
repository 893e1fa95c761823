"""What a verb answers, and where it goes: tables for people, CSV and JSON for programs; stdout, or a whole file.

One layout of JSON for all verbs: one object per line. A verb that answers with a list prints `[`, its objects, each
on a line of its own, and `]`; `cost` prints an object per net, without brackets. What is not known is null, and an
empty cell in CSV.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rootgen.text import Table

FORMATS = ("table", "csv", "json", "markdown")


def add_format_arguments(
    parser: argparse.ArgumentParser, *, out: bool = True, default: str | None = "table", also: Sequence[str] = ()
) -> None:
    """`--format`, and `-o`/`--out` for where it goes unless the verb has another use for that.

    `also` are names that an earlier release had for the table, and that go on working.
    """
    choices = (*FORMATS, *also)
    said = "what to print (default: table)"
    parser.add_argument("--format", choices=choices, default=default, metavar="|".join(FORMATS), help=said)
    if out:
        add_out_argument(parser)


def add_out_argument(parser: argparse._ActionsContainer) -> None:
    """`-o`/`--out` of what else goes to stdout."""
    parser.add_argument("-o", "--out", metavar="FILE", help="write here instead of to stdout (-)")


def for_people(tables: Iterable[Table], format: str | None) -> str:
    """Tables as plain text or as Markdown, an empty line between."""
    return "\n".join(table.markdown() if format == "markdown" else table.plain() for table in tables)


def json_list(records: Iterable[Mapping[str, Any]]) -> str:
    """A JSON list, each element an object on a line of its own."""
    lines = ",\n".join(json.dumps(_plain(record)) for record in records)
    return f"[\n{lines}\n]\n" if lines else "[\n]\n"


def json_object(record: Mapping[str, Any]) -> str:
    """One JSON object on a line."""
    return json.dumps(_plain(record)) + "\n"


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of one set of columns as CSV, the columns' names first."""
    return Table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows]).csv() if rows else ""


def answer(format: str | None, tables: Iterable[Table], rows: Sequence[Mapping[str, Any]]) -> str:
    """`rows` as CSV or a JSON list where that is the `format`, else the `tables`."""
    if format == "csv":
        return csv_table(rows)
    return json_list(rows) if format == "json" else for_people(tables, format)


def write_out(text: str, path: str | None) -> None:
    """Put `text` on stdout, or whole into the file `path` (`-` is stdout)."""
    if path in (None, "-", "/dev/stdout"):  # which may be a file that is appended to
        sys.stdout.write(text)
    else:
        from rootgen.files import write_text

        write_text(str(path), text, durable=False)


def _plain(value: Any) -> Any:
    """`value` with null for numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _cell(value: Any) -> Any:
    """`value` in CSV: empty where it is not known."""
    return "" if _plain(value) is None else value
