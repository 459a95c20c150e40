"""PostgreSQL for people who have none: a server of our own under the data folder."""
