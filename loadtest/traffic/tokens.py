"""The stated encoding, without the network: cl100k_base is package data, others come from a local cache first.

tiktoken fetches a missing vocabulary with no timeout at all, so a download runs in a child process that can be
ended at a deadline; this process then only ever reads the cache.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import tiktoken

DOWNLOAD_DEADLINE_S = 60.0

_CL100K_FILE = Path(__file__).parent / "data" / "cl100k_base.tiktoken"
_CL100K_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
# Pattern and special tokens as in tiktoken_ext/openai_public.py of tiktoken 0.14.
_CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_CL100K_SPECIAL = {
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}


class EncodingError(ValueError):
    """One line: which encoding cannot be had, why, and what to do."""


@lru_cache(maxsize=8)
def load_encoding(name: str) -> tiktoken.Encoding:
    """The encoding of that name; the same object every time. Takes 0.1 to 0.2 s at first: load it before t0.

    cl100k_base never touches the network. Another encoding is looked for in the folder TIKTOKEN_CACHE_DIR (or
    tiktoken's own under the temporary folder) and downloaded into it within DOWNLOAD_DEADLINE_S. Raises EncodingError.
    """
    if name == "cl100k_base":
        return _embedded_cl100k()
    if name not in encoding_names():
        raise EncodingError(f"encoding {name!r:.60}: unknown, choose one of {', '.join(encoding_names())}")
    return _cached_encoding(name)


def encoding_names() -> list[str]:
    """The names that `load_encoding` knows, sorted; not all of them are on this machine."""
    return sorted(tiktoken.list_encoding_names())


def count_tokens(encoding: tiktoken.Encoding, text: str) -> int:
    """Number of tokens of `text`; text that looks like a special token counts as ordinary text."""
    return len(encoding.encode_ordinary(text))


def _embedded_cl100k() -> tiktoken.Encoding:
    try:
        data = _CL100K_FILE.read_bytes()
    except OSError as error:
        raise EncodingError(f"{_CL100K_FILE}: cannot be read ({error.strerror}), install the package again") from error
    if hashlib.sha256(data).hexdigest() != _CL100K_SHA256:
        raise EncodingError(f"{_CL100K_FILE}: sha256 is not that of cl100k_base, install the package again")
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in data.splitlines())}
    return tiktoken.Encoding(
        "cl100k_base", pat_str=_CL100K_PATTERN, mergeable_ranks=ranks, special_tokens=_CL100K_SPECIAL
    )


def _cached_encoding(name: str) -> tiktoken.Encoding:
    if os.environ.get("TIKTOKEN_CACHE_DIR", "unset") == "":
        raise EncodingError(f"encoding {name}: TIKTOKEN_CACHE_DIR is empty, which turns the cache off; name a folder")
    # The child fills the cache, or finds it filled; a hang there ends at the deadline and never reaches us.
    program = f"import tiktoken; tiktoken.get_encoding({name!r})"
    remedy = "use cl100k_base or fill TIKTOKEN_CACHE_DIR on a machine with access"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=DOWNLOAD_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise EncodingError(
            f"encoding {name}: not in the cache and no download within {DOWNLOAD_DEADLINE_S:g} s; {remedy}"
        ) from None
    if done.returncode != 0:
        kind = (done.stderr.strip().splitlines() or ["no reason given"])[-1].split(":")[0]
        raise EncodingError(f"encoding {name}: not in the cache and the download failed ({kind:.80}); {remedy}")
    return tiktoken.get_encoding(name)
