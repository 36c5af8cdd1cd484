"""Lambda: calls travel in invocations, and their outcomes in the answers.

Files: discovery.py  which function, how wide, where objects lie
       admission.py  how many invocations may be in flight
       replies.py    what answers and refusals mean to the ledger
       backend.py    the engine's face; does the requests
       sweep.py      outcomes of Event invocations, as objects
"""
