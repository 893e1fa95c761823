"""python -m rootgen.correlation MODEL.caffemodel: the same as rootgen correlation."""

import sys

from rootgen.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("correlation", sys.argv[1:], prog="python -m rootgen.correlation"))
