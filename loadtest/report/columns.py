"""A table as plain text in columns, for a terminal."""

from __future__ import annotations

from loadtest.report.tables import Table


def plain_table(table: Table) -> str:
    """Title, heads and rows with two spaces between columns; texts from outside cannot drive the terminal."""
    if not table.rows:
        return ""
    lines = [list(table.columns), *([cell.text for cell in row] for row in table.rows)]
    clean = [["".join(c if c.isprintable() else "?" for c in text) for text in line] for line in lines]
    widths = [max(len(line[place]) for line in clean) for place in range(len(table.columns))]
    rows = [
        "  ".join(
            text.rjust(width) if numeric else text.ljust(width)
            for text, width, numeric in zip(line, widths, table.numeric, strict=True)
        ).rstrip()
        for line in clean
    ]
    return "\n".join([*([table.title] if table.title else []), *(f"  {row}" for row in rows)])
