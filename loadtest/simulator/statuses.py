"""Status lines, and the pages that a proxy in front of a router writes instead of the router's JSON."""

from __future__ import annotations

REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Payload Too Large",
    422: b"Unprocessable Entity",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
NGINX_WORDS = {413: b"Request Entity Too Large", 504: b"Gateway Time-out"}  # where its words are not the standard's
NGINX_PAGE = (
    b"<html>\r\n<head><title>%b</title></head>\r\n<body>\r\n<center><h1>%b</h1></center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


def nginx_page(status: int) -> bytes:
    """The page nginx shows for a status."""
    title = b"%d %s" % (status, NGINX_WORDS.get(status, REASONS[status]))
    return NGINX_PAGE % (title, title)
