//! Expands the inputs that the user named into a list in a fixed order.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::CaptureError;
use super::compression::open_compressed;
use crate::model::TEMPORARY_PREFIX;

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
    /// Name of the input with the same content that is read instead, if any.
    pub same_as: Option<String>,
    /// The SHA-256 of the content after decompression, if it is known before the input is read.
    pub content: Option<InputContent>,
    /// The size of the content after decompression, in bytes; `None` if it is unknown.
    pub content_size: Option<u64>,
}

/// The beginnings of the file name extensions of captures. Rotation may append a number, as in
/// `farm.pcap9`.
const CAPTURE_EXTENSIONS: [&str; 3] = ["pcap", "cap", "ntar"];

/// The extensions that compression appends.
const COMPRESSED_EXTENSIONS: [&str; 5] = ["gz", "zst", "xz", "lz4", "bz2"];

impl CaptureInput {
    /// Returns the path of the file; `None` if there is none, or if it is a special file that is
    /// not opened.
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

/// The SHA-256 of the content of an input after decompression.
pub type InputContent = [u8; 32];

/// Expands arguments into inputs: a file is one input, a directory yields all files below it, and
/// `-` is standard input. Inputs are sorted by name, and inputs with equal content are marked, so
/// that the order of the arguments does not matter. If arguments cannot be read, the result
/// contains the errors of all of them.
pub fn expand(arguments: &[PathBuf]) -> Result<Vec<CaptureInput>, Vec<CaptureError>> {
    expand_with(arguments, Vec::new(), Unreadable::Refuse)
}

/// What to do with a file that exists but cannot be read, if the user named it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Unreadable {
    /// Refuse it.
    #[default]
    Refuse,
    /// Treat it as if it had been found in a folder: its error is reported when it is read.
    Keep,
}

/// Expands arguments as [`expand`] does, and adds inputs with known content.
pub fn expand_with(
    arguments: &[PathBuf],
    known: Vec<CaptureInput>,
    unreadable: Unreadable,
) -> Result<Vec<CaptureInput>, Vec<CaptureError>> {
    let mut sources = known;
    let mut errors = Vec::new();
    for argument in arguments {
        if let Err(source) = add_argument(argument, &mut sources) {
            let is_file = || argument.symlink_metadata().is_ok() && !argument.is_dir();
            if unreadable == Unreadable::Keep && is_file() {
                sources.push(CaptureInput::found(argument.clone(), 0));
                continue;
            }
            errors.push(CaptureError::Input { name: argument.display().to_string(), source });
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    sources.sort_by(|a, b| compare_names(&a.name, &b.name).then(a.content.cmp(&b.content)));
    mark_same(&mut sources);
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
/// not followed. What the program itself is writing there, or left there when it was killed, is
/// ignored. A file that cannot be inspected is added too, and its error is reported when the file
/// is read.
fn add_folder(folder: &Path, sources: &mut Vec<CaptureInput>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            continue;
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            // A folder that cannot be read is like such a file: its error is reported later.
            if add_folder(&path, sources).is_err() {
                sources.push(CaptureInput::found(path, 0));
            }
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

/// Returns the name of a capture in reports: its path as it was given. Bytes that are not UTF-8 are
/// written as `\xNN`, so that paths that differ only in such bytes have different names.
fn name_of(path: &Path) -> String {
    let mut name = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        name.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| name.push_str(&format!("\\x{byte:02x}")));
    }
    name
}

impl CaptureInput {
    /// Creates an input that the user named.
    fn new(path: Option<PathBuf>, size: u64) -> Self {
        let name = path.as_ref().map_or_else(|| "-".to_owned(), |path| name_of(path));
        Self {
            path,
            name,
            size,
            found: false,
            special: false,
            same_as: None,
            content: None,
            content_size: None,
        }
    }

    /// Creates an input for a file that was found in a directory.
    fn found(path: PathBuf, size: u64) -> Self {
        Self { found: true, ..Self::new(Some(path), size) }
    }
}

/// Marks inputs whose content equals that of another input, which is read instead ([`first_of`]),
/// unless the content is empty. If the content of a copy is already known, it is recorded for the
/// input that is read, too.
fn mark_same(sources: &mut [CaptureInput]) {
    for source in sources.iter_mut() {
        if let Some(path) = source.path.as_ref().filter(|_| source.size > 0) {
            let is_compressed = matches!(open_compressed(path), Ok(Some(_)));
            source.content_size = (!is_compressed).then_some(source.size);
        }
    }
    let empty: InputContent = Sha256::digest([]).into();
    let candidates = may_have_copies(sources);
    // Files that cannot be read are compared by their paths instead.
    let mut by_content: HashMap<InputContent, Vec<usize>> = HashMap::new();
    let mut by_path: HashMap<&Path, Vec<usize>> = HashMap::new();
    for (number, source) in sources.iter().enumerate() {
        let is_candidate = candidates.contains(&number);
        let path = source.path.as_deref().filter(|_| is_candidate);
        let content = source.content.or_else(|| hash(path?).ok());
        if let Some(content) = content.filter(|content| *content != empty) {
            by_content.entry(content).or_default().push(number);
        } else if let Some(path) = path.filter(|_| content.is_none()) {
            by_path.entry(path).or_default().push(number);
        }
    }
    let by_path = by_path.into_values().map(|numbers| (None, numbers));
    let by_content = by_content.into_iter().map(|(content, numbers)| (Some(content), numbers));
    for (content, numbers) in by_path.chain(by_content).collect::<Vec<_>>() {
        let first = first_of(sources, &numbers);
        if numbers.iter().any(|number| sources[*number].content.is_some()) {
            sources[first].content = content;
        }
        for number in numbers.into_iter().filter(|number| *number != first) {
            sources[number].same_as = Some(sources[first].name.clone());
            // The input that is read counts as named by the user if the user named any of its
            // copies.
            sources[first].found &= sources[number].found;
        }
    }
}

/// Returns the number of the only input that is read among those with the same content: the first.
/// However, the record of a stored input describes a file only if both have the same bytes. If this
/// is not certain, the first stored input is read instead of a file.
fn first_of(sources: &[CaptureInput], numbers: &[usize]) -> usize {
    let is_stored = |number: &&usize| sources[**number].content.is_some();
    let is_certain = numbers.iter().all(|number| sources[*number].content_size.is_some());
    let stored = numbers.iter().find(is_stored).filter(|_| !is_certain);
    *stored.unwrap_or(&numbers[0])
}

/// Returns the numbers of the files whose content may equal that of another input. Usually the
/// sizes show that it does not. For a compressed file, the first bytes after decompression do. If
/// neither is known of an input, the file may be a copy of it.
fn may_have_copies(sources: &[CaptureInput]) -> HashSet<usize> {
    let is_file = |(_, source): &(usize, &CaptureInput)| {
        source.path.is_some() && source.size > 0 && source.content.is_none()
    };
    let files = || sources.iter().enumerate().filter(is_file);
    let known = || sources.iter().filter(|source| source.content.is_some());
    let mut by_size: HashMap<u64, Vec<usize>> = HashMap::new();
    for (number, source) in files() {
        by_size.entry(source.content_size.unwrap_or_default()).or_default().push(number);
    }
    // Files whose size is not known are compared by their first bytes.
    by_size.remove(&0);
    let sizes_of_known: HashSet<_> = known().map(|source| source.content_size).collect();
    let has_same_size = by_size
        .into_iter()
        .filter(|(size, numbers)| numbers.len() > 1 || sizes_of_known.contains(&Some(*size)));
    let mut candidates: HashSet<usize> = has_same_size.flat_map(|(_, numbers)| numbers).collect();
    let may_equal_known = |(_, source): &(usize, &CaptureInput)| {
        sizes_of_known.contains(&None)
            || source.content_size.is_none() && !sizes_of_known.is_empty()
    };
    candidates.extend(files().filter(may_equal_known).map(|(number, _)| number));
    let is_compressed = |source: &CaptureInput| source.content_size.is_none();
    if files().any(|(_, source)| is_compressed(source)) {
        let mut by_start: HashMap<InputContent, Vec<usize>> = HashMap::new();
        for (number, source) in files() {
            if let Some(start) = source.path.as_ref().and_then(|path| hash_of_start(path).ok()) {
                by_start.entry(start).or_default().push(number);
            }
        }
        let alike = by_start.into_values().filter(|numbers| {
            numbers.len() > 1 && numbers.iter().any(|number| is_compressed(&sources[*number]))
        });
        candidates.extend(alike.flatten());
    }
    candidates
}

/// Returns the SHA-256 of the first bytes of a file after decompression.
fn hash_of_start(path: &Path) -> std::io::Result<InputContent> {
    /// The number of bytes that are hashed. They include the timestamps of the first frames of a
    /// capture.
    const START: u64 = 4096;
    match open_compressed(path)? {
        Some(content) => hash_of(content.take(START)),
        None => hash_of(fs::File::open(path)?.take(START)),
    }
}

/// Returns the SHA-256 of the content of a file after decompression. If it cannot be decompressed,
/// returns that of its stored bytes.
fn hash(path: &Path) -> std::io::Result<InputContent> {
    let unpacked = open_compressed(path).ok().flatten().map(hash_of);
    match unpacked {
        Some(Ok(content)) => Ok(content),
        Some(Err(_)) | None => hash_of(fs::File::open(path)?),
    }
}

fn hash_of(mut content: impl Read) -> std::io::Result<InputContent> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; super::BLOCK];
    loop {
        match content.read(&mut block)? {
            0 => return Ok(hasher.finalize().into()),
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
    fn compressed_copies_are_copies() {
        let folder = tempfile::tempdir().unwrap();
        let packed = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            std::io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap()
        };
        let mut cut = packed(b"content");
        cut.truncate(cut.len() - 4);
        let files = [
            ("a", b"content".to_vec()),
            ("a.gz", packed(b"content")),
            ("a.zst", zstd::encode_all(&b"content"[..], 1).unwrap()),
            ("b.gz", packed(b"content and more")),
            // The end of this file is missing, so its content is not known.
            ("c.gz", cut),
        ];
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let copies = |known: Vec<CaptureInput>| {
            let sources =
                expand_with(&[folder.path().to_owned()], known, Unreadable::Refuse).unwrap();
            let name =
                |path: &str| Path::new(path).file_name().unwrap().to_string_lossy().into_owned();
            let copies = sources.iter().filter(|source| source.same_as.is_some());
            copies.map(|s| (name(&s.name), name(s.same_as.as_deref().unwrap()))).collect::<Vec<_>>()
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(copies(Vec::new()), [pair("a.gz", "a"), pair("a.zst", "a")]);
        // A file is a copy of a stored input with the same content, whatever their sizes are.
        let stored = CaptureInput {
            content: Some(Sha256::digest(b"content and more").into()),
            ..CaptureInput::new(Some("/stored.zst".into()), 3)
        };
        let stored = CaptureInput { path: None, ..stored };
        let expected = [pair("a.gz", "a"), pair("a.zst", "a"), pair("b.gz", "stored.zst")];
        assert_eq!(copies(vec![stored]), expected);
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
        // The user named a copy of the file `a`, so `a` counts as named, too.
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
