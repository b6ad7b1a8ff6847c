//! Expands the inputs that the user named into a list in a fixed order.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::CaptureError;

/// A source of frames or evidence: a file, standard input, an interface, or an input whose evidence
/// is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureInput {
    /// The path of the file; `None` if the input is not a file.
    pub path: Option<PathBuf>,
    /// The file as the user named it, `-` for standard input, or the name of the interface or of
    /// the stored input.
    pub name: String,
    /// Size in bytes; 0 if unknown before reading.
    pub size: u64,
    /// Whether the file was found in a directory. If such a file is not a capture, it is skipped,
    /// which counts as an error only if the file has the extension of a capture.
    pub found: bool,
    /// Whether the file was found in a directory, but is a named pipe, a socket or a device. It is
    /// not opened, because it might never end.
    pub special: bool,
    /// Name of the earlier input with the same content, which is read instead; `None` if there is
    /// no such input.
    pub same_as: Option<String>,
    /// The SHA-256 of the content, if it is known before the input is read.
    pub content: Option<InputContent>,
}

/// The beginnings of the file name extensions of captures. Rotation may append a number, as in
/// `farm.pcap9`.
const CAPTURE_EXTENSIONS: [&str; 3] = ["pcap", "cap", "ntar"];

/// The extensions that compression appends.
const COMPRESSED_EXTENSIONS: [&str; 5] = ["gz", "zst", "xz", "lz4", "bz2"];

impl CaptureInput {
    /// Returns the path of the file if it can be read again.
    pub fn file(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| !self.special)
    }

    /// Returns whether the file has the extension of a capture. If such a file in a folder is not a
    /// capture, it is probably a damaged one.
    pub fn is_named_as_capture(&self) -> bool {
        let name = self.name.rsplit(['/', '\\']).next().unwrap_or_default().to_lowercase();
        let is_suffix = |part: &&str| {
            COMPRESSED_EXTENSIONS.contains(part) || part.bytes().all(|b| b.is_ascii_digit())
        };
        let mut extensions = name.split('.').skip(1).collect::<Vec<_>>().into_iter().rev();
        let extension = extensions.find(|part| !is_suffix(part));
        extension.is_some_and(|part| CAPTURE_EXTENSIONS.iter().any(|known| part.starts_with(known)))
    }
}

/// The SHA-256 of the content of an input.
pub type InputContent = [u8; 32];

/// Expands arguments into inputs: a file is one input, a directory yields all files below it, and
/// `-` is standard input. Inputs are sorted by name, and inputs with equal content are marked, so
/// that the order of the arguments does not matter. If arguments cannot be read, the result
/// contains the errors of all of them.
pub fn expand(arguments: &[PathBuf]) -> Result<Vec<CaptureInput>, Vec<CaptureError>> {
    expand_with(arguments, Vec::new())
}

/// Expands arguments as [`expand`] does, and adds inputs with known content.
pub fn expand_with(
    arguments: &[PathBuf],
    known: Vec<CaptureInput>,
) -> Result<Vec<CaptureInput>, Vec<CaptureError>> {
    let mut sources = known;
    let mut errors = Vec::new();
    for argument in arguments {
        if let Err(source) = add_argument(argument, &mut sources) {
            errors.push(CaptureError::Input { name: argument.display().to_string(), source });
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    sources.sort_by(|a, b| compare_names(&a.name, &b.name).then(a.content.cmp(&b.content)));
    mark_same(&mut sources);
    mark_same_content(&mut sources);
    Ok(sources)
}

/// Compares names so that digits in them compare as numbers. The files of a rotated set are then in
/// the order in which they were written: `farm.pcap9` before `farm.pcap10`.
fn compare_names(a: &str, b: &str) -> Ordering {
    split_numbers(a).cmp(&split_numbers(b)).then_with(|| a.cmp(b))
}

/// Splits a name into runs of digits, which are parsed as numbers, and the text between them.
fn split_numbers(name: &str) -> Vec<(String, u64)> {
    let runs = name.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    runs.map(|run| {
        let text = String::from_utf8_lossy(run).into_owned();
        let number = text.parse().unwrap_or(u64::MAX);
        if run[0].is_ascii_digit() { (String::new(), number) } else { (text, 0) }
    })
    .collect()
}

fn add_argument(argument: &Path, sources: &mut Vec<CaptureInput>) -> std::io::Result<()> {
    if argument.as_os_str() == "-" {
        sources.push(CaptureInput::new(None, 0));
        return Ok(());
    }
    let metadata = fs::metadata(argument)?;
    if metadata.is_dir() {
        return add_folder(argument, sources);
    }
    // A regular file is opened to check that it is readable. Other files are not, because a named
    // pipe, for example, can be opened only once.
    if metadata.is_file() {
        fs::File::open(argument)?;
    }
    sources.push(CaptureInput::new(Some(argument.to_owned()), metadata.len()));
    Ok(())
}

/// Adds the files in a directory and in all directories below it. Symbolic links to directories are
/// not followed. A file that cannot be inspected is added too, and its error is
/// reported when the file is read.
fn add_folder(folder: &Path, sources: &mut Vec<CaptureInput>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            add_folder(&path, sources)?;
            continue;
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                sources.push(CaptureInput::found(path, metadata.len()));
            }
            // This is a link to a directory.
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let special = CaptureInput { special: true, ..CaptureInput::found(path, 0) };
                sources.push(special);
            }
            Err(_) => sources.push(CaptureInput::found(path, 0)),
        }
    }
    Ok(())
}

impl CaptureInput {
    /// Creates an input that the user named.
    fn new(path: Option<PathBuf>, size: u64) -> Self {
        let name = path.as_ref().map_or_else(|| "-".to_owned(), |p| p.display().to_string());
        Self { path, name, size, found: false, special: false, same_as: None, content: None }
    }

    /// Creates an input for a file that was found in a directory.
    fn found(path: PathBuf, size: u64) -> Self {
        Self { found: true, ..Self::new(Some(path), size) }
    }
}

/// Marks inputs whose bytes equal those of an earlier input, unless they are empty. Only files of
/// the same size are hashed. If the content of a copy is already known, it is recorded for the
/// first input, too.
fn mark_same(sources: &mut [CaptureInput]) {
    let mut by_size: HashMap<u64, Vec<usize>> = HashMap::new();
    let has_content = |s: &CaptureInput| s.path.is_some() || s.content.is_some();
    let files = sources.iter().enumerate().filter(|(_, s)| has_content(s) && s.size > 0);
    files.for_each(|(number, source)| by_size.entry(source.size).or_default().push(number));
    for numbers in by_size.into_values().filter(|numbers| numbers.len() > 1) {
        // The first file with each content and with each path. A path matters if the file cannot be
        // read.
        let mut by_hash = HashMap::new();
        let mut by_path = HashMap::new();
        for number in numbers {
            let source = &sources[number];
            let content = source.content.or_else(|| hash(source));
            let first = match content {
                Some(hash) => *by_hash.entry(hash).or_insert(number),
                None => *by_path.entry(source.path.clone()).or_insert(number),
            };
            if sources[number].content.is_some() {
                sources[first].content = content;
            }
            if first != number {
                sources[number].same_as = Some(sources[first].name.clone());
                // The first copy counts as named by the user if the user named any of the copies.
                sources[first].found &= sources[number].found;
            }
        }
    }
}

/// Marks inputs whose known content is not empty and equals that of an earlier input. Their sizes
/// are not compared, because a size may not be known before reading.
fn mark_same_content(sources: &mut [CaptureInput]) {
    let empty: InputContent = Sha256::digest([]).into();
    let mut first = HashMap::new();
    for number in 0..sources.len() {
        let Some(content) = sources[number].content.filter(|content| *content != empty) else {
            continue;
        };
        let first = *first.entry(content).or_insert(number);
        if first != number && sources[number].same_as.is_none() {
            sources[number].same_as = Some(sources[first].name.clone());
        }
    }
}

fn hash(source: &CaptureInput) -> Option<[u8; 32]> {
    let mut file = fs::File::open(source.path.as_ref()?).ok()?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; super::BLOCK];
    loop {
        match file.read(&mut block).ok()? {
            0 => return Some(hasher.finalize().into()),
            n => hasher.update(&block[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["farm.pcap10", "farm.pcap9", "b", "a2/x", "a10/x", "farm.pcap009"];
        names.sort_by(|a, b| compare_names(a, b));
        assert_eq!(names, ["a2/x", "a10/x", "b", "farm.pcap009", "farm.pcap9", "farm.pcap10"]);
    }

    #[test]
    fn copies_are_marked_with_the_first_of_their_kind() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("a", "one"), ("b", "two"), ("c", "one"), ("d", "one"), ("e", "")] {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        fs::write(folder.path().join("f"), "").unwrap();
        let at = |name: &str| folder.path().join(name);
        let sources = expand(&[folder.path().to_owned(), at("c")]).unwrap();
        let name = |path: &str| Path::new(path).file_name().unwrap().to_string_lossy().into_owned();
        let found = sources.iter().map(|source| {
            let same = source.same_as.as_deref().map_or_else(String::new, name);
            (name(&source.name), same, source.found)
        });
        // The user named a copy of the file `a`.
        let expected = [
            ("a", "", false),
            ("b", "", true),
            ("c", "a", true),
            ("c", "a", false),
            ("d", "a", true),
            ("e", "", true),
            ("f", "", true),
        ];
        let expected = expected.map(|(n, same, found)| (n.to_owned(), same.to_owned(), found));
        assert!(found.eq(expected.clone()), "{sources:#?}");
    }
}
