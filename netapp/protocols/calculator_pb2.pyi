from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EchoMessage(_message.Message):
    __slots__ = ("content",)
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    content: str
    def __init__(self, content: _Optional[str] = ...) -> None: ...

class AddRequest(_message.Message):
    __slots__ = ("a", "b")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    a: int
    b: int
    def __init__(self, a: _Optional[int] = ..., b: _Optional[int] = ...) -> None: ...

class AddResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: int
    def __init__(self, result: _Optional[int] = ...) -> None: ...

class ErrorResponse(_message.Message):
    __slots__ = ("code", "text")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[ErrorResponse.Code]
        MALFORMED: _ClassVar[ErrorResponse.Code]
        INVALID_UTF8: _ClassVar[ErrorResponse.Code]
        EMPTY: _ClassVar[ErrorResponse.Code]
        OVERFLOW: _ClassVar[ErrorResponse.Code]
        FRAME_TOO_LARGE: _ClassVar[ErrorResponse.Code]
        BAD_LENGTH: _ClassVar[ErrorResponse.Code]
        FRAME_TIMEOUT: _ClassVar[ErrorResponse.Code]
        TRUNCATED: _ClassVar[ErrorResponse.Code]
    UNKNOWN: ErrorResponse.Code
    MALFORMED: ErrorResponse.Code
    INVALID_UTF8: ErrorResponse.Code
    EMPTY: ErrorResponse.Code
    OVERFLOW: ErrorResponse.Code
    FRAME_TOO_LARGE: ErrorResponse.Code
    BAD_LENGTH: ErrorResponse.Code
    FRAME_TIMEOUT: ErrorResponse.Code
    TRUNCATED: ErrorResponse.Code
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: ErrorResponse.Code
    text: str
    def __init__(self, code: _Optional[_Union[ErrorResponse.Code, str]] = ..., text: _Optional[str] = ...) -> None: ...

class ClientMessage(_message.Message):
    __slots__ = ("echo_message", "add_request")
    ECHO_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADD_REQUEST_FIELD_NUMBER: _ClassVar[int]
    echo_message: EchoMessage
    add_request: AddRequest
    def __init__(self, echo_message: _Optional[_Union[EchoMessage, _Mapping]] = ..., add_request: _Optional[_Union[AddRequest, _Mapping]] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("echo_message", "add_response", "error_response")
    ECHO_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADD_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    echo_message: EchoMessage
    add_response: AddResponse
    error_response: ErrorResponse
    def __init__(self, echo_message: _Optional[_Union[EchoMessage, _Mapping]] = ..., add_response: _Optional[_Union[AddResponse, _Mapping]] = ..., error_response: _Optional[_Union[ErrorResponse, _Mapping]] = ...) -> None: ...
