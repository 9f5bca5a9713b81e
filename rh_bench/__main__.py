"""`python -m rh_bench` is `rh-bench`."""

import sys

from rh_bench.cli import main

sys.exit(main())
