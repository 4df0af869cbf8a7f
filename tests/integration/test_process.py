"""netapp as an operator meets it: started, asked, told to reload and to stop. Real processes, real signals."""

import json
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.support.certificates import certificates
from tests.support.processes import BIN, FREE, Server
from tests.support.tools import needs

QUICK = ["--set=server.drain_delay=0.2s", "--set=server.drain_timeout=2s"]


@pytest.fixture(scope="module")
def server():
    with Server(*FREE, *QUICK) as running:
        yield running


def netapp(*arguments, **options):
    return subprocess.run([str(BIN / "netapp"), *arguments], capture_output=True, text=True, timeout=60, **options)


def test_every_default_service_answers(server):
    assert server.get("/hello", "web") == (200, b"Hello, World!")
    with socket.create_connection(("127.0.0.1", server.ports["echo"])) as echo:
        echo.sendall(b"echo me")
        assert echo.recv(100) == b"echo me"
    endpoint = f"--endpoint=tcp:127.0.0.1:{server.ports['calculator']}"
    assert netapp("call", endpoint, "add", "2", "3").stdout == "5\n"
    assert netapp("call", endpoint, "echo", "hello").stdout == "hello\n"


def test_the_banner_lists_every_url(server):
    text = server.text
    for part in ("/hello", "/echo", "ws://127.0.0.1:", "tcp://127.0.0.1:", "/healthz", "/metrics"):
        assert part in text


def test_a_refused_call_says_why_and_fails(server):
    endpoint = f"--endpoint=tcp:127.0.0.1:{server.ports['calculator']}"
    overflow = netapp("call", endpoint, "add", str(2**31 - 1), "1")
    assert overflow.returncode == 1
    assert "OVERFLOW" in overflow.stderr
    assert "Traceback" not in overflow.stderr


def test_status_reads_the_admin_listener(server):
    shown = netapp("status", f"--admin=http://127.0.0.1:{server.ports['admin']}")
    assert shown.returncode == 0
    assert shown.stdout.startswith("healthy")
    nobody = netapp("status", "--admin=http://127.0.0.1:1")
    assert nobody.returncode == 1
    assert "refused" in nobody.stderr


def test_the_admin_pages_tell_what_is_there(server):
    with socket.create_connection(("127.0.0.1", server.ports["echo"])) as held:
        held.sendall(b"x")
        held.recv(1)
        status, body = server.get("/connections?listener=echo")
        [row] = [row for row in json.loads(body)["connections"] if row["peer"].endswith(f":{held.getsockname()[1]}")]
    assert status == 200
    assert (row["protocol"], row["bytes_in"], row["bytes_out"]) == ("echo", 1, 1)
    report = json.loads(server.get("/healthz")[1])
    assert report["status"] in {"healthy", "degraded"}
    assert report["rss_bytes"] > 1_000_000
    assert json.loads(server.get("/config")[1])["server"]["drain_timeout"] == 2.0


@needs("promtool")
def test_promtool_has_nothing_to_complain_about(server):
    page = server.get("/metrics")[1]
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=60)
    assert checked.returncode == 0, checked.stderr.decode()
    assert checked.stderr == b""


def test_the_connections_gauge_returns_to_zero(server):
    with socket.create_connection(("127.0.0.1", server.ports["echo"])):
        server.wait_for(lambda: server.metric('netapp_connections_open{listener="echo"}') >= 1, "open connection")
    server.wait_for(lambda: server.metric('netapp_connections_open{listener="echo"}') == 0, "gauge at zero")


@pytest.mark.parametrize(
    "command",
    [[str(BIN / "twistd"), "-n", "--pidfile=", "netapp"], [str(BIN / "netapp"), "run"]],
    ids=["twistd", "netapp run"],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_to_stop_drains_and_exits_with_0(command, number, tmp_path):
    with Server(*FREE, *QUICK, command=command, cwd=tmp_path) as running:
        assert running.stop(number) == 0
        assert "drained in" in running.text


def test_stopping_under_load_loses_no_request_that_was_accepted():
    """Clients send one request after the other on kept connections until the port is closed. Every request gets its
    whole response; a connection is closed only behind a response that said so."""
    lost, served = [], []

    def converse(connection):
        reply = b""
        while b"connection: close" not in reply:
            connection.sendall(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n")
            reply = connection.recv(65536)
            served.append(reply)

    def client(port):
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            except ConnectionError:
                return  # the port is closed: nothing was accepted
            with connection:
                try:
                    converse(connection)
                except ConnectionError as error:
                    lost.append(repr(error))

    with Server(*FREE, "--set=server.drain_delay=1s") as running:
        threads = [threading.Thread(target=client, args=(running.ports["web"],)) for _ in range(16)]
        for thread in threads:
            thread.start()
        running.wait_for(lambda: len(served) > 500, "load")
        assert running.stop() == 0
        for thread in threads:
            thread.join(30)
    assert lost == []
    assert all(reply.startswith(b"HTTP/1.1 200") and reply.endswith(b"Hello, World!") for reply in served)


def test_what_does_not_finish_is_cut_and_named():
    with Server(*FREE, "--set=server.drain_delay=0s", "--set=server.drain_timeout=300ms") as running:
        with socket.create_connection(("127.0.0.1", running.ports["web"])) as stuck:
            stuck.sendall(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nab")
            running.wait_for(
                lambda: any(
                    row["state"] == "active"
                    for row in json.loads(running.get("/connections?listener=web")[1])["connections"]
                ),
                "active connection",
            )
            assert running.stop() == 0
            port = stuck.getsockname()[1]
        assert f"cut 127.0.0.1:{port} (http" in running.text
        assert "1 were cut" in running.text
        assert "Unhandled" not in running.text


def test_a_second_signal_ends_at_once():
    with Server(*FREE, "--set=server.drain_delay=60s") as running:
        running.send(signal.SIGTERM)
        running.wait_for(lambda: "draining" in running.text, "drain")
        begun = time.monotonic()
        running.stop(signal.SIGTERM)
        assert time.monotonic() - begun < 10


def test_post_drain_takes_the_server_out_and_leaves_it_watchable():
    with Server(*FREE, "--set=server.drain_delay=0s") as running:
        with socket.create_connection(("127.0.0.1", running.ports["admin"])) as admin:
            admin.sendall(b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            assert b" 202 " in admin.recv(1000)
        running.wait_for(lambda: running.metric('netapp_drain_state{phase="drained"}') == 1, "drained")
        assert running.get("/readyz")[0] == 503
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.ports["web"]))
        assert running.stop() == 0


def test_a_port_that_is_taken_is_a_sentence_and_status_1():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        failed = netapp("run", *FREE, f"--set=listeners.echo.endpoint=tcp:{port}:interface=127.0.0.1")
    assert failed.returncode == 1
    assert (
        f"netapp: listener echo: cannot listen on tcp:{port}:interface=127.0.0.1: Address already in use"
        in failed.stderr
    )
    assert "Traceback" not in failed.stderr + failed.stdout


def test_a_daemon_that_cannot_bind_tells_its_parent(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"--set=listeners.echo.endpoint=tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        failed = subprocess.run(
            [str(BIN / "twistd"), "netapp", *FREE, endpoint], capture_output=True, text=True, timeout=60, cwd=tmp_path
        )
    assert failed.returncode == 1
    assert "cannot listen" in failed.stdout + failed.stderr
    assert not (tmp_path / "twistd.pid").exists()


def test_a_wrong_configuration_is_told_whole_with_status_1_and_no_traceback(tmp_path):
    file = tmp_path / "netapp.toml"
    file.write_text('[listeners.web]\nkind = "htp"\nendpoint = "tcp:0"\nidle_timeout = "soon"\n[sever]\n')
    for failed in (netapp("check", str(file)), netapp("run", f"--config={file}")):
        assert failed.returncode == 1
        assert "Traceback" not in failed.stderr + failed.stdout
        for part in ("listeners.web.kind", "listeners.web.idle_timeout", "server"):
            assert part in failed.stderr


def test_the_environment_names_the_file_and_overrides_it(tmp_path):
    file = tmp_path / "netapp.toml"
    file.write_text('[listeners.only]\nkind = "echo"\nendpoint = "tcp:0:interface=127.0.0.1"\n')
    env = {
        "NETAPP_CONFIG": str(file),
        "NETAPP__ADMIN__ENDPOINT": "tcp:0:interface=127.0.0.1",
        "NETAPP_LOG_LEVEL": "debug",
    }
    with Server(env=env) as running:
        assert set(running.ports) == {"only", "admin"}
        assert json.loads(running.get("/config")[1])["logging"]["level"] == "debug"


@needs("openssl")
def test_sighup_reloads_certificates_and_reopens_the_log(tmp_path):
    issued = certificates()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"

    def install(one):
        chain.write_bytes(one.certificate.read_bytes())
        key.write_bytes(one.key.read_bytes())

    def serial(port):
        shown = subprocess.run(
            f"openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial",
            shell=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return shown.stdout

    install(issued.server("localhost", generation=1))
    log = tmp_path / "netapp.log"
    tls = [
        "--set=listeners.web.tls.certificate=" + str(chain),
        "--set=listeners.web.tls.key=" + str(key),
        "--set=listeners.web.tls.reload_interval=0s",
    ]
    with Server(*FREE, *tls, f"--set=logging.file={log}", log=log) as running:
        before = serial(running.ports["web"])
        log.rename(tmp_path / "netapp.log.1")
        install(issued.server("localhost", generation=2))
        running.send(signal.SIGHUP)
        running.wait_for(lambda: serial(running.ports["web"]) != before, "new certificate")
        running.wait_for(log.exists, "new log file")
        key.write_text("broken")
        kept = serial(running.ports["web"])
        running.send(signal.SIGHUP)
        running.wait_for(lambda: str(key) in log.read_text(), "complaint")
        assert serial(running.ports["web"]) == kept
        assert running.metric('netapp_tls_reloads_total{listener="web",outcome="failed"}') == 1


def test_logs_can_be_json_with_one_event_for_each_end(tmp_path):
    log = tmp_path / "log"
    with Server(*FREE, *QUICK, "--set=logging.format=json") as running:
        running.get("/hello", "web")
        running.wait_for(lambda: any('"end"' in line for line in running.output), "event")
        running.stop()
        events = [json.loads(line) for line in running.output]
    [end] = [event for event in events if event.get("listener") == "web" and "end" in event][:1]
    assert {"id", "peer", "protocol", "bytes_in", "bytes_out", "seconds", "end", "time", "level"} <= set(end)
    assert not log.exists()


@needs("curl")
def test_a_private_unix_socket_can_be_the_admin_endpoint(tmp_path):
    path = tmp_path / "admin.sock"
    process = subprocess.Popen(
        [str(BIN / "netapp"), "run", *FREE[:3], f"--set=admin.endpoint=unix:{path}:mode=600"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        end = time.monotonic() + 30
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.02)
        assert path.stat().st_mode & 0o777 == 0o600
        asked = subprocess.run(
            ["curl", "-s", "--unix-socket", str(path), "http://localhost/livez"], capture_output=True, timeout=30
        )
        assert asked.stdout == b"ok"
    finally:
        process.terminate()
        process.wait(30)
