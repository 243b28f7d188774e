"""Where sources conflict or are silent about what a router answers: one switch each, off by default."""

from __future__ import annotations

VARIANTS = {
    "no-task-id": "an older router, whose answers do not tell the task id",
    "usage-in-stream": "the last chunk of a router's stream tells the usage",
    "gateway-envelope": "/v1/completions answers in the hosted gateway's envelope, not in OpenAI's form",
    "v3": "the proxy lets /api/v3/completions pass: documented, but not in the published proxy configuration",
    "x402": "pay-per-call routes under /api/v1/x402",
    "wrong-key-403": "a wrong key is answered with 403 and only a missing one with 401",
}
