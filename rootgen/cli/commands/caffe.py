"""rootgen caffe: build, check and use a patched Caffe 1.0."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from rootgen.cli.arguments import positive
from rootgen.cli.output import add_format_arguments, answer, write_out
from rootgen.errors import RootgenError

HELP = "Build Caffe 1.0 with today's compilers and fast grouped convolutions, check it, use it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="build|check|env", required=True)
    build = actions.add_parser("build", help="fetch, patch, compile and install; seconds where it was built before")
    build.set_defaults(call=_build)
    build.add_argument(
        "--source", type=Path, metavar="DIR", help="a Caffe tree, which stays as it is (default: fetched)"
    )
    build.add_argument("--prefix", type=Path, metavar="DIR", help="where to install (default: in the cache)")
    build.add_argument("--vanilla", action="store_true", help="the build series only: Caffe's own convolutions")
    build.add_argument("--gpu", action="store_true", help="with the CUDA code")
    build.add_argument(
        "--arch", default="", metavar="N", help="CUDA architecture: 90, or '80;90' (default: this GPU's)"
    )
    build.add_argument("--cudnn", action="store_true", help="with cuDNN 8 or 9")
    build.add_argument("--nccl", action="store_true", help="with NCCL, for several GPUs")
    build.add_argument("--opencv", action="store_true", help="with image files and encoded databases")
    build.add_argument("--leveldb", action="store_true", help="with LevelDB databases")
    build.add_argument("--no-python", dest="python", action="store_false", help="without pycaffe")
    build.add_argument("--jobs", type=positive, metavar="N", help="compilers at a time (default: one per core)")
    build.add_argument("--tests", action="store_true", help="build and run Caffe's own tests too")
    build.add_argument("--apt", action="store_true", help="first install what is missing by apt-get, if this is root")
    build.add_argument("--link", action="store_true", help="make `import caffe` work in this Python environment")
    check = actions.add_parser("check", help="train a tiny net by `caffe train` and by pycaffe, and compare")
    check.set_defaults(call=_check)
    env = actions.add_parser("env", help='print the exports: eval "$(rootgen caffe env)"')
    env.set_defaults(call=_env)
    add_format_arguments(check)
    for action in (check, env):
        action.add_argument("--prefix", type=Path, metavar="DIR", help="an installed Caffe (default: the last built)")


def run(args: argparse.Namespace) -> None:
    args.call(args)


def _build(args: argparse.Namespace) -> None:
    from rootgen.caffe_build import toolchain
    from rootgen.caffe_build.build import build
    from rootgen.caffe_build.options import BuildOptions
    from rootgen.cli import UsageError
    from rootgen.cli.progress_bars import bars

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    try:
        options = BuildOptions(**{name: getattr(args, name) for name in BuildOptions.__dataclass_fields__})
    except RootgenError as error:
        raise UsageError(error.what, hint=error.hint) from None
    if args.apt:
        toolchain.install(toolchain.missing(options))
    with bars() as report:
        prefix = build(options, named=args.source, prefix=args.prefix, jobs=args.jobs, tests=args.tests, report=report)
    print(prefix.path)
    if args.link:
        print(f"linked by {prefix.link()}", file=sys.stderr)
    named = f" --prefix {args.prefix}" if args.prefix else ""
    print(f'to use it: eval "$(rootgen caffe env{named})"', file=sys.stderr)


def _terminated(number: int, _: object) -> NoReturn:
    """End by way of every `finally`: compilers are stopped, what was begun is removed."""
    raise SystemExit(128 + number)


def _check(args: argparse.Namespace) -> None:
    from rootgen.caffe_build import prefix
    from rootgen.caffe_build.check import check_prefix
    from rootgen.text import Table

    found = prefix.find_prefix(args.prefix)
    rows = [{"way": way, "first_loss": first, "last_loss": last} for way, first, last in check_prefix(found)]
    lines = [(row["way"], f"{row['first_loss']:.6g}", f"{row['last_loss']:.6g}") for row in rows]
    shown = Table(("trained by", "first loss", "last loss"), lines, str(found.path))
    write_out(answer(args.format, [shown], rows), args.out)


def _env(args: argparse.Namespace) -> None:
    from rootgen.caffe_build import prefix

    print(prefix.find_prefix(args.prefix).exports(), end="")
