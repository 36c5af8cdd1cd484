"""Services: each turns "have lanes / hand over a batch / what happened?" into calls of one service.

Called by: engine.   Files: protocol.py  what the engine expects;  local/  processes on this machine
"""
