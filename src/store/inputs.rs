//! The inputs of a store. Each must be there once, and all must have been read in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::StoreError;
use super::columns::HeadContent;
use super::completion::Completion;
use super::files::RowFile;
use super::input::{CollectOptions, InputRow, hex, is_same_path};
use super::ledger::Ledger;
use super::row::StoredRef;
use super::sensor_inputs::overlaps;
use crate::capture::InputContent;
use crate::model::InputRecord;

/// The inputs of stores, by identity, each with the name of the store file that contains its row.
#[derive(Default, Debug)]
pub(super) struct StoredInputs {
    all: BTreeMap<String, (InputRow, String)>,
    /// The statements that a store is complete, each with the name of its file.
    completions: Vec<(Completion, String)>,
}

impl StoredInputs {
    /// Reads the rows of inputs, and the statements that a store is complete.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with them, at most one reason for each row group.
    pub fn read(files: &[RowFile]) -> Result<Self, StoreError> {
        let mut inputs = Self::default();
        let mut wrong = Vec::new();
        for (number, file) in files.iter().enumerate() {
            for group in file.groups(number).filter(|group| file.may_have_inputs(*group)) {
                let read = file.read(group).and_then(|mut reader| {
                    let mut take = |row: StoredRef<'_>| inputs.add(&row, &file.name());
                    while reader.next(|is_evidence| !is_evidence, &mut take)? {}
                    Ok(())
                });
                wrong.extend(read.err().map(|reason| (file.name(), reason)));
            }
        }
        if wrong.is_empty() { Ok(inputs) } else { Err(StoreError::Rows(wrong)) }
    }

    /// Adds the content of a row of a file, unless it is evidence.
    ///
    /// # Errors
    ///
    /// Returns an error if the row is not valid, or if it is an input that is there already.
    pub fn add(&mut self, row: &StoredRef<'_>, file: &str) -> Result<(), String> {
        match HeadContent::of_row(row)? {
            None => Ok(()),
            Some(HeadContent::Input(input)) => self.add_input(*input, file),
            Some(HeadContent::Completion(completion)) => {
                self.completions.push((completion, file.to_owned()));
                Ok(())
            }
        }
    }

    fn add_input(&mut self, input: InputRow, file: &str) -> Result<(), String> {
        let id = input.id();
        match self.all.get(&id) {
            Some((known, other)) => Err(format!(
                "contains the rows of {}, which {other} also contains ({id}); leave one of them out",
                known.record.name
            )),
            None => {
                self.all.insert(id, (input, file.to_owned()));
                Ok(())
            }
        }
    }

    /// Returns the version of the program that read the inputs; `None` if there are no inputs.
    pub fn version(&self) -> Option<&str> {
        self.all.values().next().map(|(input, _)| input.tool.as_str())
    }

    /// Checks that the inputs belong together: all were read by the same version with the same
    /// options, the rows of none are missing, and no frame counts twice. Without inputs, nothing is
    /// checked.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, each reason with the name of a file or input. Frames that count twice
    /// are looked for only if nothing else is wrong.
    pub fn check(&self) -> Result<(), StoreError> {
        let Some((first, _)) = self.all.values().next() else { return Ok(()) };
        let mut wrong = self.completion_errors();
        let used: BTreeSet<InputContent> = self.used().map(|input| input.content).collect();
        // Usually, all inputs were read with the same options, so this map is empty.
        let mut by_name: BTreeMap<&str, Vec<&(InputRow, String)>> = BTreeMap::new();
        for input in self.all.values().filter(|(input, _)| input.options != first.options) {
            by_name.entry(&input.0.record.name).or_default().push(input);
        }
        for input in self.all.values().filter(|(input, _)| input.options == first.options) {
            if let Some(same) = by_name.get_mut(input.0.record.name.as_str()) {
                same.push(input);
            }
        }
        for (input, file) in self.all.values() {
            let other = &first.record.name;
            let name = &input.record.name;
            if input.tool != first.tool {
                let (own, theirs) = (&input.tool, &first.tool);
                wrong.push((file.clone(), format!(
                    "contains {name}, which rasaudit {own} collected, but {other} was collected by rasaudit {theirs}; collect both with the same version"
                )));
            } else if input.options != first.options {
                let difference = input.options.difference(&first.options);
                wrong.push((
                    file.clone(),
                    format!(
                        "contains {name}, which was collected {difference} {other}; {}",
                        remedy(input, by_name.get(name.as_str()).map_or(&[], Vec::as_slice))
                    ),
                ));
            } else if !used.contains(&input.content) {
                let same = input.record.same_as.as_deref().unwrap_or_default();
                wrong.push((file.clone(), format!(
                    "contains {name}, which has the same content as {same}, but the rows of {same} are missing; add the file that contains them, or collect the captures again"
                )));
            }
        }
        if wrong.is_empty() {
            wrong.extend(self.copy_errors());
            wrong.extend(self.grown());
            wrong.extend(overlaps(self.used()));
        }
        if wrong.is_empty() { Ok(()) } else { Err(StoreError::Rows(wrong)) }
    }

    /// Returns the inputs that have the same content as another input, but whose rows cannot be
    /// left out: either the two inputs are from different sensors, or the rows of both were merged
    /// with those of other inputs, in two files. Inputs without frames have no such rows. Each item
    /// has the name of a file and the reason.
    fn copy_errors(&self) -> Vec<(String, String)> {
        let alone = self.alone_in_file();
        let mut wrong = Vec::new();
        let mut first: BTreeMap<InputContent, (&InputRow, &str)> = BTreeMap::new();
        let mut merged: BTreeMap<InputContent, (&InputRow, &str)> = BTreeMap::new();
        let counts = |input: &InputRow| input.has_evidence() && input.record.account.frames > 0;
        for (input, file) in self.all.values().filter(|(input, _)| counts(input)) {
            let name = &input.record.name;
            let (known, other_file) = *first.entry(input.content).or_insert((input, file));
            let other = &known.record.name;
            if known.point() != input.point() {
                let sensor = |input: &InputRow| match input.point() {
                    Some(point) => format!("of the sensor {point}"),
                    None => "without a sensor".to_owned(),
                };
                let (own, theirs) = (sensor(input), sensor(known));
                wrong.push((file.clone(), format!(
                    "contains {name} {own}, but {other_file} contains the same content as {other} {theirs}; audit or merge the rows of only one of these captures"
                )));
            } else if !alone.contains(file.as_str()) {
                let (known, other_file) = *merged.entry(input.content).or_insert((input, file));
                let other = &known.record.name;
                // Within one file, rows with the same content already count only once.
                if other_file != file {
                    wrong.push((file.clone(), format!(
                        "contains {name}, which has the same content as {other} in {other_file}; both were merged with other captures and would count twice, so collect or merge again without one of them"
                    )));
                }
            }
        }
        wrong
    }

    /// Returns the captures that are there twice because they have grown: each file with the
    /// earlier rows, and the reason. The first frame of a capture does not change when it grows, so
    /// a longer input with the same path, sensor and time of the first frame is the same capture.
    /// The size of standard input is not known, so its frames are counted.
    fn grown(&self) -> Vec<(String, String)> {
        let mut by_name: BTreeMap<_, Vec<(&InputRow, &String)>> = BTreeMap::new();
        for (input, file) in self.all.values().filter(|(input, _)| input.has_evidence()) {
            let InputRecord { name, account, .. } = &input.record;
            let is_window = input.sensor.as_ref().is_some_and(|sensor| sensor.window.is_some());
            if let Some(first) = account.first.get().filter(|_| !is_window) {
                let point = input.sensor.as_ref().map(|sensor| &sensor.point);
                let file_name = Path::new(name).file_name();
                by_name.entry((file_name, point, first)).or_default().push((input, file));
            }
        }
        let mut wrong = Vec::new();
        for mut inputs in by_name.into_values() {
            let length = |input: &InputRow| match input.record.name.as_str() {
                "-" => input.record.account.frames,
                _ => input.record.size,
            };
            inputs.sort_by_key(|(input, _)| length(input));
            for (number, (earlier, file)) in inputs.iter().enumerate() {
                let name = &earlier.record.name;
                let later = inputs[number + 1..].iter().find(|(later, _)| {
                    is_same_path(name, &later.record.name)
                        && earlier.content != later.content
                        && length(earlier) != length(later)
                });
                let Some((_, other)) = later else { continue };
                let capture = match name.as_str() {
                    "-" => "a capture from standard input",
                    name => name,
                };
                wrong.push(((*file).clone(), format!(
                    "contains {capture} as it was before it grew, and {other} contains it as it was later, so its frames would count twice; delete the first file, or merge its captures again without the earlier rows"
                )));
            }
        }
        wrong
    }

    /// Returns the files that contain the evidence of only one input.
    fn alone_in_file(&self) -> BTreeSet<&str> {
        let mut in_file: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, file) in self.all.values().filter(|(input, _)| input.has_evidence()) {
            *in_file.entry(file).or_default() += 1;
        }
        in_file.into_iter().filter(|(_, count)| *count == 1).map(|(file, _)| file).collect()
    }

    /// Returns the statement that the store is complete; `None` if it is not.
    pub fn completion(&self) -> Option<&Completion> {
        self.completions.first().map(|(completion, _)| completion)
    }

    /// Returns the differences between the inputs and those that complete stores state, and an
    /// error if there are several complete stores. Each item has the name of a file and the reason.
    fn completion_errors(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        for (completion, complete) in &self.completions {
            let inputs: BTreeSet<&String> = completion.inputs.iter().collect();
            for (_, (input, file)) in self.all.iter().filter(|(id, _)| !inputs.contains(id)) {
                let name = &input.record.name;
                wrong.push((file.clone(), format!(
                    "contains {name}, which cannot be added to the complete store {complete}, because server names and duplicates were decided without it; use the stores from which the complete store was merged instead"
                )));
            }
            let missing = inputs.iter().filter(|id| !self.all.contains_key(**id)).count();
            if missing > 0 {
                let all = inputs.len();
                wrong.push((complete.clone(), format!(
                    "belongs to a complete store (inputs: {all}), but the rows of some inputs are missing ({missing}); merge the original stores again with --complete"
                )));
            }
        }
        if let [(_, first), (_, other), ..] = self.completions.as_slice() {
            wrong.push((
                other.clone(),
                format!(
                    "belongs to a complete store, and {first} belongs to another; use only one of these stores"
                ),
            ));
        }
        wrong
    }

    /// Returns the statement that a store with these inputs is complete and contains these rows.
    pub fn complete(&self, written: &Ledger) -> Completion {
        Completion { inputs: self.all.keys().cloned().collect(), manifest: written.manifest() }
    }

    /// Returns the options with which the inputs were read; the default options without inputs.
    pub fn options(&self) -> CollectOptions {
        self.all.values().next().map(|(input, _)| input.options.clone()).unwrap_or_default()
    }

    /// Returns all inputs.
    pub fn iter(&self) -> impl Iterator<Item = &InputRow> {
        self.all.values().map(|(input, _)| input)
    }

    /// Returns one input for each content: the one whose rows of evidence count. Rows that were
    /// merged with those of other inputs cannot be left out, so an input that shares its file with
    /// others is preferred.
    pub fn used(&self) -> impl Iterator<Item = &InputRow> {
        let alone = self.alone_in_file();
        let mut by_content: BTreeMap<InputContent, (bool, &InputRow)> = BTreeMap::new();
        for (input, file) in self.all.values().filter(|(input, _)| input.has_evidence()) {
            let is_alone = alone.contains(file.as_str());
            let known = by_content.entry(input.content).or_insert((is_alone, input));
            if known.0 && !is_alone {
                *known = (is_alone, input);
            }
        }
        by_content.into_values().map(|(_, input)| input)
    }

    /// Returns, for each input, the identity that its rows of evidence get when they are merged:
    /// the lowest identity of the inputs with the same content, or `None` if the rows do not count
    /// because another input has the same content.
    pub fn labels(&self) -> BTreeMap<String, Option<String>> {
        let used: BTreeSet<String> = self.used().map(InputRow::id).collect();
        let mut lowest: BTreeMap<InputContent, &String> = BTreeMap::new();
        for (id, (input, _)) in self.all.iter().filter(|(_, (input, _))| input.has_evidence()) {
            lowest.entry(input.content).or_insert(id);
        }
        let label = |id: &String, input: &InputRow| {
            let label = lowest.get(&input.content).filter(|_| used.contains(id));
            label.map(|id| (*id).clone())
        };
        self.all.iter().map(|(id, (input, _))| (id.clone(), label(id, input))).collect()
    }

    /// Compares rows of evidence with those that were written for the inputs or for the complete
    /// store, and the frames that they account for with the frames that were read.
    ///
    /// # Errors
    ///
    /// Returns the differences, and the manifests that are damaged.
    pub fn compare(&self, found: &Ledger) -> Result<(), StoreError> {
        let mut expected = Ledger::default();
        let mut wrong = Vec::new();
        let mut frames = 0_u64;
        let mut accounted = found.accounted;
        for input in self.used() {
            // A complete store contains other rows than were written for its inputs, and states
            // them.
            let is_valid = self.completion().is_some() || expected.add_manifest(&input.manifest);
            if !is_valid {
                wrong.push(format!("the manifest of {} is damaged", input.record.name));
            }
            frames = frames.saturating_add(input.record.account.frames);
            accounted = accounted.saturating_add(input.accounted());
        }
        if let Some(completion) = self.completion()
            && !expected.add_manifest(&completion.manifest)
        {
            wrong.push("the manifest of the complete store is damaged".to_owned());
        }
        wrong.extend(found.differences(&expected));
        if accounted != frames {
            wrong.push(format!("frames read: {frames}, accounted for: {accounted}"));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let files: BTreeSet<&str> = self.all.values().map(|(_, file)| file.as_str()).collect();
        let files = match files.iter().copied().collect::<Vec<_>>().as_slice() {
            [] => "the store".to_owned(),
            [file] => (*file).to_owned(),
            [first, _] => format!("the store ({first} and 1 more file)"),
            [first, others @ ..] => format!("the store ({first} and {} more files)", others.len()),
        };
        Err(StoreError::rows(
            files,
            format!(
                "contains rows that differ from those that were written ({}); check that all files of the store are given, or collect the captures or merge the stores again",
                wrong.join("; ")
            ),
        ))
    }

    /// Returns the name of the file for the merged rows, without its extension. The name begins
    /// with `kind` and identifies the inputs and their options.
    pub fn merged_name(&self, kind: &str) -> String {
        let mut digest = Sha256::new();
        for id in self.all.keys() {
            digest.update(id.as_bytes());
            digest.update([0]);
        }
        format!("{kind}-{}-{}", hex(&digest.finalize()[..8]), self.options().hash())
    }
}

/// Returns what to do about an input that was collected with other options. `same` lists the inputs
/// with the same name, each with its file.
fn remedy(input: &InputRow, same: &[&(InputRow, String)]) -> String {
    let other = same.iter().find(|(other, _)| other.options != input.options);
    match other {
        Some((_, other)) => format!(
            "{other} contains the same capture with the other options, so delete the file that you do not need"
        ),
        None => "collect both with the same options".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::FingerprintRule;
    use super::*;

    fn input(name: &str, tool: &str) -> InputRow {
        InputRow {
            tool: tool.to_owned(),
            options: CollectOptions::default(),
            content: Sha256::digest(name).into(),
            record: InputRecord { name: name.to_owned(), ..InputRecord::default() },
            timeline: Default::default(),
            manifest: Vec::new(),
            windows: Vec::new(),
            sensor: None,
        }
    }

    #[test]
    fn inputs_of_other_versions_or_options_are_refused() {
        let mut inputs = StoredInputs::default();
        inputs.add_input(input("a.pcap", "1.1.0"), "a.parquet").expect("new");
        inputs.check().expect("one version");
        assert_eq!(inputs.version(), Some("1.1.0"));
        inputs.add_input(input("b.pcap", "1.2.0"), "b.parquet").expect("new");
        let mut other = input("c.pcap", "1.1.0");
        other.options.pieces = true;
        inputs.add_input(other, "c.parquet").expect("new");
        let errors = inputs.check().expect_err("another version and other options").to_string();
        assert!(errors.contains("rasaudit 1.2.0 collected, but a.pcap"), "{errors}");
        assert!(errors.contains("a different setting of --pieces"), "{errors}");
    }

    #[test]
    fn fingerprints_of_earlier_layouts_are_not_compared_with_current_ones() {
        let with = |fingerprints| {
            let mut inputs = StoredInputs::default();
            inputs.add_input(input("a.pcap", "1.1.0"), "a.parquet").expect("new");
            let mut other = input("b.pcap", "1.1.0");
            other.options.fingerprints = fingerprints;
            // The row of an input keeps its layout when stores are merged.
            inputs.add(&other.to_row().as_ref(), "b.parquet").expect("new");
            inputs.check().map_err(|error| error.to_string())
        };
        assert_eq!(with(FingerprintRule::Current), Ok(()));
        let error = with(FingerprintRule::Checksums).expect_err("they differ");
        assert!(error.contains("recognizes duplicates differently"), "{error}");
    }
}
