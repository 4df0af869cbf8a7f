"""Every source, each against the one below it; and a file with many mistakes, all told."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netapp.config import Config, load_config, parse_config
from netapp.config.plain import PLAIN_NAMES
from netapp.config.schema import ListenerConfig
from netapp.errors import ConfigError


def problems_of(path=None, sets=(), environ=None):
    with pytest.raises(ConfigError) as caught:
        load_config(path, sets, environ or {})
    return list(caught.value.problems)


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="netapp.toml"):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return str(path)

    return write_file


# The defaults


def test_without_any_source_everything_is_default_and_on_loopback():
    config = load_config(None, [], {})
    assert config == Config()
    assert {name: (given.kind, given.endpoint) for name, given in config.listeners.items()} == {
        "web": ("http", "tcp:8080:interface=127.0.0.1"),
        "calculator": ("calculator", "tcp:7777:interface=127.0.0.1"),
        "echo": ("echo", "tcp:7007:interface=127.0.0.1"),
    }
    assert config.admin.endpoint == "tcp:9090:interface=127.0.0.1"


def test_a_setting_moves_one_of_the_default_listeners():
    config = load_config(None, ["listeners.web.endpoint=tcp:80"], {})
    assert config.listeners["web"].endpoint == "tcp:80"
    assert sorted(config.listeners) == ["calculator", "echo", "web"]


def test_what_one_call_sets_is_not_there_for_the_next():
    load_config(None, ["listeners.web.write_timeout=1s"], {})
    assert load_config(None, [], {}) == Config()


# File over defaults


def test_the_listeners_of_a_file_replace_the_default_ones(write):
    path = write('[listeners.api]\nkind = "echo"\nendpoint = "tcp:1"')
    assert load_config(path, [], {}).listeners == {"api": ListenerConfig(kind="echo", endpoint="tcp:1")}


def test_a_file_without_listeners_keeps_the_default_ones(write):
    config = load_config(write('[logging]\nlevel = "debug"'), [], {})
    assert config.logging.level == "debug"
    assert config.listeners == Config().listeners


def test_json_does_as_well(write):
    path = write(json.dumps({"server": {"drain_timeout": "5m"}}), "netapp.json")
    assert load_config(path, [], {}).server.drain_timeout == 300


def test_the_environment_may_name_the_file(write):
    path = write('[server]\nname = "from the environment"')
    assert load_config(None, [], {"NETAPP_CONFIG": path}).server.name == "from the environment"


def test_the_file_of_the_command_line_is_the_only_one(write):
    path = write('[server]\nname = "a"')
    assert load_config(path, [], {"NETAPP_CONFIG": "/nowhere"}).server.name == "a"


def test_an_empty_name_in_the_environment_is_no_file():
    assert load_config(None, [], {"NETAPP_CONFIG": ""}) == Config()


def test_a_file_that_cannot_be_parsed_is_one_problem(write):
    assert problems_of(write("a = "), ["x"])[0].endswith("netapp.toml:1:5: not TOML: Invalid value")


# Plain names over the file


def test_a_plain_name_wins_over_the_file(write):
    path = write('[logging]\nlevel = "debug"')
    assert load_config(path, [], {"NETAPP_LOG_LEVEL": "ERROR"}).logging.level == "error"


# Nested names over plain ones


def test_a_nested_name_wins_over_a_plain_one():
    environ = {"NETAPP_LOG_LEVEL": "error", "NETAPP__LOGGING__LEVEL": "warn"}
    assert load_config(None, [], environ).logging.level == "warn"


def test_a_nested_endpoint_wins_over_a_plain_port():
    environ = {"NETAPP_PORT": "81", "NETAPP__LISTENERS__WEB__ENDPOINT": "tcp:82"}
    assert load_config(None, [], environ).listeners["web"].endpoint == "tcp:82"


# The command line over all


def test_the_command_line_wins_over_everything(write):
    path = write('[logging]\nlevel = "debug"')
    environ = {"NETAPP_LOG_LEVEL": "error", "NETAPP__LOGGING__LEVEL": "warn"}
    assert load_config(path, ["logging.level=debug", "logging.level=info"], environ).logging.level == "info"


def test_each_layer_leaves_the_other_keys_of_a_table(write):
    path = write('[admin]\ntoken = "t"\nmetrics = false')
    admin = load_config(path, ["admin.enabled=false"], {"NETAPP__ADMIN__METRICS": "true"}).admin
    assert (admin.token, admin.metrics, admin.enabled) == ("t", True, False)


def test_a_listener_can_be_added_by_settings_alone():
    config = load_config(None, ["listeners.api.kind=http", "listeners.api.endpoint=tcp:81"], {})
    assert config.listeners["api"] == ListenerConfig(kind="http", endpoint="tcp:81")


def test_a_misspelt_listener_is_no_new_one():
    (problem,) = problems_of(sets=["listeners.wbe.endpoint=tcp:81"])
    assert problem.startswith("listeners.wbe.kind: missing, expected")


# Problems

MISTAKES = """
[server]
drain_timeout = "soon"

[loging]
level = "debug"

[admin]
endpoint = "tcp:9090"

[health]
rss_degraded = "2 gigs"

[listeners.web]
kind = "http"
endpoint = "tcp:8080"
write_timout = "5s"

[listeners.web.admission]
max_connections = -1
allow = ["10.0.0.0/8", "10.0.0.1/8"]

[listeners.other]
kind = "htpp"
endpoint = "tcp:8080:interface=127.0.0.1"

[listeners.raw]
kind = "echo"

[listeners.raw.http]
max_headers = 5
"""


TOLD = """
admin.endpoint: expected a port from 0 to 65535, found 'x' (from NETAPP_METRICS_PORT)
admin.token: missing, expected a token or a token_file, because 'tcp:9090' may be reached from elsewhere
health.rss_degraded: expected a size such as '64KiB' or '1MiB', in whole bytes, found '2 gigs'
listeners.other.kind: expected one of calculator, detect, echo, http, or 'package.module:Factory', \
found 'htpp'; did you mean 'http'?
listeners.raw.endpoint: missing, expected an endpoint such as 'tcp:8080:interface=127.0.0.1' or \
'unix:/run/netapp.sock'
listeners.raw.http: not used by a listener of the kind 'echo'
listeners.web.admission.allow[1]: expected a network such as '10.0.0.0/8' or '::1/128' \
(10.0.0.1/8 has host bits set), found '10.0.0.1/8'
listeners.web.endpoint: cannot listen at the same place as listeners.other.endpoint, 'tcp:8080:interface=127.0.0.1'
listeners.web.write_timout: unknown key, did you mean 'write_timeout'?
logging.level: expected one of 'debug', 'info', 'warn', 'error', found 'loud' (from --set)
loging: unknown key, did you mean 'logging'?
server.drain_timeout: expected a duration such as '250ms', '30s' or '5m', found 'soon'
"""


def test_every_mistake_of_a_file_is_told_in_one_go(write):
    problems = problems_of(write(MISTAKES), ["logging.level=loud"], {"NETAPP_METRICS_PORT": "x"})
    assert "\n".join(problems) == TOLD.strip()


def test_a_document_can_be_given_as_it_is():
    assert parse_config({"server": {"name": "x"}}).server.name == "x"
    with pytest.raises(ConfigError, match="nmae: unknown key"):
        parse_config({"server": {"nmae": "x"}})


def test_a_document_that_is_given_is_left_as_it_was():
    document = {"server": {"name": "x"}, "listeners": {}}
    parse_config(document)
    assert document == {"server": {"name": "x"}, "listeners": {}}


KEYS = (
    *Config.__struct_fields__,
    *ListenerConfig.__struct_fields__,
    *("web", "protocols", "fallback", "certificate", "ciphers", "curves", "alpn", "trusted", "allow", "levels"),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["tcp:80", "http", "detect", "a.b:C", "unix:/x", "1s", "tls", "fallback", "info", "::1"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
LISTENERS = st.dictionaries(
    st.sampled_from(["a", "b", "detect"]),
    st.fixed_dictionaries(
        {"kind": VALUES, "endpoint": VALUES}, optional=dict.fromkeys(["tls", "detect", "http"], VALUES)
    ),
    max_size=3,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=3) | st.sampled_from(Config.__struct_fields__), VALUES, max_size=4), LISTENERS)
def test_any_document_is_a_configuration_or_a_config_error(document, listeners):
    for given_document in (document, {**document, "listeners": listeners}):
        try:
            assert isinstance(parse_config(given_document), Config)
        except ConfigError as error:
            "\n".join(error.problems).encode()


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(["listeners", "listeners.web", "listeners.web.tls", "admin", "health.x"]), VALUES)
    ),
    st.dictionaries(
        st.sampled_from([plain.name for plain in PLAIN_NAMES] + ["NETAPP__LISTENERS", "NETAPP__A", "NETAPP__"]),
        st.text(max_size=4)
        | st.sampled_from(["80", "true", "0", "::1", "{web={}}", "{web={kind='http'}}", "5s", "[1]"]),
    ),
)
def test_any_environment_and_settings_are_a_configuration_or_a_config_error(sets, environ):
    try:
        assert isinstance(load_config(None, [f"{key}={value}" for key, value in sets], environ), Config)
    except ConfigError as error:
        "\n".join(error.problems).encode()


def test_loading_installs_no_reactor():
    code = "import netapp.config, sys; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
