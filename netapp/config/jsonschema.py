"""The JSON Schema of the configuration, for editors and for whoever checks files elsewhere.

It is a little wider than the loader: what tables say about each other is not in it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from netapp.config.describe import field_docs, struct_classes
from netapp.config.schema import DEFAULT_LISTENERS, Config

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_json(cls: type[Struct] = Config) -> dict[str, Any]:
    """Build the schema: durations and sizes as numbers or text, each key with its description and default."""
    schema = msgspec.json.schema(cls)
    components = schema["$defs"]
    for struct in struct_classes(cls):
        _describe_properties(struct, components[struct.__name__]["properties"])
    _accept_text(schema)
    if cls is Config:
        components["Config"]["properties"]["listeners"]["default"] = DEFAULT_LISTENERS
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    return {"$schema": _DIALECT, "title": "netapp configuration", **plain}


def _describe_properties(cls: type[Struct], properties: dict[str, Any]) -> None:
    docs = field_docs(cls)
    for field in structs.fields(cls):
        known = properties[field.encode_name]
        if field.name in docs:
            known["description"] = docs[field.name]
        if "$ref" in known:
            # The component has the default of each key; repeating all of them here would only be long.
            known.pop("default", None)


def _accept_text(node: Any) -> None:
    """Let a quantity be text as well: it is a number with a pattern, which numbers themselves have no use for."""
    if isinstance(node, list):
        for item in node:
            _accept_text(item)
    elif isinstance(node, dict):
        if node.get("type") in {"number", "integer"} and "pattern" in node:
            node["type"] = [node["type"], "string"]
        _accept_text(list(node.values()))
