"""For Locust: `locust -f locustfile.py --headless -u 50 -r 50 -t 20s --host http://127.0.0.1:5010`.

The profile (`--profile NAME_OR_FILE`, default community) says what is sent and when; see profiles/.
"""

from locust import events

from loadtest.swarm.plugin import install
from loadtest.swarm.users import ClosedMembers, OpenArrivals

__all__ = ["ClosedMembers", "OpenArrivals"]

install(events)
