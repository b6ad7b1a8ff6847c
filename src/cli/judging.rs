//! Everything that is judged by, as the command line names it.

use std::path::Path;

use super::args::Judging;
use super::exceptions::load_exceptions;
use super::policy::{Wanted, load_policy};
use crate::model::Nanos;
use crate::policy::{Diagnostic, Exceptions, Policy};

/// Loads everything that is judged by, or says everything that is wrong.
pub(super) fn load_judging(
    inventory: &Path,
    judging: &Judging,
    as_of: Option<Nanos>,
) -> Result<Policy, Vec<Diagnostic>> {
    let wanted = Wanted {
        matrix: judging.matrix.as_deref(),
        rules: judging.rules.as_deref(),
        overlays: &judging.overlays,
    };
    let mut policy = load_policy(inventory, &wanted)?;
    if let Some(file) = &judging.exceptions {
        policy.exceptions = Exceptions { as_of, ..load_exceptions(file, &policy)? };
    }
    for (code, severity) in &judging.severities {
        let (verdict, table) = (code.verdict(), &mut policy.matrix.severities);
        table.override_code(verdict.name(), code.name(), *severity);
    }
    Ok(policy)
}
