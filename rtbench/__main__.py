"""`python -m rtbench`, and the `rtbench` command."""

from __future__ import annotations

import sys


def main() -> None:
    """From the first import on, Ctrl-C ends without a traceback."""
    try:
        from rtbench.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):  # Python 3.11 and later have it
        del sys.path[0]  # the working folder, in which a numpy.py may lie
    main()
