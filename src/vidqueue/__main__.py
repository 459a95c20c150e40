"""`python -m vidqueue` is the same door as the `vidqueue` command."""

import sys

from vidqueue.cli import main

sys.exit(main())
