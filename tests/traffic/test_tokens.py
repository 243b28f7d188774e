"""Encodings: the embedded one equals tiktoken's, and nothing ever waits for the network without an end."""

from __future__ import annotations

import hashlib
import shutil
import socket
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public  # type: ignore[import-untyped]

from loadtest.traffic import tokens
from loadtest.traffic.tokens import EncodingError, count_tokens, load_encoding


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a proxy that refuses: whoever fetches, fails at once."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tmp_path


def fill_cache(folder: Path) -> None:
    """Put our file into a tiktoken cache, under the name that tiktoken derives from the place it would ask."""
    asked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda url, expected_hash: asked.append(url))
        openai_public.cl100k_base()
    shutil.copy(tokens._CL100K_FILE, folder / hashlib.sha1(asked[0].encode()).hexdigest())


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tiktoken.Encoding:
    """tiktoken's own cl100k_base, with its own pattern and its own check of the vocabulary's hash."""
    folder = tmp_path_factory.mktemp("cache")
    fill_cache(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        return tiktoken.Encoding(**openai_public.cl100k_base())


@given(text=st.text(max_size=200))
def test_the_embedded_encoding_is_tiktokens(official: tiktoken.Encoding, text: str) -> None:
    ours = load_encoding("cl100k_base")
    assert ours.encode_ordinary(text) == official.encode_ordinary(text)
    assert count_tokens(ours, text) == len(official.encode_ordinary(text))


def test_it_needs_no_network_and_is_loaded_once(no_network: Path, official: tiktoken.Encoding) -> None:
    load_encoding.cache_clear()
    encoding = load_encoding("cl100k_base")
    assert encoding is load_encoding("cl100k_base")
    assert encoding.special_tokens_set == official.special_tokens_set and encoding.n_vocab == official.n_vocab
    assert count_tokens(encoding, "<|endoftext|>") > 1, "user text that looks special is ordinary"
    assert not list(no_network.iterdir())


def test_damaged_or_missing_package_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "cl100k_base.tiktoken"
    monkeypatch.setattr(tokens, "_CL100K_FILE", damaged)
    with pytest.raises(EncodingError, match=r"cannot be read \(No such file or directory\), install the package again"):
        tokens._embedded_cl100k()
    damaged.write_bytes(b"IQ== 0\n")
    with pytest.raises(EncodingError, match="sha256 is not that of cl100k_base"):
        tokens._embedded_cl100k()


def test_another_encoding_comes_from_the_cache(no_network: Path) -> None:
    fill_cache(no_network)
    cached = tokens._cached_encoding("cl100k_base")
    assert cached.encode_ordinary("Hello there") == load_encoding("cl100k_base").encode_ordinary("Hello there")


def test_no_cache_and_no_network_is_one_line(no_network: Path) -> None:
    with pytest.raises(EncodingError) as caught:
        load_encoding("o200k_base")
    assert str(caught.value).startswith("encoding o200k_base: not in the cache and the download failed (")
    assert str(caught.value).endswith("; use cl100k_base or fill TIKTOKEN_CACHE_DIR on a machine with access")
    assert "\n" not in str(caught.value)


def test_a_download_that_hangs_ends_at_the_deadline(no_network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "DOWNLOAD_DEADLINE_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(1)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.delenv("https_proxy")
        with pytest.raises(EncodingError, match="encoding p50k_base: not in the cache and no download within 3 s"):
            load_encoding("p50k_base")
        silent.accept()[0].close()  # it had connected, so it was the answer that never came


def test_unknown_names_and_a_cache_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncodingError, match=r"encoding 'llama': unknown, choose one of cl100k_base, gpt2"):
        load_encoding("llama")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    with pytest.raises(EncodingError, match="TIKTOKEN_CACHE_DIR is empty, which turns the cache off; name a folder"):
        load_encoding("o200k_base")
