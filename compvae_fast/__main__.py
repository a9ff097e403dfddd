"""``python -m compvae_fast``."""

import sys

from compvae_fast.cli import main

sys.exit(main())
