"""Rows in, values out: one module a table family, each function one named query. No decisions are taken here."""
