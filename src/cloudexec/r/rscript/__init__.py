"""The default engine: a resident Rscript, which forks for each call.

engine.py     one engine: a request in, a reply or an error out; starts R again when it is gone
process.py    one R: its pipes, and how a call runs in it, is watched and is killed
launching.py  starts R, in surroundings where it behaves the same everywhere; finding.py knows where it is
exchange.py   requests and replies as RDS, and what a reply raises; the rpy2 engine uses it too
relay.py      what R prints, passed on as it comes
families.py   a process and all that came from it: who lives, how one ended, killing them
places.py     the directory of an engine; what dead processes left
start.R, serve.R   the loop inside R
harness.R     runs a call and describes what came of it, for any engine
"""
