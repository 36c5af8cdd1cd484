"""Workers as processes on this machine.

Files: backend.py  the Backend;  scratch.py  the run's directories. What it does is done by worker/host.
"""
