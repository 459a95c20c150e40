"""The HTTP endpoints of files: uploads in one request or in pieces, by hash, metadata, downloads, deletion."""

from __future__ import annotations

from typing import Any

from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, download_answers
from vidqueue.api.v1 import files, known_files, uploads
from vidqueue.api.v1.downloads import get_file_content
from vidqueue.api.v1.file_views import FileView, UploadView

FORM: dict[str, dict[str, Any]] = {
    "multipart/form-data": {
        "type": "object",
        "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
        "required": ["file"],
    }
}
_RAW = {"application/octet-stream": {"type": "string", "contentMediaType": "application/octet-stream"}}
UPLOAD_ERRORS = ("payload_too_large", "request_timeout", "input_empty", "no_space", "limit_reached")

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="POST",
        path="/v1/files",
        handler=files.upload_file,
        tag="files",
        answers={201: Answer("The file is stored.", {JSON: UploadView}, {"Location": "Address of the file."})},
        errors=UPLOAD_ERRORS,
        raw_body=FORM | _RAW,
    ),
    *known_files.ENDPOINTS,
    Endpoint(
        method="GET",
        path="/v1/files/{file_id:uuid}",
        handler=files.get_file,
        tag="files",
        answers={200: Answer("What is known of it.", {JSON: FileView})},
    ),
    Endpoint(
        method="DELETE",
        path="/v1/files/{file_id:uuid}",
        handler=files.delete_file,
        tag="files",
        answers={204: Answer("The file is gone.")},
        errors=("conflict",),
    ),
    Endpoint(
        method="GET",
        path="/v1/files/{file_id:uuid}/content",
        handler=get_file_content,
        tag="files",
        answers=download_answers(),
        errors=("range_not_satisfiable",),
    ),
    *uploads.ENDPOINTS,
)
