"""One TLS handshake to look at the certificate: is it trusted, for how long?"""

from __future__ import annotations

import socket
import ssl

from loadtest.client.exchange import Endpoint
from loadtest.clock import wall_ns
from loadtest.jobs.verdicts import Certificate

HANDSHAKE_S = 10.0
DAY_S = 86_400


def look_at_certificate(endpoint: Endpoint) -> Certificate:
    """Handshake and close. Never raises for what the network does: the error is part of what was seen.

    Trust is the system's (SSL_CERT_FILE and SSL_CERT_DIR included).
    """
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), timeout=HANDSHAKE_S) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
        ):
            ends = str((secured.getpeercert() or {}).get("notAfter", ""))
            version = secured.version() or ""
    except ssl.SSLCertVerificationError as error:
        return Certificate(f"certificate not trusted: {error.verify_message}")
    except (OSError, UnicodeError) as error:
        return Certificate(f"no TLS: {getattr(error, 'reason', None) or getattr(error, 'strerror', None) or error}")
    return Certificate("", (ssl.cert_time_to_seconds(ends) - wall_ns() / 1e9) / DAY_S, version)
