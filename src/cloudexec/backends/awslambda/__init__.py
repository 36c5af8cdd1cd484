"""Lambda: calls travel in invocations, and their outcomes in the answers.

Files: discovery.py      which function, how wide, where objects lie
       plan.py           what a run is made of, and what the files below share
       backend.py        the engine's face
       admission.py      how many invocations may be in flight
       lanes.py          permissions for them; what a refusal does
       flights.py        batches on their way
       sending.py        one batch: payload, Invoke, what comes of it
       event_invokes.py  the same for batches that last: Invoke by Event
       probe.py          whether a function can report what becomes of its events
       sweep.py          outcomes of Event invocations, as objects
       answers.py        what workers answer becomes events of the ledger
       replies.py        what answers and refusals mean; pure
       control.py        the object through which environments hear of the client
"""
