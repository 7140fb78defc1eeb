//! Running programs.

use std::fmt::Debug;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::wait_for;

/// Runs `command`, which must succeed, and returns what it printed.
pub(crate) fn stdout_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    succeeded(command, &output);
    text(&output.stdout)
}

/// Panics unless the program succeeded.
pub(crate) fn succeeded(what: &impl Debug, output: &Output) {
    assert!(
        output.status.success(),
        "{what:?}: {}\nstdout: {}\nstderr: {}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// Waits for the end of a program whose standard error is piped: its status, and what it said there.
pub(crate) fn ended(mut child: Child) -> (ExitStatus, String) {
    let mut stderr = child.stderr.take().expect("it is piped");
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        stderr.read_to_end(&mut said).map(|_| text(&said))
    });
    let status = Running(child).wait(Duration::from_secs(20));
    (status, reader.join().expect("reading does not panic").expect("a pipe can be read"))
}

/// Bytes that a program printed, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A child process that ends with this value.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Sends `signal`; to a process that has ended already, nothing.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ended = kill_process(self.pid(), signal);
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let what = format!("process {} ends", self.0.id());
        wait_for(&what, timeout, || self.0.try_wait().expect("a child that was not waited for can be"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What a program has printed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<String>>);

impl Log {
    /// Collects `stream` to its end, on a thread of its own.
    pub(crate) fn collect(&self, stream: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                log.0.lock().expect("nothing panics with it").push_str(&(text(&line) + "\n"));
            }
        });
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        self.0.lock().expect("nothing panics with it").clone()
    }
}
