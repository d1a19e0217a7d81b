"""`python -m rtbench`, and the `rtbench` command."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """From the first import on, Ctrl-C ends without a traceback; a second one changes nothing."""
    try:
        from rtbench.errors import interrupt_once

        interrupt_once()
        from rtbench.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Python's shutdown undoes the line before


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):  # Python 3.11 and later have it
        del sys.path[0]  # the working folder, which may hold a numpy.py
    main()
