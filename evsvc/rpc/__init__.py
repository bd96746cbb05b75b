"""Typed remote calls over HTTP: define a call once, and have its server and its client (evrpc).

Add = Rpc("Add", AddRequest, AddReply)           # two dataclasses

server = RpcServer(http_server)
server.register_rpc(Add, handle_add)             # handle_add(call, arg)

pool = RpcPool(base, timeout=5.0)
pool.add_connection(connection)
pool.make_request(Add, AddRequest(1, 2), show)   # show(status, request, reply, arg)
"""

from .client.call import RpcCall
from .client.pool import RpcPool
from .codecs.msgpack import MsgpackCodec
from .codecs.protocol import Codec
from .definition import Rpc
from .errors import (
    CallNotStarted,
    CallTimeout,
    DefinitionError,
    PayloadError,
    RemoteError,
    RpcError,
)
from .limits import PayloadLimits
from .server.call import ServerCall
from .server.server import RpcServer
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
    "EVRPC_STATUS_ERR_BADPAYLOAD",
    "EVRPC_STATUS_ERR_HOOKABORTED",
    "EVRPC_STATUS_ERR_NONE",
    "EVRPC_STATUS_ERR_TIMEOUT",
    "EVRPC_STATUS_ERR_UNSTARTED",
    "CallNotStarted",
    "CallTimeout",
    "Codec",
    "DefinitionError",
    "MessageShape",
    "MsgpackCodec",
    "PayloadError",
    "PayloadLimits",
    "RemoteError",
    "Rpc",
    "RpcCall",
    "RpcError",
    "RpcPool",
    "RpcServer",
    "RpcStatus",
    "RpcStatusCode",
    "ServerCall",
]
