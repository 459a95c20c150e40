"""Processors whose work another server does, and what they share."""
