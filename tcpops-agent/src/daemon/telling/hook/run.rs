//! One run of the hook's program.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncBufReadExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy, sink};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::config::HookConfig;

/// How much of what a program says on each stream is logged, bytes; the rest is read and forgotten.
const MAX_SAID: u64 = 16 * 1024;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With exit code 0.
    Done,
    /// With another, or it could not be started.
    Failed,
    /// It took too long.
    Killed,
}

/// Where programs are looked for by name.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the program with `line` on its standard input. Dropping the future kills it. Of the agent's environment it gets
/// nothing, and of its descriptors none: these are all closed when a program is executed.
pub(crate) async fn run(config: Arc<HookConfig>, socket: Arc<Path>, line: Vec<u8>) -> Ended {
    let program = config.program.display();
    let mut command = Command::new(&config.program);
    // A group of its own: what it starts is killed with it.
    command.args(&config.args).current_dir("/").process_group(0).kill_on_drop(true);
    command.env_clear().env("PATH", PATH).env("TCPOPS_SOCKET", &*socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = match command.spawn() {
        Ok(child) => Group(child),
        Err(error) => {
            tracing::error!(target: "tcpops::hook", %program, %error, "cannot run the hook");
            return Ended::Failed;
        }
    };
    match timeout(config.timeout, talk(&mut group.0, &line)).await {
        Ok(Ok(status)) if status.success() => Ended::Done,
        Ok(Ok(status)) => {
            tracing::warn!(target: "tcpops::hook", %program, %status, "the hook failed");
            Ended::Failed
        }
        Ok(Err(error)) => {
            tracing::error!(target: "tcpops::hook", %program, %error, "cannot wait for the hook");
            Ended::Failed
        }
        Err(_elapsed) => {
            let seconds = config.timeout.as_secs_f64();
            tracing::warn!(target: "tcpops::hook", %program, seconds, "the hook took too long and is killed");
            Ended::Killed
        }
    }
}

/// Hands the event over, logs what the program says, and waits for its end: that of its output first, since its number
/// is its own for as long as nobody has waited for it.
async fn talk(child: &mut Child, line: &[u8]) -> std::io::Result<std::process::ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let hand_over = async {
        if let Some(mut stdin) = stdin {
            // It need not read it.
            let _unread = stdin.write_all(line).await;
        }
    };
    tokio::join!(hand_over, log("stdout", stdout), log("stderr", stderr));
    child.wait().await
}

async fn log(stream: &'static str, output: Option<impl AsyncRead + Unpin>) {
    let Some(output) = output else { return };
    let mut said = BufReader::new(output.take(MAX_SAID));
    let mut line = Vec::new();
    // An error ends it as its end does.
    while said.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        tracing::info!(target: "tcpops::hook", stream, "{text}");
        line.clear();
    }
    let _rest = copy(&mut said.into_inner().into_inner(), &mut sink()).await;
}

/// A program that nobody has waited for is killed with this, and with it whatever it started.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            let _ended = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::model::history::record::Kinds;

    fn config(script: &str, timeout: Duration) -> Arc<HookConfig> {
        Arc::new(HookConfig {
            program: PathBuf::from("/bin/sh"),
            args: vec!["-c".to_owned(), script.to_owned()],
            kinds: Kinds::ALL,
            max_running: 1,
            timeout,
        })
    }

    fn socket() -> Arc<Path> {
        Arc::from(Path::new("/run/s"))
    }

    async fn ends(script: &str) -> Ended {
        run(config(script, Duration::from_secs(20)), socket(), b"{\"seq\":1}\n".to_vec()).await
    }

    #[tokio::test]
    async fn it_reads_the_event_or_not_and_says_how_it_went() {
        assert_eq!(ends("read line; test \"$line\" = '{\"seq\":1}'").await, Ended::Done);
        assert_eq!(ends("exit 3").await, Ended::Failed);
        assert_eq!(ends("kill -9 $$").await, Ended::Failed);
        assert_eq!(ends("exec <&-; true").await, Ended::Done);
        // More than is logged, and more than a pipe holds.
        assert_eq!(ends("dd if=/dev/zero bs=1000 count=200 2>/dev/null").await, Ended::Done);
        let nowhere = HookConfig {
            program: PathBuf::from("/nonexistent"),
            ..HookConfig::clone(&config("", Duration::from_secs(1)))
        };
        assert_eq!(run(Arc::new(nowhere), socket(), Vec::new()).await, Ended::Failed);
    }

    #[tokio::test]
    async fn it_is_killed_with_all_that_it_started() {
        let directory = std::env::temp_dir().join(format!("tcpops-hook-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let pids = directory.join("pids");
        let script = format!("sleep 1000 & echo $! $$ >{}; wait", pids.display());
        assert_eq!(run(config(&script, Duration::from_millis(300)), socket(), Vec::new()).await, Ended::Killed);
        let said = std::fs::read_to_string(&pids).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let alive = |pid: &str| {
            let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        for pid in said.split_whitespace() {
            for _ in 0..400 {
                if !alive(pid) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(!alive(pid), "{pid} of {said} lives");
        }
    }
}
