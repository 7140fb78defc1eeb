//! The truth about socket options.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};

/// The options that tcpops sets, as `getsockopt` reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// `SO_KEEPALIVE`.
    pub(crate) keepalive: bool,
    /// `TCP_KEEPIDLE`, seconds.
    pub(crate) idle_s: u64,
    /// `TCP_KEEPCNT`.
    pub(crate) count: u32,
    /// `TCP_KEEPINTVL`, seconds.
    pub(crate) interval_s: u64,
    /// `TCP_USER_TIMEOUT`, milliseconds.
    pub(crate) user_timeout_ms: u32,
}

impl Options {
    /// What a socket has that nobody touched.
    pub(crate) const DEFAULT: Self =
        Self { keepalive: false, idle_s: 7200, count: 9, interval_s: 75, user_timeout_ms: 0 };

    /// Keepalive on.
    pub(crate) const fn on(idle_s: u64, count: u32, interval_s: u64, user_timeout_ms: u32) -> Self {
        Self { keepalive: true, idle_s, count, interval_s, user_timeout_ms }
    }

    /// As the socket contract writes them.
    pub(crate) fn json(&self) -> Value {
        json!({
            "keepalive": self.keepalive,
            "idle_seconds": self.idle_s,
            "count": self.count,
            "interval_seconds": self.interval_s,
            "user_timeout_ms": self.user_timeout_ms,
        })
    }
}

/// A copy of descriptor `fd` of another process.
pub(crate) fn copy_of(pid: Pid, fd: i32) -> OwnedFd {
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("the process lives");
    pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).unwrap_or_else(|error| panic!("descriptor {fd}: {error}"))
}

/// The options of descriptor `fd` of another process.
pub(crate) fn options_of(pid: Pid, fd: i32) -> Options {
    options(copy_of(pid, fd))
}

/// The options of the socket with `cookie`, whichever descriptor of another process that is.
pub(crate) fn options_by_cookie(pid: Pid, cookie: u64) -> Options {
    let directory = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let names =
        fs::read_dir(directory).expect("the process lives").map(|entry| entry.expect("it can be read").file_name());
    let numbers = names.map(|name| name.to_str().and_then(|name| name.parse().ok()).expect("they are numbers"));
    let found = numbers.map(|fd| copy_of(pid, fd)).find(|fd| sockopt::socket_cookie(fd).ok() == Some(cookie));
    options(found.unwrap_or_else(|| panic!("process {pid:?} has no socket with cookie {cookie}")))
}

/// The options of a socket of this process.
pub(crate) fn options(socket: impl AsFd) -> Options {
    let socket = socket.as_fd();
    Options {
        keepalive: sockopt::socket_keepalive(socket).expect("TCP has SO_KEEPALIVE"),
        idle_s: sockopt::tcp_keepidle(socket).expect("TCP has TCP_KEEPIDLE").as_secs(),
        count: sockopt::tcp_keepcnt(socket).expect("TCP has TCP_KEEPCNT"),
        interval_s: sockopt::tcp_keepintvl(socket).expect("TCP has TCP_KEEPINTVL").as_secs(),
        user_timeout_ms: sockopt::tcp_user_timeout(socket).expect("TCP has TCP_USER_TIMEOUT"),
    }
}
