"""Readers of what happens: the run's facts. Later: progress, timeline, cost."""
