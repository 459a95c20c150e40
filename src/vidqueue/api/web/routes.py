"""The list of all pages and forms of the dashboard."""

from __future__ import annotations

from vidqueue.api.http.endpoint import Answer, Handler
from vidqueue.api.web import (
    actions,
    assets,
    audit,
    batches,
    bulk,
    csv_list,
    job,
    jobs,
    lanes,
    overview,
    reports,
    schedules,
    session,
    submit,
    system,
)
from vidqueue.api.web.page import Page
from vidqueue.principal import Role

_HTML = {200: Answer("A page.", {"text/html": None})}
_BACK = {303: Answer("Back to the page of the form.")}


def _page(path: str, handler: Handler) -> Page:
    return Page(method="GET", path=path, handler=handler, tag="pages", answers=_HTML)


def _form(path: str, handler: Handler, role: Role = Role.SUBMIT) -> Page:
    return Page(method="POST", path=path, handler=handler, tag="pages", answers=_BACK, role=role)


PAGES: tuple[Page, ...] = (
    _page("/", overview.show),
    Page(method="GET", path="/assets/{name}", handler=assets.get_asset, tag="pages", answers=_HTML, public=True),
    Page(method="GET", path="/login", handler=session.show, tag="pages", answers=_HTML, public=True),
    Page(method="POST", path="/login", handler=session.log_in, tag="pages", answers=_BACK, public=True),
    Page(method="POST", path="/logout", handler=session.log_out, tag="pages", answers=_BACK, public=True),
    _page("/jobs", jobs.show),
    _form("/jobs/selected", actions.act_on_jobs),
    _page("/jobs.csv", csv_list.download),
    _form("/jobs/matching", bulk.create),
    _page("/bulk", bulk.show),
    _form("/bulk/{action_id:uuid}/undo", bulk.undo),
    _page("/jobs/{job_id:uuid}", job.show),
    _page("/jobs/{job_id:uuid}/attempts/{number:int}", job.show_log),
    _page("/jobs/{job_id:uuid}/attempts/{number:int}/log", job.download_log),
    _form("/jobs/{job_id:uuid}/suspend", actions.suspend, Role.OPERATE),
    _form("/jobs/{job_id:uuid}/resume", actions.resume, Role.OPERATE),
    _form("/jobs/{job_id:uuid}/{verb}", actions.act_on_job),
    _page("/submit", submit.show),
    _form("/submit/{name}", submit.send),
    _page("/lanes", lanes.show),
    _page("/lanes/{name}/windows", lanes.show_windows),
    _form("/lanes/{name}/windows", lanes.set_windows, Role.OPERATE),
    _page("/batches", batches.show),
    _form("/batches/{batch_id:uuid}/{verb}", batches.act),
    _page("/schedules", schedules.show),
    _form("/schedules/{schedule_id:uuid}/{verb}", schedules.act),
    _page("/reports", reports.show),
    _page("/reports.csv", reports.download),
    Page(method="GET", path="/audit", handler=audit.show, tag="pages", answers=_HTML, role=Role.OPERATE),
    Page(method="GET", path="/system", handler=system.show, tag="pages", answers=_HTML, role=Role.OPERATE),
    _form("/queue/{verb}", actions.pause, Role.OPERATE),
    _form("/lanes/{name}/{verb}", actions.act_on_lane, Role.OPERATE),
    _form("/deliveries/{delivery_id:uuid}/resend", actions.resend),
)
