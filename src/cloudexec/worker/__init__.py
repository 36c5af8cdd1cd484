"""The cloud's half: a supervisor and its slots. `python -m cloudexec.worker` starts one.

Neighbours: imports wire, serialization, store, errors; never the client's half (ledger and above).
Files:      __main__.py    the command line
            supervisor.py  starts slots, watches over them, kills them
            slot.py        one child process: takes calls from its lane, one at a time
            running.py     one call: load, call, pack what came of it
            modules.py     the user's own modules, put where `import` finds them
            capture.py     what the call printed
            hygiene.py     what the call left changed, put back
            status.py      a few bytes that slot and supervisor share
            host/          the near end of a supervisor: starts it, feeds its slots
            system.py      what Linux offers beyond POSIX, with substitutes elsewhere
"""
