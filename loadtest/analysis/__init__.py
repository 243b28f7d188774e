"""Offline: what a run folder says. pandas in and out; never imports the load side."""
