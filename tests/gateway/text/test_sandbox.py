"""Templates that want all of the time or the memory, or a way out, and those that only look so."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2.exceptions import SecurityError

from pipespec.gateway.text import chat_template
from pipespec.gateway.text.chat_template import ChatMessage, ChatTemplate
from pipespec.ops.errors import ModelError, RequestError

TWO = [ChatMessage("user", "hi")] * 2
GREEDY = {
    "loops that write nothing": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a shadowed name": "{% set turn = 1 %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "macros that call each other": "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "call blocks": "{% macro m() %}{{ caller() }}{% endmacro %}{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% call m() %}{% endcall %}{% endfor %}{% endfor %}",
}
SWOLLEN = {
    "a repeated string": "{{ 'x' * 10 ** 9 }}",
    "a repeated list": "{{ 10 ** 9 * [1] }}",
    "a power": "{{ 9 ** 99999 }}",
    "a doubled string": "{% set n = namespace(s='xx') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "an added string": "{% set n = namespace(s='xx') %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "a doubled list": "{% set n = namespace(s=[1]) %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "a width": "{{ '%999999999d' % 1 }}",
    "a width elsewhere": "{{ '%*d' % (999999999, 1) }}",
    "a padded string": "{{ 'x'.ljust(999999999) }}",
    "a format": "{{ '{:>999999999}'.format(1) }}",
    "a format with an argument": "{{ '{:>{}}'.format(1, 999999999) }}",
}


def template(source: str) -> ChatTemplate:
    """Does its harm in conversations of two messages only, so that it loads."""
    return ChatTemplate("{% if messages|length > 1 %}" + source + "{% endif %}.", special_tokens={})


@pytest.mark.parametrize("source", GREEDY.values(), ids=GREEDY)
def test_time_is_bounded_wherever_it_is_spent(source: str) -> None:
    with pytest.raises(RequestError, match="takes too long"):
        template(source).render(TWO)


@pytest.mark.parametrize("source", SWOLLEN.values(), ids=SWOLLEN)
def test_values_do_not_grow_without_bound(source: str) -> None:
    with pytest.raises(RequestError) as caught:
        template(source).render(TWO)
    assert isinstance(caught.value.__cause__, SecurityError)


@pytest.mark.parametrize("source", SWOLLEN.values(), ids=SWOLLEN)
def test_one_that_does_so_always_is_refused_at_load(source: str) -> None:
    with pytest.raises(ModelError, match="chat template"):
        ChatTemplate(source, special_tokens={})


@pytest.mark.parametrize("name", ["center", "format"])
def test_filters_that_pad_are_not_there(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        ChatTemplate(f"{{{{ 'x'|{name}(999999999) }}}}", special_tokens={})


def test_ordinary_operators_do_what_they_do() -> None:
    source = "{{ 2 + 3 * 4 ** 2 % 7 }} {{ 'a' + 'b' * 3 }} {{ 'x' ~ 1 ~ none ~ nothing }} {{ '%5.1f' % 2.25 }} {{ '{:>3}'.format(7) }} {{ ([1] + [2]) * 2 }}"
    assert ChatTemplate(source, special_tokens={}).render([]) == "8 abbb x1None   2.2   7 [1, 2, 1, 2]"


def test_the_time_starts_anew_with_every_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    monkeypatch.setattr(chat_template, "MAX_RENDER_S", 0.01)
    for _ in range(3):
        with pytest.raises(RequestError, match="takes too long"):
            slow.render(TWO)
        assert slow.render(TWO[:1]) == "."


ESCAPES = {
    "globals": "{{ cycler.__init__.__globals__.os.mkdir(TRACE) }}",
    "subclasses": "{% for c in ''.__class__.__mro__[1].__subclasses__() %}{{ c }}{% endfor %}",
    "attr filter": "{{ (lipsum|attr('__globals__'))['os'].mkdir(TRACE) }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "joiner": "{{ joiner.__init__.__globals__.__builtins__.__import__('os').mkdir(TRACE) }}",
    "undefined": "{{ nothing.__class__.__init__.__globals__['sys'].modules['os'].mkdir(TRACE) }}",
    "our own function": "{{ strftime_now.__globals__['json'].__loader__.load_module('os').mkdir(TRACE) }}",
    "a macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "this environment": "{{ self.__init__.__globals__ }}",
    "a changed message": "{{ messages.append(1) }}",
}


@pytest.mark.parametrize("source", ESCAPES.values(), ids=ESCAPES)
def test_ways_out_are_refused_at_load(source: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(ModelError, match="chat template"):
        ChatTemplate(source.replace("TRACE", repr(str(trace))), special_tokens={})
    assert not trace.exists()
