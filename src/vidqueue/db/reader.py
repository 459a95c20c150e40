"""A role that can read the reports and nothing else."""

from __future__ import annotations

import psycopg
from psycopg import sql

from vidqueue.db.fitness import DatabaseUnfitError, said
from vidqueue.db.pool import AWAY, CONNECT_OPTIONS

# A report over years must not keep the server busy for ever.
STATEMENT_TIMEOUT_S = 60


class ReaderError(Exception):
    """The role cannot be made; the message says why."""


async def make_reader(url: str, role: str, password: str | None) -> bool:
    """Make a role, or renew the grants of one, that can read `vidqueue_report`; True if it is new.

    Raises:
        ReaderError: the role may do more already, or the user of `url` may not make roles.
        DatabaseUnfitError: the database does not answer.
    """
    try:
        async with (
            await psycopg.AsyncConnection.connect(url, autocommit=True, **CONNECT_OPTIONS) as connection,
            connection.transaction(),
        ):
            is_new = await _is_new(connection, role)
            for statement in _statements(role, password, is_new=is_new):
                await connection.execute(statement)
            return is_new
    except psycopg.errors.InsufficientPrivilege as error:
        raise ReaderError(f"The database refuses: {error.diag.message_primary}.") from error
    except (psycopg.errors.ReservedName, psycopg.errors.InvalidSchemaName) as error:
        raise ReaderError(f"{error.diag.message_primary}.") from error
    except AWAY as error:
        raise DatabaseUnfitError(f"The database does not answer: {said(error)}.") from error


async def _is_new(connection: psycopg.AsyncConnection, role: str) -> bool:
    cursor = await connection.execute(
        """SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
                  OR has_schema_privilege(r.oid, 'vidqueue', 'USAGE') OR pg_has_role(current_user, r.oid, 'USAGE')
                     AND current_user = r.rolname
                  OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
           FROM pg_roles r WHERE r.rolname = %s""",
        [role],
    )
    found = await cursor.fetchone()
    if found is not None and found[0]:
        raise ReaderError(f"The role {role} may do more than read reports already. Choose another name.")
    return found is None


def _statements(role: str, password: str | None, *, is_new: bool) -> list[sql.Composed]:
    name = sql.Identifier(role)
    changes = [sql.SQL("CREATE ROLE {} LOGIN NOINHERIT").format(name)] if is_new else []
    if password is not None:
        changes.append(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(password)))
    grants = (
        "GRANT USAGE ON SCHEMA vidqueue_report TO {}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA vidqueue_report TO {}",
        # The views of later versions too.
        "ALTER DEFAULT PRIVILEGES IN SCHEMA vidqueue_report GRANT SELECT ON TABLES TO {}",
        "ALTER ROLE {} SET default_transaction_read_only = on",
        f"ALTER ROLE {{}} SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'",
    )
    return changes + [sql.SQL(text).format(name) for text in grants]
