"""rootgen report: one page of what `rootgen reproduce` left in a folder."""

from __future__ import annotations

import argparse

HELP = (
    "Write one page of an experiment, finished or not: what the paper says beside what was measured, curves, figures, "
    "filter correlation, settings and the commands that run it again. HTML that needs no other file, or Markdown."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.paper.page import FORMATS

    parser.add_argument("folder", metavar="DIR", help="the --out of rootgen reproduce")
    said = "html: one file; markdown: a file, and its pictures in NAME_files beside it (default: html)"
    parser.add_argument("--format", choices=FORMATS, default="html", help=said)
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="where it goes (default: DIR/report.html or .md); - is stdout"
    )


def run(args: argparse.Namespace) -> None:
    from rootgen.cli import UsageError, write_out
    from rootgen.cli.progress_bars import bars
    from rootgen.paper import evidence, page, report

    if args.out == "-":
        if args.format == "markdown":
            raise UsageError("-o - has no room for the pictures of Markdown", hint="name a file, or take --format html")
        with bars() as told:
            text = page.html(report.compose(evidence.gather(args.folder, told)))
        write_out(text, None)
        return
    with bars() as told:
        path = report.write(args.folder, args.out, args.format, told)
    write_out(f"{path}\n", None)
