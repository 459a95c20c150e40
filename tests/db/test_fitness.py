"""A database whose encoding is not UTF-8 is refused before anything is written into it."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from vidqueue.db.fitness import DatabaseUnfitError, require_fit


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_without_unicode_is_refused_with_the_way_to_a_fitting_one(
    database_url: str, encoding: str
) -> None:
    name = f"odd_{encoding.lower()}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        create = "CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        connection.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(encoding)))
        try:
            with pytest.raises(DatabaseUnfitError, match=f"the encoding {encoding}.*--encoding UTF8"):
                await require_fit(make_conninfo(database_url, dbname=name))
            assert int(await require_fit(database_url)) >= 14
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
