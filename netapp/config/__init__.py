"""The configuration: what can be set, where it is read from, and what is wrong with it.

:func:`load_config` goes from a file, the environment and the command line to one frozen :class:`Config`, or to a
:class:`netapp.errors.ConfigError` with every problem there is. Nothing here touches a socket.
"""

from netapp.config.jsonschema import schema_json
from netapp.config.load import load_config, parse_config
from netapp.config.redact import redacted
from netapp.config.schema import Config

__all__ = ["Config", "load_config", "parse_config", "redacted", "schema_json"]
