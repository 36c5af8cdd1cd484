"""Commands in containers of their own: one task for each attempt at a call, watched through ECS.

Pure:  orders.py      what a command asks of ECS: target, overrides, definition
       jobs.py        what is kept of one attempt, and the actions and news about it
       containers.py  which tasks to start, watch and stop: events in, actions and news out
       verdicts.py    from a task's end and its log to what the ledger is told
I/O:   definitions.py looks task definitions up, once each
       logs.py        reads the log of a task that is over
       backend.py     the engine's backend
"""
