"""Workers as processes on this machine.

Files: backend.py  the Backend;  process.py  one worker process and its lanes;  scratch.py  the run's directories
"""
