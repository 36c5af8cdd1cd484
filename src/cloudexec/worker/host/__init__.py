"""The near end of a supervisor: whoever feeds its slots, a client on the same machine or a cloud worker's agent.

Called by: backends/local, worker/agent.   Calls: wire.control, wire.lane.
Files:     process.py  starts a supervisor and holds the ends of its channels
           host.py     waits on them, and turns what comes into facts
           facts.py    what can happen
"""
