"""Embedded PostgreSQL: a server under the data folder, for people who have none."""
