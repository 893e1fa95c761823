"""A page of text, tables, pictures and commands, as one HTML file that needs no other, or as Markdown with pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen import paths
from rootgen.errors import printable
from rootgen.files import inside, safe_name, write_bytes, write_text
from rootgen.text import Table, escaped_markdown

if TYPE_CHECKING:
    from jinja2 import Environment

FORMATS = ("html", "markdown")
_TYPES = {"svg": "image/svg+xml", "png": "image/png"}


@dataclass(frozen=True)
class Image:
    """A picture: the content of a file of a `kind`, svg or png. `wide` ones take the page's whole width."""

    name: str
    kind: str
    content: bytes
    caption: str
    wide: bool = False

    @property
    def url(self) -> str:
        """The picture itself, as an address; a browser runs no script in it and fetches nothing for it."""
        return f"data:{_TYPES[self.kind]};base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class Listing:
    """Sentences, one a line."""

    items: Sequence[str]


@dataclass(frozen=True)
class Commands:
    """Lines for a shell."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side where there is room."""

    images: Sequence[Image]


Part = str | Table | Gallery | Listing | Commands
"""What a section is made of; a str is a paragraph."""


@dataclass(frozen=True)
class Section:
    """Parts under a heading."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """Sections under a title and a line about them."""

    title: str
    subtitle: str
    sections: Sequence[Section]


def write(page: Page, path: str | Path, format: str) -> None:
    """`page` as the file `path`; as Markdown with its pictures in STEM_files/ beside it, written first."""
    path = Path(path)
    if format == "html":
        write_text(path, html(page))
        return
    folder = path.parent / f"{path.stem}_files"
    names = file_names(page)
    for image, name in names.items():
        write_bytes(inside(folder, name), image.content)
    write_text(path, markdown(page, {image: f"{folder.name}/{name}" for image, name in names.items()}))


def html(page: Page) -> str:
    """One file, which fetches nothing."""
    return _environment().get_template("report.html.j2").render(page=page)


def _environment() -> Environment:
    """Jinja with every value escaped; the generator's own is for prototxt."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(paths.resource("templates")),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["table"] = lambda table: Markup(table.html())  # which escapes its cells itself
    made.filters["printable"] = printable
    made.tests["table"] = lambda part: isinstance(part, Table)
    made.tests["gallery"] = lambda part: isinstance(part, Gallery)
    made.tests["listing"] = lambda part: isinstance(part, Listing)
    return made


def file_names(page: Page) -> dict[Image, str]:
    """What the file of each picture is called."""
    names: dict[Image, str] = {}
    for section in page.sections:
        for part in section.parts:
            for image in part.images if isinstance(part, Gallery) else ():
                count = sum(other.name == image.name for other in names)
                stem = safe_name(
                    f"{image.name}-{count + 1}" if count else image.name, {Path(n).stem for n in names.values()}
                )
                names[image] = f"{stem}.{image.kind}"
    return names


def markdown(page: Page, places: dict[Image, str]) -> str:
    """GitHub's Markdown; `places` are the pictures' paths, as seen from the file."""
    blocks = [f"# {escaped_markdown(page.title)}", escaped_markdown(page.subtitle)]
    for section in page.sections:
        blocks.append(f"## {escaped_markdown(section.title)}")
        blocks += [_markdown_part(part, places) for part in section.parts]
    return "\n\n".join(block.rstrip("\n") for block in blocks) + "\n"


def _markdown_part(part: Part, places: dict[Image, str]) -> str:
    if isinstance(part, str):
        return escaped_markdown(part)
    if isinstance(part, Table):
        return part.markdown()
    if isinstance(part, Listing):
        return "\n".join(f"- {escaped_markdown(item)}" for item in part.items)
    if isinstance(part, Commands):
        return "\n".join(f"    {printable(line)}" for line in part.lines)
    return "\n\n".join(f"![{escaped_markdown(image.caption)}](<{places[image]}>)" for image in part.images)
