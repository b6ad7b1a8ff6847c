//! Writes the manual pages, one for each command, into a folder.
//!
//! `cargo run --example man -- DIR`
//!
//! The pages are generated from the same definitions as `--help`. The generator is an example, so
//! that the program itself does not contain it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("usage: man DIR"));
    write_pages(&folder)
}

/// Writes all pages into a folder.
pub fn write_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = rasaudit::cli::CommandLine::command().disable_help_subcommand(true);
    command.build();
    let version = format!("rasaudit {}", command.get_version().unwrap_or_default());
    write_page(&command, &version, folder)
}

/// Writes the pages of a command and of the commands below it, except hidden ones.
fn write_page(command: &Command, version: &str, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_page(below, version, folder)?;
    }
    let man = Man::new(command.clone()).source(version).manual("rasaudit");
    let mut page = Vec::new();
    man.render(&mut page)?;
    fs::write(folder.join(man.get_filename()), with_lines(&String::from_utf8_lossy(&page)))
}

/// Renames the section EXTRA of a page to EXAMPLES and keeps its line breaks, which `man` would
/// otherwise remove.
fn with_lines(page: &str) -> String {
    let Some((before, examples)) = page.split_once(".SH EXTRA\n") else {
        return page.to_owned();
    };
    let (examples, after) = examples.split_once(".SH ").unwrap_or((examples, ""));
    let examples = format!("{before}.SH EXAMPLES\n.nf\n{}\n.fi\n", examples.trim_end());
    if after.is_empty() { examples } else { examples + ".SH " + after }
}
