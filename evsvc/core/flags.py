"""libevent's flags under libevent's names, as `enum.IntFlag` members.

`IntFlag` arithmetic costs about half a microsecond, so the loop counts in plain integers and
turns them into members through `EVENT_FLAGS`, a table, just before it calls the program.
"""

import enum

# The same as plain integers, for the loop.
TIMEOUT, READ, WRITE, SIGNAL, PERSIST, ET = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
FINALIZE, CLOSED = 0x40, 0x80
IO = READ | WRITE | CLOSED
BOTH = READ | WRITE

# What a bufferevent tells, and its options.
READING, WRITING, EOF, ERROR, TIMED_OUT, CONNECTED = 0x01, 0x02, 0x10, 0x20, 0x40, 0x80
CLOSE_ON_FREE, THREADSAFE, DEFER_CALLBACKS, UNLOCK_CALLBACKS = 0x01, 0x02, 0x04, 0x08


class EventFlag(enum.IntFlag):
    """What an event waits for, and what it reports."""

    EV_TIMEOUT = 0x01
    EV_READ = 0x02
    EV_WRITE = 0x04
    EV_SIGNAL = 0x08
    EV_PERSIST = 0x10
    EV_ET = 0x20
    EV_FINALIZE = 0x40
    EV_CLOSED = 0x80


class LoopFlag(enum.IntFlag):
    """How `EventBase.loop` runs."""

    EVLOOP_ONCE = 0x01
    EVLOOP_NONBLOCK = 0x02
    EVLOOP_NO_EXIT_ON_EMPTY = 0x04


class Feature(enum.IntFlag):
    """What a backend can do."""

    EV_FEATURE_ET = 0x01
    EV_FEATURE_O1 = 0x02
    EV_FEATURE_FDS = 0x04
    EV_FEATURE_EARLY_CLOSE = 0x08


class BaseFlag(enum.IntFlag):
    """Options of an event base, set through `EventConfig.set_flag`."""

    EVENT_BASE_FLAG_NOLOCK = 0x01
    EVENT_BASE_FLAG_IGNORE_ENV = 0x02
    EVENT_BASE_FLAG_STARTUP_IOCP = 0x04
    EVENT_BASE_FLAG_NO_CACHE_TIME = 0x08
    EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST = 0x10
    EVENT_BASE_FLAG_PRECISE_TIMER = 0x20
    EVENT_BASE_FLAG_EPOLL_DISALLOW_TIMERFD = 0x40
    EVENT_BASE_FLAG_USE_SIGNALFD = 0x80


class CountKind(enum.IntFlag):
    """What `EventBase.num_events` counts."""

    EVENT_BASE_COUNT_ACTIVE = 0x01
    EVENT_BASE_COUNT_VIRTUAL = 0x02
    EVENT_BASE_COUNT_ADDED = 0x04


class BevEvent(enum.IntFlag):
    """What a bufferevent's event callback is told."""

    BEV_EVENT_READING = 0x01
    BEV_EVENT_WRITING = 0x02
    BEV_EVENT_EOF = 0x10
    BEV_EVENT_ERROR = 0x20
    BEV_EVENT_TIMEOUT = 0x40
    BEV_EVENT_CONNECTED = 0x80


class BevOption(enum.IntFlag):
    """Options of a bufferevent."""

    BEV_OPT_CLOSE_ON_FREE = 0x01
    BEV_OPT_THREADSAFE = 0x02
    BEV_OPT_DEFER_CALLBACKS = 0x04
    BEV_OPT_UNLOCK_CALLBACKS = 0x08


class TriggerOption(enum.IntFlag):
    """How `trigger` and `trigger_event` run the callbacks of a bufferevent."""

    BEV_TRIG_DEFER_CALLBACKS = 0x04
    BEV_TRIG_IGNORE_WATERMARKS = 0x10000


class FlushMode(enum.IntEnum):
    """How much a bufferevent's `flush` pushes through."""

    BEV_NORMAL = 0
    BEV_FLUSH = 1
    BEV_FINISHED = 2


class BufferEventFilterResult(enum.IntEnum):
    """What a filter of a bufferevent says: it has done something, it has not, or it never will."""

    BEV_OK = 0
    BEV_NEED_MORE = 1
    BEV_ERROR = 2


class SslState(enum.IntEnum):
    """What a TLS bufferevent begins with: which side of a handshake, or none."""

    BUFFEREVENT_SSL_OPEN = 0
    BUFFEREVENT_SSL_CONNECTING = 1
    BUFFEREVENT_SSL_ACCEPTING = 2


class SslFlag(enum.IntFlag):
    """How a TLS bufferevent behaves; see `TlsBufferEvent.ssl_flags`."""

    BUFFEREVENT_SSL_DIRTY_SHUTDOWN = 0x01
    BUFFEREVENT_SSL_BATCH_WRITE = 0x02


class ListenerOption(enum.IntFlag):
    """Options of a connection listener."""

    LEV_OPT_LEAVE_SOCKETS_BLOCKING = 0x01
    LEV_OPT_CLOSE_ON_FREE = 0x02
    LEV_OPT_CLOSE_ON_EXEC = 0x04
    LEV_OPT_REUSEABLE = 0x08
    LEV_OPT_THREADSAFE = 0x10
    LEV_OPT_DISABLED = 0x20
    LEV_OPT_DEFERRED_ACCEPT = 0x40
    LEV_OPT_REUSEABLE_PORT = 0x80
    LEV_OPT_BIND_IPV6ONLY = 0x100
    LEV_OPT_BIND_IPV4_AND_IPV6 = 0x200


class EolStyle(enum.IntEnum):
    """How a line ends, for `EvBuffer.readln` and `search_eol`."""

    EVBUFFER_EOL_ANY = 0
    EVBUFFER_EOL_CRLF = 1
    EVBUFFER_EOL_CRLF_STRICT = 2
    EVBUFFER_EOL_LF = 3
    EVBUFFER_EOL_NUL = 4


class PtrHow(enum.IntEnum):
    """From where `EvBuffer.ptr_set` counts: the start of the buffer, or another position."""

    EVBUFFER_PTR_SET = 0
    EVBUFFER_PTR_ADD = 1


class BufferFlag(enum.IntFlag):
    """What a program promises of a buffer; see `EvBuffer.set_flags`."""

    EVBUFFER_FLAG_DRAINS_TO_FD = 0x01


class BufferCallbackFlag(enum.IntFlag):
    """What a buffer's callback can be switched to."""

    EVBUFFER_CB_ENABLED = 0x01


class FileSegmentFlag(enum.IntFlag):
    """What becomes of a file segment's descriptor, and how its bytes may be had."""

    EVBUF_FS_CLOSE_ON_FREE = 0x01
    EVBUF_FS_DISABLE_MMAP = 0x02
    EVBUF_FS_DISABLE_SENDFILE = 0x04
    EVBUF_FS_DISABLE_LOCKING = 0x08


EVENT_FLAGS = tuple(EventFlag(bits) for bits in range(256))
BEV_EVENTS = tuple(BevEvent(bits) for bits in range(256))

EV_TIMEOUT = EventFlag.EV_TIMEOUT
EV_READ = EventFlag.EV_READ
EV_WRITE = EventFlag.EV_WRITE
EV_SIGNAL = EventFlag.EV_SIGNAL
EV_PERSIST = EventFlag.EV_PERSIST
EV_ET = EventFlag.EV_ET
EV_FINALIZE = EventFlag.EV_FINALIZE
EV_CLOSED = EventFlag.EV_CLOSED

EVLOOP_ONCE = LoopFlag.EVLOOP_ONCE
EVLOOP_NONBLOCK = LoopFlag.EVLOOP_NONBLOCK
EVLOOP_NO_EXIT_ON_EMPTY = LoopFlag.EVLOOP_NO_EXIT_ON_EMPTY

EV_FEATURE_ET = Feature.EV_FEATURE_ET
EV_FEATURE_O1 = Feature.EV_FEATURE_O1
EV_FEATURE_FDS = Feature.EV_FEATURE_FDS
EV_FEATURE_EARLY_CLOSE = Feature.EV_FEATURE_EARLY_CLOSE

EVENT_BASE_FLAG_NOLOCK = BaseFlag.EVENT_BASE_FLAG_NOLOCK
EVENT_BASE_FLAG_IGNORE_ENV = BaseFlag.EVENT_BASE_FLAG_IGNORE_ENV
EVENT_BASE_FLAG_STARTUP_IOCP = BaseFlag.EVENT_BASE_FLAG_STARTUP_IOCP
EVENT_BASE_FLAG_NO_CACHE_TIME = BaseFlag.EVENT_BASE_FLAG_NO_CACHE_TIME
EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST = BaseFlag.EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST
EVENT_BASE_FLAG_PRECISE_TIMER = BaseFlag.EVENT_BASE_FLAG_PRECISE_TIMER
EVENT_BASE_FLAG_EPOLL_DISALLOW_TIMERFD = BaseFlag.EVENT_BASE_FLAG_EPOLL_DISALLOW_TIMERFD
EVENT_BASE_FLAG_USE_SIGNALFD = BaseFlag.EVENT_BASE_FLAG_USE_SIGNALFD

EVENT_BASE_COUNT_ACTIVE = CountKind.EVENT_BASE_COUNT_ACTIVE
EVENT_BASE_COUNT_VIRTUAL = CountKind.EVENT_BASE_COUNT_VIRTUAL
EVENT_BASE_COUNT_ADDED = CountKind.EVENT_BASE_COUNT_ADDED

BEV_EVENT_READING = BevEvent.BEV_EVENT_READING
BEV_EVENT_WRITING = BevEvent.BEV_EVENT_WRITING
BEV_EVENT_EOF = BevEvent.BEV_EVENT_EOF
BEV_EVENT_ERROR = BevEvent.BEV_EVENT_ERROR
BEV_EVENT_TIMEOUT = BevEvent.BEV_EVENT_TIMEOUT
BEV_EVENT_CONNECTED = BevEvent.BEV_EVENT_CONNECTED

BEV_OPT_CLOSE_ON_FREE = BevOption.BEV_OPT_CLOSE_ON_FREE
BEV_OPT_THREADSAFE = BevOption.BEV_OPT_THREADSAFE
BEV_OPT_DEFER_CALLBACKS = BevOption.BEV_OPT_DEFER_CALLBACKS
BEV_OPT_UNLOCK_CALLBACKS = BevOption.BEV_OPT_UNLOCK_CALLBACKS

BEV_TRIG_DEFER_CALLBACKS = TriggerOption.BEV_TRIG_DEFER_CALLBACKS
BEV_TRIG_IGNORE_WATERMARKS = TriggerOption.BEV_TRIG_IGNORE_WATERMARKS

BEV_NORMAL = FlushMode.BEV_NORMAL
BEV_FLUSH = FlushMode.BEV_FLUSH
BEV_FINISHED = FlushMode.BEV_FINISHED

BEV_OK = BufferEventFilterResult.BEV_OK
BEV_NEED_MORE = BufferEventFilterResult.BEV_NEED_MORE
BEV_ERROR = BufferEventFilterResult.BEV_ERROR

BUFFEREVENT_SSL_OPEN = SslState.BUFFEREVENT_SSL_OPEN
BUFFEREVENT_SSL_CONNECTING = SslState.BUFFEREVENT_SSL_CONNECTING
BUFFEREVENT_SSL_ACCEPTING = SslState.BUFFEREVENT_SSL_ACCEPTING

BUFFEREVENT_SSL_DIRTY_SHUTDOWN = SslFlag.BUFFEREVENT_SSL_DIRTY_SHUTDOWN
BUFFEREVENT_SSL_BATCH_WRITE = SslFlag.BUFFEREVENT_SSL_BATCH_WRITE

LEV_OPT_LEAVE_SOCKETS_BLOCKING = ListenerOption.LEV_OPT_LEAVE_SOCKETS_BLOCKING
LEV_OPT_CLOSE_ON_FREE = ListenerOption.LEV_OPT_CLOSE_ON_FREE
LEV_OPT_CLOSE_ON_EXEC = ListenerOption.LEV_OPT_CLOSE_ON_EXEC
LEV_OPT_REUSEABLE = ListenerOption.LEV_OPT_REUSEABLE
LEV_OPT_THREADSAFE = ListenerOption.LEV_OPT_THREADSAFE
LEV_OPT_DISABLED = ListenerOption.LEV_OPT_DISABLED
LEV_OPT_DEFERRED_ACCEPT = ListenerOption.LEV_OPT_DEFERRED_ACCEPT
LEV_OPT_REUSEABLE_PORT = ListenerOption.LEV_OPT_REUSEABLE_PORT
LEV_OPT_BIND_IPV6ONLY = ListenerOption.LEV_OPT_BIND_IPV6ONLY
LEV_OPT_BIND_IPV4_AND_IPV6 = ListenerOption.LEV_OPT_BIND_IPV4_AND_IPV6

EVBUFFER_EOL_ANY = EolStyle.EVBUFFER_EOL_ANY
EVBUFFER_EOL_CRLF = EolStyle.EVBUFFER_EOL_CRLF
EVBUFFER_EOL_CRLF_STRICT = EolStyle.EVBUFFER_EOL_CRLF_STRICT
EVBUFFER_EOL_LF = EolStyle.EVBUFFER_EOL_LF
EVBUFFER_EOL_NUL = EolStyle.EVBUFFER_EOL_NUL

EVBUFFER_PTR_SET = PtrHow.EVBUFFER_PTR_SET
EVBUFFER_PTR_ADD = PtrHow.EVBUFFER_PTR_ADD

EVBUFFER_FLAG_DRAINS_TO_FD = BufferFlag.EVBUFFER_FLAG_DRAINS_TO_FD
EVBUFFER_CB_ENABLED = BufferCallbackFlag.EVBUFFER_CB_ENABLED

EVBUF_FS_CLOSE_ON_FREE = FileSegmentFlag.EVBUF_FS_CLOSE_ON_FREE
EVBUF_FS_DISABLE_MMAP = FileSegmentFlag.EVBUF_FS_DISABLE_MMAP
EVBUF_FS_DISABLE_SENDFILE = FileSegmentFlag.EVBUF_FS_DISABLE_SENDFILE
EVBUF_FS_DISABLE_LOCKING = FileSegmentFlag.EVBUF_FS_DISABLE_LOCKING
