"""PostgreSQL: connections, migrations, named queries, the event feed, procrastinate, and the embedded server."""
