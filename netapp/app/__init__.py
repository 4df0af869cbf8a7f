"""The application: the one place where everything is put together and knows of each other.

===================== =========================================================================
:mod:`.compose`         from a configuration to services, with every problem named before a bind
:mod:`.service`         the service that is started, drained and stopped
:mod:`.drain`           how serving ends without losing what was accepted
:mod:`.process`         what belongs to the process: signals, clock, descriptors
===================== =========================================================================
"""

from netapp.app.compose import compose
from netapp.app.service import NetappService

__all__ = ["NetappService", "compose"]
