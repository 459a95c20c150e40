"""The storm: thousands of tiny jobs under random faults, against real daemons and a real PostgreSQL.

`python -m tests.storm --seed N --seconds S` runs it; `make storm` does the same. Webhooks and peers do not exist in
this version, so no fault here plays one. A storm that was too calm to prove anything fails (`floors`).
"""
