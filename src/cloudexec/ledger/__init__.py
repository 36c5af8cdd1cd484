"""The pure bookkeeping of calls, attempts, lanes and workers: events in, actions out, time passed in.

Called by: engine (for real), testing.simulation (against a random cloud).   No I/O, no clock, no threads.
Files:      calls.py    a call, its options and its retry budgets
            actions.py  what the ledger asks its engine to do
            lanes.py    where calls are: a slot, or a queue that slots share
            pace.py     how many calls travel together
            placing.py  which lane gets which calls
            growth.py   how many slots are asked for
            ledger.py   the ledger
"""
