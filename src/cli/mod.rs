//! Turns command-line arguments into a checked plan, and outcomes into exit codes.

mod args;
mod audit;
mod config;
mod diff;
mod draft;
mod exceptions;
mod exit;
mod explain;
#[cfg(feature = "live")]
mod live;
mod matrix;
mod policy;
mod policy_args;
mod report;
mod selection;
#[cfg(feature = "serve")]
mod serve;
mod show;
#[cfg(feature = "store")]
mod store;
#[cfg(feature = "store")]
mod stored_rows;
mod values;
mod work;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::CommandFactory;

use crate::result::ConfigurationFile;
use args::{Arguments, Command, InventoryCommand, MatrixCommand};
use config::{Parsed, Rejected};
use exit::Exit;
use values::color_among;

pub use args::Arguments as CommandLine;

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let (arguments, configuration) = match config::parse(std::env::args_os().collect()) {
        Ok(Parsed::Run(arguments, configuration)) => {
            arguments.color.write_global();
            (*arguments, configuration)
        }
        Ok(Parsed::Print(text)) => return print_only(&text),
        Err(Rejected::File(problems)) => {
            color_among(std::env::args_os()).write_global();
            policy::report_errors(&problems);
            return Exit::CannotDo.into();
        }
        Err(Rejected::Arguments(error, note)) => {
            color_among(std::env::args_os()).write_global();
            // `--help` and `--version` count as success. All other errors mean that the work could
            // not be done.
            let printed = error.print().and_then(|()| io::stdout().flush());
            if !error.use_stderr() {
                return printed_only(printed);
            }
            if let Some(note) = note {
                print_message(crate::model::escape_control(&note));
            }
            return Exit::CannotDo.into();
        }
    };
    // The end of the output may still be in the buffer. If it cannot be written, that is an error,
    // unless the command has reported one already, perhaps this one.
    let flushed = |exit| match unless_closed(io::stdout().flush()) {
        Err(_) if exit == Exit::CannotDo => Ok(exit),
        flushed => flushed.map(|()| exit),
    };
    match run(arguments, configuration).and_then(flushed) {
        Ok(exit) => exit.into(),
        // The program that reads the output may close it early, which is not an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Compliant.into(),
        Err(error) => {
            report_error(&format!("the output cannot be written: {error}"));
            Exit::CannotDo.into()
        }
    }
}

fn run(arguments: Arguments, configuration: Option<ConfigurationFile>) -> io::Result<Exit> {
    match arguments.command {
        Command::Audit(audit) => audit::run(&audit, configuration),
        Command::Report(report) => report::run(&report),
        Command::Show(show) => show::run(&show),
        Command::Diff(diff) => diff::run(&diff),
        #[cfg(feature = "live")]
        Command::Live(arguments) => live::run(&arguments, configuration),
        #[cfg(feature = "live")]
        Command::Interfaces => live::interfaces(),
        #[cfg(feature = "store")]
        Command::Collect(arguments) => store::run_collect(&arguments),
        #[cfg(feature = "store")]
        Command::Merge(arguments) => store::run_merge(&arguments),
        Command::Matrix(MatrixCommand::Show(show)) => matrix::show(&show),
        Command::Matrix(MatrixCommand::Check { name }) => matrix::check(&name),
        Command::Matrix(MatrixCommand::Diff(diff)) => matrix::diff(&diff),
        Command::Explain(explain) => explain::run(&explain),
        Command::Inventory(InventoryCommand::Draft(draft)) => draft::run(&draft),
        Command::Inventory(InventoryCommand::Check(check)) => policy::check_inventory(&check),
        Command::Inventory(InventoryCommand::Template) => {
            io::stdout().write_all(crate::policy::TEMPLATE.as_bytes())?;
            Ok(Exit::Compliant)
        }
        Command::Exceptions(command) => exceptions::run(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "rasaudit", &mut script);
            io::stdout().write_all(&script)?;
            Ok(Exit::Compliant)
        }
    }
}

/// Prints a text to standard output.
fn print_only(text: &str) -> ExitCode {
    let mut out = io::stdout();
    printed_only(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Returns the exit code of a command that only prints a text.
fn printed_only(printed: io::Result<()>) -> ExitCode {
    match unless_closed(printed) {
        Ok(()) => Exit::Compliant.into(),
        Err(error) => {
            report_error(&format!("the output cannot be written: {error}"));
            Exit::CannotDo.into()
        }
    }
}

/// Returns the result of printing. The program that reads the output may close it early, which is
/// not an error.
fn unless_closed(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Prints the result of a command whose exit code states what the result is. The program that reads
/// the output may close it early. The exit code is valid even then.
fn print_result(text: &[u8]) -> io::Result<()> {
    let mut out = anstream::stdout();
    unless_closed(out.write_all(text).and_then(|()| out.flush()))
}

/// Returns the width of the terminal that standard output goes to; `None` if it goes elsewhere.
fn terminal_width() -> Option<usize> {
    let (terminal_size::Width(width), _) = terminal_size::terminal_size()?;
    io::stdout().is_terminal().then_some(usize::from(width))
}

/// Prints a line to standard error. If it cannot be written, for example because the disk with a
/// log is full or the terminal was closed, the work continues without it.
fn print_message(line: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Prints a warning to standard error.
fn warn(what: &str) {
    let style = anstyle::AnsiColor::Yellow.on_default().bold();
    print_message(format_args!("{style}warning:{style:#} {}", crate::model::escape_control(what)));
}

/// Prints an error to standard error.
fn report_error(problem: &str) {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    print_message(format_args!("{style}error:{style:#} {}", crate::model::escape_control(problem)));
}

/// The maximum number of messages of one kind that are printed.
const LISTED: usize = 20;

/// Prints the first messages of a list, and the number of the others.
fn print_some(messages: impl Iterator<Item = String>, print: impl Fn(&str)) {
    let mut more = 0_u64;
    for (number, message) in messages.enumerate() {
        if number < LISTED {
            print(&message);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        print(&format!("and {more} more"));
    }
}
