# A plain program with TCP connections: it does what it is told, one JSON object a line, and answers each with another.
# It knows nothing of tcpops. An OSError is answered as {"error": "ECONNRESET"}.
import ctypes, errno, json, os, select, socket, struct, subprocess, sys

socks = {}
next_name = 0


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


def listen(host, port=0, dual=False, protocol=0, options=()):
    s = socket.socket(family(host), socket.SOCK_STREAM, protocol)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if s.family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
    for level, option, value in options:
        s.setsockopt(level, option, value)
    s.bind((host, port))
    s.listen(64)
    return keep(s)


def connect(host, port, bind=None, wait=True, protocol=0, options=(), data=None):
    s = socket.socket(family(host), socket.SOCK_STREAM, protocol)
    for level, option, value in options:
        s.setsockopt(level, option, value)
    if bind:
        s.bind((bind, 0))
    if data is not None:
        s.sendto(data.encode(), socket.MSG_FASTOPEN, (host, port))
    elif wait:
        s.settimeout(10)
        s.connect((host, port))
    else:
        s.setblocking(False)
        code = s.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    return keep(s)


def accept(name):
    socks[name].settimeout(10)
    return keep(socks[name].accept()[0])


def connected(name, timeout=10):
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
        s.settimeout(10)
        s.connect((host, port))
    return describe(name)


def send(name, text):
    socks[name].settimeout(10)
    socks[name].sendall(text.encode())
    return {}


def receive(name, timeout=10):
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


def setsockopt(name, level, option, value):
    socks[name].setsockopt(level, option, value)
    return {}


def request(path, text):
    # Sends text to a unix socket, in this process's name, and answers with all that comes back.
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(path)
    s.sendall(text.encode())
    answer = b""
    while chunk := s.recv(65536):
        answer += chunk
    return {"text": answer.decode()}


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


def run(arguments, names=()):
    # Runs a program that inherits the descriptors of some sockets.
    fds = [socks[name].fileno() for name in names]
    done = subprocess.run(arguments, pass_fds=fds, capture_output=True, text=True, timeout=30)
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
