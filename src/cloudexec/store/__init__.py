"""Named byte strings that both halves can reach.

Called by: serialization (blobs), worker (results), later the run's journal.
Files:     protocol.py  what a store promises;  directory.py  a store in a local directory
Every store passes the same specification, tests/specs/store_spec.py.
"""
