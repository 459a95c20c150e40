"""The dashboard: pages for people, rendered here with jinja2 and usable without JavaScript."""
