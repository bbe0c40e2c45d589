"""`vlm-dlm fetch`: a published checkpoint to this machine, once its licence is accepted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlm_dlm.checkpoint.family import FULL_MODEL, Licence, split_hub_id
from vlm_dlm.cli import options as opt
from vlm_dlm.cli.output import byte_progress, write_json, write_note
from vlm_dlm.errors import BadInputError
from vlm_dlm.sizes import size_text

if TYPE_CHECKING:
    from vlm_dlm.checkpoint.download import Plan
    from vlm_dlm.checkpoint.listing import Listing
    from vlm_dlm.checkpoint.record import Record


def fetch(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Hub id: org/name or org/name@revision.")
    ] = FULL_MODEL,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="A plain folder instead of the Hub's cache."),
    ] = None,
    accept_license: Annotated[
        str | None,
        typer.Option(
            "--accept-license",
            metavar="ID",
            help="Accept the licence of this id without a question.",
        ),
    ] = None,
    json: opt.AsJson = False,
) -> None:
    """Download a checkpoint at a pinned revision and check every file. Run again to resume."""
    repo, revision = split_hub_id(model)
    from vlm_dlm.checkpoint.download import carry_out, check_room, make_plan, read_config
    from vlm_dlm.checkpoint.listing import list_repository
    from vlm_dlm.checkpoint.manifest import check_manifest, read_manifest
    from vlm_dlm.checkpoint.places import CachePlace, FolderPlace
    from vlm_dlm.checkpoint.record import check_record

    listing = list_repository(repo, revision)
    config = read_config(listing)
    if to is None:
        place = CachePlace(repo, listing.commit, revision)
    else:
        place = FolderPlace(to.expanduser(), repo)
    with byte_progress() as progress:
        plan = make_plan(listing, place, progress)
    check_room(plan)
    licence = _accepted(plan, accept_license)
    with byte_progress() as progress:
        folder, record = carry_out(plan, licence, progress)
    check_record(folder)
    check_manifest(config, read_manifest(folder))
    if json:
        write_json(_document(plan, folder, record))
    else:
        write_note(f"{listing.repo} at {listing.commit[:12]} is complete, every file checked")
        typer.echo(folder)


def _accepted(plan: Plan, typed: str | None) -> str:
    """The id of the licence that was accepted. Raises BadInputError if none was."""
    listing = plan.listing
    licences = listing.licences
    _show_what_comes(plan)
    ids = " or ".join(licence.id for licence in licences)
    before = plan.place.record()
    if typed is None and before is not None and before.licence in [one.id for one in licences]:
        return before.licence
    if typed is None:
        if not sys.stdin.isatty():
            raise BadInputError(
                f"the licence of {listing.repo} is to be accepted first; having read it, pass "
                f"--accept-license {licences[0].id}"
            )
        _show_text(listing)
        question = f"Type {ids} to accept"
        typed = str(typer.prompt(question, default="", show_default=False, err=True))
    for licence in licences:
        if licence.is_named_by(typed):
            return licence.id
    raise BadInputError(
        f"{typed!r} is not the licence of {listing.repo}, which is {ids}; nothing was downloaded"
    )


def _show_what_comes(plan: Plan) -> None:
    listing = plan.listing
    say = f"{listing.repo} at {listing.commit}: {len(listing.files)} files, "
    say += f"{size_text(listing.num_bytes)}, {size_text(plan.num_bytes)} to download"
    typer.echo(say, err=True)
    for licence in listing.licences:
        typer.echo(f"Licence: {_licence_line(licence)}", err=True)
    if listing.licence_url is not None:
        typer.echo(f"Its text: {listing.licence_url}", err=True)


def _licence_line(licence: Licence) -> str:
    name = licence.name if licence.name == licence.id else f"{licence.name} ({licence.id})"
    return "\n  ".join(filter(None, (f"{name}, {licence.url}", licence.note)))


def _show_text(listing: Listing) -> None:
    from vlm_dlm.checkpoint.download import read_licence_text

    text = read_licence_text(listing)
    if text is not None:
        typer.echo(f"\n{text.strip()}\n", err=True)


def _document(plan: Plan, folder: Path, record: Record) -> dict[str, Any]:
    return {
        "model": record.repo,
        "revision": record.commit,
        "folder": str(folder),
        "licence": record.licence,
        "downloaded": [file.name for file in plan.missing],
        "files": {
            name: {"bytes": num_bytes, "sha256": sha256}
            for name, (num_bytes, sha256) in sorted(record.files.items())
        },
    }
