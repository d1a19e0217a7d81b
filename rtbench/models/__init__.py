"""A name or a file of the user's comes in; out comes the network, and the record of what it is.

Whatever imports torch here runs in a worker process, never in the parent.
"""

from rtbench.errors import UsageError


def require_classes(source: str, classes: int) -> None:
    """UsageError for fewer outputs than a largest one can be told from."""
    if classes < 2:
        raise UsageError(
            f"{source} has one output, and the largest of several is the answer",
            "give the network two, of which the first is constantly 0",
        )
