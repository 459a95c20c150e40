"""The storm: thousands of tiny jobs under random faults, against real daemons and a real PostgreSQL.

`python -m tests.storm --seed N --seconds S` runs it; `make storm` does the same. The peer in it is a
managed ComfyUI (the contract server). A storm that was too calm to prove anything fails (`floors`).
"""
