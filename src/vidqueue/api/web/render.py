"""Renders jinja2 templates into HTML responses. Everything that comes from a value is escaped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from vidqueue.api.web import assets, forms, words
from vidqueue.principal import Principal, Role

# Each page of the navigation: its address, its name.
PLACES = (
    ("/", "Overview"),
    ("/jobs", "Jobs"),
    ("/submit", "Submit"),
    ("/lanes", "Lanes"),
    ("/batches", "Batches"),
    ("/schedules", "Schedules"),
    ("/reports", "Reports"),
    ("/audit", "Audit"),
    ("/system", "System"),
)


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("vidqueue.api.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(words.FILTERS)
    made.globals["asset"] = assets.address
    made.globals["places"] = PLACES
    return made


_templates = _environment()


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page with the frame that all pages have: navigation, notice, the token of its forms."""
    token = forms.token_of(request)
    # There is none before the log-in, and where the database that knows the keys is away.
    principal: Principal | None = getattr(request.state, "principal", None)
    html = _templates.get_template(template).render(
        now=datetime.now(UTC),
        path=request.url.path,
        here=forms.address_of(request),
        token=token,
        who=principal if principal and principal.key_id else None,
        may=lambda role: principal is not None and principal.role.includes(Role(role)),
        notice=forms.notice_of(request),
        **values,
    )
    response = HTMLResponse(html, status)
    forms.keep(request, response, token)
    if principal and principal.key_id:
        # Nothing of an owner stays in the browser after the log-out.
        response.headers["Cache-Control"] = "no-store"
    return response
