//! Network namespaces: finding one by its netns cookie, and running something in it.
//!
//! `iter/tcp` and sock_diag see the namespace in which the calling thread was when their descriptor was made. So a thread
//! started for it enters the namespace, makes the descriptor and ends; no other thread of the agent changes its namespace.

mod unreachable;

pub(crate) use unreachable::{Unreachable, Whereabouts};

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use clap::ValueEnum;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use self::unreachable::Failures;
use crate::kernel::descriptor::netns_cookie;
use crate::kernel::error::{EnterError, KernelError, Result};

/// A network namespace that can be entered.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    pub(crate) cookie: u64,
    /// `None` for the agent's own.
    handle: Option<Arc<File>>,
}

/// Which namespaces the agent may enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reach {
    /// Every namespace that it finds
    #[default]
    All,
    /// Only its own
    Host,
}

/// The network namespaces of this host.
#[derive(Debug)]
pub(crate) struct Namespaces {
    own: Namespace,
    reach: Reach,
    /// Where a namespace was found last, by netns cookie. Checked before use, since a process can end.
    places: Mutex<HashMap<u64, PathBuf>>,
    failures: Failures,
}

impl Namespace {
    /// Runs `action` in this namespace, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        let Some(handle) = &self.handle else { return Ok(action()) };
        in_namespace(handle, action).map_err(|source| KernelError::Namespace { cookie: self.cookie, source })
    }
}

impl Namespaces {
    pub(crate) fn new(reach: Reach) -> Result<Self> {
        let cookie = current_cookie().map_err(KernelError::OwnNamespace)?;
        let own = Namespace { cookie, handle: None };
        Ok(Self { own, reach, places: Mutex::default(), failures: Failures::default() })
    }

    /// Every namespace that may be entered; those that could not be are in [`Namespaces::unreachable`]. Blocks: it reads
    /// `/proc` of every process.
    pub(crate) fn all(&self) -> Vec<Namespace> {
        let mut found = vec![self.own.clone()];
        if self.reach == Reach::All {
            for place in candidates() {
                match open(&place) {
                    Ok(namespace) => found.push(namespace),
                    // A process that ended meanwhile is no failure.
                    Err(_) if !place.exists() => {}
                    Err(why) => self.failures.note(Whereabouts::Place(place), why),
                }
            }
        }
        found
    }

    /// The namespace with this cookie. Blocks: it may read `/proc` of every process.
    ///
    /// # Errors
    /// `Namespace` where it may not be entered, or neither a process nor a name leads to it.
    pub(crate) fn find(&self, cookie: u64) -> Result<Namespace> {
        let found = self.look_for(cookie);
        if let Err(why) = &found {
            self.failures.note(Whereabouts::Cookie(cookie), *why);
        }
        found.map_err(|source| KernelError::Namespace { cookie, source })
    }

    fn look_for(&self, cookie: u64) -> Result<Namespace, EnterError> {
        if cookie == self.own.cookie {
            return Ok(self.own.clone());
        }
        if self.reach == Reach::Host {
            return Err(EnterError::NotAllowed);
        }
        let mut places = self.places.lock();
        if let Some(place) = places.get(&cookie)
            && let Some(namespace) = open(place).ok().filter(|namespace| namespace.cookie == cookie)
        {
            return Ok(namespace);
        }
        places.clear();
        let mut found = None;
        for place in candidates() {
            let Ok(namespace) = open(&place) else { continue };
            places.insert(namespace.cookie, place);
            if namespace.cookie == cookie {
                found = Some(namespace);
            }
        }
        found.ok_or(EnterError::NotFound)
    }

    /// The namespaces that could not be entered and still cannot. Blocks if there are any: it reads `/proc` of every process.
    pub(crate) fn unreachable(&self) -> Vec<Unreachable> {
        self.failures.retry(|whereabouts| match whereabouts {
            Whereabouts::Cookie(cookie) => self.look_for(*cookie).map(drop),
            // The path that led there is gone, and the namespace with it.
            Whereabouts::Place(place) if !place.exists() => Ok(()),
            Whereabouts::Place(place) => open(place).map(drop),
        })
    }

    /// Reports the namespace with this cookie as unreachable no longer.
    pub(crate) fn forget(&self, cookie: u64) {
        self.failures.forget(&Whereabouts::Cookie(cookie));
    }
}

/// A path to each namespace but the agent's own: its name, or the link of a process in it.
fn candidates() -> Vec<PathBuf> {
    let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let processes =
        list("/proc").filter(|path| path.file_name().is_some_and(is_number)).map(|path| path.join("ns/net"));
    let named = list("/run/netns").chain(list("/run/docker/netns"));
    let mut by_inode: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for path in named.chain(processes) {
        if let Ok(identity) = identity(&path) {
            by_inode.entry(identity).or_insert(path);
        }
    }
    // The agent may lack the right to enter even its own.
    if let Ok(own) = identity(Path::new("/proc/self/ns/net")) {
        by_inode.remove(&own);
    }
    by_inode.into_values().collect()
}

fn is_number(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

fn list(directory: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().filter_map(std::result::Result::ok).map(|entry| entry.path())
}

fn open(place: &Path) -> Result<Namespace, EnterError> {
    let failed = |errno| EnterError::Syscall { call: "open", errno };
    let handle = File::from(rustix::fs::open(place, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?);
    let cookie = in_namespace(&handle, current_cookie)??;
    Ok(Namespace { cookie, handle: Some(Arc::new(handle)) })
}

fn in_namespace<T: Send>(handle: &File, action: impl FnOnce() -> T + Send) -> Result<T, EnterError> {
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(action())
        });
        match entered.join() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Errno::INVAL)) => Err(EnterError::NotNamespace),
            Ok(Err(errno)) => Err(EnterError::Syscall { call: "setns", errno }),
            Err(_panic) => Err(EnterError::Panicked),
        }
    })
}

/// The cookie of the calling thread's namespace.
fn current_cookie() -> Result<u64, EnterError> {
    let failed = |call| move |errno| EnterError::Syscall { call, errno };
    let socket =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed("socket"))?;
    netns_cookie(socket.as_fd()).map_err(failed("getsockopt(SO_NETNS_COOKIE)"))
}
