"""What a protocol writes and reads on a listener's transports: all of it, in order, within bounds. On real sockets."""

import io
import os
import random
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.protocols.basic import FileSender
from twisted.protocols.portforward import ProxyFactory
from zope.interface import implementer

from netapp.listeners.proxyproto import ProxyPolicy
from tests.support.listening import Peer, Recorder, Recording, pause, serving, until

pytestmark = pytest.mark.filterwarnings("error")
SEED = 20_261_120


@pytest_twisted.async_yield_fixture
async def serve():
    async with serving() as make:
        yield make


# Writing


@pytest_twisted.ensureDeferred
async def test_a_close_comes_after_everything_that_was_written(serve):
    here = serve(Recording(Recorder))
    peer = here.connect(receive_buffer=65536)
    protocol = await here.factory.one()
    sent = random.Random(SEED).randbytes(10_000_000)
    protocol.transport.write(sent)
    protocol.transport.loseConnection()
    received = []
    while piece := await peer.some():
        received.append(piece)
        await pause(0)
    assert b"".join(received) == sent
    await here.ended("local_done")
    assert serve.events.of("here")[0]["bytes_out"] == len(sent)


@pytest_twisted.ensureDeferred
async def test_pieces_are_written_as_one(serve):
    here = serve(Recording(Recorder))
    peer = here.connect()
    protocol = await here.factory.one()
    protocol.transport.writeSequence([b"one ", b"", b"two ", b"three"])
    protocol.transport.writeSequence([])
    protocol.transport.write(b"")
    assert await peer.read(13) == b"one two three"


@pytest_twisted.ensureDeferred
async def test_what_is_written_behind_a_close_is_sent_as_twisted_does(serve):
    here = serve(Recording(Recorder))
    peer = here.connect()
    protocol = await here.factory.one()
    protocol.transport.write(b"before ")
    protocol.transport.loseConnection()
    protocol.transport.write(b"behind")
    assert await peer.rest() == b"before behind"
    await here.ended("local_done")


@pytest_twisted.ensureDeferred
async def test_what_is_written_behind_an_abort_goes_nowhere(serve):
    here = serve(Recording(Recorder))
    peer = here.connect()
    protocol = await here.factory.one()
    protocol.transport.abortConnection()
    protocol.transport.write(b"too late")
    protocol.transport.writeSequence([b"much ", b"too late"])
    assert await peer.rest() == b""
    await here.ended("policy_limit")


@pytest_twisted.ensureDeferred
async def test_what_is_sent_at_once_and_what_waits_stay_in_order(serve):
    """With a small send buffer, nearly every write is cut somewhere."""
    here = serve(Recording(Recorder))
    peer = here.connect(receive_buffer=4096)
    protocol = await here.factory.one()
    transport = protocol.transport
    transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    chance = random.Random(SEED)
    written, received = bytearray(), bytearray()
    most = 0
    for _ in range(400):
        piece = chance.randbytes(chance.choice([1, 100, 3000, 20_000]))
        written += piece
        transport.write(piece) if chance.random() < 0.7 else transport.writeSequence([piece[:7], piece[7:]])
        most = max(most, transport.unsent)
        if chance.random() < 0.5:
            await pause(0)
            while chance.random() < 0.8 and not peer.is_closed:
                try:
                    received += peer.socket.recv(8192)
                except BlockingIOError:
                    break
    transport.loseConnection()
    received += await peer.rest()
    assert received == written
    assert most > 100_000


@implementer(IPushProducer)
class Fountain(Recorder):
    """Writes as long as it is let."""

    size = 50_000
    limit = 8_000_000
    most = 0

    def connectionMade(self):
        super().connectionMade()
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.written = self.pauses = 0
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self):
        self.flowing = True
        while self.flowing and self.written < self.limit:
            self.transport.write(bytes(self.size))
            self.written += self.size
            self.most = max(self.most, self.transport.unsent)
        if self.written >= self.limit:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def pauseProducing(self):
        self.flowing = False
        self.pauses += 1

    def stopProducing(self):
        self.flowing = False


@pytest.mark.parametrize("buffer", [100_000, 1_000_000])
@pytest_twisted.ensureDeferred
async def test_a_push_producer_is_paused_over_the_write_buffer(serve, buffer):
    """So memory is bounded: by the mark, and one write over it."""
    here = serve(Recording(Fountain), write_buffer=buffer)
    peer = here.connect(receive_buffer=65536)
    protocol = await here.factory.one()
    await until(lambda: protocol.pauses)
    assert len(await peer.rest()) == Fountain.limit
    assert protocol.pauses > 1
    assert buffer < protocol.most <= buffer + Fountain.size
    await here.ended("local_done")


@pytest_twisted.ensureDeferred
async def test_a_pull_producer_is_asked_until_it_has_no_more(serve):
    class Sending(Recorder):
        def dataReceived(self, data):
            sender = FileSender()
            done = sender.beginFileTransfer(io.BytesIO(content), self.transport)
            done.addCallback(lambda _: self.transport.write(b"end"))

    content = random.Random(SEED).randbytes(3_000_001)
    here = serve(Recording(Sending))
    peer = here.connect(receive_buffer=65536)
    for _ in range(2):
        await peer.send(b"again")
        assert await peer.read(len(content) + 3) == content + b"end"


@pytest_twisted.ensureDeferred
async def test_a_peer_that_the_network_gave_up_has_timed_out(serve):
    """Also while nothing is read from it. The kernel gives up a window that stays closed."""
    here = serve(Recording(Recorder))
    here.connect(receive_buffer=4096)
    protocol = await here.factory.one()
    protocol.transport.getHandle().setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 100)
    protocol.transport.pauseProducing()
    protocol.transport.write(bytes(8_000_000))
    await here.ended("peer_timed_out")


@pytest_twisted.ensureDeferred
async def test_whether_something_can_be_written_does_not_depend_on_the_peer(serve):
    """A mistake must not wait for a slow one to show."""
    here = serve(Recording(Recorder))
    peer = here.connect(receive_buffer=4096)
    protocol = await here.factory.one()
    transport = protocol.transport
    for filling in (0, 8_000_000):
        transport.write(bytes(filling))
        for wrong in ("text", 5, None):
            with pytest.raises(TypeError):
                transport.write(wrong)
        changing = bytearray(b"like bytes")
        transport.write(changing)
        changing[:] = b"not so now"
        transport.write(memoryview(b", and these"))
    assert transport.unsent
    transport.loseConnection()
    received = await peer.rest()
    assert received.replace(bytes(8_000_000), b"") == 2 * b"like bytes, and these"


# Reading


class Pausing(Recorder):
    """Reads nothing until it is told to."""

    def connectionMade(self):
        super().connectionMade()
        self.transport.pauseProducing()


@pytest_twisted.ensureDeferred
async def test_what_was_read_ahead_waits_for_a_protocol_that_has_paused(serve):
    here = serve(Recording(Pausing), proxy=ProxyPolicy(trusted=("127.0.0.1/32",)))
    peer = here.connect()
    await peer.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\nahead ")
    protocol = await here.factory.one()
    await peer.send(b"and behind")
    await pause(0.01)
    assert protocol.received == b""
    protocol.transport.resumeProducing()
    protocol.transport.pauseProducing()
    await pause(0.01)
    assert protocol.received == b""
    protocol.transport.resumeProducing()
    protocol.transport.pauseProducing()
    protocol.transport.resumeProducing()
    assert protocol.received == b"", "not before its call has returned"
    await until(lambda: protocol.received == b"ahead and behind")


@pytest_twisted.ensureDeferred
async def test_what_was_read_ahead_is_dropped_with_its_connection(serve):
    here = serve(Recording(Pausing), proxy=ProxyPolicy(trusted=("127.0.0.1/32",)))
    peer = here.connect()
    await peer.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\nahead")
    protocol = await here.factory.one()
    protocol.transport.resumeProducing()
    protocol.transport.abortConnection()
    await here.ended("policy_limit")
    assert protocol.received == b""


@pytest.mark.parametrize("way", ["loseConnection", "abortConnection"])
@pytest_twisted.ensureDeferred
async def test_a_protocol_that_closes_at_once_is_not_given_what_was_read_ahead(serve, way):
    class Leaving(Recorder):
        def connectionMade(self):
            super().connectionMade()
            getattr(self.transport, way)()

    here = serve(Recording(Leaving), proxy=ProxyPolicy(trusted=("127.0.0.1/32",)))
    peer = here.connect()
    await peer.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\nahead")
    await here.ended("local_done" if way == "loseConnection" else "policy_limit")
    assert here.factory.made[0].received == b""


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_over_what_was_read_ahead_costs_only_itself(serve):
    class Raising(Pausing):
        def dataReceived(self, data):
            raise RuntimeError("a defect")

    serve.events.expected = 1
    here = serve(Recording(Raising), proxy=ProxyPolicy(trusted=("127.0.0.1/32",)))
    peer = here.connect()
    await peer.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\nahead")
    protocol = await here.factory.one()
    protocol.transport.resumeProducing()
    await here.ended("internal")
    assert protocol.reason is not None


@pytest_twisted.ensureDeferred
async def test_twisteds_port_forwarding_works_behind_the_proxy_protocol(serve):
    """It pauses until its own connection is made, and has nowhere to put what comes before."""
    behind = serve(Recording(), name="behind")
    here = serve(ProxyFactory(*behind.address), proxy=ProxyPolicy(trusted=("127.0.0.1/32",)))
    peer = here.connect()
    await peer.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\nhello")
    assert await peer.read(5) == b"hello"
    peer.close()
    await behind.ended("peer_done")


# UNIX sockets


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_is_served(serve, tmp_path):
    here = serve(Recording(), endpoint=f"unix:{tmp_path}/socket:mode=600")
    assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o600
    peer = await here.converse()
    big = random.Random(SEED).randbytes(1_000_000)
    await peer.send(big[:100_000])
    assert await peer.read(100_000) == big[:100_000]
    here.factory.made[0].transport.write(big)
    here.factory.made[0].transport.loseConnection()
    assert await peer.rest() == big
    await here.ended("local_done")
    [event] = serve.events.of("here")
    assert (event["peer"], event["bytes_in"], event["bytes_out"]) == ("unix", 100_005, 1_100_005)


@pytest_twisted.ensureDeferred
async def test_a_unix_peer_may_have_a_name_of_its_own(serve, tmp_path, monkeypatch):
    """Even one as long as an IPv6 address has parts."""
    monkeypatch.chdir(tmp_path)
    here = serve(Recording(), endpoint=f"unix:{tmp_path}/socket")
    await here.converse(source="name")
    await here.converse(source="\0name")


@pytest_twisted.ensureDeferred
async def test_a_descriptor_is_passed_in_its_place_in_the_stream(serve, tmp_path):
    here = serve(Recording(Recorder), endpoint=f"unix:{tmp_path}/socket")
    peer = here.connect()
    protocol = await here.factory.one()
    with (tmp_path / "passed").open("w") as passed:
        protocol.transport.write(b"before ")
        protocol.transport.sendFileDescriptor(passed.fileno())
        protocol.transport.write(b"with it")
        await until(lambda: protocol.transport.bytes_out == 14)
        received, descriptors = b"", []
        while len(received) < 14:
            data, fds, _, _ = socket.recv_fds(peer.socket, 7, 1)
            descriptors += [(received, fd) for fd in fds]
            received += data
        assert received == b"before with it"
        [(before, descriptor)] = descriptors
        assert before == b"before "
        assert os.fstat(descriptor).st_ino == os.fstat(passed.fileno()).st_ino
        os.close(descriptor)


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_is_read_in_pieces_whatever_the_write_buffer(serve, tmp_path):
    class Sizes(Recorder):
        def dataReceived(self, data):
            super().dataReceived(data)
            self.factory.sizes.append(len(data))

    for name, buffer in (("small", 100), ("large", 4_000_000)):
        here = serve(Recording(Sizes), endpoint=f"unix:{tmp_path}/{name}", write_buffer=buffer, name=name)
        here.factory.sizes = []
        peer = here.connect()
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_000_000)
        await peer.send(bytes(150_000))
        await until(lambda factory=here.factory: sum(factory.sizes) == 150_000)
        assert 4096 < max(here.factory.sizes) <= 65536


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_closes_though_its_file_is_gone(serve, tmp_path):
    here = serve(Recording(), endpoint=f"unix:{tmp_path}/socket:lockfile=0")
    (tmp_path / "socket").unlink()
    await here.listener.stopService()


@pytest_twisted.ensureDeferred
async def test_behind_a_unix_socket_a_proxys_client_is_known_as_well(serve, tmp_path):
    here = serve(Recording(), endpoint=f"unix:{tmp_path}/socket", proxy=ProxyPolicy(trusted=("192.0.2.255/32",)))
    peer = here.connect()
    await peer.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1111 2\r\nhello")
    assert await peer.read(5) == b"hello"
    address = here.factory.made[0].transport.getPeer()
    assert (address.host, address.port) == ("192.0.2.7", 1111)


# Sockets that somebody else has bound


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_that_was_given_to_us_stays_as_it_is(serve, tmp_path, monkeypatch):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(path))
        path.chmod(0o600)
        given.listen(5)
        given.setblocking(False)
        here = serve_adopted(serve, monkeypatch, given)
        here.factory.path = str(path)
        peer = Peer(str(path))
        here.peers.append(peer)
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await here.listener.stopService()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.connect(str(path))


@pytest_twisted.ensureDeferred
async def test_a_socket_that_was_given_to_us_listens_on_when_we_have_stopped(serve, monkeypatch):
    """A filter that turns newcomers away would turn them away from whoever has the socket next."""
    with socket.create_server(("127.0.0.1", 0)) as given:
        given.setblocking(False)
        here = serve_adopted(serve, monkeypatch, given)
        await here.converse()
        await here.listener.stop_listening()
        with socket.create_connection(given.getsockname(), timeout=5):
            await until(lambda: is_acceptable(given))


def is_acceptable(listening):
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def serve_adopted(serve, monkeypatch, given):
    """Serve on ``given`` as the ``systemd:`` endpoint does once it has found its descriptor."""
    monkeypatch.setattr(
        "netapp.listeners.service.serverFromString",
        lambda on, _: AdoptedStreamServerEndpoint(on, os.dup(given.fileno()), given.family),
    )
    return serve(Recording(), endpoint="systemd:domain=INET:index=0")


SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)  # where systemd puts the first (sd_listen_fds(3))
os.environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "netapp.socket", "LISTEN_PID": str(os.getpid())}
from twisted.internet import reactor
from tests.support.listening import Events, Recording, Served

with Events() as events:
    here = Served(events, Recording(), endpoint="systemd:domain=INET:index=0")
    reactor.addSystemEventTrigger("before", "shutdown", here.listener.stopService)
    print("serving", flush=True)
    reactor.run()
"""


def test_a_systemd_socket_serves_one_process_after_the_other():
    with socket.create_server(("127.0.0.1", 0)) as given:
        for _ in range(2):
            with subprocess.Popen(
                [sys.executable, "-c", SYSTEMD, str(given.fileno())],
                stdout=subprocess.PIPE,
                pass_fds=[given.fileno()],
                cwd=Path(__file__).parents[2],
                text=True,
            ) as child:
                try:
                    assert child.stdout.readline() == "serving\n"
                    with socket.create_connection(given.getsockname(), timeout=10) as peer:
                        peer.sendall(b"hello")
                        assert peer.recv(5) == b"hello"
                    child.send_signal(signal.SIGTERM)
                    assert child.wait(10) == 0
                finally:
                    child.kill()
