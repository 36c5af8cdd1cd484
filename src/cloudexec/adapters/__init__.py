"""Doors into cloudexec from other worlds; each is a folder of its own."""
