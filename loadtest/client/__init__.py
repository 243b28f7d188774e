"""How one request is sent and timed: reactor, framing, SSE, routes and outcomes."""
