//! `rasaudit inventory draft`: a first inventory from captures.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::args::DraftArguments;
use super::complain;
use super::exit::Exit;
use super::policy::{complain_all, load_matrix};
use super::work::{stop_on_interrupt, tell, with_bar};
use crate::pipeline::{Drafted, Folders, Plan, Progress, Request};

pub(super) fn run(arguments: &DraftArguments) -> io::Result<Exit> {
    let matrix = load_matrix(&arguments.matrix).map_err(|problems| complain_all(&problems));
    let request = Request {
        captures: arguments.captures.clone(),
        jobs: arguments.jobs.map(usize::from),
        max_memory: arguments.max_memory,
        ..Request::default()
    };
    let plan = Plan::new(request).map_err(|wrong| wrong.iter().for_each(|w| complain(w)));
    let (Ok(matrix), Ok(plan)) = (matrix, plan) else { return Ok(Exit::CannotDo) };
    // What somebody has corrected by hand must not be lost to a second draft.
    if let Some(path) = arguments.out.as_deref().filter(|path| path.exists()) {
        complain(&format!("{}: exists already", path.display()));
        return Ok(Exit::CannotDo);
    }
    let progress = Arc::new(Progress::default());
    stop_on_interrupt(Arc::clone(&progress), Arc::new(Mutex::new(Some(Folders::default()))));
    let drafted =
        with_bar(&plan, &progress, !arguments.quiet, || Drafted::of(&plan, &matrix, &progress));
    let drafted = match drafted {
        Ok(drafted) => drafted,
        Err(failure) => return Ok(tell(failure)),
    };
    for problem in &drafted.damaged {
        complain(problem);
    }
    if drafted.is_empty() {
        complain(
            "no host inside was seen: the draft is empty (rasaudit audit tells what the capture holds)",
        );
    }
    let mut text = Vec::new();
    drafted.write(&matrix, &mut text)?;
    match &arguments.out {
        Some(path) => {
            if let Err(error) = write_new(path, &text) {
                complain(&format!("{}: {error}", path.display()));
                return Ok(Exit::CannotDo);
            }
        }
        None => io::stdout().write_all(&text)?,
    }
    Ok(if drafted.damaged.is_empty() { Exit::Compliant } else { Exit::Partial })
}

/// Writes a file that must not exist yet, whole or not at all.
fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text).inspect_err(|_| drop(std::fs::remove_file(path)))
}
