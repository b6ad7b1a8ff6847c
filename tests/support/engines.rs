//! Locates Spark, DuckDB and pyarrow, which `make need-engines` installs for the tests of stores.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the folder of the Python environment that contains the engines.
fn folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let own = || Some(cache()?.join("rasaudit-ci/engines"));
    variable("RASAUDIT_ENGINES").or_else(own).unwrap_or_default()
}

/// Returns whether the engines are installed.
pub fn are_installed() -> bool {
    folder().join("installed.txt").is_file()
}

/// The engines, with a folder for the files that Spark writes.
pub struct Engines {
    scratch: tempfile::TempDir,
}

impl Engines {
    /// Prepares the engines. Panics if they are not installed.
    pub fn new() -> Self {
        assert!(are_installed(), "there is no {}; run make need-engines", folder().display());
        let scratch = tempfile::tempdir().expect("a scratch folder");
        // A local Spark cluster writes into `SPARK_HOME`. A folder of links to the installation
        // keeps these files in the scratch folder.
        let spark = scratch.path().join("spark");
        fs::create_dir(&spark).expect("a folder");
        let libraries = fs::read_dir(folder().join("lib")).expect("the Python environment");
        let installed = libraries
            .map(|entry| entry.expect("an entry").path().join("site-packages/pyspark"))
            .find(|path| path.is_dir())
            .expect("Spark");
        for entry in fs::read_dir(installed).expect("Spark") {
            let entry = entry.expect("an entry");
            let link = spark.join(entry.file_name());
            std::os::unix::fs::symlink(entry.path(), link).expect("a link");
        }
        Self { scratch }
    }

    /// Lets a command find the engines.
    pub fn provide(&self, command: &mut Command, path: &str) {
        let bin = folder().join("bin");
        let at = |name: &str| self.scratch.path().join(name);
        command
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("SPARK_HOME", at("spark"))
            .env("SPARK_LOCAL_DIRS", at("local"))
            .env("SPARK_LOCAL_IP", "127.0.0.1")
            .env("PYSPARK_PYTHON", bin.join("python3"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
    }

    /// Returns a command that finds the engines.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(folder().join("bin").join(program));
        self.provide(&mut command, &std::env::var("PATH").unwrap_or_default());
        command
    }

    /// Returns a command that submits a job with these options to Spark, which copies the file
    /// `program` to its workers.
    pub fn submit(&self, job: &Path, program: &Path, options: &[&str]) -> Command {
        let mut command = self.command("spark-submit");
        command.arg("--files").arg(program).args(["--conf", "spark.ui.enabled=false"]);
        command.args(options).arg(job);
        command
    }
}
