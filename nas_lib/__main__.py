"""`python -m nas_lib`: one sub-command per step of the workflow."""

import gc
import logging
import os
import sys

# What imports create stays; looking for garbage among it takes a tenth of the time PyTorch needs to start.
gc.set_threshold(10_000, 50)

from nas_lib.cli import main  # noqa: E402

try:
    main()
except SystemExit as end:
    if end.code:
        raise
logging.shutdown()
sys.stdout.flush()
sys.stderr.flush()
# PyTorch's way of leaving takes half a second of CPU. All files are closed; memory is freed by the operating system.
os._exit(0)
