//! The values of options: how they are read, and what is wrong with them.

use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use anstream::ColorChoice;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::civil::Date;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;

use crate::classify::Code;
#[cfg(feature = "live")]
use crate::live::Sandbox;
use crate::model::{Nanos, Transport};
#[cfg(feature = "store")]
use crate::model::{SECOND, VantagePoint};
use crate::pipeline::{Dedup, FailOn};
use crate::policy::Severity;

/// Parses a date such as `2027-01-31`.
pub(super) fn parse_day(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| "give a date like 2027-01-31".to_owned())
}

pub(super) fn color() -> impl TypedValueParser<Value = ColorChoice> {
    PossibleValuesParser::new(["auto", "always", "never"]).map(|when| color_named(&when))
}

fn color_named(when: &str) -> ColorChoice {
    match when {
        "always" => ColorChoice::Always,
        "never" => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// Returns the value of `--color` among arguments that could not be parsed; `auto` if it is missing
/// or not valid.
pub(super) fn color_among(arguments: impl Iterator<Item = OsString>) -> ColorChoice {
    let mut words = arguments.map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        match word.strip_prefix("--color") {
            Some("") => return color_named(&words.next().unwrap_or_default()),
            Some(rest) if rest.starts_with('=') => return color_named(&rest[1..]),
            _ => {}
        }
    }
    ColorChoice::Auto
}

pub(super) fn dedup() -> impl TypedValueParser<Value = Dedup> {
    let names = PossibleValuesParser::new(Dedup::NAMES.iter().copied());
    names.map(|name| Dedup::parse(&name).unwrap_or_default())
}

#[cfg(feature = "live")]
pub(super) fn sandbox() -> impl TypedValueParser<Value = Sandbox> {
    let names = PossibleValuesParser::new(Sandbox::NAMES.iter().copied());
    names.map(|name| Sandbox::parse(&name).unwrap_or(Sandbox::Auto))
}

/// Parses an address with a port. A port alone means that port on 127.0.0.1.
#[cfg(feature = "serve")]
pub(super) fn parse_listen(text: &str) -> Result<std::net::SocketAddr, String> {
    let address = if text.contains(':') { text.to_owned() } else { format!("127.0.0.1:{text}") };
    address.parse().map_err(|_| "give an address like 127.0.0.1:9475".to_owned())
}

pub(super) fn fail_on(text: &str) -> Result<FailOn, String> {
    parse_fail_on(text, &["never", "new"])
}

/// Parses the value of `--fail-on` for a live audit. `new` is parsed too, so that the command can
/// say why it needs an audit of captures.
#[cfg(feature = "live")]
pub(super) fn live_fail_on(text: &str) -> Result<FailOn, String> {
    parse_fail_on(text, &["never"])
}

/// Parses a severity, `never` or `new`. An error names the severities and `others`.
fn parse_fail_on(text: &str, others: &[&str]) -> Result<FailOn, String> {
    match text {
        "never" => Ok(FailOn::Never),
        "new" => Ok(FailOn::New),
        text => Severity::parse(text).map(FailOn::From).ok_or_else(|| {
            let names = Severity::NAMES.iter().chain(others).copied();
            let near = crate::policy::nearest(text, names);
            let before = if others.len() > 1 { "," } else { " or" };
            let (names, others) = (Severity::NAMES.join(", "), others.join(" or "));
            format!("give a severity ({names}){before} {others}{near}")
        }),
    }
}

/// Parses an RFC 3339 time, a date and time without a zone (UTC), or a date (its first moment in
/// UTC).
pub(super) fn parse_time(text: &str) -> Result<Nanos, String> {
    let wrong = "give a time like 2026-05-04T08:00:00Z or a date like 2026-05-04 (UTC)";
    let out_of_range =
        || "the time is out of range; give one from 1677-09-22 to 2262-04-10".to_owned();
    let pieces = Pieces::parse(text).map_err(|_| wrong)?;
    // The parser also accepts leap seconds, the names of time zones, and offsets of more than a
    // day, which are errors here.
    if text.contains(":60") || text.contains('[') {
        return Err(wrong.to_owned());
    }
    let offset = pieces.to_numeric_offset().unwrap_or(Offset::UTC);
    if !(-12 * 3600..=14 * 3600).contains(&offset.seconds()) {
        return Err("no time zone has this offset from UTC; offsets are -12:00 to +14:00".into());
    }
    let time = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    let time = offset.to_timestamp(time).map_err(|_| out_of_range())?;
    Nanos::try_from(time.as_nanosecond()).map_err(|_| out_of_range())
}

/// Parses a code and its severity, such as `refused=low`.
pub(super) fn parse_severity(text: &str) -> Result<(Code, Severity), String> {
    let (code, level) =
        text.split_once('=').ok_or("give a code and a severity like refused=low")?;
    let near =
        |word: &str, known: &[&'static str]| crate::policy::nearest(word, known.iter().copied());
    let is_finding = |code: &&'static str| Code::parse(code).is_some_and(Code::is_of_findings);
    let codes: Vec<&'static str> = Code::NAMES.iter().copied().filter(is_finding).collect();
    let parsed = Code::parse(code);
    if let Some(code) = parsed.filter(|code| !code.is_of_findings()) {
        return Err(format!(
            "\"{code}\" is the code of {} traffic, which is never a finding; the codes are {}",
            code.verdict(),
            codes.join(", ")
        ));
    }
    let code = parsed.ok_or_else(|| match near(code, &codes) {
        none if none.is_empty() => {
            format!("\"{code}\" is not a finding code; the codes are {}", codes.join(", "))
        }
        near => format!("\"{code}\" is not a finding code{near}"),
    })?;
    let level = Severity::parse(level).ok_or_else(|| match near(level, Severity::NAMES) {
        none if none.is_empty() => format!(
            "\"{level}\" is not a severity; the severities are {}",
            Severity::NAMES.join(", ")
        ),
        near => format!("\"{level}\" is not a severity{near}"),
    })?;
    Ok((code, level))
}

/// Parses a port and a protocol, such as `20003/tcp` or `tcp/20003`. In `8/icmp`, the number is the
/// ICMP type, and in `112/ip`, it is the protocol number.
pub(super) fn parse_service(text: &str) -> Result<(u16, Transport), String> {
    let wrong = || {
        "give a port and a protocol like 20003/tcp, an ICMP type like 8/icmp, or a protocol number like 112/ip".to_owned()
    };
    let (a, b) = text.split_once('/').ok_or_else(wrong)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (number, transport) = if is_number(a) { (a, b) } else { (b, a) };
    if !is_number(number) {
        return Err(wrong());
    }
    let port: u16 = number.parse().map_err(|_| {
        format!(
            "{number} is too large: ports go up to 65535, and ICMP types and protocol numbers up to 255"
        )
    })?;
    match (transport.to_lowercase().as_str(), port) {
        ("ip", _) => match u8::try_from(port).map(Transport) {
            Ok(ip) if ip.has_ports() || ip.is_icmp() => {
                let (what, number) = if ip.is_icmp() { ("type", 8) } else { ("port", 443) };
                Err(format!("IP protocol {port} needs a {what}, for example {number}/{ip}"))
            }
            Ok(ip) => Ok((0, ip)),
            Err(_) => Err(format!("{port} is not an IP protocol; protocol numbers are 0 to 255")),
        },
        (other, port) => match Transport::parse(other) {
            Some(transport) if transport.is_icmp() && port > 255 => {
                Err(format!("{port} is not an ICMP type; ICMP types are 0 to 255"))
            }
            Some(transport) if transport.is_icmp() => Ok((port, transport)),
            Some(transport) if transport.has_ports() && port > 0 => Ok((port, transport)),
            Some(transport) if transport.has_ports() => Err("a port must be at least 1".to_owned()),
            _ => Err(wrong()),
        },
    }
}

/// Parses a network, such as `203.0.113.0/24`.
pub(super) fn parse_network(text: &str) -> Result<ipnet::IpNet, String> {
    let net: ipnet::IpNet =
        text.parse().map_err(|_| "give a network like 203.0.113.0/24".to_owned())?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!(
            "the address has bits set beyond the prefix; did you mean \"{}\"?",
            net.trunc()
        ))
    }
}

/// Parses a duration, such as `600`, `600s`, `10m` or `1h`, and returns it in whole seconds.
pub(super) fn parse_duration(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let duration: jiff::SignedDuration =
        text.parse().map_err(|_| "give a duration like 600s, 10m or 1h".to_owned())?;
    u64::try_from(duration.as_secs()).map_err(|_| "a duration cannot be negative".to_owned())
}

/// Parses the length of clock windows and returns it in nanoseconds. A day must be a multiple of
/// the length, so that a window begins at midnight. The length must be a multiple of a minute, so
/// that each window consists of whole units of watch time, which are ten seconds long.
#[cfg(feature = "store")]
pub(super) fn parse_clock_window(text: &str) -> Result<Nanos, String> {
    const DAY: u64 = 24 * 3600;
    let seconds = match text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()) {
        Some(days) => days.saturating_mul(DAY),
        None => parse_duration(text)?,
    };
    if seconds == 0 || !seconds.is_multiple_of(60) || !DAY.is_multiple_of(seconds) {
        return Err(
            "give whole minutes that divide a day evenly, such as 5m, 15m, 1h, 6h or 1d".to_owned()
        );
    }
    Nanos::try_from(seconds).map(|seconds| seconds * SECOND).map_err(|error| error.to_string())
}

/// Parses the time of `--every` or `--idle`, which must be at least one second, and returns it in
/// seconds.
#[cfg(feature = "live")]
pub(super) fn parse_window(text: &str) -> Result<u64, String> {
    match parse_duration(text)? {
        0 => Err("the duration must be at least 1 second".to_owned()),
        seconds => Ok(seconds),
    }
}

/// Parses a share, such as `1%` or `0.01`.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    if unit == 1.0 && number.trim().parse::<f64>() == Ok(1.0) {
        return Err("1 could be 1% or 100%; give one of them".to_owned());
    }
    let share = number.trim().parse::<f64>().map(|n| n / unit);
    share
        .ok()
        .filter(|s| (0.0..=1.0).contains(s))
        .ok_or_else(|| "give a share from 0% to 100%".to_owned())
}

/// Parses the name of a site or a sensor.
#[cfg(feature = "store")]
pub(super) fn parse_vantage_name(text: &str) -> Result<String, String> {
    let name = VantagePoint::check(text).map_err(|error| error.to_string())?;
    Ok(name.to_owned())
}

/// Parses a memory limit, which cannot be zero.
pub(super) fn parse_memory(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("the memory limit cannot be 0; give a size like 512MiB or 2GiB".to_owned()),
        size => Ok(size),
    }
}

/// Parses the size of the files of rows, which cannot be zero.
#[cfg(all(feature = "live", feature = "store"))]
pub(super) fn parse_rows_size(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("the rows of every window would be removed; give at least 1MiB".to_owned()),
        size => Ok(size),
    }
}

/// Returns a parser of whole numbers within a range.
pub(super) fn whole_number<N>(
    range: RangeInclusive<N>,
) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: FromStr + PartialOrd + Display + Clone,
{
    move |text| {
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| format!("give a whole number from {least} to {most}"))
    }
}

/// Parses a size in bytes, such as `512MiB`, `2GiB`, `64K` or `1000000`. All units are powers of
/// 1024.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    if text.contains(['.', ',']) {
        return Err(
            "a size is a whole number; give a smaller unit, such as 1536MiB for 1.5GiB".to_owned()
        );
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ if number.is_empty() => return Err("give a size like 512MiB or 2GiB".to_owned()),
        _ => {
            let unit = unit.trim();
            return Err(format!("\"{unit}\" is not a known unit; give KiB, MiB, GiB or TiB"));
        }
    };
    if number.is_empty() {
        return Err("give a size like 512MiB or 2GiB".to_owned());
    }
    let size = number.parse::<usize>().ok().and_then(|n| n.checked_mul(1 << shift));
    size.ok_or_else(|| "the size is too large for this computer".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_values() {
        assert_eq!(parse_time("2017-07-14T02:40:00.000000007Z"), Ok(1_500_000_000_000_000_007));
        assert_eq!(parse_time("2017-07-14"), parse_time("2017-07-14T00:00:00Z"));
        assert_eq!(parse_time("2017-07-14 02:40"), parse_time("2017-07-14T02:40:00Z"));
        for wrong in ["yesterday", "2017-07-14T02:40:60Z", "2017-07-14T02:40[Europe/Berlin]"] {
            assert!(parse_time(wrong).unwrap_err().starts_with("give a time"), "{wrong}");
        }
        let far = parse_time("2017-07-14T02:40:00+25:00").unwrap_err();
        assert!(far.starts_with("no time zone has this offset"), "{far}");
        assert_eq!(parse_time("2017-07-14T02:40+14:00"), parse_time("2017-07-13T12:40Z"));
        for out_of_range in ["9999-12-31", "2262-04-12", "1600-01-01T00:00Z"] {
            assert!(parse_time(out_of_range).unwrap_err().contains("1677-09-22 to 2262-04-10"));
        }
        assert_eq!(parse_duration("600"), Ok(600));
        assert_eq!(parse_duration("10m"), Ok(600));
        assert!(parse_duration("-5s").is_err());
        assert!(parse_duration("soon").is_err());
        assert_eq!(parse_share("5%"), Ok(0.05));
        assert_eq!(parse_share("0.2"), Ok(0.2));
        assert_eq!(parse_share("100%"), Ok(1.0));
        assert!(parse_share("1").unwrap_err().contains("1% or 100%"));
        assert!(parse_severity("matrix=high").unwrap_err().contains("never a finding"));
        assert!(!parse_severity("brkn=high").unwrap_err().contains("background"));
        assert!(parse_share("NaN").is_err());
        assert!(parse_share("101%").is_err());
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("2g"), Ok(2 << 30));
        assert_eq!(parse_size("0"), Ok(0));
        assert!(parse_size("99999999999999999999G").is_err());
        assert!(parse_size("MiB").is_err());
        let error = |text: &str| parse_size(text).unwrap_err();
        assert!(error("1.5GiB").contains("1536MiB for 1.5GiB"));
        assert!(error("100PiB").contains("\"PiB\" is not a known unit"));
        assert!(error("99999999TiB").contains("too large"));
        assert!(error("much").contains("like 512MiB"));
        assert!(parse_memory("0").unwrap_err().contains("cannot be 0"));
        #[cfg(all(feature = "live", feature = "store"))]
        assert!(parse_rows_size("0").unwrap_err().contains("at least 1MiB"));
        assert_eq!(parse_service("255/icmp"), Ok((255, Transport::ICMP)));
        assert!(parse_service("300/icmp").unwrap_err().contains("300 is not an ICMP type"));
        assert!(parse_service("icmp6/256").is_err());
        assert!(parse_memory("0GiB").is_err() && parse_memory("1") == Ok(1));
        assert_eq!(fail_on("never"), Ok(FailOn::Never));
        assert!(fail_on("hgh").unwrap_err().contains("did you mean \"high\"?"));
        assert!(fail_on("nw").unwrap_err().contains("), never or new"));
        #[cfg(feature = "live")]
        assert!(!live_fail_on("nw").unwrap_err().contains("new"));
    }
}
