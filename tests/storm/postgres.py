"""The PostgreSQL of a storm: the tests' own, with short queries on the side."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from tests import postgres


class Postgres(postgres.Postgres):
    """The server that the storm's two daemons share."""

    def sql(self, text: LiteralString, *values: Any) -> list[dict[str, Any]]:
        """Run a statement in a transaction of its own and return its rows.

        Raises:
            psycopg.Error: the server is away, or refuses.
        """
        options: dict[str, Any] = {"connect_timeout": 5, "options": "-c statement_timeout=20000"}
        with psycopg.connect(self.url, row_factory=dict_row, application_name="storm", **options) as connection:
            cursor = connection.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []
