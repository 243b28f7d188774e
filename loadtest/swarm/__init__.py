"""Locust: who sends, the worker's account, the master's part in a run. The only room that imports locust."""
