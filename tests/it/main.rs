//! Tests that any user can run: the program and the library with captures from `fixtures/` or from
//! code. Tests that are slow or need other programs run in `tests/lab`.

#[path = "../support/mod.rs"]
mod support;

/// Does not run the listed tests. The test program `lab` includes the same files and runs them.
macro_rules! lab_tests {
    ($($name:ident: [$($need:ident),*],)*) => {
        const _: &[fn()] = &[$($name),*];
    };
}

mod architecture;
#[cfg(feature = "store")]
mod archives;
mod cached;
mod cli;
mod compressed;
mod config;
mod contradictions;
mod coverage;
mod damage;
mod decoding;
mod diff;
mod draft;
mod evidence;
mod exceptions;
mod first_hour;
mod floods;
mod formats;
mod golden;
mod hostile;
mod licences;
mod links;
mod matrix;
mod merge_laws;
mod mutations;
mod names;
mod order_free;
mod page;
mod policies;
mod provenance;
mod report_files;
mod running;
mod schema;
#[cfg(feature = "store")]
mod sensors;
mod shipping;
mod show;
mod stored;
mod threat;
mod traffic;
mod tutorial;
mod values;
mod verdicts;
mod views;
mod vocabulary;
