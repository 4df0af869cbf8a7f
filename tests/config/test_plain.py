import pytest

from netapp.config import load_config
from netapp.config.plain import PLAIN_NAMES
from netapp.errors import ConfigError


def load(environ, *sets):
    return load_config(None, sets, environ)


def problems_of(environ, *sets):
    with pytest.raises(ConfigError) as caught:
        load(environ, *sets)
    return list(caught.value.problems)


def values(config, get):
    return {name: get(listener) for name, listener in config.listeners.items()}


def test_the_host_moves_the_listeners_that_are_given_by_default_and_not_admin():
    config = load({"NETAPP_HOST": "0.0.0.0"})
    assert values(config, lambda listener: listener.endpoint) == {
        "web": "tcp:8080:interface=0.0.0.0",
        "calculator": "tcp:7777:interface=0.0.0.0",
        "echo": "tcp:7007:interface=0.0.0.0",
    }
    assert config.admin.endpoint == "tcp:9090:interface=127.0.0.1"


def test_an_ipv6_host_is_escaped_as_endpoints_want_it():
    assert load({"NETAPP_HOST": "::1"}).listeners["web"].endpoint == r"tcp:8080:interface=\:\:1"


def test_the_host_leaves_alone_what_has_none():
    config = load({"NETAPP_HOST": "::1"}, "listeners.echo.endpoint=unix:/x")
    assert config.listeners["echo"].endpoint == "unix:/x"


def test_the_port_is_the_one_of_web():
    config = load({"NETAPP_PORT": "0"})
    assert config.listeners["web"].endpoint == "tcp:0:interface=127.0.0.1"
    assert config.listeners["echo"].endpoint == "tcp:7007:interface=127.0.0.1"


def test_host_and_port_go_together():
    assert load({"NETAPP_PORT": "81", "NETAPP_HOST": "::"}).listeners["web"].endpoint == r"tcp:81:interface=\:\:"


def test_limits_are_those_of_every_listener():
    environ = {"NETAPP_MAX_CONNECTIONS": "5", "NETAPP_BUFFER_SIZE": "64KiB", "NETAPP_WRITE_TIMEOUT": "7"}
    config = load(environ)
    assert set(values(config, lambda listener: listener.admission.max_connections).values()) == {5}
    assert set(values(config, lambda listener: listener.write_buffer).values()) == {65536}
    assert set(values(config, lambda listener: listener.write_timeout).values()) == {7.0}


def test_the_read_timeout_is_the_idle_time_and_the_one_of_http_bodies():
    config = load({"NETAPP_READ_TIMEOUT": "9s"})
    assert set(values(config, lambda listener: listener.idle_timeout).values()) == {9.0}
    assert config.listeners["web"].http.body_timeout == 9.0
    assert config.listeners["echo"].http.body_timeout != 9.0


def test_limits_are_those_of_listeners_too_that_only_the_command_line_adds():
    config = load({"NETAPP_READ_TIMEOUT": "9s"}, "listeners.api.kind=http", "listeners.api.endpoint=tcp:1")
    assert config.listeners["api"].idle_timeout == config.listeners["api"].http.body_timeout == 9.0


def test_a_whole_table_of_a_higher_layer_replaces_what_plain_names_set_in_it():
    config = load({"NETAPP_WRITE_TIMEOUT": "9s"}, "listeners.web={kind='http', endpoint='tcp:1'}")
    assert config.listeners["web"].write_timeout == 60.0


def test_certificate_and_key_switch_tls_on():
    tls = load({"NETAPP_TLS_CERT_PATH": "c.pem", "NETAPP_TLS_KEY_PATH": "k.pem"}).listeners["web"].tls
    assert (tls.certificate, tls.key) == ("c.pem", "k.pem")


def test_tls_can_be_switched_off_though_there_are_paths():
    config = load(
        {"NETAPP_TLS_CERT_PATH": "c.pem", "NETAPP_ENABLE_TLS": "false"},
    )
    assert config.listeners["web"].tls is None


def test_tls_that_is_switched_on_keeps_the_table_of_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[listeners.web]\nkind='http'\nendpoint='tcp:1'\n[listeners.web.tls]\ncertificate='a'")
    assert load_config(str(path), [], {"NETAPP_ENABLE_TLS": "yes"}).listeners["web"].tls.certificate == "a"
    assert load_config(str(path), [], {"NETAPP_ENABLE_TLS": "0"}).listeners["web"].tls is None


def test_tls_that_is_switched_on_needs_a_certificate():
    (problem,) = problems_of({"NETAPP_ENABLE_TLS": "1"})
    assert problem.startswith("listeners.web.tls: ")
    assert problem.endswith("(from NETAPP_ENABLE_TLS)")


def test_metrics_can_be_switched_off_and_moved():
    admin = load({"NETAPP_ENABLE_METRICS": "off", "NETAPP_METRICS_PORT": "9999"}).admin
    assert (admin.metrics, admin.endpoint) == (False, "tcp:9999:interface=127.0.0.1")


def test_the_metrics_port_keeps_the_rest_of_the_files_endpoint(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[admin]\nendpoint='tcp:1:interface=127.0.0.2'")
    admin = load_config(str(path), [], {"NETAPP_METRICS_PORT": "2"}).admin
    assert admin.endpoint == "tcp:2:interface=127.0.0.2"


def test_the_log_level_may_be_in_capitals():
    assert load({"NETAPP_LOG_LEVEL": "DEBUG"}).logging.level == "debug"


@pytest.mark.parametrize("plain", PLAIN_NAMES, ids=lambda plain: plain.name)
def test_a_name_set_to_nothing_is_not_set(plain):
    assert load({plain.name: " "}) == load({})


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (
            {"NETAPP_PORT": "http"},
            "listeners.web.endpoint: expected a port from 0 to 65535, found 'http' (from NETAPP_PORT)",
        ),
        (
            {"NETAPP_PORT": "70000"},
            "listeners.web.endpoint: expected a port from 0 to 65535, found '70000' (from NETAPP_PORT)",
        ),
        ({"NETAPP_MAX_CONNECTIONS": "x"}, "listeners.calculator.admission.max_connections: expected an integer"),
        ({"NETAPP_WRITE_TIMEOUT": "x"}, "listeners.calculator.write_timeout: expected a duration"),
        (
            {"NETAPP_ENABLE_TLS": "perhaps"},
            "listeners.web.tls: expected true or false, found 'perhaps' (from NETAPP_ENABLE_TLS)",
        ),
        ({"NETAPP_ENABLE_METRICS": "perhaps"}, "admin.metrics: expected true or false, found 'perhaps'"),
        ({"NETAPP_LOG_LEVEL": "loud"}, "logging.level: expected one of"),
        ({"NETAPP_HOST": "a b"}, "listeners.calculator.endpoint: expected an interface without white space"),
        (
            {"NETAPP_PROT": "80"},
            "configuration: unknown name NETAPP_PROT, did you mean 'NETAPP_PORT'? (from the environment)",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_the_name_it_came_from(environ, problem):
    assert problems_of(environ)[0].startswith(problem)


def test_the_port_that_kubernetes_sets_is_explained():
    (problem,) = problems_of({"NETAPP_PORT": "tcp://10.0.0.1:80"})
    assert "Kubernetes" in problem


def test_names_that_others_set_are_left_alone():
    load({"NETAPP_PORT_80_TCP": "x", "NETAPP_SERVICE_HOST": "x", "NETAPP_REACTOR": "x", "NETAPPX": "x"})


def test_a_name_for_a_listener_that_there_is_not_is_a_problem(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[listeners.api]\nkind='echo'\nendpoint='tcp:1'")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), [], {"NETAPP_PORT": "1", "NETAPP_HOST": "::", "NETAPP_TLS_CERT_PATH": "x"})
    assert list(caught.value.problems) == [
        "listeners: expected a listener named web or calculator or echo (from NETAPP_HOST)",
        "listeners: expected a listener named web (from NETAPP_PORT)",
        "listeners: expected a listener named web (from NETAPP_TLS_CERT_PATH)",
    ]


def test_a_limit_for_every_listener_is_none_where_there_are_no_listeners(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[listeners]")
    assert load_config(str(path), [], {"NETAPP_WRITE_TIMEOUT": "1"}).listeners == {}


def test_a_port_for_what_has_none_is_a_problem(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[listeners.web]\nkind='echo'\nendpoint='unix:/x'")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), [], {"NETAPP_PORT": "1"})
    assert list(caught.value.problems) == [
        "listeners.web.endpoint: 'unix' endpoints have neither a host nor a port (from NETAPP_PORT)"
    ]


@pytest.mark.parametrize("endpoint", ["'nonsense'", "5"])
def test_a_port_for_an_endpoint_that_is_none_leaves_it_to_its_own_check(tmp_path, endpoint):
    path = tmp_path / "a.toml"
    path.write_text(f"[listeners.web]\nkind='echo'\nendpoint={endpoint}")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), [], {"NETAPP_PORT": "1"})
    (problem,) = caught.value.problems
    assert problem.startswith("listeners.web.endpoint: expected an endpoint")
