"""vidqueue: a durable queue daemon for video work, with PostgreSQL as the only store of truth."""

from importlib.metadata import version

__version__ = version("vidqueue")
