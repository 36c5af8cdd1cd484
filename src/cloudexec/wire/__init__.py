"""What travels between client and worker: signed envelopes, batches, outcomes, and the pipes of a slot.

Neighbours: both halves (ledger's side and worker's side) import this; standard library only.
Files:      envelope.py  version, kind, length and signature around every message
            parts.py     a pickle with its buffers, inline or as blobs
            messages.py  batch and outcome
            lane.py      the pipes between a feeder of calls and one slot
            control.py   what client and local worker say to each other about slots
"""
