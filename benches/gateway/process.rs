//! A server in a process of its own, and what the kernel says of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};

/// Which processors a server may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// The first; the generator has the second.
    One,
    /// The first two, which it shares with the generator.
    Two,
}

/// A server under measurement. It ends when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where it listens for operators, if it does.
    pub(crate) admin: Option<SocketAddr>,
    /// What it logs, where that is not read.
    unread: Option<ChildStderr>,
}

impl Server {
    /// Starts a server and waits until it says where it listens.
    pub(crate) fn start(command: &Command, cores: Cores) -> Self {
        let mut server = Self::start_unread(command, cores);
        // Or the server would wait for the pipe.
        if let Some(log) = server.unread.take() {
            thread::spawn(move || BufReader::new(log).lines().for_each(drop));
        }
        server
    }

    /// The same, and from then on what it logs is not read.
    pub(crate) fn start_unread(command: &Command, cores: Cores) -> Self {
        let mut child = pinned(command, cores)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut seen, mut line) = (String::new(), String::new());
        let (address, admin) = loop {
            let read = log.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the server did not start:\n{seen}");
            if let Some(address) = address_in(&line, "listen") {
                break (address, address_in(&line, "admin"));
            }
            seen.push_str(&line);
            line.clear();
        };
        Self {
            child,
            address,
            admin,
            unread: Some(log.into_inner()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads, as the scheduler counts it.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let of_task = |path: &Path| {
            // A thread that ends meanwhile takes its microseconds with it.
            let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            text.split(' ').next()?.parse::<u64>().ok()
        };
        let nanoseconds = tasks
            .filter_map(|task| of_task(&task.ok()?.path()))
            .sum::<u64>();
        Duration::from_nanos(nanoseconds)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes * 1024
    }

    /// Counts its system calls while `work` is done; `None` where `perf` may not.
    pub(crate) async fn system_calls<T>(&self, work: impl Future<Output = T>) -> (T, Option<u64>) {
        let count = ["stat", "-e", "raw_syscalls:sys_enter", "-x,"];
        let (done, said) = self.under_perf(&count, work).await;
        let count = said.and_then(|said| {
            said.lines()
                .find_map(|line| line.split(',').next()?.parse().ok())
        });
        (done, count)
    }

    /// What `perf` says after it has watched the server while `work` is done; `None` where there is none.
    pub(crate) async fn under_perf<T>(
        &self,
        arguments: &[&str],
        work: impl Future<Output = T>,
    ) -> (T, Option<String>) {
        let watching = Command::new("perf")
            .args(arguments)
            .args(["-p", &self.pid().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(watching) = watching else {
            return (work.await, None);
        };
        // It says nothing when it has attached; the calls of an idle server before are none.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let done = work.await;
        // As Ctrl-C, after which it prints.
        let _ = kill_process(Pid::from_child(&watching), Signal::INT);
        let said = watching.wait_with_output().unwrap().stderr;
        (done, Some(String::from_utf8_lossy(&said).into_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Leaves the first processor to the servers.
pub(crate) fn pin_this_process() {
    let set = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", "1"])
        .arg(std::process::id().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !set.is_ok_and(|status| status.success()) {
        println!("(no second processor, or no taskset: generator and servers share)");
    }
}

fn pinned(command: &Command, cores: Cores) -> Command {
    let mut pinned = Command::new("taskset");
    let list = match cores {
        Cores::One => "0",
        Cores::Two => "0,1",
    };
    let can_pin = Command::new("taskset")
        .args(["--cpu-list", list, "true"])
        .status()
        .is_ok_and(|status| status.success());
    if can_pin {
        pinned.args(["--cpu-list", list]).arg(command.get_program());
    } else {
        pinned = Command::new(command.get_program());
    }
    pinned.args(command.get_args());
    pinned
}

/// An address in the line with which a server says that it listens.
fn address_in(line: &str, name: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
    rest.split_once('"')?.0.parse().ok()
}
