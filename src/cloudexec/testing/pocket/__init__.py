"""The pocket AWS: real HTTP on loopback, real processes as tasks, faults on demand.

Files: pocket.py    start it, point programs at it, look into it
       faults.py    make things go wrong
       settings.py  delays, images, limits
       server/      the process that serves it
"""
