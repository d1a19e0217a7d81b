"""The commands on tools: packages that some exports need, kept apart from the others."""

from __future__ import annotations

from typing import Annotated

import typer

from rtbench.cli.output import say

tools = typer.Typer(
    help="Packages that some exports need, kept apart.\n\nExample: rtbench tools list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@tools.command("list")
def list_tools() -> None:
    """Print which tools there are, what for, and where they are installed.

    Example: rtbench tools list
    """
    from rtbench.export.tools import TOOLS, folder_of

    for tool, purpose in TOOLS.items():
        folder = folder_of(tool)
        typer.echo(f"{tool}  {purpose}  {folder if folder.is_dir() else 'not installed'}")


@tools.command("install")
def install_tool(tool: Annotated[str, typer.Argument(metavar="TOOL")]) -> None:
    """Install a tool into your cache, with its versions pinned.

    Example: rtbench tools install onnx2tf
    """
    from rtbench.export.tools import install

    say(f"{tool} is in {install(tool)}.")
