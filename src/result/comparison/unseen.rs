//! Determines whether an audit could have shown traffic that only the other one shows.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::side::{Seen, Side};
use crate::classify::OTHER_SENSORS;
use crate::model::network_around;
use crate::result::{HostRow, SensorWatch, SiteHost};

/// A host or an address at an end of a finding, as each of the two audits calls it.
#[derive(Clone)]
pub(super) struct FindingEnd {
    /// The name or address in the audit that shows the traffic.
    pub own: String,
    /// The name or address in the other audit, which is examined.
    pub other: String,
}

/// The ends of traffic that only one of the audits shows.
pub(super) struct FindingEnds {
    pub clients: Vec<FindingEnd>,
    pub servers: Vec<FindingEnd>,
    /// The numbers of clients and servers that are not named.
    pub unnamed: [usize; 2],
    /// Whether some of these may be listed hosts.
    has_unnamed_hosts: bool,
    /// The transport of the traffic; `*` for several.
    transport: String,
    /// The named vantage points that saw the traffic.
    sensors: Vec<String>,
}

impl FindingEnds {
    /// Returns the ends of traffic between these clients and servers over this transport (`*` for
    /// several), which these vantage points saw. `name` translates a name to that in the other
    /// audit.
    pub fn new(
        lists: [&[String]; 2],
        transport: &str,
        sensors: &[String],
        name: impl Fn(&str) -> String,
    ) -> Self {
        let is_named = |name: &&String| !name.starts_with('+');
        let end = |own: &String| FindingEnd { own: own.clone(), other: name(own) };
        let [clients, servers] = lists.map(|list| list.iter().filter(is_named).map(end).collect());
        // Listed hosts come first, so only addresses are left out after an address.
        let may_lack_hosts = |list: &&[String]| {
            let last = list.iter().rev().find(is_named);
            !list.iter().all(|name| is_named(&name))
                && last.is_none_or(|last| last.parse::<IpAddr>().is_err())
        };
        let has_unnamed_hosts = lists.iter().any(may_lack_hosts);
        // The last item is `+5 more`, for example.
        let unnamed = lists.map(|list| {
            let more = list.last().and_then(|last| last.strip_prefix('+'));
            more.and_then(|more| more.split(' ').next()?.parse().ok()).unwrap_or_default()
        });
        let (transport, sensors) = (transport.to_owned(), sensors.to_vec());
        Self { clients, servers, unnamed, has_unnamed_hosts, transport, sensors }
    }

    /// Adds the number of hosts that a reason applies to. It is left out for a single pair of
    /// hosts.
    fn for_some(&self, reason: String, count: usize) -> String {
        let unnamed: usize = self.unnamed.iter().sum();
        let all = self.distinct().len() + unnamed;
        if all <= 2 {
            return reason;
        }
        let least = if unnamed > 0 { "at least " } else { "" };
        format!("{reason}; this applies to {least}{count} of {all} hosts")
    }

    /// Returns the first of the reasons that apply to single hosts, with the number of hosts that
    /// they apply to.
    fn first_of(&self, mut reasons: impl Iterator<Item = String>) -> Option<String> {
        let first = reasons.next()?;
        Some(self.for_some(first, 1 + reasons.count()))
    }

    /// Returns each end once, clients first.
    pub fn distinct(&self) -> Vec<&FindingEnd> {
        let mut known = HashSet::new();
        let all = self.clients.iter().chain(&self.servers);
        all.filter(|end| known.insert(&end.other)).collect()
    }
}

impl<'a> Side<'a> {
    /// Returns why this audit could not have shown traffic between all of `ends` that `other`
    /// shows: the first condition that does not hold. If `other` is `None`, any watch time is
    /// enough. Returns `None` if this audit could have shown the traffic.
    pub fn why_unseen(&self, ends: &FindingEnds, other: Option<&Self>) -> Option<String> {
        let hosts = ends.distinct();
        ends.first_of(hosts.iter().filter_map(|end| self.why_silent(&end.other)))
            .or_else(|| self.why_uncovered(ends))
            .or_else(|| self.why_incomplete(&ends.transport))
            .or_else(|| {
                let other = other?;
                let needed_s = other.watched_s();
                let watched_s = self.watched_s();
                let is_shorter = !is_enough(watched_s, needed_s);
                let shorter = is_shorter.then(|| {
                    format!(
                        "its watch time was only {watched_s} s, and that of the other capture {needed_s} s"
                    )
                });
                let absences = hosts.iter().filter_map(|end| self.why_absent(end, other));
                shorter
                    .or_else(|| ends.first_of(absences))
                    .or_else(|| self.why_unwatched(ends, &hosts, other))
            })
            .or_else(|| {
                ends.has_unnamed_hosts.then(|| "not all hosts of the finding are known".to_owned())
            })
    }

    /// Returns the host with this name, or with this address in the inventory.
    fn host(&self, end: &str) -> Option<&HostRow<'a>> {
        let by_address = || self.names.get(&end.parse::<IpAddr>().ok()?);
        self.hosts.get(end).or_else(|| self.hosts.get(by_address()?))
    }

    /// Returns how the site describes a host.
    fn site_host(&self, name: &str) -> Option<&'a SiteHost> {
        let site = self.result.site()?;
        self.site_hosts.get(name).map(|number| &site.hosts[*number])
    }

    /// Says that an end is not listed, or that no packets from it were seen. An address that the
    /// inventory does not list need not be seen.
    fn why_silent(&self, end: &str) -> Option<String> {
        match self.host(end) {
            Some(host) if host.unicast_sent == 0 => {
                Some(format!("it shows no unicast packets from {end}"))
            }
            None if end.parse::<IpAddr>().is_err() => {
                Some(format!("its inventory does not list {end}"))
            }
            _ => None,
        }
    }

    /// Names a client and a server whose traffic the capture need not show, because it covers
    /// neither of them.
    fn why_uncovered(&self, ends: &FindingEnds) -> Option<String> {
        if self.result.head.coverage.as_ref().is_some_and(|covers| covers.stated == "all") {
            return None;
        }
        let is_watched = |end: &FindingEnd| {
            let name = self.host(&end.other).map(|host| host.name.as_ref());
            name.and_then(|name| self.site_host(name)).is_some_and(|host| host.is_watched)
        };
        let uncovered = |ends: &[FindingEnd]| -> Vec<String> {
            ends.iter().filter(|end| !is_watched(end)).map(|end| end.other.clone()).collect()
        };
        let [clients, servers] = [&ends.clients, &ends.servers].map(|ends| uncovered(ends));
        let traffic = match (clients.first(), servers.first()) {
            (Some(client), Some(server)) if client != server => {
                format!("traffic between {client} and {server}")
            }
            (Some(end), Some(_)) => format!("all traffic of {end}"),
            (Some(end), None) if ends.servers.is_empty() => format!("all traffic of {end}"),
            (None, Some(end)) if ends.clients.is_empty() => format!("all traffic of {end}"),
            _ => return None,
        };
        let hosts: HashSet<&String> = clients.iter().chain(&servers).collect();
        let words = format!("nothing shows that the capture covers {traffic}");
        Some(ends.for_some(words, hosts.len()))
    }

    /// Returns why this audit need not show all traffic over a transport (`*` for several) that
    /// passed.
    fn why_incomplete(&self, transport: &str) -> Option<String> {
        let conditions = &self.result.head.conditions;
        let mut lacking = conditions.lacking.iter();
        if conditions.is_filtered {
            Some("the capture was filtered".to_owned())
        } else if let Some(lacking) =
            lacking.find(|own| *own == transport || transport == "*" && !own.starts_with("IP"))
        {
            Some(contains_no(&lacking.to_uppercase()))
        } else if conditions.is_damaged {
            Some("part of the input could not be read".to_owned())
        } else if conditions.lacks_evidence {
            Some("evidence about listed hosts was dropped to stay within --max-memory".to_owned())
        } else if conditions.loss > conditions.max_loss {
            Some(format!("{:.2} % of the traffic was lost", conditions.loss * 100.0))
        } else {
            None
        }
    }

    /// Says that this audit has no packets of the IP version of one of these conversations.
    pub fn why_without_version<'s>(
        &self,
        mut others: impl Iterator<Item = &'s Seen>,
    ) -> Option<String> {
        let lacks =
            |version: &&str| self.result.head.conditions.lacking.iter().any(|own| own == version);
        others.find_map(|seen| {
            let version = if seen.client.is_ipv4() { "IPv4" } else { "IPv6" };
            Some(version).filter(lacks).map(contains_no)
        })
    }

    /// Says that a host was seen for a shorter time than in the other audit.
    fn why_absent(&self, end: &FindingEnd, other: &Self) -> Option<String> {
        let there_s = self.active_s(&end.other)?;
        let needed_s = other.watched_s();
        let needed_s = other.active_s(&end.own).map_or(needed_s, |own| own.min(needed_s));
        (!is_enough(there_s + SLACK_S, needed_s)).then(|| {
            format!(
                "it shows packets from {} for only {there_s} s, and the other capture for {needed_s} s",
                end.other
            )
        })
    }

    /// Returns the longest time, in seconds, between two packets from a host for which the capture
    /// was not interrupted; `None` if it is not known. Results of earlier versions do not contain
    /// interruptions.
    fn active_s(&self, end: &str) -> Option<u64> {
        let host = self.host(end)?;
        let known = self.site_host(&host.name).and_then(|host| host.active_seconds);
        known.or_else(|| {
            let (first, last) = host.first_sent.zip(host.last_sent)?;
            u64::try_from(last.0.saturating_sub(first.0) / crate::model::SECOND).ok()
        })
    }

    /// Returns why the named vantage points of this audit need not have seen traffic that the other
    /// one shows: one of those that saw the traffic, or that see one of its ends in this audit, did
    /// not watch as long as the other audit.
    fn why_unwatched(
        &self,
        ends: &FindingEnds,
        hosts: &[&FindingEnd],
        other: &Self,
    ) -> Option<String> {
        let words = hosts.iter().filter_map(|end| self.words.get(&end.other));
        let here = words.filter_map(|word| self.sensors.get(word)).flatten();
        let names: BTreeSet<&String> = here.chain(&ends.sensors).collect();
        if names.is_empty() {
            return None;
        }
        if names.iter().any(|name| *name == OTHER_SENSORS) {
            return Some("not all sensors that saw the hosts are known".to_owned());
        }
        let Some(sensors) = &self.result.head.conditions.sensors else {
            return Some("it does not state how long its sensors watched".to_owned());
        };
        let watched = |sensors: &[SensorWatch], name: &str| {
            sensors.iter().find(|own| own.name == name).map(|own| own.watched_seconds)
        };
        names.into_iter().find_map(|name| {
            let Some(watched_s) = watched(sensors, name) else {
                return Some(format!("it has no packets from the sensor {name}"));
            };
            let theirs = other.result.head.conditions.sensors.as_deref();
            let needed_s = theirs.and_then(|sensors| watched(sensors, name));
            let needed_s = needed_s.map_or(other.watched_s(), |own| own.min(other.watched_s()));
            (!is_enough(watched_s, needed_s)).then(|| {
                format!(
                    "its sensor {name} watched for only {watched_s} s, and the other capture for {needed_s} s"
                )
            })
        })
    }

    /// Returns whether an aggregated conversation of this audit may contain one of these
    /// conversations of the other one.
    pub fn may_hide<'s>(&self, mut others: impl Iterator<Item = &'s Seen>) -> bool {
        !self.aggregated.is_empty() && others.any(|other| self.may_contain(other))
    }

    fn may_contain(&self, other: &Seen) -> bool {
        let [clients, servers] = [other.client, other.server].map(|end| self.stand_ins(end));
        let ports = [other.port, other.port.map(|_| 0)];
        clients.iter().any(|client| {
            servers.iter().any(|server| {
                ports.iter().any(|port| {
                    let subject = (*client, *server, other.transport.clone(), *port);
                    self.aggregated.contains(&subject)
                })
            })
        })
    }

    /// Returns the addresses that may stand for an address in an aggregated conversation: the
    /// address itself, its /24 or /64, a listed network that contains it, and all addresses.
    fn stand_ins(&self, end: IpAddr) -> Vec<IpAddr> {
        let every: [IpAddr; 1] = match end {
            IpAddr::V4(v4) if v4.is_loopback() => [Ipv4Addr::new(127, 0, 0, 0).into()],
            IpAddr::V4(_) => [Ipv4Addr::UNSPECIFIED.into()],
            IpAddr::V6(_) => [Ipv6Addr::UNSPECIFIED.into()],
        };
        let networks = self.result.site().map_or(&[][..], |site| &site.networks);
        let networks = networks.iter().filter(|network| network.cidr.contains(&end));
        let networks = networks.map(|network| network.cidr.network());
        [end, network_around(end)].into_iter().chain(networks).chain(every).collect()
    }
}

/// Says that a capture contains no packets of a kind.
fn contains_no(kind: &str) -> String {
    format!("it contains no {kind} packets, perhaps because of a filter")
}

/// Returns whether a time, in seconds, is as long as needed. Captures of the same length differ
/// slightly in watched time, so 5 % less is accepted.
fn is_enough(seconds: u64, needed_s: u64) -> bool {
    seconds >= needed_s / 20 * 19
}

/// The time, in seconds, by which the activity of a host may be shorter than in the other capture,
/// because it seldom begins and ends with the capture.
const SLACK_S: u64 = 20;
