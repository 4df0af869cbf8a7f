"""TLS for listeners: certificates by name, client certificates, and new files without losing a connection.

=============== ==========================================================================================
:mod:`.policy`    what an operator may say, and which of it contradicts itself
:mod:`.files`     certificates, keys and authorities out of PEM files, with every fault named
:mod:`.openssl`   the few functions of OpenSSL that pyOpenSSL binds but gives no method
:mod:`.contexts`  one generation: a context for each certificate, chosen by the name that the client asks for
:mod:`.store`     the generation in service, its successor when the files change, and its instruments
:mod:`.reloader`  looks at the files from time to time
:mod:`.info`      what a handshake settled; the only place where a client certificate becomes an identity
=============== ==========================================================================================
"""

from netapp.listeners.tls.info import tls_info
from netapp.listeners.tls.policy import TlsPolicy
from netapp.listeners.tls.reloader import TlsReloader
from netapp.listeners.tls.store import TlsStore

__all__ = ["TlsPolicy", "TlsReloader", "TlsStore", "tls_info"]
