//! Loads the policy that the command line describes.

use std::path::Path;

use super::args::PolicyArgs;
use super::exceptions::load_exceptions;
use super::policy::{RulesWanted, file_problem, load_policy};
use crate::model::Nanos;
use crate::policy::{Diagnostic, Exceptions, Policy};

/// Loads the policy with its exceptions and severities. The error lists all problems of the
/// inventory and the rules. If these are valid, it lists all problems of the exceptions.
pub(super) fn load_judging(
    inventory: &Path,
    policy_args: &PolicyArgs,
    as_of: Option<Nanos>,
) -> Result<Policy, Vec<Diagnostic>> {
    let wanted = RulesWanted {
        matrix: policy_args.matrix.as_deref(),
        rules: policy_args.rules.as_deref(),
        overlays: &policy_args.overlays,
    };
    let mut policy = load_policy(inventory, &wanted)?;
    if let Some(file) = &policy_args.exceptions {
        policy.exceptions = Exceptions { as_of, ..load_exceptions(file, &policy)? };
    }
    for (number, (code, severity)) in policy_args.severities.iter().enumerate() {
        let mut earlier = policy_args.severities[..number].iter();
        if let Some((_, first)) = earlier.find(|(known, first)| known == code && first != severity)
        {
            let message = format!("{code} has two severities, {first} and {severity}; give one");
            return Err(file_problem("--severity", message));
        }
        let verdict = code.verdict();
        let table = &mut policy.matrix.severities;
        table.override_code(verdict.name(), code.name(), *severity);
    }
    Ok(policy)
}
