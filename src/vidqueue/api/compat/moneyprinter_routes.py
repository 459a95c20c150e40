"""The HTTP endpoints of the API that is compatible with MoneyPrinterTurbo (`/api/v1`)."""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel

from vidqueue.api.compat import moneyprinter, moneyprinter_scripts
from vidqueue.api.compat.moneyprinter_scripts import ScriptAnswer, TermsAnswer
from vidqueue.api.compat.moneyprinter_views import (
    Envelope,
    FileStoredAnswer,
    NamedFilesAnswer,
    TaskAnswer,
    TaskCreatedAnswer,
    TaskPageAnswer,
    enveloped_problem,
)
from vidqueue.api.http.endpoint import JSON, Answer, CompatApi, Endpoint, Handler, download_answers
from vidqueue.api.v1.file_routes import FORM, UPLOAD_ERRORS
from vidqueue.jobs.submit import REFUSALS

_endpoint = partial(
    Endpoint,
    tag="moneyprinter",
    errors_as=enveloped_problem,
    compat_api=CompatApi("moneyprinter", "The MoneyPrinterTurbo API", "/api/v1/"),
)


def _json(method: str, path: str, handler: Handler, model: type[BaseModel], text: str, *errors: str) -> Endpoint:
    return _endpoint(
        method=method, path=f"/api/v1{path}", handler=handler, answers={200: Answer(text, {JSON: model})}, errors=errors
    )


def _create(path: str, handler: Handler) -> Endpoint:
    return _json("POST", path, handler, TaskCreatedAnswer, "The task is queued, durably.", *REFUSALS)


def _write(path: str, handler: Handler, model: type[BaseModel], text: str) -> Endpoint:
    errors = ("processor_unavailable", "peer_unavailable", "model_failed", "not_ready")
    return _json("POST", path, handler, model, text, *errors)


def _store(path: str, handler: Handler) -> Endpoint:
    answers = {200: Answer("The file is stored.", {JSON: FileStoredAnswer})}
    return _endpoint(
        method="POST", path=f"/api/v1{path}", handler=handler, raw_body=FORM, answers=answers, errors=UPLOAD_ERRORS
    )


def _file(path: str, handler: Handler) -> Endpoint:
    answers = download_answers("video/mp4")
    return _endpoint(method="GET", path=path, handler=handler, answers=answers, errors=("range_not_satisfiable",))


ENDPOINTS: tuple[Endpoint, ...] = (
    _create("/videos", moneyprinter.create_film),
    _create("/audio", moneyprinter.create_audio),
    _create("/subtitle", moneyprinter.create_subtitle),
    _json("GET", "/tasks", moneyprinter.list_tasks, TaskPageAnswer, "Some tasks."),
    _json("GET", "/tasks/{task_id}", moneyprinter.get_task, TaskAnswer, "The task."),
    _json("DELETE", "/tasks/{task_id}", moneyprinter.delete_task, Envelope, "The task is gone.", "conflict"),
    _write("/scripts", moneyprinter_scripts.write_script, ScriptAnswer, "The script."),
    _write("/terms", moneyprinter_scripts.write_terms, TermsAnswer, "The terms."),
    _json("GET", "/musics", moneyprinter.list_musics, NamedFilesAnswer, "The music."),
    _store("/musics", moneyprinter.store_music),
    _json("GET", "/video_materials", moneyprinter.list_materials, NamedFilesAnswer, "The materials."),
    _store("/video_materials", moneyprinter.store_material),
    _file("/api/v1/stream/{task_id}/{file}", moneyprinter.stream_file),
    _file("/api/v1/download/{task_id}/{file}", moneyprinter.download_file),
    _file("/tasks/{task_id}/{file}", moneyprinter.show_file),
)
