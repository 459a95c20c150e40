"""vidqueue: a durable queue daemon for video work, with PostgreSQL as the only store of truth."""


def __getattr__(name: str) -> str:
    """`__version__`, read when it is asked for: `__main__` makes the import path safe before anything is imported."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - what it imports must not come from the working folder

        return version("vidqueue")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
