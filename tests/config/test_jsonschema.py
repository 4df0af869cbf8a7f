import json
import re

import pytest
from msgspec import structs

from netapp.config import Config, schema_json
from netapp.config.describe import struct_classes
from netapp.config.schema import DEFAULT_LISTENERS, ServerConfig


@pytest.fixture(scope="module")
def schema():
    return schema_json(Config)


def definition(schema, name):
    return schema["$defs"][name]


def test_it_is_json(schema):
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_struct_has_a_definition_that_refuses_other_keys(schema):
    for cls in struct_classes(Config):
        known = definition(schema, cls.__name__)
        assert known["additionalProperties"] is False
        assert set(known["properties"]) == {field.encode_name for field in structs.fields(cls)}


def test_a_duration_is_a_number_or_text(schema):
    known = definition(schema, "ServerConfig")["properties"]["drain_timeout"]
    assert known["type"] == ["number", "string"]
    assert known["default"] == 30.0
    assert re.search(known["pattern"], "30s")
    assert not re.search(known["pattern"], "soon")
    assert known["description"].startswith("How long connections then have")


def test_a_size_is_an_integer_or_text(schema):
    assert definition(schema, "ListenerConfig")["properties"]["write_buffer"]["type"] == ["integer", "string"]


def test_numbers_without_a_unit_stay_numbers(schema):
    assert definition(schema, "HealthPolicy")["properties"]["connections_degraded"]["type"] == "number"


def test_the_default_listeners_are_the_default(schema):
    assert definition(schema, "Config")["properties"]["listeners"]["default"] == DEFAULT_LISTENERS


def test_defaults_are_told_where_the_key_is_and_only_there(schema):
    properties = definition(schema, "ListenerConfig")["properties"]
    assert "default" not in properties["admission"]
    assert definition(schema, "AdmissionPolicy")["properties"]["max_connections"]["default"] == 10_000


def test_required_keys_are_required(schema):
    assert definition(schema, "ListenerConfig")["required"] == ["kind", "endpoint"]


def test_the_schema_of_a_part_can_be_had_as_well():
    assert set(schema_json(ServerConfig)["$defs"]) == {"ServerConfig"}
