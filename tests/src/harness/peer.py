# A plain program with TCP connections: it does what it is told, one JSON object a line, and answers each with another.
# It knows nothing of tcpops. An OSError is answered as {"error": "ECONNRESET"}.
import ctypes, errno, json, os, resource, select, socket, struct, subprocess, sys, threading, time

socks = {}
next_name = 0
# Enough for anything that should happen at once, seconds.
SOON = 10 * int(os.environ.get("TCPOPS_TEST_PATIENCE", "1"))


def describe(name):
    s = socks[name]
    told = {"name": name, "fd": s.fileno()}
    for option, number in ("cookie", 57), ("netns_cookie", 71):
        told[option] = struct.unpack("Q", s.getsockopt(socket.SOL_SOCKET, number, 8))[0]
    told["local"] = s.getsockname()[:2]
    try:
        told["remote"] = s.getpeername()[:2]
    except OSError:
        pass
    return told


def keep(s):
    global next_name
    next_name += 1
    socks[next_name] = s
    return describe(next_name)


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def listen(host, port=0, dual=False, protocol=0, options=(), backlog=64, serve=False):
    s = socket.socket(family(host), socket.SOCK_STREAM, protocol)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if s.family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
    for level, option, value in options:
        s.setsockopt(level, option, value)
    s.bind((host, port))
    s.listen(backlog)
    if serve:
        threading.Thread(target=accept_all, args=(s,), daemon=True).start()
    return keep(s)


def accept_all(listener):
    # Accepts whatever comes and keeps it for as long as it lives.
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    poll, accepted = select.epoll(), {}
    poll.register(listener.fileno(), select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                s = listener.accept()[0]
                accepted[s.fileno()] = s
                poll.register(s.fileno(), select.EPOLLRDHUP)
            else:
                accepted.pop(fd).close()


def connect(host, port, bind=None, bind_port=0, wait=True, protocol=0, options=(), data=None):
    s = socket.socket(family(host), socket.SOCK_STREAM, protocol)
    for level, option, value in options:
        s.setsockopt(level, option, value)
    if bind:
        s.bind((bind, bind_port))
    if data is not None:
        s.sendto(data.encode(), socket.MSG_FASTOPEN, (host, port))
    elif wait:
        s.settimeout(SOON)
        s.connect((host, port))
    else:
        s.setblocking(False)
        code = s.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    return keep(s)


def accept(name):
    socks[name].settimeout(SOON)
    return keep(socks[name].accept()[0])


def connected(name, timeout=SOON):
    # Waits for the end of a connect() that was not waited for.
    s = socks[name]
    if not select.select([], [s], [], timeout)[1]:
        raise OSError(errno.ETIMEDOUT, "")
    code = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    return describe(name)


def reconnect(name, host, port):
    # connect(2) to AF_UNSPEC dissolves the association; Python's own connect() cannot say that.
    s = socks[name]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(s.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16) != 0:
        raise OSError(ctypes.get_errno(), "")
    if host is not None:
        s.settimeout(SOON)
        s.connect((host, port))
    return describe(name)


def send(name, text):
    socks[name].settimeout(SOON)
    socks[name].sendall(text.encode())
    return {}


def receive(name, timeout=SOON):
    socks[name].settimeout(timeout)
    try:
        return {"text": socks[name].recv(65536).decode()}
    except socket.timeout:
        raise OSError(errno.ETIMEDOUT, "")


def shutdown(name):
    socks[name].shutdown(socket.SHUT_WR)
    return {}


def close(name):
    socks.pop(name).close()
    return {}


def reset(name):
    socks[name].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return close(name)


def churn(host, count):
    # Connects to itself, says a byte, and closes, many times; in turn this end and the other begins.
    listener = socket.socket(family(host))
    listener.bind((host, 0))
    listener.listen(64)
    to = listener.getsockname()[:2]
    for number in range(count):
        near = socket.create_connection(to)
        far = listener.accept()[0]
        near.sendall(b"x")
        far.recv(1)
        for s in (near, far) if number % 2 else (far, near):
            s.close()
    listener.close()
    return {}


def setsockopt(name, level, option, value):
    socks[name].setsockopt(level, option, value)
    return {}


def set_long(name, level, option, text, length):
    s = socks[name]
    s.setsockopt(level, option, text.encode().ljust(length, b"\0"))
    return {"text": s.getsockopt(level, option, 16).rstrip(b"\0").decode()}


def boot():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def crowd(host, port, count, over=0, bound=0):
    # Connects many times, evenly spread over so many seconds; tells between which two moments each was established. So
    # many, one in two, bind a port of their own below those that the kernel hands out.
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    many, when, begin = [], [], boot()
    for i in range(count):
        s = socket.socket(family(host), socket.SOCK_STREAM)
        if i % 2 == 0 and i < 2 * bound:
            # A number: a port that bind(2) may choose is given back when the descriptor is disconnected.
            s.bind(("127.0.0.1", 10000 + i))
        time.sleep(max(0, begin + over * 10**9 * i // count - boot()) / 1e9)
        before = boot()
        s.connect((host, port))
        when.append([before, boot()])
        many.append(s)
    global next_name
    next_name += 1
    socks[next_name] = many
    return {"name": next_name, "established": when}


def disperse(name):
    # Closes all of a crowd with resets, which leave no TIME_WAIT behind.
    for s in socks.pop(name):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    return {}


def ends(name, timeout):
    # Waits until all of a crowd have ended, or so many seconds: when each was seen to, and with which error.
    many = {s.fileno(): s for s in socks[name]}
    poll, ended, until = select.epoll(len(many)), {}, boot() + timeout * 10**9
    for fd in many:
        poll.register(fd, select.EPOLLRDHUP)
    while len(ended) < len(many) and boot() < until:
        ready = poll.poll(max(0, until - boot()) / 1e9)
        now = boot()
        for fd, _ in ready:
            error = many[fd].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            ended[fd] = [now, errno.errorcode.get(error, "")]
            poll.unregister(fd)
    return {"ends": [ended.get(fd) for fd in many]}


def dodge(name, host, port, at, settle, bind=False):
    # From a moment on, disconnects each of a crowd and connects it again, to the same place, and where that is asked for from
    # the port that it had; and later tells how many have the same endpoints, and which of the new connections do not live.
    libc = ctypes.CDLL(None)
    nowhere = struct.pack("=H14x", socket.AF_UNSPEC)
    before = [s.getsockname() for s in socks[name]]
    time.sleep(max(0, at - boot()) / 1e9)
    for s, was in zip(socks[name], before):
        libc.connect(s.fileno(), nowhere, 16)
        if bind:
            s.bind(was)
        s.connect((host, port))
    took = boot() - at
    same = sum(s.getsockname() == was for s, was in zip(socks[name], before))
    time.sleep(settle)
    # The state is the first byte of struct tcp_info, and ESTABLISHED is 1.
    states = [s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) for s in socks[name]]
    return {"hit": [i for i, state in enumerate(states) if state != b"\x01"], "same": same, "took_ns": took}


def dial(path):
    # Connects to a unix socket; what is asked next is asked on it.
    socks["dialled"] = s = socket.socket(socket.AF_UNIX)
    s.settimeout(2 * SOON)
    s.connect(path)
    return {}


def ask(text):
    # Sends text on the unix socket, and answers with all that comes back.
    s = socks.pop("dialled")
    s.sendall(text.encode())
    answer = b""
    while chunk := s.recv(65536):
        answer += chunk
    return {"text": answer.decode()}


def request(path, text):
    # Makes a request of a unix socket, in this process's name.
    dial(path)
    return ask(text)


def dial_by_child(path, arguments):
    # A child connects to a unix socket and becomes another program, which has none of this one's descriptors. What is asked
    # next is asked here, in its name.
    socks["dialled"] = s = socket.socket(socket.AF_UNIX)
    s.settimeout(2 * SOON)
    (done, sign), (stdin, keep_open) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            s.connect(path)
            os.dup2(stdin, 0)
            os.execv(arguments[0], arguments)
        finally:
            os.write(sign, b"failed")
            os._exit(1)
    os.close(sign)
    os.close(stdin)
    if os.read(done, 10):
        raise OSError(errno.ENOEXEC, "")
    os.close(done)
    socks["child"] = keep_open
    return {"pid": pid}


def become(uid):
    # Gives up what root may do, and stays the same program.
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    return {}


def dumpable(value):
    # PR_SET_DUMPABLE of prctl(2).
    if ctypes.CDLL(None).prctl(4, value) != 0:
        raise OSError(errno.EINVAL, "")
    return {}


def hold(path, count):
    # Connects to a unix socket many times and says nothing; as many as the other side takes.
    held = []
    for _ in range(count):
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        held.append(s)
        if s.connect_ex(path) != 0:
            break
    socks["held"] = held
    return {"count": len(held)}


def flood(path, seconds):
    # Connects to a unix socket and goes away, as often as it can for so many seconds.
    count, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            count += 1
        except OSError:
            pass
        s.close()
    return {"count": count}


def leave(path, text, count):
    # Sends text to a unix socket, many times at once, and reads no answer; tells how each begins, once all have begun.
    text, left, begun, poll = text.encode(), {}, [], select.epoll()
    for _ in range(count):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.setblocking(False)
        left[s.fileno()] = [s, text]
        poll.register(s, select.EPOLLIN | select.EPOLLOUT)
        socks.setdefault("left", []).append(s)
    until = time.monotonic() + 3 * SOON
    while left and time.monotonic() < until:
        for fd, events in poll.poll(1):
            s, unsent = left[fd]
            if events & select.EPOLLIN:
                begun.append(s.recv(12, socket.MSG_PEEK).decode()[9:])
                poll.unregister(s)
                left.pop(fd)
                continue
            try:
                left[fd][1] = unsent[s.send(unsent):]
            except OSError:
                left[fd][1] = b""
            if not left[fd][1]:
                poll.modify(s, select.EPOLLIN)
    return {"begun": begun, "silent": len(left)}


def hold_streams(path, count):
    # Asks a unix socket for events many times, and reads no more than the first of each answer.
    held = []
    for _ in range(count):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(path)
        s.sendall(b"GET /v1/events HTTP/1.1\r\nhost: tcpops\r\n\r\n")
        s.recv(1)
        held.append(s)
    socks["streams"] = held
    return {}


def drop_streams():
    for s in socks.pop("streams"):
        s.close()
    return {}


def run(arguments, names=()):
    # Runs a program that inherits the descriptors of some sockets.
    fds = [socks[name].fileno() for name in names]
    done = subprocess.run(arguments, pass_fds=fds, capture_output=True, text=True, timeout=3 * SOON)
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


print("{}", flush=True)
for line in sys.stdin:
    arguments = json.loads(line)
    try:
        answer = globals()[arguments.pop("do")](**arguments)
    except socket.timeout:
        answer = {"error": "ETIMEDOUT"}
    except OSError as e:
        answer = {"error": errno.errorcode.get(e.errno, str(e))}
    print(json.dumps(answer), flush=True)
