from octo.options.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_RECEIVED: _ClassVar[Status]
    STATUS_WAITING: _ClassVar[Status]
    STATUS_RESERVED: _ClassVar[Status]
    STATUS_CONFIRMED: _ClassVar[Status]
    STATUS_REJECTED: _ClassVar[Status]
STATUS_UNSPECIFIED: Status
STATUS_RECEIVED: Status
STATUS_WAITING: Status
STATUS_RESERVED: Status
STATUS_CONFIRMED: Status
STATUS_REJECTED: Status

class PlaceOrderRequest(_message.Message):
    __slots__ = ("order_id", "user", "wait_for_stock")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_STOCK_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    user: str
    wait_for_stock: bool
    def __init__(self, order_id: _Optional[str] = ..., user: _Optional[str] = ..., wait_for_stock: bool = ...) -> None: ...

class PlaceOrderResponse(_message.Message):
    __slots__ = ("total_cents",)
    TOTAL_CENTS_FIELD_NUMBER: _ClassVar[int]
    total_cents: int
    def __init__(self, total_cents: _Optional[int] = ...) -> None: ...

class WatchOrderRequest(_message.Message):
    __slots__ = ("order_id",)
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    def __init__(self, order_id: _Optional[str] = ...) -> None: ...

class WatchOrderResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: Status
    def __init__(self, status: _Optional[_Union[Status, str]] = ...) -> None: ...
