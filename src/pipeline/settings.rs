//! Lists the options that differ from their defaults and affect the judgement, so that the reports
//! state them.

use super::{Limits, Request};
use crate::policy::{Policy, SeverityOverride};
use crate::result::{OptionSetting, short};

/// Returns the options in a fixed order, whatever the order of the command line.
pub(super) fn settings(
    request: &Request,
    limits: &Limits,
    policy: Option<&Policy>,
) -> Vec<OptionSetting> {
    let mut found: Vec<(&str, String, String)> = Vec::new();
    let overrides = policy.map_or(&[][..], |policy| policy.matrix.severities.overrides());
    for changed in overrides {
        let value = format!("{}={}", changed.code, changed.severity);
        found.push(("--severity", value, replaced(changed)));
    }
    if let Some(watch) = limits.min_watch {
        let effect = "replaces the watch times of the rows".to_owned();
        found.push(("--min-watch", format!("{watch} s"), effect));
    }
    let usual = Limits::default().max_loss;
    if (limits.max_loss - usual).abs() > f64::EPSILON {
        let effect = format!("instead of {}", share(usual));
        found.push(("--max-loss", share(limits.max_loss), effect));
    }
    if let Some(time) = limits.as_of {
        let effect = "the time that the expiry dates of exceptions were compared with".to_owned();
        found.push(("--as-of", format!("{} UTC", short(time)), effect));
    }
    if request.no_decap {
        let effect = "tunnels were audited instead of their contents".to_owned();
        found.push(("--no-decap", String::new(), effect));
    }
    if !request.vxlan_ports.is_empty() {
        let ports: Vec<String> = request.vxlan_ports.iter().map(u16::to_string).collect();
        let effect = match ports.len() {
            1 => "VXLAN was also looked for on this UDP port".to_owned(),
            _ => "VXLAN was also looked for on these UDP ports".to_owned(),
        };
        found.push(("--vxlan-port", ports.join(", "), effect));
    }
    let file_of = |option: &str| {
        let file = request.configuration.as_ref()?;
        file.options.iter().any(|name| name == option).then(|| file.file.clone())
    };
    let setting = |(option, value, effect): (&str, String, String)| OptionSetting {
        option: option.to_owned(),
        value,
        effect,
        file: file_of(option),
    };
    found.into_iter().map(setting).collect()
}

/// Describes the severities that an override replaced.
fn replaced(changed: &SeverityOverride) -> String {
    match changed.replaced {
        [reached, attempted] if reached == attempted => format!("instead of {reached}"),
        [reached, attempted] => {
            format!("instead of {reached}, or {attempted} if the destination was not reached")
        }
    }
}

/// Returns a share as a percentage with at most three decimal places, as users write it.
fn share(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}
