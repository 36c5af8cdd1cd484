"""What people ask about runs, from outside: which there are, how they are, what they printed and cost; ending them.

home.py      where summaries and objects of runs lie; which run somebody means
signs.py     whether a run is alive: asked of its control object and its tasks, not of what it says of itself
listing.py   the latest runs, in few requests
logs.py      lines of a run in CloudWatch Logs
stopping.py  ends a run whose key is not here
cleaning.py  what runs that are over have left behind
costs.py     what a run has cost, estimated

Called by: cli/runs.py.   Calls: infra.place for every request; observe for summaries and prices.
"""
