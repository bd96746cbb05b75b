"""Typed remote calls over HTTP: define a call once, and have its server and its client (evrpc).

Add = Rpc("Add", AddRequest, AddReply)           # two dataclasses

server = RpcServer(http_server)
server.register_rpc(Add, handle_add)             # handle_add(call, arg)

pool = RpcPool(base, timeout=5.0)
pool.add_connection(connection)
pool.make_request(Add, AddRequest(1, 2), show)   # show(status, request, reply, arg)
"""

from . import evtag, idl
from .annotations import I32, I64, U32, U64, FixedLength, IntRange, Tag
from .client.call import RpcCall
from .client.endpoints import Endpoint
from .client.names import FollowedName, NameOptions, NameSource
from .client.pool import RpcPool
from .client.retries import RetryPolicy
from .client.stream import ClientStream
from .codecs.evtag import EvtagCodec
from .codecs.json import JsonCodec
from .codecs.msgpack import MsgpackCodec
from .codecs.protocol import Codec
from .definition import BoundRpc, Nothing, Rpc, RpcKind, Service
from .errors import (
    CallFailed,
    CallNotStarted,
    CallTimeout,
    DefinitionError,
    PayloadError,
    RemoteError,
    RpcError,
    RpcErrorCode,
)
from .frames import StreamOptions
from .health import Health, HealthBoard, HealthReply, HealthRequest, Serving
from .hooks import (
    EVRPC_CONTINUE,
    EVRPC_INPUT,
    EVRPC_OUTPUT,
    EVRPC_PAUSE,
    EVRPC_TERMINATE,
    Hook,
    HookKind,
    HookResult,
)
from .limits import PayloadLimits
from .packing import PackingOptions
from .server.call import ServerCall
from .server.server import MethodOptions, RpcServer
from .server.stream import ServerStream
from .shapes import MessageShape
from .status import (
    EVRPC_STATUS_ERR_BADPAYLOAD,
    EVRPC_STATUS_ERR_HOOKABORTED,
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_TIMEOUT,
    EVRPC_STATUS_ERR_UNSTARTED,
    RpcStatus,
    RpcStatusCode,
)

__all__ = [
    "EVRPC_CONTINUE",
    "EVRPC_INPUT",
    "EVRPC_OUTPUT",
    "EVRPC_PAUSE",
    "EVRPC_STATUS_ERR_BADPAYLOAD",
    "EVRPC_STATUS_ERR_HOOKABORTED",
    "EVRPC_STATUS_ERR_NONE",
    "EVRPC_STATUS_ERR_TIMEOUT",
    "EVRPC_STATUS_ERR_UNSTARTED",
    "EVRPC_TERMINATE",
    "I32",
    "I64",
    "U32",
    "U64",
    "BoundRpc",
    "CallFailed",
    "CallNotStarted",
    "CallTimeout",
    "ClientStream",
    "Codec",
    "DefinitionError",
    "Endpoint",
    "EvtagCodec",
    "FixedLength",
    "FollowedName",
    "Health",
    "HealthBoard",
    "HealthReply",
    "HealthRequest",
    "Hook",
    "HookKind",
    "HookResult",
    "IntRange",
    "JsonCodec",
    "MessageShape",
    "MethodOptions",
    "MsgpackCodec",
    "NameOptions",
    "NameSource",
    "Nothing",
    "PackingOptions",
    "PayloadError",
    "PayloadLimits",
    "RemoteError",
    "RetryPolicy",
    "Rpc",
    "RpcCall",
    "RpcError",
    "RpcErrorCode",
    "RpcKind",
    "RpcPool",
    "RpcServer",
    "RpcStatus",
    "RpcStatusCode",
    "ServerCall",
    "ServerStream",
    "Service",
    "Serving",
    "StreamOptions",
    "Tag",
    "evtag",
    "idl",
]
