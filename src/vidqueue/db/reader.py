"""A role that can read the reports and nothing else."""

from __future__ import annotations

import psycopg
from psycopg import sql

from vidqueue.db.connections import CONNECT_OPTIONS
from vidqueue.db.fitness import DatabaseUnfitError, said
from vidqueue.db.pool import AWAY

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
            for statement in _statements(role, password, await _owner(connection), is_new=is_new):
                await connection.execute(statement)
            return is_new
    except psycopg.errors.InsufficientPrivilege as error:
        raise ReaderError(
            f"The database refuses: {error.diag.message_primary}.\n"
            "Give this command the address of a superuser: VIDQUEUE_DATABASE__URL=postgresql://postgres@... before it."
        ) from error
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


async def _owner(connection: psycopg.AsyncConnection) -> str:
    """The role that makes the views of later versions. A superuser who runs this is another one."""
    cursor = await connection.execute(
        "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'vidqueue_report'"
    )
    found = await cursor.fetchone()
    if found is None:
        raise ReaderError("This database has no reports of vidqueue. Start the daemon on it first.")
    return str(found[0])


def _statements(role: str, password: str | None, owner: str, *, is_new: bool) -> list[sql.Composed]:
    name = sql.Identifier(role)
    changes = [sql.SQL("CREATE ROLE {} LOGIN NOINHERIT").format(name)] if is_new else []
    if password is not None:
        changes.append(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(password)))
    grants = (
        "GRANT USAGE ON SCHEMA vidqueue_report TO {}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA vidqueue_report TO {}",
        # The views of later versions too.
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA vidqueue_report GRANT SELECT ON TABLES TO {}",
        "ALTER ROLE {} SET default_transaction_read_only = on",
        f"ALTER ROLE {{}} SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'",
    )
    return changes + [sql.SQL(text).format(name, owner=sql.Identifier(owner)) for text in grants]
