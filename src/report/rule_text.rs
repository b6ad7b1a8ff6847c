//! Describes the codes of findings, for formats that list them as rules.

use crate::classify::Code;

/// The description of a code.
pub(super) struct RuleText {
    /// The meaning of the code, as a sentence.
    pub short: &'static str,
    /// The recommended action for a finding with the code.
    pub help: &'static str,
}

const fn text(short: &'static str, help: &'static str) -> RuleText {
    RuleText { short, help }
}

/// Returns the description of a code that a finding can have; `None` for the codes of traffic that
/// is permitted or is background traffic.
pub(super) fn rule_text(code: Code) -> Option<RuleText> {
    permission_text(code).or_else(|| failure_text(code)).or_else(|| absence_text(code))
}

/// Describes the codes of traffic that neither the matrix nor an exception permits.
fn permission_text(code: Code) -> Option<RuleText> {
    Some(match code {
        Code::ExpiredException => text(
            "An exception would have permitted the traffic, but it has expired.",
            "Renew the exception if the traffic is still approved; otherwise block the traffic.",
        ),
        Code::FeatureOff => text(
            "The traffic needs a feature that is off in the inventory.",
            "Set the feature to true in the inventory if the farm uses it; otherwise find out which \
             program causes the traffic.",
        ),
        Code::WrongTransport => text(
            "The port is documented for these roles over another transport.",
            "Find out why the client uses this transport.",
        ),
        Code::Reversed => text(
            "The port is documented for these roles in the opposite direction.",
            "Check the roles of both hosts in the inventory; if they are right, find out why the \
             connection is opened in the opposite direction.",
        ),
        Code::PortNotInMatrix => text(
            "The matrix allows traffic from the client to the server, but not on this port.",
            "Find out what serves the port. Block the traffic, or add an exception if it is approved.",
        ),
        Code::ExposedInternal => text(
            "An external client contacted an internal port of a farm host.",
            "Block the port on the firewall in front of the farm.",
        ),
        Code::WrongSource => text(
            "The matrix documents this port of the server, but only for clients with other roles.",
            "Block the traffic on the firewall between the hosts, or correct the roles in the \
             inventory.",
        ),
        Code::NoRelation => text(
            "No row of the matrix allows traffic from the client to the server.",
            "Find out why the hosts communicate. Block the traffic, or add an exception if it is approved.",
        ),
        Code::NoRole => text(
            "At least one end of the conversation has no role in the inventory.",
            "Add the roles of the host to the inventory. If it has none, list its approved traffic as \
             exceptions.",
        ),
        Code::UnknownHost => text(
            "At least one end of the conversation is not in the inventory.",
            "Identify each host that is not in the inventory. If it belongs to the farm, add it with its \
             roles; otherwise block its traffic.",
        ),
        _ => return None,
    })
}

/// Describes the codes of expected traffic that failed or is missing, of contradictions between the
/// inventory and the capture, of loopback addresses on a network, and of problems with features and
/// exceptions.
fn failure_text(code: Code) -> Option<RuleText> {
    Some(match code {
        Code::Refused => text(
            "The server refused traffic that the matrix documents.",
            "Check that the service is running and listening on the port.",
        ),
        Code::Rejected => text(
            "A device on the path, or a filter on the server, rejected traffic that the matrix documents.",
            "Allow the traffic on the device that rejected it.",
        ),
        Code::Challenged => text(
            "The server answered a SYN with an ACK that does not acknowledge the SYN.",
            "The server still holds an older connection on the same ports. Check what keeps this connection open.",
        ),
        Code::Unanswered => text(
            "Traffic that the matrix documents was not answered.",
            "Allow the traffic on the firewalls between the hosts and on the server itself.",
        ),
        Code::HalfOpen => text(
            "The server answered, but the client did not complete the handshake.",
            "Check the path from the server back to the client.",
        ),
        Code::NeverAttempted => text(
            "Traffic that the matrix requires was not attempted, although the capture could have shown it.",
            "Check that the client is configured to use the server.",
        ),
        Code::RoleMismatch => text(
            "A host serves a port of a role that it does not have in the inventory, or an unlisted address serves a port of a role whose host was never seen.",
            "Correct the roles or the address of the host in the inventory, or stop the service.",
        ),
        Code::SilentRole => text(
            "A host showed no traffic of one of its roles.",
            "Correct the roles of the host in the inventory, or check that its service is running.",
        ),
        Code::AddressConflict => text(
            "Several MAC addresses claim one address at the same time.",
            "Find the devices with these MAC addresses, and give each an address of its own, or \
             list the address as virtual with held-by.",
        ),
        Code::LoopbackOnWire => text(
            "Loopback addresses were seen on a network.",
            "Find the device that sends these packets.",
        ),
        Code::FeatureUnstated => text(
            "The traffic is permitted only by a feature that the inventory does not mention.",
            "State in the inventory whether the feature is in use.",
        ),
        Code::UnusedException => text(
            "An exception matched no traffic that needs it.",
            "Remove the exception if it is no longer needed.",
        ),
        _ => return None,
    })
}

/// Describes the codes of traffic that could not be assessed.
fn absence_text(code: Code) -> Option<RuleText> {
    let (short, help) = match code {
        Code::HostNotSeen => (
            "Traffic could not be assessed because the capture shows no unicast packets from a host, or does not show the name or address of a destination.",
            "Check the span port and the addresses in the inventory.",
        ),
        Code::PairNotCovered => (
            "Traffic could not be assessed because nothing shows that the capture covers the pair of hosts.",
            "State in the inventory which hosts the span port covers.",
        ),
        Code::OneSidedView => (
            "Traffic could not be assessed because only one direction is visible.",
            "Mirror both directions to the span port.",
        ),
        Code::LoopbackOnly => (
            "Traffic could not be assessed because it stays inside a host.",
            "Capture on the host itself to assess this traffic.",
        ),
        Code::WindowTooShort => (
            "Traffic could not be assessed because the watch time was shorter than required.",
            "Capture for longer, or where more traffic is visible.",
        ),
        Code::CaptureFiltered => (
            "Traffic could not be assessed because the capture was filtered, or contains no packets of a transport or IP version.",
            "Capture and audit without a filter.",
        ),
        Code::LossTooHigh => (
            "Traffic could not be assessed because the capture lost too many frames.",
            "Capture again with a larger buffer or a shorter snaplen.",
        ),
        Code::FeatureUnknown => (
            "Traffic could not be assessed because the inventory does not mention a required feature.",
            "State in the inventory whether the feature is in use.",
        ),
        Code::TriggerNotSeen => (
            "Traffic could not be assessed because its trigger was not seen.",
            "Capture while the farm is in use.",
        ),
        _ => return None,
    };
    Some(text(short, help))
}
