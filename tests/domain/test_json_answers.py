"""JSON paths: what they select, and that no path and no document takes long."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from tocsin.domain import json_answers, json_paths
from tocsin.domain.json_paths import Faulty, Unselectable

# RFC 9535, figure 1 and table 2.
STORE = json.dumps({"store": {
    "book": [
        {"category": "reference", "author": "Nigel Rees", "title": "Sayings of the Century", "price": 8.95},
        {"category": "fiction", "author": "Evelyn Waugh", "title": "Sword of Honour", "price": 12.99},
        {"category": "fiction", "author": "Herman Melville", "title": "Moby Dick", "isbn": "0-553-21311-3",
         "price": 8.99},
        {"category": "fiction", "author": "J. R. R. Tolkien", "title": "The Lord of the Rings",
         "isbn": "0-395-19395-8", "price": 22.99},
    ],
    "bicycle": {"color": "red", "price": 399},
}}).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.store.book[*].author", ["Nigel Rees", "Evelyn Waugh", "Herman Melville", "J. R. R. Tolkien"]),
        ("$..author", ["Nigel Rees", "Evelyn Waugh", "Herman Melville", "J. R. R. Tolkien"]),
        ("$.store..price", [8.95, 12.99, 8.99, 22.99, 399]),
        ("$..book[2].author", ["Herman Melville"]),
        ("$..book[2].publisher", []),
        ("$..book[-1].title", ["The Lord of the Rings"]),
        ("$..book[0,1].title", ["Sayings of the Century", "Sword of Honour"]),
        ("$..book[:2].title", ["Sayings of the Century", "Sword of Honour"]),
        ("$..book[?@.isbn].title", ["Moby Dick", "The Lord of the Rings"]),
        ("$..book[?@.price<10].title", ["Sayings of the Century", "Moby Dick"]),
    ],
)
def test_paths_of_the_standard_select_what_it_says(path: str, found: list[object]) -> None:
    assert sorted(map(str, json_answers.select(STORE, path))) == sorted(map(str, found))


@pytest.mark.parametrize("path", ["", "status", "$[", "$..", "$[?", "$.~", "$[?@" * 40, "$" + "[0]" * 40, "x" * 501])
def test_what_is_no_path_is_refused_with_its_reason(path: str) -> None:
    with pytest.raises(Faulty, match=r"^(must|may) "):
        json_paths.check(path)


DOCUMENTS = {
    "wide": b"[" + b"[]," * 9_000 + b"[]]",
    "objects": json.dumps({str(n): {} for n in range(6_000)}).encode(),
    "nested": json.dumps([[[]] * 60] * 60).encode(),
    "mixed": json.dumps([[n, {"a": [n] * 3}] for n in range(2_500)]).encode(),
    "fractions": b"[" + b"9e295," * 19_000 + b"1]",
    "strings": b"[" + b'"[[[",' * 4_500 + b"1]",
    "deep": b"[" * 10_000 + b"]" * 10_000,
}
PATHS = ["$", "$..a", "$..*", "$..[?@..[?@..*]]", "$[?@==$[0]]", "$..*..*..*", "$[::-1]", "$[?count($..*)>3]",
         "$[?@<$[0]]", "$..[?@.a==$[0]]"]  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_no_path_runs_for_more_than_20_ms_in_whatever_document(document: bytes) -> None:
    for path in PATHS:
        took = []
        for _ in range(5):
            began = time.thread_time()
            with contextlib.suppress(Unselectable):
                json_answers.select(document, path)
            took.append(time.thread_time() - began)
            if took[-1] < 0.02:
                break
        assert min(took) < 0.02, path
