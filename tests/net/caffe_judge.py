"""What pycaffe takes: each text of a JSON list on stdin as a net of its phase, in a process of its own.

Caffe may end that process. Writes a JSON list of true (a net was made) and false to stdout.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "3")


def main() -> None:
    import caffe

    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.prototxt"
        for text, phase in json.load(sys.stdin):
            path.write_bytes(text.encode("latin-1"))
            child = os.fork()
            if not child:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                caffe.Net(str(path), getattr(caffe, phase))  # a failed check aborts
                os._exit(0)
            verdicts.append(os.waitpid(child, 0)[1] == 0)
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()
