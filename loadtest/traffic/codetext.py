"""What looks like source code: small statements and functions whose names are Faker's words.

Every snippet begins with a letter and ends in one line end after something that is not white space: such a piece
keeps its tokens wherever it stands (see `texts`).
"""

from __future__ import annotations

from faker import Faker

SNIPPETS = 300

# {a} to {f} are words, {n} is a number. A literal brace is doubled.
_TEMPLATES = (
    "{a} = {b}\n",
    "return {a}\n",
    "import {a}\n",
    "{a} += {n}\n",
    "from {a} import {b}\n",
    "{a}_{b} = {c}({d}, {n})\n",
    "print({a}, {b}.{c}())\n",
    "assert {a} >= {n}, {b}\n",
    "with open({a}) as {b}:\n    {c} = {b}.read()\n",
    "for {a} in {b}:\n    {c}.append({a}.{d})\n",
    "def {a}({b}, {c}={n}):\n    return {b} * {c}\n",
    'def {a}_{b}({c}):\n    """The {d}."""\n    if not {c}:\n        raise ValueError("{d}")\n    return {c}[{n}]\n',
    "try:\n    {a} = {b}.{c}({d})\nexcept KeyError as error:\n    log.warning(error)\n    {a} = None\n",
    "class {a}:\n    def __init__(self, {b}, {c}):\n        self.{b} = {b}\n        self._{c} = {c}\n",
    "while {a} < {n}:\n    {a} += {b}[{c}]\n",
    "const {a} = {b}.map(({c}) => {c}.{d});\n",
    "if ({a} === null) {{\n  throw new Error('{b} {c}');\n}}\n",
    "async function {a}({b}) {{\n  const {c} = await fetch(`/{d}/${{{b}}}`);\n  return {c}.json();\n}}\n",
    "let {a} = [{n}, {n}].filter(x => x !== {b});\n",
    "SELECT {a}, count(*) FROM {b} WHERE {c} > {n} GROUP BY {a};\n",
    "UPDATE {a} SET {b} = '{c}' WHERE id = {n};\n",
    "fn {a}({b}: &str) -> Result<u64, Error> {{\n    let {c} = {b}.trim().parse()?;\n    Ok({c})\n}}\n",
    "Traceback (most recent call last):\n  File \"{a}/{b}.py\", line {n}, in {c}\nTypeError: '{d}' is not callable\n",
    "docker run --rm -p {n}:{n} {a}/{b}:latest\n",
)  # fmt: skip


def snippets(fake: Faker) -> list[str]:
    """`SNIPPETS` pieces, drawn from the words of that seeded Faker; words that are no identifiers are left out."""
    words = [word.lower() for word in fake.get_words_list() if word.isascii() and word.isalpha()]
    return [_snippet(fake, words, _TEMPLATES[place % len(_TEMPLATES)]) for place in range(SNIPPETS)]


def _snippet(fake: Faker, words: list[str], template: str) -> str:
    names = {letter: fake.random_element(words) for letter in "abcdef"}
    return template.format(**names, n=fake.random_int(0, 9999))
