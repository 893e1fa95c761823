"""`python -m rootgen`: the same as the `rootgen` command."""

import sys

from rootgen.cli import main

sys.exit(main())
