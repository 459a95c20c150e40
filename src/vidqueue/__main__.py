"""`python -m vidqueue` does the same as the `vidqueue` command."""

import sys

if not sys.flags.safe_path:
    # `python -m` imports from the working folder first, and anybody may have put a module there.
    del sys.path[0]

from vidqueue.cli import main

sys.exit(main())
