"""R embedded by rpy2: the second engine, and the way of rpy2's objects to cloudexec and back.

engine.py    the engine `R(..., engine="rpy2")`: the rscript engine, around a Python process that embeds R
host.py      what that process runs
bridge.py    rpy2's objects of this process <-> RObject
starting.py  starts the embedded R, and says what to install where it does not start

Only host.py, and bridge.py where it is asked, import rpy2: it is not needed, it is licensed under the GPL, and R in
one's own process ends it by `quit()`, by a crash, or by two threads.
"""
