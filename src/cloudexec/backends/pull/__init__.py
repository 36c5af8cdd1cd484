"""What all backends share whose workers take calls from a queue by themselves (docs/decisions/0006).

backend.py    the engine's face: places, reads, waits; owner of the asyncio loop
mailroom.py   the two queues: sends, long polls, deletes
news.py       pure: reports of workers become events of the ledger
journal.py    what must outlive the client: written once a second, read by attach
control.py    the object that all workers read: heartbeat, stops, leave
home.py       queues and objects of a run: made, found again, removed
fleet.py      what a service must do: start workers, watch them, stop them
"""
