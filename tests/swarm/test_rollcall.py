"""A plan is carried out by all or by nobody. (The waiting is Locust's loop's: here every answer is in already.)"""

from __future__ import annotations

import subprocess
import sys

import pytest

NOT_B = "False worker b cannot take part: "
CASES = {
    "r.accepted('a', 'h'); r.accepted('b', 'h')": "True None",
    "r.accepted('a', 'h'); r.accepted('b', 'x')": NOT_B + "its profile has the hash x, the master's h",
    "r.accepted('a', 'h'); r.refused('b', 'faker'); r.refused('a', 'later')": NOT_B + "faker",
    "r.accepted('a', 'h')": NOT_B + "it did not answer to the plan; is it started with our locustfile?",
}


@pytest.mark.parametrize("answers", CASES)
def test_answers_to_a_plan(answers: str) -> None:
    program = "from loadtest.swarm import rollcall; rollcall.WAIT_S = 0.1; r = rollcall.RollCall(['a', 'b'], 'h')\n"
    program += f"{answers}\nprint(r.complete(), r.refusal)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == CASES[answers], done.stderr
