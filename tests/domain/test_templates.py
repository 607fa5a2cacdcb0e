"""Templates: what they can say, what they refuse, and that rendering never fails, however it is driven."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tocsin.domain.templates import language, names
from tocsin.domain.templates.parts import MAX_LENGTH, MAX_SIZE, MAX_TOKENS, Budget, Faulty, text

NOW = datetime(2024, 7, 1, 12, 0, 5, tzinfo=UTC)
URL = "https://tocsin.example.com"
SAMPLES = {each.event: each for each in names.samples(NOW, URL)}
LONGEST = {name: each.longest for name, each in names.NAMES.items()}
NASTY = '"}\n\r\t\\ {{ message }} {% if %} 🔔\u2028é\u0301 </script> <!channel> @all ' + "x" * 1_900
OTHERS = ["", " ", "a b c", NASTY, "ß" * 2_000, "\x7f", "🔔" * 2_000]


def budget() -> Budget:
    return Budget({**LONGEST, "secrets.key": 1_000})


def value(source: str, event: str = "resolved", **changes: Any) -> Any:
    known = names.values(replace(SAMPLES[event], **changes), URL, {"key": "s3cret"})
    return language.typed(source, budget()).run(known)


# ------------------------------------------------------------------------------------------------------ what they say


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("plain { text } with braces", "plain { text } with braces"),
        ("{{ resource_name }}: {{ incident_type }}", "My Website: timeout"),
        ("{{ title }}", "Resolved: timeout on My Website"),
        ("{{ incident.url }} is {{ incident_url }}", f"{URL}/incidents/INC123 is {URL}/incidents/INC123"),
        ("{{ delivery.uuid }} {{ resource.name }}", "DLV123 My Website"),
        ("{{ incident_duration }}", 725),
        ("{{ incident_duration }} s", "725 s"),
        ("{{ duration }}, {{ incident_duration|duration }}", "12 min 5 s, 12 min 5 s"),
        ("{{ 5 if severity == 'critical' else 3 }}", 5),
        ("{{ none }}", None),
        ("{{ true }}", True),
        ("{% if event == 'opened' %}a{% elif event == 'resolved' %}b{% else %}c{% endif %}!", "b!"),
        ("{{ 'x' if event in ('opened', 'resolved') and not severity == 'info' else 'y' }}", "x"),
        ("{{ 'slow' if 60 < incident_duration <= 725 else 'quick' }}", "slow"),
        ("{{ 'disk' in message }}", False),
        ("{{ severity|upper }} {{ 'ABC'|lower }}", "CRITICAL abc"),
        ("{{ message|truncate(10, true) }}", "Request t…"),
        ("{{ message|truncate(18) }}", "Request timeout…"),
        ("{{ 'a-b-c'|replace('-', '+', count=1) }}", "a+b-c"),
        ("{{ started_at }}", "2024-07-01T11:48:00Z"),
        ("{{ started_at|datetime('%d.%m.%Y %H:%M Uhr', 'Europe/Vienna') }}", "01.07.2024 13:48 Uhr"),
        ("{{ secrets.key }}", "s3cret"),
        ("{{ acknowledge_url or incident_url }}", f"{URL}/incidents/INC123"),
        ("{{ '' | default('a') }}{{ ''|default('b', true) }}{{ none|default('c') }}", "bc"),
        ("{% raw %}{{ left alone }}{% endraw %}{# a comment #}", "{{ left alone }}"),
        ("{%- if true -%} trimmed {%- endif -%} ", "trimmed"),
    ],
)  # fmt: skip
def test_what_a_template_says(source: str, said: Any) -> None:
    assert value(source) == said
    assert type(value(source)) is type(said)


def test_a_long_choice_is_no_deep_one() -> None:
    others = "".join(f"{{%elif severity=='{number}'%}}{number}" for number in range(80))
    assert value(f"{{% if event == 'x' %}}x{others}{{% else %}}none of them{{% endif %}}") == "none of them"


def test_while_it_is_ongoing_there_is_no_end_and_no_duration() -> None:
    assert value("[{{ closed_at }}|{{ duration }}|{{ incident_duration }}]", "opened") == "[||]"
    assert value("{{ incident_duration }}", "opened") is None
    assert value("{{ incident_uuid or delivery_uuid }}", "test") == "DLV123"


def test_every_name_has_a_value_for_every_event_and_no_more_characters_than_it_says() -> None:
    for event in names.EVENTS:
        long = replace(
            SAMPLES[event], message="🔔" * 3_000, resource_name="n" * 3_000, incident_type="t" * 3_000,
            resource_url="https://example.com/" + "u" * 9_000,
        )  # fmt: skip
        known = names.values(long, URL, {})
        assert known.keys() == names.NAMES.keys() | {"omit"}
        for name, each in names.NAMES.items():
            assert len(text(known[name])) <= each.longest, name


# -------------------------------------------------------------------------------------------------- what they refuse


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ nobody }}", "'nobody'"),
        ("{{ self }}", "not known"),
        ("{{ incident.nothing }}", "'incident.nothing'"),
        ("{{ message.upper }}", "has none"),
        ("{{ message.__class__ }}", "has none"),
        ("{{ incident.url.x }}", "attribute of an attribute"),
        ("{{ message['x'] }}", "subscript"),
        ("{{ message[0:5] }}", "subscript"),
        ("{{ message() }}", "a call"),
        ("{{ message.format(message) }}", "a call"),
        ("{{ range(10) }}", "a call"),
        ("{{ incident_duration * 2 }}", "arithmetic"),
        ("{{ 'a' * 99999999 }}", "arithmetic"),
        ("{{ 2 ** 999999999 }}", "arithmetic"),
        ("{{ -incident_duration }}", "arithmetic"),
        ("{{ 'a' ~ 'b' }}", "concatenation"),
        ("{{ 'a' + 'b' }}", "arithmetic"),
        ("{{ '%999999d' % 1 }}", "arithmetic"),
        ("{% for x in message %}{{ x }}{% endfor %}", "a loop"),
        ("{% set x = 1 %}", "an assignment"),
        ("{% macro x() %}{% endmacro %}", "a macro"),
        ("{% include 'x' %}", "an include"),
        ("{% extends 'x' %}", "a parent"),
        ("{% import 'x' as y %}", "an import"),
        ("{% block x %}{% endblock %}", "a block"),
        ("{% filter upper %}x{% endfilter %}", "a filter block"),
        ("{% call x() %}{% endcall %}", "another kind"),
        ("{% with %}{% endwith %}", "another kind"),
        ("{% autoescape true %}{% endautoescape %}", "another kind"),
        ("{{ message is defined }}", "a test"),
        ("{{ [1, 2] }}", "a list"),
        ("{{ {'a': 1} }}", "an object"),
        ("{{ message|map('upper') }}", "'map'"),
        ("{{ message|attr('__class__') }}", "'attr'"),
        ("{{ message|format(1) }}", "'format'"),
        ("{{ message|center(99999999) }}", "'center'"),
        ("{{ message|truncate(99, end=message) }}", "not a constant"),
        ("{{ message|truncate('9') }}", "whole number"),
        ("{{ message|truncate(0) }}", "whole number"),
        ("{{ message|replace('', 'x') }}", "not empty"),
        ("{{ message|replace('x') }}", "too few"),
        ("{{ message|replace('x', 'y', 1, 2) }}", "does not take"),
        ("{{ message|replace('x', 'y', old='z') }}", "does not take"),
        ("{{ message|upper(*message) }}", "does not take"),
        ("{{ started_at|datetime('%999999999d') }}", "format"),
        ("{{ started_at|datetime('%-d') }}", "format"),
        ("{{ started_at|datetime('%') }}", "format"),
        ("{{ started_at|datetime('%H', '../../etc/passwd') }}", "time zone"),
        ("{{ started_at|datetime('%H', 'Nowhere/Nowhere') }}", "time zone"),
        ("{{ message", "no template"),
        ("{% if message %}", "no template"),
        ("{% if %}{% endif %}", "no template"),
        ("{{ }}", "no template"),
        ("{{ ' }}", "no template"),
        ("{{ 9" + "9" * 5_000 + " }}", "number"),
        ("{{ 99999999999999999999 }}", "number"),
        ("{{ 1e999 }}", "number"),
        ("a\0b", "NUL"),
        ("{{ 'a\\0b' }}", "NUL"),
        ("\ud800", "surrogate"),
        ("{{ '\\ud800' }}", "surrogate"),
        ("{{ " + "(" * 21 + "1" + ")" * 21 + " }}", "deeply"),
        ("{{ " + "not " * 400 + "1 }}", "deeply"),
        ("{% if 1 %}" * 25 + "{% endif %}" * 25, "deeply"),
        ("{{ message" + "|lower" * 25 + " }}", "deeply"),
        ("{{ " + "1 if 1 else " * 30 + "1 }}", "deeply"),
        ("x" * (MAX_SIZE + 1), "bytes"),
        ("{{ event }}" * MAX_TOKENS, "words and signs"),
        ("{{ message }}" * 40, "characters are sent"),
        ("{{ message|replace('e', '" + "x" * 100 + "') }}", "characters are sent"),
        ("{{ message|replace('e', 'eeeeeeeee')|replace('e', 'eeeeeeeee')|replace('e', 'eeeeeeeee')|truncate(9) }}",
         "expensive"),
    ],
)  # fmt: skip
def test_what_could_hurt_is_refused_in_words_and_at_once(source: str, why: str) -> None:
    best = 1.0
    for _ in range(5):
        began = time.thread_time()
        with pytest.raises(Faulty, match=why) as refused:
            language.typed(source, budget())
        best = min(best, time.thread_time() - began)
        assert len(str(refused.value)) < 600
    assert best < 0.02


def test_the_budget_is_that_of_all_templates_together() -> None:
    shared = budget()
    language.compiled("x" * 10_000, shared)
    with pytest.raises(Faulty, match="in sum"):
        language.compiled("x" * 10_000, shared)


# ------------------------------------------------------------------------------------------------------- by properties

ATOMS = st.sampled_from([
    *names.NAMES, "incident.url", "omit", "none", "true", "1", "2.5", "'a'", "'é'", '"x y"', "secrets.key",
])  # fmt: skip
FILTERS = st.sampled_from([
    "", "|lower", "|upper", "|truncate(7)", "|truncate(5, true, '.')", "|replace('e', 'ea', 3)", "|default('d', true)",
    "|duration", "|datetime('%H:%M')", "|default(title)",
])  # fmt: skip


def _expressions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]} in [{parts[1]}, 'a'])"),
        inner.map(lambda each: f"(not {each})"),
        st.tuples(inner, FILTERS).map("".join),
    )


EXPRESSIONS = st.recursive(st.tuples(ATOMS, FILTERS).map("".join), _expressions, max_leaves=8)
SOURCES = st.lists(
    st.one_of(
        EXPRESSIONS.map(lambda each: f"{{{{ {each} }}}}"),
        st.tuples(EXPRESSIONS, EXPRESSIONS).map(
            lambda each: f"{{% if {each[0]} %}}yes {{{{ {each[1]} }}}}{{% else %}}no{{% endif %}}"
        ),
        st.sampled_from(["text ", "é{", "\n"]),
    ),
    max_size=4,
).map("".join)


@settings(max_examples=100)
@given(SOURCES, st.sampled_from(names.EVENTS), st.sampled_from(OTHERS), st.sampled_from(OTHERS))
def test_what_was_accepted_is_rendered_whatever_happens_and_never_longer_than_was_known(
    source: str, event: str, message: str, name: str
) -> None:
    try:
        part = language.typed(source, budget())
    except Faulty:
        return
    rendered = part.run(names.values(replace(SAMPLES[event], message=message, resource_name=name), URL, {"key": "k"}))
    assert len(text(rendered)) <= part.longest <= MAX_LENGTH
    text(rendered).encode()


PLAIN = st.sampled_from(["title", "message", "event", "severity", "resource_name", "'a'", "'x y'", "1", "2", "true"])
BOTH = st.recursive(
    st.tuples(PLAIN, st.sampled_from(["", "|lower", "|upper", "|replace('e', 'ea')"])).map("".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["==", "!=", "and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]} in [{parts[1]}, 'a', 1])"),
        inner.map(lambda each: f"(not {each})"),
    ),
    max_leaves=6,
)


@settings(max_examples=100)
@given(test=BOTH, shown=BOTH, message=st.sampled_from(OTHERS), event=st.sampled_from(names.EVENTS))
def test_what_is_accepted_means_what_it_means_in_jinja2(test: str, shown: str, message: str, event: str) -> None:
    source = "a {{ X }}{% if Y %} yes\n{% elif X %}{{ Y }}{% else %}no{% endif %}"
    source = source.replace("X", shown).replace("Y", test)
    known = names.values(replace(SAMPLES[event], message=message), URL, {})
    theirs = jinja2.Environment(keep_trailing_newline=True).from_string(source).render(known)
    assert language.compiled(source, budget()).run(known) == theirs
