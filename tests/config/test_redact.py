import json

import pytest

from netapp.config import load_config, parse_config, redacted
from netapp.config.redact import is_secret


def test_secrets_are_never_shown():
    shown = redacted(parse_config({"admin": {"token": "hunter2"}}))
    assert shown["admin"]["token"] == "***"
    assert "hunter2" not in json.dumps(shown)


def test_a_secret_that_is_not_set_is_shown_as_such():
    assert redacted(parse_config({}))["admin"]["token"] == ""


def test_everything_else_is_shown_as_plain_values():
    shown = redacted(load_config(None, ["listeners.web.admission.allow=['::1']"], {}))
    assert shown["listeners"]["web"]["admission"]["allow"] == ["::1"]
    assert shown["listeners"]["web"]["write_timeout"] == 60.0
    assert shown["listeners"]["web"]["tls"] is None
    assert json.loads(json.dumps(shown)) == shown


def test_a_users_own_options_hide_what_is_named_like_a_secret():
    options = {
        "dbPassword": "p",
        "api_key": "k",
        "key_path": "/etc/key.pem",
        "empty_token": "",
        "url": "redis://user:p@host/0",
        "nested": [{"secret": {"deep": "p"}}, "https://p@host"],
        "when": 5,
    }
    config = parse_config({"listeners": {"x": {"kind": "a:B", "endpoint": "tcp:1", "options": options}}})
    assert redacted(config)["listeners"]["x"]["options"] == {
        "dbPassword": "***",
        "api_key": "***",
        "key_path": "/etc/key.pem",
        "empty_token": "",
        "url": "redis://***@host/0",
        "nested": [{"secret": "***"}, "https://***@host"],
        "when": 5,
    }


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWORD", "dbPassword", "key", "apiKey", "APIKey", "api-token", "auth"]
)
def test_a_name_that_sounds_like_a_secret_is_one(name):
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["", "_", "keyboard", "key_path", "keyFile", "public_key", "token_timeout", "monkey", "author"]
)
def test_a_name_that_is_only_about_one_is_not(name):
    assert not is_secret(name)
