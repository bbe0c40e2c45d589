"""POST /page/report: the page's record comes in, a file to keep goes out."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError

from vlm_dlm_app.bodies import read_json
from vlm_dlm_app.page.report import build_report

router = APIRouter(tags=["page"], include_in_schema=False)


class ReportBody(BaseModel):
    """record: as the page keeps it. image: a data URI without metadata, or none."""

    model_config = ConfigDict(extra="forbid")

    record: dict[str, Any]
    image: str | None = None


@router.post("/page/report")
async def report(request: Request) -> Response:
    """The report as an attachment, which no browser shows on this server's address."""
    body = (await read_json(request, ReportBody)).body
    try:
        html = await asyncio.to_thread(build_report, body.record, body.image)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
    return Response(
        html.encode("utf-8", "replace"),
        media_type="text/html; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="vlm-dlm-report.html"'},
    )
