"""Makes the example's database: `python examples/tool-type/books.py build/books.db`."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

BOOKS = [
    ("Notes on the Analytical Engine", "Ada Lovelace", 1843, 2),
    ("Understanding Computers", "Grace Hopper", 1984, 0),
    ("On Computable Numbers", "Alan Turing", 1936, 5),
    ("Computing Machinery and Intelligence", "Alan Turing", 1950, 1),
]


def make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE books (title TEXT, author TEXT, year INTEGER, copies INTEGER)")
        connection.executemany("INSERT INTO books VALUES (?, ?, ?, ?)", BOOKS)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
