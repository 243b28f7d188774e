"""Load testing for AI router nodes. Data flows one way: traffic, client, swarm, run folder, analysis, report."""

__version__ = "0.1.0"
