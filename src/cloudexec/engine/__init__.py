"""The one background loop of an executor: feeds the ledger and carries out its actions.

Files: engine.py     the loop
       delivery.py   from outcomes to futures
       withdrawing.py  calls that are cancelled or stopped
       verdicts.py   from what the ledger says to exceptions that a person can act on
       annex.py      where calls go on that ran out of memory
       callbacks.py  a thread for users' callbacks, which may block
       lifetime.py   interpreter exit and forks
"""
