//! Reads options from a configuration file, so that they need not be repeated on every command
//! line.
//!
//! The keys of the file are the long names of options. The file is not a second definition of the
//! options: each value becomes an argument, which is inserted after the name of the command and
//! parsed like one that the user typed.

use std::any::TypeId;
use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::args::Arguments;
use super::policy::read_text;
use crate::policy::{Diagnostic, Diagnostics, MATRICES, OVERLAYS, TextFile, line_of, nearest};
use crate::result::ConfigurationFile;

/// The name of the file that is read if `--config` names no other file.
const FILE_NAME: &str = "rasaudit.toml";

/// The options that a file cannot set.
const NOT_IN_FILES: [&str; 5] = ["config", "no_config", "print_config", "help", "version"];

/// The options whose value is a name or a path, each with the values that are names.
const NAMES_OR_PATHS: [(&str, &[&str]); 2] = [("matrix", MATRICES), ("overlays", OVERLAYS)];

/// The request that the command line and the configuration file make together.
pub(super) enum Parsed {
    /// A request to run a command, with the options of this configuration file if there is one.
    Run(Box<Arguments>, Option<ConfigurationFile>),
    /// A request to print the options in effect, as this text.
    Print(String),
}

/// The reason why a command line was rejected.
pub(super) enum Rejected {
    /// The configuration file has problems.
    File(Vec<Diagnostic>),
    /// The arguments are wrong, or the user asked for the help or the version. The text lists the
    /// options that the configuration file added; `None` if it added none.
    Arguments(clap::Error, Option<String>),
}

/// Parses the command line. The first argument is the name of the program.
pub(super) fn parse(mut typed: Vec<OsString>) -> Result<Parsed, Rejected> {
    let mut root = Arguments::command();
    root.build();
    let request = TypedCommand::of(&root, &typed);
    let file = request.as_ref().and_then(TypedCommand::file);
    let mut added = None;
    let mut digest = String::new();
    if let (Some(request), Some(path)) = (&request, &file) {
        let text = read_text(path, "a configuration file").map_err(Rejected::File)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let settings = ConfigFile { root: &root, request, text: &text, folder }.settings()?;
        let at = request.after_name(&typed);
        let words = settings.iter().flat_map(|setting| setting.words.iter().cloned());
        typed.splice(at..at, words);
        digest = text.sha256;
        added = Some((text.name, settings));
    }
    let note = added.as_ref().and_then(|(name, settings)| note(name, settings));
    let rejected = |error| Rejected::Arguments(error, note.clone());
    let matches = Arguments::command().try_get_matches_from(&typed);
    let matches = matches.map_err(|error| with_value_tip(error, &root, &typed));
    if let Some(request) = request.filter(|request| request.has_typed("print_config")) {
        // The options can be printed even if arguments are missing, such as the captures.
        let is_incomplete =
            |error: &clap::Error| error.kind() == ErrorKind::MissingRequiredArgument;
        let matches = match matches {
            Err(error) if is_incomplete(&error) => lenient().try_get_matches_from(typed),
            complete => complete,
        };
        let matches = matches.map_err(rejected)?;
        return Ok(Parsed::Print(in_effect(&request, &matches, added.as_ref())));
    }
    let matches = matches.map_err(rejected)?;
    let arguments = Arguments::from_arg_matches(&matches).map_err(rejected)?;
    let configuration = added.map(|(file, settings)| ConfigurationFile {
        file,
        sha256: digest,
        options: settings.into_iter().map(|setting| setting.name).collect(),
    });
    Ok(Parsed::Run(Box::new(arguments), configuration))
}

/// Corrects the tip for a value that begins with a dash, such as `--ticket -1`. With the tip of
/// clap, `-- -1`, the value would not belong to the option.
fn with_value_tip(mut error: clap::Error, root: &Command, typed: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let pair = typed.windows(2).find_map(|pair| {
        let [option, value] = [pair[0].to_str()?, pair[1].to_str()?];
        let name = option.strip_prefix("--")?;
        let is_it = value.starts_with(unknown.as_str()) && takes_value(root, name);
        is_it.then(|| format!("{option}={value}"))
    });
    if let (ErrorKind::UnknownArgument, Some(pair)) = (error.kind(), pair) {
        let tip = format!("to pass a value that begins with a dash, use '{pair}'");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Returns whether a command or one of its subcommands has an option with this long name and a
/// value.
fn takes_value(command: &Command, name: &str) -> bool {
    let is_it = |arg: &Arg| arg.get_long() == Some(name) && arg.get_action().takes_values();
    command.get_arguments().any(is_it)
        || command.get_subcommands().any(|command| takes_value(command, name))
}

/// Returns the definition of the command line for a parse that ignores errors.
fn lenient() -> Command {
    Arguments::command().ignore_errors(true)
}

/// Describes the options that a file added, for an error that may be due to them; `None` if it
/// added none.
fn note(file: &str, settings: &[Setting]) -> Option<String> {
    let list: Vec<String> =
        settings.iter().map(|s| format!("{} (line {})", s.name, s.line)).collect();
    (!list.is_empty()).then(|| format!("note: {file} adds {}", list.join(", ")))
}

/// The command that the user wants to run, and the options that the user typed.
struct TypedCommand {
    /// The names of the command, for example `audit`, or `inventory` and `draft`.
    path: Vec<String>,
    command: Command,
    matches: ArgMatches,
}

impl TypedCommand {
    /// Returns the command that the user typed; `None` if it does not read configuration files, or
    /// if the user asked for the help or the version. Errors are ignored, because the file may
    /// supply what is missing.
    fn of(root: &Command, typed: &[OsString]) -> Option<Self> {
        let mut matches = lenient().try_get_matches_from(typed).ok()?;
        let mut command = root;
        let mut path = Vec::new();
        while let Some((name, of_command)) = matches.remove_subcommand() {
            command = command.find_subcommand(&name)?;
            path.push(name);
            matches = of_command;
        }
        has_config(command).then(|| Self { path, command: command.clone(), matches })
    }

    /// Returns the name of the command's section, for example `audit` or `inventory-draft`.
    fn section(&self) -> String {
        self.path.join("-")
    }

    /// Returns whether the user typed an option.
    fn has_typed(&self, id: &str) -> bool {
        self.matches.value_source(id) == Some(ValueSource::CommandLine)
    }

    /// Returns whether the user typed this option or one that conflicts with it, so that the value
    /// in the file does not apply.
    fn overrides(&self, arg: &Arg) -> bool {
        let excludes = |typed: &Arg| {
            let excluded = self.command.get_arg_conflicts_with(typed);
            let excluding = self.command.get_arg_conflicts_with(arg);
            excluded.iter().any(|other| other.get_id() == arg.get_id())
                || excluding.iter().any(|other| other.get_id() == typed.get_id())
        };
        self.has_typed(arg.get_id().as_str())
            || self
                .command
                .get_arguments()
                .any(|typed| self.has_typed(typed.get_id().as_str()) && excludes(typed))
    }

    /// Returns the configuration file: the one that `--config` names, or `rasaudit.toml` next to
    /// the file of `--inventory` or, without `--inventory`, in the current folder. `None` with
    /// `--no-config`, or if there is no such `rasaudit.toml`.
    fn file(&self) -> Option<PathBuf> {
        if self.has_typed("no_config") {
            return None;
        }
        if let Some(file) = self.matches.get_one::<PathBuf>("config") {
            return Some(file.clone());
        }
        let inventory = option(&self.command, "inventory")
            .and_then(|_| self.matches.get_one::<PathBuf>("inventory"));
        let folder = inventory.map_or(Some(Path::new("")), |file| file.parent())?;
        Some(folder.join(FILE_NAME)).filter(|file| file.symlink_metadata().is_ok())
    }

    /// Returns the position after the name of the command.
    fn after_name(&self, typed: &[OsString]) -> usize {
        self.path.iter().fold(1, |start, name| {
            let rest = typed.iter().skip(start);
            start + 1 + rest.take_while(|word| *word != name.as_str()).count()
        })
    }
}

/// Returns whether options of the command can be read from a file.
fn has_config(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == "config")
}

/// Returns the options that a file can set.
fn options(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let named = command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)));
    named.filter(|(_, arg)| !NOT_IN_FILES.contains(&arg.get_id().as_str()))
}

fn option<'c>(command: &'c Command, key: &str) -> Option<&'c Arg> {
    options(command).find(|(name, _)| *name == key).map(|(_, arg)| arg)
}

/// Returns those of a command and its subcommands that read a configuration file, each with its
/// section.
fn configurable<'c>(command: &'c Command, section: &str) -> Vec<(String, &'c Command)> {
    let below = command.get_subcommands().flat_map(|below| {
        let parent = if section.is_empty() { String::new() } else { format!("{section}-") };
        configurable(below, &(parent + below.get_name()))
    });
    let own = has_config(command).then(|| (section.to_owned(), command));
    own.into_iter().chain(below).collect()
}

/// An option that a file sets.
struct Setting {
    /// The option as on the command line, such as `--fail-on`.
    name: String,
    /// The line of the file, counted from 1.
    line: usize,
    /// The command-line arguments that the setting stands for; empty for a flag set to `false`.
    words: Vec<OsString>,
}

struct ConfigFile<'c> {
    root: &'c Command,
    request: &'c TypedCommand,
    text: &'c TextFile,
    /// The folder of the file, where its relative paths start.
    folder: &'c Path,
}

impl ConfigFile<'_> {
    /// Returns the options that the file sets for the command, without those that the command line
    /// overrides. The error lists the problems of all sections, including those of other commands.
    fn settings(&self) -> Result<Vec<Setting>, Rejected> {
        let mut problems = Diagnostics::of(&self.text.name);
        let (document, errors) = DeTable::parse_recoverable(&self.text.text);
        for error in &errors {
            let line = error.span().map_or(1, |span| self.line(span));
            problems.add(line, error.message());
        }
        let mut settings = Vec::new();
        if errors.is_empty() {
            self.document(document.get_ref(), &mut settings, &mut problems);
        }
        problems.or(settings).map_err(Rejected::File)
    }

    fn line(&self, span: Range<usize>) -> usize {
        line_of(&self.text.text, span.start)
    }

    /// Reads the keys at the top of the file, which apply to all commands that have the option, and
    /// the sections for single commands, which take precedence.
    fn document(
        &self,
        table: &DeTable<'_>,
        settings: &mut Vec<Setting>,
        problems: &mut Diagnostics,
    ) {
        let commands = configurable(self.root, "");
        for (key, value) in table {
            let (name, line) = (key.get_ref().as_ref(), self.line(key.span()));
            if let Some((_, command)) = commands.iter().find(|(section, _)| section == name) {
                match value.get_ref().as_table() {
                    Some(table) => self.section((name, command), table, settings, problems),
                    None => problems.add(line, format!("\"{name}\" must be a section [{name}]")),
                }
                continue;
            }
            match self.common(name, &commands, value, line) {
                Some(Ok(setting)) => {
                    if !settings.iter().any(|s| setting.as_ref().is_none_or(|t| s.name == t.name)) {
                        settings.extend(setting);
                    }
                }
                Some(Err(message)) => problems.add(line, message),
                None => {
                    let known =
                        commands.iter().flat_map(|(section, c)| keys(c).chain([section.as_str()]));
                    let near = nearest(name, known);
                    let what = if value.get_ref().is_table() { "section" } else { "option" };
                    problems.add(line, format!("unknown {what} \"{name}\"{near}"));
                }
            }
        }
    }

    /// Reads an option at the top of the file. Returns `None` if no command has the option. The
    /// setting is `None` if only other commands have the option or the command line overrides it.
    fn common(
        &self,
        name: &str,
        commands: &[(String, &Command)],
        value: &Spanned<DeValue<'_>>,
        line: usize,
    ) -> Option<Result<Option<Setting>, String>> {
        if let Some(arg) = option(&self.request.command, name) {
            let setting = self.setting(&self.request.command, arg, value, line);
            return Some(setting.map(|s| Some(s).filter(|_| !self.request.overrides(arg))));
        }
        // An option may take different values in different commands, so a value is accepted if any
        // of them accepts it.
        let others = commands.iter().filter_map(|(_, c)| Some((*c, option(c, name)?)));
        let mut checked = others.map(|(command, arg)| self.setting(command, arg, value, line));
        let first = checked.next()?;
        let accepted =
            if first.is_ok() { first } else { checked.find(Result::is_ok).unwrap_or(first) };
        Some(accepted.map(|_| None))
    }

    /// Reads the section of a command.
    fn section(
        &self,
        (heading, command): (&str, &Command),
        table: &DeTable<'_>,
        settings: &mut Vec<Setting>,
        problems: &mut Diagnostics,
    ) {
        for (key, value) in table {
            let (name, line) = (key.get_ref().as_ref(), self.line(key.span()));
            let Some(arg) = option(command, name) else {
                let near = nearest(name, keys(command));
                problems.add(line, format!("unknown option \"{name}\" in [{heading}]{near}"));
                continue;
            };
            match self.setting(command, arg, value, line) {
                Ok(_) if heading != self.request.section() || self.request.overrides(arg) => {}
                Ok(setting) => {
                    settings.retain(|common| common.name != setting.name);
                    settings.push(setting);
                }
                Err(message) => problems.add(line, message),
            }
        }
    }

    /// Turns a value into arguments, and checks them as if the user had typed them.
    fn setting(
        &self,
        command: &Command,
        arg: &Arg,
        value: &Spanned<DeValue<'_>>,
        line: usize,
    ) -> Result<Setting, String> {
        let key = arg.get_long().unwrap_or_default();
        let name = format!("--{key}");
        let with_value = |value: &str| {
            let mut word = OsString::from(format!("{name}="));
            word.push(self.resolved(arg, value));
            word
        };
        let words = match (arg.get_action(), value.get_ref()) {
            (ArgAction::SetTrue, DeValue::Boolean(true)) => vec![name.clone().into()],
            (ArgAction::SetTrue, DeValue::Boolean(false)) => Vec::new(),
            (ArgAction::SetTrue, _) => return Err(format!("{key} must be true or false")),
            (ArgAction::Append, DeValue::Array(list)) => {
                let texts = list.iter().map(|value| scalar(value.get_ref()));
                let texts: Option<Vec<String>> = texts.collect();
                let wrong = || format!("{key} must be a list of strings or numbers");
                texts.ok_or_else(wrong)?.iter().map(|text| with_value(text)).collect()
            }
            (_, DeValue::Array(_)) => {
                return Err(format!("{key} must be one string or number, not a list"));
            }
            (action, value) => {
                let more = match action {
                    ArgAction::Append => ", or a list of them",
                    _ => "",
                };
                let wrong = || format!("{key} must be a string or a number{more}");
                vec![with_value(&scalar(value).ok_or_else(wrong)?)]
            }
        };
        check(command, arg, &words)?;
        Ok(Setting { name, line, words })
    }

    /// Returns a value as an argument. Relative paths start at the folder of the file.
    fn resolved(&self, arg: &Arg, value: &str) -> OsString {
        let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        let may_be_path =
            NAMES_OR_PATHS.iter().any(|(id, names)| arg.get_id() == id && !names.contains(&value));
        if (is_path || may_be_path) && !value.is_empty() {
            return self.folder.join(value).into_os_string();
        }
        value.into()
    }
}

fn keys(command: &Command) -> impl Iterator<Item = &str> {
    options(command).map(|(name, _)| name)
}

/// Returns a value as it would be typed; `None` if it is a list, a table or a flag.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Checks the arguments of one option. Conflicts with other options are detected later.
fn check(command: &Command, arg: &Arg, words: &[OsString]) -> Result<(), String> {
    let alone = command.clone().no_binary_name(true).mut_args(|arg| arg.required(false));
    let Err(error) = alone.try_get_matches_from(words) else { return Ok(()) };
    let key = arg.get_long().unwrap_or_default();
    match error.kind() {
        ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict => Ok(()),
        ErrorKind::ValueValidation => {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Err(format!("{key}: {cause}"))
        }
        _ => {
            let values = arg.get_possible_values();
            let names: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
            // The words are `--name=value`, one for each value of a list.
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            let mut given = words.iter().map(|word| word.split_once('=').map_or("", |w| w.1));
            let wrong = given.clone().find(|value| !names.contains(value));
            let given = wrong.or_else(|| given.next()).unwrap_or_default();
            let near = nearest(given, names.iter().copied());
            if names.is_empty() {
                return Err(format!("{key}: \"{given}\" is not a valid value"));
            }
            Err(format!("{key} must be one of {}{near}", names.join(", ")))
        }
    }
}

/// Returns the options in effect as the text of a configuration file, with comments on where they
/// come from.
fn in_effect(
    request: &TypedCommand,
    matches: &ArgMatches,
    added: Option<&(String, Vec<Setting>)>,
) -> String {
    let of_command = request.path.iter().try_fold(matches, |m, name| m.subcommand_matches(name));
    let mut text = format!(
        "# Options in effect for `rasaudit {}`. Lines that start with # show defaults.\n# Relative paths are resolved from the current folder.\n[{}]\n",
        request.path.join(" "),
        request.section()
    );
    let Some(of_command) = of_command else { return text };
    for (key, arg) in options(&request.command) {
        let id = arg.get_id().as_str();
        let Some(raw) = of_command.get_raw(id) else { continue };
        // A command may accept options of an audit that do not affect it. They are listed only if
        // they are given.
        let is_given = of_command.value_source(id) == Some(ValueSource::CommandLine);
        if arg.is_hide_set() && !is_given {
            continue;
        }
        let values: Vec<String> = raw.map(|value| toml_value(&value.to_string_lossy())).collect();
        let value = match arg.get_action() {
            ArgAction::SetTrue => of_command.get_flag(id).to_string(),
            ArgAction::Append => format!("[{}]", values.join(", ")),
            _ => values.join(", "),
        };
        let from_file = added.and_then(|(file, settings)| {
            let setting = settings.iter().find(|s| s.name.strip_prefix("--") == Some(key))?;
            Some(format!("{file}:{}", setting.line))
        });
        let _ = match (of_command.value_source(id), from_file) {
            (Some(ValueSource::CommandLine), Some(place)) => {
                writeln!(text, "{key} = {value}  # {}", crate::model::escape_control(&place))
            }
            (Some(ValueSource::CommandLine), None) => {
                writeln!(text, "{key} = {value}  # command line")
            }
            _ => writeln!(text, "# {key} = {value}"),
        };
    }
    text
}

/// Returns a value in TOML: a number or a string.
fn toml_value(value: &str) -> String {
    if value.parse::<i64>().is_ok_and(|number| number.to_string() == value) {
        return value.to_owned();
    }
    // The escapes that `serde_json` writes are valid in TOML, which also requires DEL to be
    // escaped.
    serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f")
}
