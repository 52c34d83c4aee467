//! What is logged, kept for the test.

use std::sync::{Arc, Mutex, OnceLock};

use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Collects lines. Clones are the same log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// All lines so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Keeps what is said from here on; by this thread, which is all that a world runs on.
pub(crate) fn listen() -> (Log, DefaultGuard) {
    be_heard();
    let log = Log::default();
    let lines = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    (log, tracing::subscriber::set_default(lines))
}

/// Makes sure that a listener of one thread hears every line of it.
///
/// Whether a listener wants a line is found out once, by the thread that reaches it first. While there is one
/// listener in the process, that thread is asked alone: where it has none, no listener would ever get the line. With
/// a second one, which is never read, all of them are asked.
pub(crate) fn be_heard() {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| {
        let nowhere = tracing_subscriber::fmt().with_writer(std::io::sink);
        Dispatch::new(nowhere.finish())
    });
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
