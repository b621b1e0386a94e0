//! A controller with an empty registry, and `weir ctl` against it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use controller::{Controller, Settings, Store};
use ctl::Output;
use registry::RedbSettings;
use tempfile::TempDir;

/// For whatever waits: machines are slow and busy.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// As the program embeds it.
#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    ctl: ctl::Arguments,
}

/// A controller that leads, and the folder of the test.
pub(crate) struct Bench {
    folder: TempDir,
    settings: Settings,
    controller: Controller,
}

/// An output that can be looked at while it is written.
#[derive(Clone, Default)]
pub(crate) struct Screen(Arc<Mutex<Vec<u8>>>);

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: u8,
    pub(crate) out: String,
    /// Notes, and the failure's message.
    pub(crate) errors: String,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("registry.redb");
        let store = Store::Embedded(RedbSettings { path, timeout: BOUND });
        let mut settings = Settings::new("ctl-test", store);
        settings.listen.set_port(0);
        settings.http.set_port(0);
        change(&mut settings);
        let controller = start(&settings).await;
        // A restart is found where this one was.
        settings.listen = controller.grpc_address();
        Self { folder, settings, controller }
    }

    /// Stops the controller, and starts another over the same registry at the same address.
    pub(crate) async fn restart(self) -> Self {
        let Self { folder, settings, controller } = self;
        controller.stop().await.unwrap();
        let controller = start(&settings).await;
        Self { folder, settings, controller }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.controller.grpc_address())
    }

    /// Runs a command; words are parted by blanks.
    pub(crate) async fn run(&self, line: &str) -> Done {
        run_at(&self.endpoint(), line).await
    }

    /// A command that must succeed: its output.
    pub(crate) async fn ok(&self, line: &str) -> String {
        let done = self.run(line).await;
        assert_eq!(done.code, 0, "{line}: {done:?}");
        done.out
    }

    /// With `--json`, one value.
    pub(crate) async fn json(&self, line: &str) -> serde_json::Value {
        let text = self.ok(&format!("{line} --json")).await;
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// A command that must fail with 1: its message.
    pub(crate) async fn fails(&self, line: &str) -> String {
        let done = self.run(line).await;
        assert_eq!(done.code, 1, "{line}: {done:?}");
        done.errors
    }

    /// The version of a pool's snapshot, once it has one.
    pub(crate) async fn version_of(&self, pool: &str) -> u64 {
        loop {
            let pool = self.json(&format!("pool show {pool}")).await;
            // 64 bits are text in JSON.
            match pool["version"].as_str().and_then(|version| version.parse().ok()) {
                Some(0) | None => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(version) => return version,
            }
        }
    }

    pub(crate) async fn stop(self) {
        self.controller.stop().await.unwrap();
    }
}

/// Runs a command against any endpoint.
pub(crate) async fn run_at(endpoint: &str, line: &str) -> Done {
    let (out, notes) = (Screen::default(), Screen::default());
    run_on(endpoint, line, &out, &notes).await
}

/// [`run_at`], with streams that somebody looks at.
pub(crate) async fn run_on(endpoint: &str, line: &str, out: &Screen, notes: &Screen) -> Done {
    let words = ["ctl", "--endpoint", endpoint].into_iter().chain(line.split_whitespace());
    let arguments = match Program::try_parse_from(words) {
        Ok(program) => program.ctl,
        Err(error) => panic!("{line}: {error}"),
    };
    let (mut first, mut second) = (out.clone(), notes.clone());
    let result = ctl::execute(&arguments, &mut Output::new(&mut first, &mut second)).await;
    let mut errors = notes.text();
    let code = match &result {
        Ok(()) => 0,
        Err(failure) => {
            errors.push_str(failure.message().unwrap_or_default());
            failure.exit_code()
        }
    };
    Done { code, out: out.text(), errors }
}

async fn start(settings: &Settings) -> Controller {
    let controller = Controller::start(settings.clone()).await.unwrap();
    tokio::time::timeout(BOUND, controller.leads()).await.expect("nobody leads");
    controller
}

impl Screen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Until it shows something.
    pub(crate) async fn something(&self) {
        let shown = async {
            while self.text().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(BOUND, shown).await.expect("nothing is shown");
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.display().to_string()
}
