"""A few threads that ask: one slow or dead host must delay neither the other sources nor the loop."""

from __future__ import annotations

import queue
import threading
from typing import Any, NamedTuple, Protocol

from loadtest.client.control import ControlError
from loadtest.clock import wall_ns

_END_S = 0.5  # threads are daemons: one that waits for a slow host is left behind


class Client(Protocol):
    """What asking needs of client.control.ControlClient."""

    def get_json(self, path: str) -> Any: ...


class Question(NamedTuple):
    """`subject` is what the answer is about; it comes back with the answer."""

    subject: Any
    client: Client
    path: str


class Answer(NamedTuple):
    """A decoded body, or an error of one line with its kind. `wall_ns` is when we had it."""

    subject: Any
    body: Any
    error_kind: str
    error: str
    wall_ns: int


class Askers:
    """`threads` daemon threads; answers go to the queue that was given. Takes no more questions than threads."""

    def __init__(self, threads: int, answers: queue.Queue[Answer]) -> None:
        self._questions: queue.Queue[Question | None] = queue.Queue()
        self._answers = answers
        self._free = threads  # touched by the loop's thread only: see `ask` and `had_answer`
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def free(self) -> int:
        """How many questions would be asked at once."""
        return self._free

    def ask(self, question: Question) -> None:
        if self._free < 1:
            raise RuntimeError("all threads are busy; ask free() first")
        self._free -= 1
        self._questions.put(question)

    def had_answer(self) -> None:
        """The loop took one of our answers from the queue: a thread is free again."""
        self._free += 1

    def end(self) -> None:
        for _ in self._threads:
            self._questions.put(None)
        for thread in self._threads:
            thread.join(_END_S / len(self._threads))

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            self._answers.put(_ask(question))


def _ask(question: Question) -> Answer:
    try:
        body = question.client.get_json(question.path)
    except ControlError as error:
        return Answer(question.subject, None, error.kind, str(error), wall_ns())
    except Exception as error:  # a thread that dies would take its question with it, and the loop would wait for ever
        return Answer(question.subject, None, "internal", f"{type(error).__name__}: {error}"[:200], wall_ns())
    return Answer(question.subject, body, "", "", wall_ns())
