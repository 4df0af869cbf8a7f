# tally.py
"""Counts words: each line is one, and the answer says how often it has come."""

from collections import Counter

from netapp.errors import Draining, LimitExceeded
from twisted.internet.protocol import Factory, Protocol


class Tally(Protocol):
    """One connection. A word has begun as soon as one of its bytes is here, and is then answered in any case."""

    ending = None

    def connectionMade(self):
        self.rest = b""

    def dataReceived(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.transport.write(self.factory.count(line))
        if len(self.rest) > self.factory.max_word:
            self.close(LimitExceeded("max_word"))
        elif self.ending and not self.rest:
            self.transport.loseConnection()

    @property
    def state(self):
        return "reading" if self.rest else "idle"

    def drain(self):
        self.ending = Draining()
        if not self.rest:
            self.transport.loseConnection()

    def close(self, why):
        self.ending = why
        self.transport.loseConnection()


class TallyFactory(Factory):
    """What all connections share: ``max_words`` different words of ``max_word`` bytes are counted."""

    noisy = False
    protocol = Tally

    def __init__(self, max_words=1000, max_word=64):
        if max_words < 1:
            raise ValueError("max_words must be at least 1")
        self.max_words = max_words
        self.max_word = max_word
        self.words = Counter()

    def count(self, word):
        """Return the answer to one word."""
        if len(word) > self.max_word:
            return b"that is no word\n"
        if word not in self.words and len(self.words) == self.max_words:
            return b"no room for another word\n"
        self.words[word] += 1
        return b"%b %d\n" % (word, self.words[word])
