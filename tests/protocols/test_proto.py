import re
from importlib import resources
from pathlib import Path

import pytest
from grpc_tools import protoc

from netapp.protocols import calculator_pb2
from netapp.protocols.calculator_pb2 import ClientMessage, ServerMessage

HERE = Path(calculator_pb2.__file__).parent
# The file is named from the root of the package, so that it cannot collide with a user's own calculator.proto: protobuf
# keeps one table of names for the whole process.
ROOT = HERE.parent.parent
# A newer compiler writes its version, and nothing else that differs, unless it generates other code.
VERSION = re.compile(r"^# Protobuf Python Version: .*$|^ {4}\d+,$", re.MULTILINE)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    target = tmp_path_factory.mktemp("generated")
    included = resources.files("grpc_tools") / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT}",
            f"-I{included}",
            f"--python_out={target}",
            f"--pyi_out={target}",
            str(HERE / "calculator.proto"),
        ]
    )
    assert status == 0
    return target / "netapp" / "protocols"


@pytest.mark.parametrize("name", ["calculator_pb2.py", "calculator_pb2.pyi"])
def test_generated_code_is_what_the_proto_file_generates(generated, name):
    """If this fails, run ``make proto``."""
    expected = VERSION.sub("", (generated / name).read_text())
    assert VERSION.sub("", (HERE / name).read_text()) == expected


@pytest.mark.parametrize(
    ("message", "field", "number"),
    [
        (ClientMessage, "echo_message", 1),
        (ClientMessage, "add_request", 2),
        (ServerMessage, "echo_message", 1),
        (ServerMessage, "add_response", 2),
        (ServerMessage, "error_response", 3),
    ],
)
def test_the_tags_are_those_that_other_implementations_know(message, field, number):
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    assert descriptor.number == number
    assert descriptor.containing_oneof.name == "message"


def test_the_bytes_are_those_that_other_implementations_know():
    assert ClientMessage.FromString(b"\x12\x04\x08\x02\x10\x03").add_request.b == 3
    assert ClientMessage.FromString(b"\x0a\x02\x0a\x00").echo_message.content == ""
    assert ServerMessage.FromString(b"\x12\x02\x08\x05").add_response.result == 5


def test_every_error_code_has_a_comment_in_the_proto_file():
    source = (HERE / "calculator.proto").read_text()
    codes = re.findall(r"^    (?P<comment>// .*\n    )?[A-Z_0-9]+ = (?P<number>\d+);", source, re.MULTILINE)
    assert [number for comment, number in codes if not comment] == ["0"]
