"""An RPC whose messages come from a .rpc file, in libevent's own wire format.

Programs that libevent's evrpc is in can call this server, and be called, with the same file.
"""

from pathlib import Path

from evsvc import EventBase, HttpServer, Rpc, RpcPool, RpcServer
from evsvc.rpc import EvtagCodec, idl

messages = idl.load(Path(__file__).with_name("message.rpc"))
Msg, Kill = messages["msg"], messages["kill"]
Message = Rpc("Message", Msg, Kill)


def handle_message(call, arg):
    """Tell how a message was received."""
    call.done(Kill(weapon="dagger", action=f"wave at {call.request.from_name}", how_often=[1, 2]))


def on_reply(status, request, reply, arg):
    """Print the outcome, and end the program."""
    print(status.message if status.error else reply, flush=True)
    pool.close()
    server.close()


base = EventBase()
server = HttpServer(base)
RpcServer(server, codec=EvtagCodec()).register_rpc(Message, handle_message)
pool = RpcPool(base, timeout=5.0, codec=EvtagCodec())
pool.add_endpoint("127.0.0.1", server.bind_socket("127.0.0.1", 0).port)
pool.make_request(Message, Msg(from_name="niels", to_name="tester"), on_reply)
base.dispatch()
base.close()
