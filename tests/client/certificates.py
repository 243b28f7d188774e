"""A certificate authority made for one test session with the `openssl` command, and what it signs."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"


class Authority:
    """Its files live in `folder`: `ca.pem` is the authority, `<name>.pem` and `<name>.key` a server's."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.file = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_new_key(self._key), "-out", str(self.file), "-days", "2", "-subj", f"/CN=Test {name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def server(self, name: str, names: str = NAMES, days: int = 2) -> ssl.SSLContext:
        """A server's context with a new certificate for `names`; negative `days` make one that is over."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        asked, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(names)
        _openssl("req", "-new", *_new_key(key), "-out", str(asked), "-subj", "/CN=Test server")
        _openssl(
            "x509", "-req", "-in", str(asked), "-CA", str(self.file), "-CAkey", str(self._key), "-CAcreateserial",
            "-out", str(certificate), "-days", str(days), "-extfile", str(extensions),
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


def _new_key(path: Path) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
