# test_tally.py
from netapp.errors import Draining, LimitExceeded
from tally import TallyFactory
from twisted.internet.testing import StringTransport


def connect(**options):
    protocol = TallyFactory(**options).buildProtocol(None)
    protocol.makeConnection(StringTransport())
    return protocol


def test_words_are_counted_however_the_network_cuts_them():
    tally = connect()
    for piece in (b"te", b"a\nte", b"a\n"):
        tally.dataReceived(piece)
    assert tally.transport.value() == b"tea 1\ntea 2\n"


def test_there_is_room_for_so_many_words_only():
    tally = connect(max_words=1)
    tally.dataReceived(b"tea\nmilk\ntea\n")
    assert tally.transport.value() == b"tea 1\nno room for another word\ntea 2\n"


def test_a_word_without_an_end_closes_the_connection():
    tally = connect(max_word=3)
    tally.dataReceived(b"coffee")
    assert tally.transport.disconnecting
    assert isinstance(tally.ending, LimitExceeded)


def test_a_drain_closes_a_connection_between_two_words():
    tally = connect()
    tally.dataReceived(b"tea\n")
    tally.drain()
    assert tally.transport.disconnecting
    assert isinstance(tally.ending, Draining)


def test_a_drain_waits_for_a_word_that_has_begun():
    tally = connect()
    tally.dataReceived(b"te")
    assert tally.state == "reading"
    tally.drain()
    assert not tally.transport.disconnecting
    tally.dataReceived(b"a\n")
    assert tally.transport.value() == b"tea 1\n"
    assert tally.transport.disconnecting
