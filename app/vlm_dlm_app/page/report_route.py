"""POST /page/report: the page's record comes in, a file to keep goes out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict, Field, ValidationError

from vlm_dlm_app.http.auth import ClientDep
from vlm_dlm_app.http.bodies import read_json
from vlm_dlm_app.http.held_bytes import HOLD_KEY
from vlm_dlm_app.http.parsing import SMALL_BYTES
from vlm_dlm_app.page.report import build_report
from vlm_dlm_app.schemas.bounds import MAX_ADDRESS_CHARS, MAX_FIELDS, BoundedModel
from vlm_dlm_app.schemas.common import Name
from vlm_dlm_app.state import ServicesDep

router = APIRouter(tags=["page"], include_in_schema=False)


class ReportBody(BoundedModel):
    """What a report is made of.

    record: as the page keeps it.
    image: a data URI without metadata, or none.
    """

    model_config = ConfigDict(extra="forbid")

    record: Annotated[dict[Name, Any], Field(max_length=MAX_FIELDS)]
    image: Annotated[str, Field(max_length=MAX_ADDRESS_CHARS)] | None = None


@router.post("/page/report")
async def report(request: Request, services: ServicesDep, client: ClientDep) -> Response:
    """The report as an attachment, which no browser shows on this server's address."""
    body = (await read_json(request, ReportBody)).body

    def build() -> bytes:
        return build_report(body.record, body.image).encode("utf-8", "replace")

    try:
        html = await services.worker.run(client, SMALL_BYTES + 1, build)
    except ValidationError as error:
        shown = error.errors(include_url=False, include_input=False)
        raise RequestValidationError(shown) from None
    request.scope["state"][HOLD_KEY].grow_to(len(html))  # until its reader has taken it
    return Response(
        html,
        media_type="text/html; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="vlm-dlm-report.html"'},
    )
