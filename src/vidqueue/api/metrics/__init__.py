"""Figures for Prometheus: what is counted while the process runs, and what is read for each scrape."""
