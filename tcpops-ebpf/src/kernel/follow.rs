//! The context of the programs at the tracepoint `inet_sock_set_state`, and whether they are there.

use aya_ebpf::Global;
use aya_ebpf::programs::BtfTracePointContext;

use crate::kernel::socket::Socket;

/// 1 where the programs at the tracepoint follow the sockets that a walk adopts, 0 where state callbacks do. Set by the
/// agent.
#[unsafe(no_mangle)]
static FOLLOW_TRACEPOINT: Global<u32> = Global::new(0);

/// True if the programs at the tracepoint follow the sockets that a walk adopts.
pub(crate) fn by_tracepoint() -> bool {
    FOLLOW_TRACEPOINT.load() != 0
}

/// The full TCP socket that changes its state; the tracepoint is there for other protocols too. Its arguments are those
/// of the kernel's include/trace/events/sock.h.
pub(crate) fn socket(ctx: &BtfTracePointContext) -> Option<Socket> {
    Socket::from_common(ctx.arg(0))
}

/// The numbers of the old and the new state.
pub(crate) fn transition(ctx: &BtfTracePointContext) -> (u32, u32) {
    (ctx.arg(1), ctx.arg(2))
}
