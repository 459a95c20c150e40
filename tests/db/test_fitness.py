"""A database that vidqueue cannot use is refused before anything is written into it, with what to do."""

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


async def test_a_role_that_may_not_create_the_schemas_is_refused_with_the_way_to_one_that_may(server_url: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE poor LOGIN")
        connection.execute("CREATE DATABASE of_others")
        connection.execute("REVOKE CREATE ON DATABASE of_others FROM PUBLIC")
        theirs = make_conninfo(server_url, user="poor", dbname="of_others")
        try:
            with pytest.raises(DatabaseUnfitError, match='ALTER DATABASE "of_others" OWNER TO "poor"'):
                await require_fit(theirs)
            connection.execute("ALTER DATABASE of_others OWNER TO poor")
            assert int(await require_fit(theirs)) >= 14
        finally:
            connection.execute("DROP DATABASE of_others WITH (FORCE)")
            connection.execute("DROP ROLE poor")


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"dbname": "not_there"}, "Create the role and the database"),
        ({"user": "nobody_here"}, "Create the role and the database"),
        ({"host": "127.0.0.1", "port": "9"}, "Check that the server runs at this address"),
    ],
)
async def test_the_advice_is_about_the_mistake_and_the_message_is_one_line(
    server_url: str, change: dict[str, str], advice: str
) -> None:
    with pytest.raises(DatabaseUnfitError, match=advice) as caught:
        await require_fit(make_conninfo(server_url, **change))
    assert "\n" not in str(caught.value)
    assert "?" not in str(caught.value)
