"""Event streams as the documented routers, gateways and odd peers send them; the tests cut each at every byte."""


def text_chunk(text: str, finish: str = "null", key: str = "cmpl-1") -> str:
    return (
        f'{{"id":"{key}","object":"text_completion","created":1750000000,"model":"default","choices":'
        f'[{{"index":0,"text":"{text}","logprobs":null,"finish_reason":{finish}}}]}}'
    )


def chat_chunk(delta: str, finish: str = "null") -> str:
    return (
        f'{{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":'
        f'[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}'
    )


def events(*datas: str, end: str = "\n") -> bytes:
    return "".join(f"data: {data}{end}{end}" for data in datas).encode()


STOP = '"stop"'
CORTENSOR = events(text_chunk(" one"), text_chunk(" two"), text_chunk("", STOP), "[DONE]")
STREAMS: dict[str, bytes] = {
    "cortensor": CORTENSOR,
    "cortensor_crlf": events(text_chunk(" one"), text_chunk(" two"), text_chunk("", STOP), "[DONE]", end="\r\n"),
    "cortensor_cr": events(text_chunk(" one"), text_chunk(" two"), text_chunk("", STOP), "[DONE]", end="\r"),
    "no_space": CORTENSOR.replace(b"data: ", b"data:"),
    "comments": b": open\n\n" + CORTENSOR.replace(b"data: [DONE]", b": ping\ndata: [DONE]"),
    "bom": b"\xef\xbb\xbf" + CORTENSOR,
    "named": b"retry: 10\nevent: token\nid: 7\n" + events(text_chunk("héllo")) + b"event: end\n" + events("[DONE]"),
    "several_data_lines": b'data: {"id":"a",\ndata:\ndata: "choices":[]}\n\ndata\n\ndata: [DONE]\n\n',
    "chat": events(
        chat_chunk('{"role":"assistant","content":""}'),
        chat_chunk('{"content":"Hel"}'),
        chat_chunk('{"content":"lo"}'),
        chat_chunk("{}", STOP),
        '{"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}',
        "[DONE]",
    ),
    "unterminated": CORTENSOR + b"event: late\ndata: never\n",
    "unterminated_line": CORTENSOR + b"data: nev",
    "blank_lines": b"\n\n\r\n\r\r\n" + CORTENSOR + b"\n\n\n",
    "empty": b"",
}
