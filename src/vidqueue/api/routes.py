"""The list of all HTTP endpoints except the dashboard's: the native API and the APIs compatible with other systems."""

from __future__ import annotations

from vidqueue.api.compat import routes as compat
from vidqueue.api.http.endpoint import Endpoint
from vidqueue.api.v1 import routes as v1

ENDPOINTS: tuple[Endpoint, ...] = (*v1.ENDPOINTS, *compat.ENDPOINTS)
