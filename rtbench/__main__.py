"""`python -m rtbench`, and the `rtbench` command."""

from rtbench.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
