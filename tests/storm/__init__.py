"""The storm: thousands of tiny jobs under random faults, against real daemons and a real PostgreSQL.

`python -m tests.storm --seed N --seconds S` runs it; `make storm` does the same. Servers of other programs are in it:
the contract server of ComfyUI, a real Cog server, and a video server that forgets. A storm that was too calm to prove
anything fails (`floors`).
"""
