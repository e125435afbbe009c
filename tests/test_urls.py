"""Addresses, and the passwords in them."""

from __future__ import annotations

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from hwnas._urls import has_password, is_url, without_password
from hwnas.config import Config
from hwnas.errors import ConfigError

WITHOUT = (
    "postgresql://user@host/study",
    "postgresql+psycopg://host:5432/study",
    "sqlite:////tmp/a.db",
    "sqlite:///a:b.db",
    "postgresql://user@host:5432/study?application_name=a:b",
    "redis://localhost:1/0",
)
WITH = {
    "postgresql://user:secret@host/study": "postgresql://user:***@host/study",
    "postgresql://:secret@host/study": "postgresql://:***@host/study",
    "postgresql://user:se/c:ret@host:1/x": "postgresql://user:***@host:1/x",
    "postgresql://user@host/x?password=secret&a=b": "postgresql://user@host/x?password=***&a=b",
    "postgresql://user@host/x?a=b&SSLPassword=secret": "postgresql://user@host/x?a=b&SSLPassword=***",
}


@pytest.mark.parametrize("url", WITHOUT)
def test_what_is_no_password_is_shown(url: str) -> None:
    assert is_url(url)
    assert without_password(url) == url
    assert not has_password(url)


@pytest.mark.parametrize("url", WITH)
def test_a_password_is_not_shown(url: str) -> None:
    assert without_password(url) == WITH[url]
    assert "ret" not in without_password(f"cannot use {url!r} today")
    assert has_password(url)


@given(st.text(min_size=1))
def test_no_password_that_a_database_would_be_given_is_shown(password: str) -> None:
    url = sqlalchemy.URL.create("postgresql", "user", password, "host", 5432, "study")
    text = url.render_as_string(hide_password=False)
    assert without_password(text) == "postgresql://user:***@host:5432/study"


@pytest.mark.parametrize("url", WITH)
def test_a_configuration_refuses_a_password_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.storage: has a password; leave it out.*PGPASSWORD") as raised:
        Config().replaced({"search.storage": url})
    assert "secret" not in str(raised.value)
    assert "ret@" not in str(raised.value)


@pytest.mark.parametrize("url", WITHOUT)
def test_a_configuration_takes_a_database(url: str) -> None:
    assert Config().replaced({"search.storage": url}).search.storage == url


def test_a_path_is_no_database() -> None:
    with pytest.raises(ConfigError, match=r"'runs/study\.log', but should be a URL"):
        Config().replaced({"search.storage": "runs/study.log"})
