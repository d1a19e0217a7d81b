"""The commands on the cache of decoded images: list, size, prune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtbench.cli.options import CacheDir, option
from rtbench.cli.output import complain, show
from rtbench.options import default_cache, require_path

cache = typer.Typer(
    help="The decoded images that comparisons share.\n\nExample: rtbench cache list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@cache.command("list")
def list_cache(cache_dir: CacheDir = None) -> None:
    """Say what the cache holds, the last used first.

    Example: rtbench cache list
    """
    from rtbench.images.cache_entries import list_entries
    from rtbench.report.cached import render_entries

    show(render_entries(list_entries(_folder(cache_dir))))


@cache.command("size")
def size_cache(cache_dir: CacheDir = None) -> None:
    """Print how many bytes the cache takes on disk.

    Example: rtbench cache size --cache-dir /scratch/rtbench
    """
    from rtbench.images.cache_entries import list_entries

    typer.echo(sum(entry.size_bytes for entry in list_entries(_folder(cache_dir))))


@cache.command("prune")
def prune_cache(
    unused_days: Annotated[
        int, option("--unused-days", help="Keep what was used more recently.", min=0, max=36_500)
    ] = 30,
    cache_dir: CacheDir = None,
) -> None:
    """Remove what was not used for a while and is not in use; with --unused-days 0, everything.

    Images are decoded again when they are needed.

    Example: rtbench cache prune --unused-days 7
    """
    import time

    from rtbench.images.cache_entries import prune

    removed, in_use = prune(_folder(cache_dir), time.time() - 86400 * unused_days)
    freed = sum(entry.size_bytes for entry in removed) / 2**20
    typer.echo(f"removed {len(removed)} entries, {freed:.0f} MiB")
    for entry in in_use:
        complain(f"{entry.path} is in use and was kept")


def _folder(cache_dir: Path | None) -> Path:
    if cache_dir:
        require_path(cache_dir, "--cache-dir")
    return cache_dir or default_cache()
