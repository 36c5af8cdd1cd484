"""What all backends share whose workers take calls from a queue by themselves (docs/decisions/0006).

backend.py    the engine's face: places, reads, waits
loop.py       an asyncio loop that runs only while the engine waits
mailroom.py   the two queues: sends, long polls, deletes
inbox.py      reports in their order, with the results that they name
news.py       pure: reports of workers become events of the ledger
journal.py    pure: what must outlive the client, and how it is read again by attach
scribe.py     writes the journal, and lets reports go afterwards
control.py    the object that all workers read: heartbeat, stops, leave
home.py       queues and objects of a run: made, found again, removed
fleet.py      what a service must do: start workers, watch them, stop them
"""
