"""rootgen plot: the paper's figures of cost against error, reported and measured; curves of trainings."""

from __future__ import annotations

import argparse
from mimetypes import guess_type
from pathlib import Path

HELP = (
    "Draw cost against error for a family of the paper: its reported points and, with --measured, your own. Or draw "
    "the logs of trainings, of rootgen train or of Caffe's own tool: loss, learning rate and test results."
)
CURVES = "curves"  # the name of a picture of logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.paper.plot import FORMATS, families

    said = f"{', '.join(families())} (default: all), or PREFIX_log.csv and text of caffe train, in one picture"
    parser.add_argument("what", nargs="*", metavar="FAMILY|LOG", help=said)
    parser.add_argument(
        "--measured",
        metavar="CSV",
        action="append",
        default=[],
        help="results.csv of a run of rootgen reproduce on this family, drawn as well, in a row of its own; repeatable",
    )
    parser.add_argument(
        "-o",
        "--out",
        default="plots",
        metavar="DIR|FILE",
        help="folder of the figures (default: plots), or the name of one .png, .pdf or .svg",
    )
    parser.add_argument(
        "--format", nargs="+", choices=FORMATS, default=None, help=f"formats to write (default: {' '.join(FORMATS)})"
    )


def run(args: argparse.Namespace) -> None:
    from rootgen.cli import UsageError, write_out
    from rootgen.paper import plot, results

    logs = [word for word in args.what if _is_file(word)]
    chosen = [word for word in args.what if word not in logs]
    if logs:
        if chosen or args.measured:
            other = f"'{chosen[0]}'" if chosen else "--measured"
            raise UsageError(f"{logs[0]} and {other} have no picture in common", hint="draw logs by themselves")
        for path in _draw_logs(logs, args.out, args.format):
            write_out(f"{path}\n", None)
        return
    if args.measured and len(chosen) != 1:
        raise UsageError("--measured needs a FAMILY to stand beside", hint="rootgen plot nin --measured results.csv")
    file = _file(args.out, args.format)
    if file and len(chosen) != 1:
        raise UsageError(f"-o {args.out} is one file, for one FAMILY", hint="name a folder, for several")
    for family in chosen or plot.families():
        rows = [plot.reported(family)]
        rows += [plot.measured(family, results.load(path), path) for path in args.measured]
        folder, name, formats = file or (args.out, family, args.format or plot.FORMATS)
        for path in plot.draw(rows, folder, name, formats):
            write_out(f"{path}\n", None)


def _is_file(word: str) -> bool:
    """Whether a word of the command line means a log: it is no family's name, and is there or looks like a path."""
    from rootgen.paper.plot import families

    return word not in families() and (Path(word).exists() or "/" in word or bool(Path(word).suffix))


def _file(out: str, formats: list[str] | None) -> tuple[Path, str, list[str]] | None:
    """Folder, name and format of the figure that `out` names as a file; None where `out` is a folder of figures."""
    from rootgen.cli import UsageError
    from rootgen.figures.save import kind_of

    if Path(out).is_dir() or not (guess_type(out)[0] or "").startswith(("image/", "application/pdf")):
        return None
    kind = kind_of(out, None)
    if formats not in (None, [kind]):
        raise UsageError(f"-o {out} is a {kind}", hint="name a folder, for several formats")
    return Path(out).parent, Path(out).stem, [kind]


def _draw_logs(paths: list[str], out: str, formats: list[str] | None) -> list[Path]:
    """The curves of all logs as one figure; its files."""
    from rootgen.engine.read_log import read_log
    from rootgen.figures import save
    from rootgen.figures.curves import draw_curves
    from rootgen.paper import curves
    from rootgen.paper.plot import FORMATS

    file = _file(out, formats)
    logs = {name: [curves.history(read_log(path))] for path, name in _names(paths).items()}
    drawing = draw_curves(curves.panels(logs), columns=2)
    if file:
        drawing.save(out)
        return [Path(out)]
    return save.save(drawing.figure, out, CURVES, formats or FORMATS)


def _names(paths: list[str]) -> dict[str, str]:
    """What the picture calls each log: the file's name, or its whole path where several have that name."""
    names = [Path(path).name for path in paths]
    return {path: name if names.count(name) == 1 else path for path, name in zip(paths, names, strict=True)}
