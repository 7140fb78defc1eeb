//! Runs the `iter/tcp` program over every socket of a network namespace.

use std::fs::File;
use std::path::Path;

use aya::Ebpf;
use aya::programs::Iter;
use parking_lot::Mutex;

use crate::kernel::bpf::run_to_end;
use crate::kernel::destroy::Destroyer;
use crate::kernel::error::{KernelError, Result};
use crate::kernel::follow;
use crate::kernel::netns::Namespace;
use crate::kernel::object::{ITER, program};
use crate::kernel::reconnects::Reconnects;
use crate::kernel::requirements;

/// The walks over a namespace where no socket may be missed and nothing shows afterwards that one was, on a kernel whose
/// walks can miss some.
const WALKS: u32 = 2;

pub(crate) struct Walker {
    ebpf: Mutex<Ebpf>,
    destroyer: Option<Destroyer>,
    reconnects: Reconnects,
    /// The walks after which every socket that was there throughout has been met.
    walks: u32,
}

impl Walker {
    pub(crate) fn new(ebpf: Ebpf, destroyer: Option<Destroyer>, reconnects: Reconnects) -> Self {
        let walks = if requirements::walks_are_exact() { 1 } else { WALKS };
        Self { ebpf: Mutex::new(ebpf), destroyer, reconnects, walks }
    }

    /// `None` where the kernel cannot destroy sockets on a walk (before 6.5).
    pub(crate) fn destroyer(&self) -> Option<&Destroyer> {
        self.destroyer.as_ref()
    }

    /// The programs that connect descriptors again.
    pub(crate) fn reconnects(&self) -> &Reconnects {
        &self.reconnects
    }

    /// Walks so often that a socket that one walk missed is met by another.
    pub(crate) fn walk_all(&self, namespace: &Namespace) -> Result<()> {
        (0..self.walks).try_for_each(|_| self.walk(namespace))
    }

    /// Runs the program for each socket of `namespace`, to the end. Blocks: 2 to 4 ms and about a microsecond a socket.
    ///
    /// Before Linux 6.17 a walk can miss a socket while others come and go; the caller checks afterwards, and walks again.
    pub(crate) fn walk(&self, namespace: &Namespace) -> Result<()> {
        run_to_end(namespace.run(|| self.iteration())??)
            .map_err(KernelError::syscall("read", "the walk over the sockets"))
    }

    /// Attaches the programs at the tracepoint, and pins their links in `directory`.
    ///
    /// # Errors
    /// The kernel did not take them when they were loaded.
    pub(crate) fn follow(&self, directory: &Path) -> Result<()> {
        follow::attach(&mut self.ebpf.lock(), directory)
    }

    /// The descriptor of a walk over the namespace of the calling thread, which runs as it is read.
    fn iteration(&self) -> Result<File> {
        let mut ebpf = self.ebpf.lock();
        let program: &mut Iter = program(&mut ebpf, ITER)?;
        let id = program.attach().map_err(KernelError::load)?;
        let link = program.take_link(id).map_err(KernelError::load)?;
        link.into_file().map_err(KernelError::load)
    }
}
